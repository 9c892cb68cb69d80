"""Requests to the API server are for the namespace whose Decryptor needs them, and namespaces share them fairly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from fakes.kubernetes_server import ScriptedServer, settings_for
from support.miwen.world import FILE, World, miwen, secret
from trio.testing import MockClock

from jiemi.miwen.kubernetes.counts import RequestCounter
from jiemi.miwen.kubernetes.on_behalf import NOBODY, on_behalf_of, who_asks
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


async def test_each_request_is_for_the_namespace_of_its_decryptor_and_what_all_share_is_for_nobody(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[tuple[str, str], set[str]] = {}
    add = RequestCounter.add

    def noted(self: RequestCounter, verb: str, resource: str) -> None:
        asked.setdefault((verb, resource), set()).add(who_asks())
        add(self, verb, resource)

    monkeypatch.setattr(RequestCounter, "add", noted)
    for namespace in ("one", "two"):
        world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        world.add("app", namespace=namespace)
        # More than there is room for
        for number in range(3):
            world.add(f"more{number}", namespace=namespace)
    world.origin.commit({FILE: [secret(value="1")]})
    async with miwen(world, decryptor_memory_bytes=450 * 1024):
        await trio.sleep(400)
        world.delete("app", namespace="one")
        await trio.sleep(60)
    theirs = {"one", "two"}
    assert asked.pop(("patch", "decryptors/status")) == theirs
    assert asked.pop(("apply", "secrets")) == theirs
    shared = {key: who for key, who in asked.items() if key[0] in {"list", "watch"} or key[1] == "events"}
    assert {("list", "decryptors"), ("watch", "secrets"), ("create", "events")} <= shared.keys()
    assert set().union(*shared.values()) == {NOBODY}
    rest = {key: who for key, who in asked.items() if key not in shared}
    assert rest
    assert all(who <= theirs for who in rest.values()), rest
