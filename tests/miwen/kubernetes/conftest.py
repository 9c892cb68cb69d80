"""A scripted API server, and the real form of the port on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
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
