"""The metrics and probes of both services: where they are served (`--metrics-listen`), and which loops both have."""

from __future__ import annotations

import structlog
import trio

from jiemi.cli.errors import CommandError
from jiemi.cli.running import Beside
from jiemi.concurrency.calls import stuck_seconds
from jiemi.metrics.health import Health, Heart
from jiemi.metrics.pages import serve_pages
from jiemi.metrics.registry import ServiceMetrics
from jiemi.rpc.address import ANY_HOST, TcpAddress, parse_address
from jiemi.rpc.bridge import Bridge
from jiemi.rpc.pulse import keep_pulse

_RPC_LIMIT_SECONDS = 120.0
"""Twelve calls in a row that the RPC thread has not answered."""

_THREADS_LIMIT_SECONDS = 900.0
"""More than a resolver takes whose servers are all down: 30 s for each name that it tries, and again for IPv6."""


def pages_of(flag: str | None, metrics: ServiceMetrics, *, service: str) -> Beside | None:
    """What serves the pages where the flag says; None without it.

    Args:
        service: the name of its log.

    Raises:
        CommandError: the flag is no TCP address. What is returned raises it where it can't listen there.
    """
    if flag is None:
        return None
    address = _address_of(flag)
    host = None if address.host == ANY_HOST else address.host

    async def serve(*, task_status: trio.TaskStatus[int]) -> None:
        async with trio.open_nursery() as nursery:
            try:
                port = await nursery.start(serve_pages, metrics, host, address.port)
            except OSError as error:
                raise CommandError(f"--metrics-listen: can't listen on {address}: {error.strerror}") from error
            log = structlog.get_logger(f"jiemi.{service}")
            log.info("metrics", address=f"tcp:{address.host}:{port}", path="/metrics", probes="/healthz /readyz")
            task_status.started(port)

    return serve


async def watch_loops(health: Health, bridge: Bridge) -> None:
    """Have the loops watched that both services have, until cancelled: that of the RPC thread, and worker threads."""
    rpc = Heart()
    health.watch("rpc", rpc.age_seconds, limit_seconds=_RPC_LIMIT_SECONDS)
    health.watch("threads", stuck_seconds, limit_seconds=_THREADS_LIMIT_SECONDS)
    await keep_pulse(bridge, rpc.beat)


def _address_of(text: str) -> TcpAddress:
    """Raises CommandError for what is no TCP address."""
    try:
        address = parse_address(text)
    except ValueError as error:
        raise CommandError(f"--metrics-listen: {error}") from error
    if not isinstance(address, TcpAddress):
        raise CommandError("--metrics-listen: give host:port")
    return address
