"""What Pods reach out to in a company's network: a git host behind a proxy, and a collector, both with authorities
of its own."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from support.network.proxies import real_proxy
from support.network.tls_folders import TestAuthority
from support.pods.cluster import given
from support.traces.collector import Collector, collector

from jiemi.controlplane.node.arguments import NODE_ADDRESS
from jiemi.demo.git_server import GitServer, serve_git
from jiemi.rpc.tls_names import AUTHORITIES, CERTIFICATE, KEY, KRAPAO_NAME

HOST = "git.internal.example"
"""A name that the proxy alone knows: the cluster's DNS does not."""

LOGIN = ("krapao", "canary-of-the-proxy-90c2e7")

_CLOSED = 1
"""A port on which nobody listens."""

_PROXY, _GIT, _TRACES = "git-proxy", "git-authorities", "collector-authorities"


@attrs.frozen
class Outward:
    """They run.

    Attributes:
        git: serves the repositories, over https.
        collector: takes traces, over https.
        objects: what the chart's values name.
        values: of the chart.
    """

    git: GitServer
    collector: Collector
    objects: list[Mapping[str, Any]]
    values: Mapping[str, Any]


@contextlib.asynccontextmanager
async def outward(repositories: Path, folder: Path, direct: str) -> AsyncIterator[Outward]:
    """All of it, for as long as the context lasts.

    Args:
        repositories: the bare repositories, each at https://HOST/NAME.
        folder: for keys.
        direct: the URL of a host that needs no proxy, and that this one does not reach.
    """
    host, traces = (
        # The usage of Krapao's is a server's.
        TestAuthority().write(folder / each, KRAPAO_NAME, hosts=(name,))
        for each, name in (("host", HOST), ("traces", NODE_ADDRESS))
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(host / CERTIFICATE, host / KEY)
    async with (
        serve_git(repositories, tls=tls, host=NODE_ADDRESS) as git,
        real_proxy("http", *LOGIN, host=NODE_ADDRESS, program=Path(given("PROXIES"))) as proxy,
    ):
        await proxy.lead(443, _port(git.url))
        await proxy.lead(_port(direct), _CLOSED)
        with collector(traces, host=NODE_ADDRESS) as collected:
            login = {"url": f"http://{':'.join(LOGIN)}@{NODE_ADDRESS}:{proxy.port}"}
            yield Outward(
                git,
                collected,
                [
                    _object("Secret", _PROXY, stringData=login),
                    _object("ConfigMap", _GIT, data={"ca.crt": (host / AUTHORITIES).read_text()}),
                    _object("ConfigMap", _TRACES, data={"ca.crt": (traces / AUTHORITIES).read_text()}),
                ],
                {
                    "krapao": {
                        "proxy": {"secretName": _PROXY, "noProxy": [NODE_ADDRESS]},
                        "caBundle": {"configMapName": _GIT},
                    },
                    "traces": {"endpoint": collected.url, "caBundle": {"configMapName": _TRACES}},
                },
            )


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def _object(kind: str, name: str, **content: Mapping[str, str]) -> Mapping[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content}
