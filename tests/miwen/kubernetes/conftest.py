"""A scripted API server, and the real form of the port on it; and a real API server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from contract.kubernetes_world import RealWorld, cluster_of, open_world
from contract.tcp_proxy import TcpProxy, open_tcp_proxy
from fakes.kubernetes_server import ScriptedServer, settings_for

from jiemi.miwen.kubernetes.real import RealKubernetes, open_kubernetes


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def kubernetes(server: ScriptedServer, tmp_path: Path) -> AsyncIterator[RealKubernetes]:
    async with open_kubernetes(settings_for(server, tmp_path)) as kubernetes:
        yield kubernetes


@pytest.fixture
async def world(control_plane: Path, tmp_path: Path) -> AsyncIterator[RealWorld]:
    async with open_world(control_plane, tmp_path) as world:
        yield world


@pytest.fixture
async def proxy(control_plane: Path) -> AsyncIterator[TcpProxy]:
    async with open_tcp_proxy(urlsplit(cluster_of(control_plane)["server"]).port or 0) as proxy:
        yield proxy
