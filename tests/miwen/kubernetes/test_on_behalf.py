"""Namespaces share the requests to the API server fairly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from fakes.kubernetes_server import ScriptedServer, settings_for

from jiemi.miwen.kubernetes.on_behalf import on_behalf_of
from jiemi.miwen.kubernetes.real import open_kubernetes

_LIST = {"kind": "DecryptorList", "metadata": {"resourceVersion": "7"}, "items": []}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()


@pytest.mark.parametrize("places", [2, 4, 16])
async def test_requests_of_one_namespace_that_hang_leave_places_for_another(
    server: ScriptedServer, tmp_path: Path, places: int
) -> None:
    settings = settings_for(server, tmp_path, request_timeout_seconds=60, max_concurrent_requests=places)
    async with open_kubernetes(settings) as kubernetes, trio.open_nursery() as nursery:

        async def write(number: int) -> None:
            with on_behalf_of("greedy"):
                await kubernetes.patch_status("elsewhere", f"d{number}", {}, uid="u")

        server.answers = [b""] * 100  # they hang
        for number in range(100):
            nursery.start_soon(write, number)
        with trio.fail_after(20):
            while len(server.seen) < max(1, places * 3 // 4):  # noqa: ASYNC110 - a thread notes them
                await trio.sleep(0.01)
        server.answers.clear()
        server.say(200, _LIST)
        with trio.fail_after(20), on_behalf_of("honest"):
            assert (await kubernetes.list_decryptors(limit=5, continue_token=None)).items == ()
        assert len(server.seen) == max(1, places * 3 // 4) + 1
        nursery.cancel_scope.cancel()
