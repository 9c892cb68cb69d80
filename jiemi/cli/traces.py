"""The traces of both services: what the flags say (`--traces-endpoint` and those beside it), and what sends them."""

from __future__ import annotations

import contextlib
import socket
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from jiemi import __version__
from jiemi.cli.errors import CommandError
from jiemi.metrics.registry import ServiceMetrics
from jiemi.otlp.endpoint import read_endpoint
from jiemi.otlp.exporter import Exporter


class TraceFlags(Protocol):
    """The flags of both services that are about traces."""

    @property
    def traces_endpoint(self) -> str | None: ...

    @property
    def traces_ca_bundle(self) -> Path | None: ...

    @property
    def insecure_plain_traces(self) -> bool: ...


def exporter_of(flags: TraceFlags, metrics: ServiceMetrics, *, service: str) -> Exporter | None:
    """What sends the spans of a service, and is counted in its metrics; None without --traces-endpoint.

    Raises:
        CommandError: a flag can't be used. It quotes nothing of the URL.
    """
    if flags.traces_endpoint is None:
        if flags.traces_ca_bundle is not None or flags.insecure_plain_traces:
            raise CommandError("--traces-ca-bundle and --insecure-plain-traces are of no use without --traces-endpoint")
        return None
    try:
        endpoint = read_endpoint(
            flags.traces_endpoint, ca_bundle=flags.traces_ca_bundle, insecure=flags.insecure_plain_traces
        )
    except ValueError as error:
        raise CommandError(
            f"--traces-endpoint: {error}. Give the URL of a collector, such as https://collector.example:4318; over a "
            "network http needs --insecure-plain-traces"
        ) from error
    except OSError as error:
        raise CommandError(
            f"--traces-ca-bundle {flags.traces_ca_bundle} holds no certificate (PEM) that can be read"
        ) from error
    exporter = Exporter(
        endpoint,
        {
            "service.namespace": "jiemi",
            "service.name": f"jiemi-{service}",
            "service.version": __version__,
            "service.instance.id": socket.gethostname(),
        },
    )
    metrics.spans = lambda: exporter.counts
    return exporter


def running(exporter: Exporter | None) -> AbstractAsyncContextManager[None]:
    """Send spans while the context lasts, where there is something that does."""
    return contextlib.nullcontext() if exporter is None else exporter.running()
