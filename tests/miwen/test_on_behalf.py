"""Requests to the API server are for the namespace whose Decryptor needs them."""

from __future__ import annotations

import pytest
import trio
from support.miwen.world import FILE, World, miwen, secret
from trio.testing import MockClock

from jiemi.miwen.kubernetes.counts import RequestCounter
from jiemi.miwen.kubernetes.on_behalf import NOBODY, who_asks


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
