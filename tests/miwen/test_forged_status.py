"""A status that somebody wrote by hand, at a start of Miwen: it takes no object, and deletes none."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from support.miwen.world import FILE, INTERVAL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.api.fields import unstructure
from jiemi.core.decisions.status import blank
from jiemi.core.objects.identity import NAME_LABEL, NAMESPACE_LABEL
from jiemi.miwen.reconcile.tenancy import Tenancy


def forge(world: World, *entries: InventoryEntry, name: str = "forger", namespace: str = "another") -> None:
    """Put an inventory into a Decryptor's status, as whoever may write a status can."""
    found = world.cluster.get(KIND, namespace, name, api_version=API_VERSION)
    assert found is not None
    status = attrs.evolve(blank(FILE), inventory=entries)
    world.cluster.put({**found, "status": unstructure(status)})


THEIRS = InventoryEntry("v1", "Secret", "app", "default", FILE, 5)


def owner(world: World) -> tuple[Any, Any]:
    found = world.cluster.get("Secret", "default", "app")
    assert found is not None
    labels = found["metadata"].get("labels", {})
    return labels.get(NAMESPACE_LABEL), labels.get(NAME_LABEL)


@pytest.mark.parametrize("namespace", ["another", "zzz"])
async def test_it_takes_no_object_whose_labels_name_another(
    world: World, autojump_clock: MockClock, namespace: str
) -> None:
    world.add()
    world.origin.commit({FILE: [secret(greeting="one")]})
    async with miwen(world):
        await settle()
        assert owner(world) == ("default", "app")
    world.add("forger", namespace, targetNamespace="default", target=None)
    forge(world, THEIRS, namespace=namespace)
    async with miwen(world):
        await settle()
        assert world.status("forger", namespace)["conditions"][0]["reason"] == "ObjectClaimed"
        assert owner(world) == ("default", "app")
        # And who has it goes on having it.
        world.origin.commit({FILE: [secret(greeting="two")]})
        await settle()
        world.cluster.delete("Secret", "default", "app")
        await settle()
        assert owner(world) == ("default", "app")
        assert world.condition("Ready")["status"] == "True"


async def test_it_keeps_nobody_from_an_object_that_nobody_has(world: World, autojump_clock: MockClock) -> None:
    world.add("forger", "another", suspend=True)
    forge(world, THEIRS)
    world.add()
    world.origin.commit({FILE: [secret(greeting="one")]})
    async with miwen(world):
        await settle()
        assert world.condition("Ready")["status"] == "True"
        assert owner(world) == ("default", "app")


async def test_it_has_nothing_deleted_that_the_forger_does_not_own(world: World, autojump_clock: MockClock) -> None:
    world.add()
    world.origin.commit({FILE: [secret(greeting="one")]})
    async with miwen(world):
        await settle()
    world.add("forger", "another", prune=True, deletionPolicy="Delete", target={"name": "own", "key": "file"})
    forge(world, THEIRS, InventoryEntry("v1", "Secret", "plain", "default", FILE, 5))
    world.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain", "namespace": "default"}})
    async with miwen(world):
        await settle()
        world.delete("forger", "another")
        await settle()
    assert owner(world) == ("default", "app")
    assert world.cluster.get("Secret", "default", "plain") is not None


async def test_with_no_cross_namespace_entries_of_other_namespaces_do_not_count(
    world: World, autojump_clock: MockClock
) -> None:
    world.add("forger", "another", target={"name": "own", "key": "file"})
    # Even those that bear the forger's labels.
    forge(world, THEIRS)
    labels = {NAME_LABEL: "forger", NAMESPACE_LABEL: "another"}
    metadata = {"name": "app", "namespace": "default", "labels": labels}
    world.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    world.origin.commit({FILE: [secret(greeting="one")]})
    async with miwen(world, tenancy=Tenancy(own_namespace_only=True)):
        await settle()
        inventory = world.status("forger", "another")["inventory"]
        assert [(each["namespace"], each["name"]) for each in inventory] == [("another", "own")]
        world.delete("forger", "another")
        await settle()
    assert world.cluster.get("Secret", "default", "app") is not None


async def test_force_deletes_no_object_that_only_a_status_says_was_applied(
    world: World, autojump_clock: MockClock
) -> None:
    metadata = {"name": "app", "namespace": "default"}
    world.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "a", "immutable": True})
    before = world.cluster.get("Secret", "default", "app")
    assert before is not None
    world.add("forger", "another", targetNamespace="default", target=None, force=True)
    forge(world, THEIRS)
    world.origin.commit({FILE: [{**secret(greeting="one"), "type": "b"}]})
    async with miwen(world):
        await settle()
        assert world.status("forger", "another")["conditions"][0]["reason"] == "FieldImmutable"
    after = world.cluster.get("Secret", "default", "app")
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_it_takes_no_object_of_a_decryptor_that_another_miwen_follows(
    world: World, autojump_clock: MockClock
) -> None:
    labels = {NAME_LABEL: "app", NAMESPACE_LABEL: "default"}
    metadata = {"name": "app", "namespace": "default", "labels": labels}
    world.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    world.add("forger", "another", targetNamespace="default", target=None)
    forge(world, THEIRS)
    world.origin.commit({FILE: [secret(greeting="one")]})
    async with miwen(world, tenancy=Tenancy(namespaces=frozenset({"another"}))):
        for _ in range(4):
            await settle()
            assert world.status("forger", "another")["conditions"][0]["reason"] == "ObjectClaimed"
            assert owner(world) == ("default", "app")
            await trio.sleep(INTERVAL)
