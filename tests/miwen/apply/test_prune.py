"""What is known of a prune that ends in the middle."""

from __future__ import annotations

from typing import Any

import trio
from fakes.kubernetes import FakeKubernetes
from trio.testing import MockClock

from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.objects.identity import Owner
from jiemi.miwen.apply.prune import Pruned, prune

OWNER = Owner("default", "app")


def labelled(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "labels": OWNER.labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}


async def test_one_that_is_ended_in_the_middle_has_reported_what_is_done(autojump_clock: MockClock) -> None:
    kubernetes = FakeKubernetes()
    entries = [InventoryEntry("v1", "Secret", name, "default") for name in "abcd"]
    for name in "acd":
        kubernetes.cluster.put(labelled(name))
    kubernetes.delays["delete"] = 10
    pruned = Pruned()
    with trio.move_on_after(25) as scope:
        await prune(entries, kubernetes.objects(None), OWNER, pruned)
    assert scope.cancelled_caught
    assert [each.name for each in pruned.deleted] == ["a", "c"]
    assert [each.name for each in pruned.kept] == ["b"]
    assert pruned.refused == []
    assert [key[3] for key in kubernetes.cluster.objects if key[1] == "Secret"] == ["d"]


async def test_one_that_ends_by_itself_returns_what_it_was_given(autojump_clock: MockClock) -> None:
    pruned = Pruned()
    assert await prune([], FakeKubernetes().objects(None), OWNER, pruned) is pruned
