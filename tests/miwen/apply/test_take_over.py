"""Fields that others made before become ours alone: what it costs, and what keeps it from being done."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import trio
from fakes.kubernetes_cluster import OTHER
from support.miwen.objects import config
from support.miwen.world import FILE, INTERVAL, World, miwen
from trio.testing import MockClock

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.take_over import sharers
from jiemi.core.objects.unblocking import RefusedFields
from jiemi.miwen.kubernetes.rejected_fields import FieldsRejected
from jiemi.miwen.reconcile.tenancy import Tenancy

SOON = 1.0
PAUSES = 10.0
"""Longer than an object is tried that others write all the time."""
TRIES = 100
KUBECTL = "kubectl-client-side-apply"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def look() -> None:
    await trio.sleep(INTERVAL + 1)


def made(world: World, manager: str = KUBECTL, **data: str) -> None:
    """A ConfigMap that another made."""
    world.cluster.put(config(**data) | {"metadata": {"name": "app", "namespace": "default"}}, manager)


def shared(world: World) -> None:
    """A ConfigMap that another made, and that is in git as it is."""
    made(world, a="1", b="1")
    world.origin.commit({FILE: [config(a="1", b="1")]})
    world.add()


def read(world: World) -> Any:
    return (world.cluster.get("ConfigMap", "default", "app") or {}).get("data")


def counted(world: World, verb: str) -> int:
    return world.kubernetes.requests.snapshot().of(verb, "configmaps")


async def test_what_was_shared_goes_with_git_and_taking_it_over_is_one_request_once(
    world: World, autojump_clock: MockClock
) -> None:
    made(world, a="1", b="1", theirs="1")
    world.origin.commit({FILE: [config(a="1", b="1")]})
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        assert (read(world), counted(world, "set-managed-fields")) == ({"a": "1", "b": "1", "theirs": "1"}, 1)
        world.origin.commit({FILE: [config(a="1")]})
        await look()
        assert read(world) == {"a": "1", "theirs": "1"}
        assert (counted(world, "set-managed-fields"), counted(world, "get-metadata")) == (1, 0)


async def test_an_object_that_nobody_shares_costs_no_more_than_it_did(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [config(a="1", b="1")]})
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        world.origin.commit({FILE: [config(a="2")]})
        await look()
        assert read(world) == {"a": "2"}
        assert [counted(world, verb) for verb in ("apply", "get-metadata", "set-managed-fields")] == [2, 0, 0]


@pytest.mark.parametrize("restarted", [True, False])
async def test_what_an_earlier_release_left_shared_goes_with_git(
    world: World, autojump_clock: MockClock, restarted: bool
) -> None:
    shared(world)
    async with miwen(world, tenancy=Tenancy(merged_managers=frozenset())):
        await trio.sleep(SOON)
    if restarted:
        world.origin.commit({FILE: [config(a="1")]})
    async with miwen(world):
        if not restarted:
            await trio.sleep(SOON)
            world.origin.commit({FILE: [config(a="1")]})
        await look()
        assert (world.reason(), read(world)) == ("Synced", {"a": "1"})


@pytest.mark.parametrize(
    ("tenancy", "spec", "manager"),
    [
        (Tenancy(merged_managers=frozenset({"other"})), {}, KUBECTL),
        (Tenancy(), {"conflictPolicy": "Refuse"}, KUBECTL),
        (Tenancy(), {}, "somebodys-controller"),
        (Tenancy(), {}, "kubectl-argo-rollouts"),
    ],
)
async def test_what_is_not_to_be_taken_over_stays(
    world: World, autojump_clock: MockClock, tenancy: Tenancy, spec: dict[str, Any], manager: str
) -> None:
    made(world, manager, a="1", b="1")
    world.origin.commit({FILE: [config(a="1", b="1")]})
    world.add(**spec)
    async with miwen(world, tenancy=tenancy):
        await trio.sleep(SOON)
        world.origin.commit({FILE: [config(a="1")]})
        await look()
        assert (world.reason(), read(world)) == ("Synced", {"a": "1", "b": "1"})
        assert counted(world, "set-managed-fields") == 0


def always(world: World, method: str, reason: str) -> None:
    world.kubernetes.fail_next(method, *(JiemiError(reason, "not now") for _ in range(TRIES)))


@pytest.mark.parametrize("reason", ["ApplyForbidden", "AdmissionDenied", "ApplyConflict", "ClusterUnavailable"])
async def test_what_can_not_be_taken_over_keeps_no_object_from_being_applied_at_first(
    world: World, autojump_clock: MockClock, reason: str
) -> None:
    made(world, a="1", b="1")
    world.origin.commit({FILE: [config(a="2", b="1")]})
    world.add()
    always(world, "set_managed_fields", reason)
    async with miwen(world):
        await trio.sleep(PAUSES)
        assert (world.reason(), read(world)) == ("Synced", {"a": "2", "b": "1"})
        world.kubernetes.heal("set_managed_fields")
        # The next apply takes it over first.
        world.origin.commit({FILE: [config(a="3")]})
        await look()
        assert (world.reason(), read(world)) == ("Synced", {"a": "3"})


@pytest.mark.parametrize("reason", ["ApplyForbidden", "AdmissionDenied", "ApplyConflict", "ClusterUnavailable"])
@pytest.mark.parametrize(("method", "restarted"), [("set_managed_fields", False), ("get_metadata", True)])
async def test_what_git_drops_is_not_left_to_others_who_share_it_still(
    world: World, autojump_clock: MockClock, reason: str, method: str, restarted: bool
) -> None:
    """Once an apply drops what another holds too, nothing would ever remove it, and all would look well."""
    shared(world)
    always(world, "set_managed_fields", reason)
    async with miwen(world):
        await trio.sleep(PAUSES)
        assert world.reason() == "Synced"
        world.kubernetes.heal("set_managed_fields")
        if not restarted:
            await dropped_when_it_can_be(world, method, reason)
    if restarted:
        async with miwen(world):
            await dropped_when_it_can_be(world, method, reason)


async def dropped_when_it_can_be(world: World, method: str, reason: str) -> None:
    always(world, method, reason)
    world.origin.commit({FILE: [config(a="2")]})
    await look()
    await trio.sleep(PAUSES)
    assert (world.reason(), read(world)) == (reason, {"a": "1", "b": "1"})
    world.kubernetes.heal(method)
    await look()
    assert (world.reason(), read(world)) == ("Synced", {"a": "2"})


async def test_without_the_right_to_read_an_object_it_is_applied_and_what_is_shared_stays(
    world: World, autojump_clock: MockClock
) -> None:
    shared(world)
    async with miwen(world, tenancy=Tenancy(merged_managers=frozenset())):
        await trio.sleep(SOON)
    world.origin.commit({FILE: [config(a="2")]})
    always(world, "get_metadata", "ReadForbidden")
    async with miwen(world):
        await look()
        assert (world.reason(), read(world)) == ("Synced", {"a": "2", "b": "1"})


async def test_an_object_that_others_write_several_times_meanwhile_is_taken_over_all_the_same(
    world: World, autojump_clock: MockClock
) -> None:
    """As the controllers of a Deployment do with the status of one that has just changed."""
    shared(world)
    conflicts(world, 5)
    async with miwen(world):
        await trio.sleep(PAUSES)
        assert (world.reason(), counted(world, "set-managed-fields"), counted(world, "get-metadata")) == (
            "Synced",
            6,
            5,
        )
        assert sharers(live(world)["metadata"]) == frozenset()


async def test_keys_of_a_secret_that_others_made_stay_and_those_that_git_drops_go(
    world: World, autojump_clock: MockClock
) -> None:
    world.cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "app", "namespace": "default"},
            "data": {"greeting": encoded("one"), "theirs": encoded("kept")},
        },
        KUBECTL,
    )
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        world.origin.commit({FILE: [{**config(), "kind": "Secret", "data": {"new": encoded("two")}}]})
        await look()
        assert world.data() == {"new": "two", "theirs": "kept"}
        assert not world.condition("Drifted")


def rejected(*words: str) -> FieldsRejected:
    return FieldsRejected(Failure("ApplyRejected", "no"), RefusedFields(("spec",), frozenset(words)))


@pytest.mark.parametrize(("words", "left"), [((), {}), (("a", "and", "b"), {"keep": "1"})])
async def test_what_is_in_the_way_goes_and_where_it_is_named_nothing_else_does(
    world: World, autojump_clock: MockClock, words: tuple[str, ...], left: dict[str, str]
) -> None:
    described_with_another_spec(world)
    world.kubernetes.fail_next("apply", rejected(*words))
    async with miwen(world):
        await trio.sleep(SOON)
        assert (world.reason(), live(world)["spec"]) == ("Synced", {"b": "1"} | left)


async def test_what_is_refused_all_the_same_leaves_others_what_they_held(
    world: World, autojump_clock: MockClock
) -> None:
    before = described_with_another_spec(world)
    world.kubernetes.fail_next("apply", *(rejected("a") for _ in range(3)))
    async with miwen(world):
        await trio.sleep(SOON)
        assert world.reason() == "ApplyRejected"
        now = live(world)
        assert now["spec"] == before["spec"]
        assert now["metadata"]["managedFields"] == before["metadata"]["managedFields"]
        assert counted(world, "set-managed-fields") == 4


def conflicts(world: World, number: int) -> None:
    world.kubernetes.fail_next("set_managed_fields", *(JiemiError("ApplyConflict", "no") for _ in range(number)))


async def test_another_object_of_the_name_that_came_meanwhile_is_left_alone(
    world: World, autojump_clock: MockClock
) -> None:
    before = described_with_another_spec(world)
    world.kubernetes.fail_next("apply", rejected("a"))
    conflicts(world, 1)
    world.kubernetes.delays["set_managed_fields"] = 0.5
    async with miwen(world):
        await trio.sleep(0.3)
        world.cluster.delete("ConfigMap", "default", "app")
        world.cluster.put({each: before[each] for each in ("apiVersion", "kind", "metadata", "spec")}, KUBECTL)
        new = live(world)
        assert new["metadata"]["uid"] != before["metadata"]["uid"]
        await trio.sleep(PAUSES)
        assert (world.reason(), live(world)) == ("ApplyRejected", new)


async def test_an_object_that_others_write_meanwhile_is_unblocked_all_the_same(
    world: World, autojump_clock: MockClock
) -> None:
    described_with_another_spec(world)
    world.kubernetes.fail_next("apply", rejected("a"))
    conflicts(world, 4)
    async with miwen(world):
        await trio.sleep(PAUSES)
        assert (world.reason(), live(world)["spec"]) == ("Synced", {"b": "1", "keep": "1"})
        assert counted(world, "set-managed-fields") == 6, "one to unblock it, and one for what is shared then"


async def test_what_others_wrote_since_it_was_taken_to_unblock_stays_when_it_is_given_back(
    world: World, autojump_clock: MockClock
) -> None:
    before = described_with_another_spec(world)
    world.kubernetes.fail_next("apply", *(rejected("a") for _ in range(3)))
    world.kubernetes.delays["apply"] = 1
    async with miwen(world):
        await trio.sleep(1.5)  # the first apply was refused, the second is on its way
        taken = live(world)["metadata"]["managedFields"]
        assert taken != before["metadata"]["managedFields"]
        world.cluster.edit("ConfigMap", "default", "app", metadata={"labels": {"their": "label"}})
        conflicts(world, 3)
        await trio.sleep(PAUSES)
        now = live(world)
        assert (world.reason(), now["spec"]) == ("ApplyRejected", before["spec"])
        assert now["metadata"]["labels"] == {"their": "label"}
        held = {each["manager"]: each["fieldsV1"] for each in now["metadata"]["managedFields"]}
        for each in before["metadata"]["managedFields"]:
            assert held.pop(each["manager"]) == each["fieldsV1"]
        assert held == {OTHER: {"f:metadata": {"f:labels": {".": {}, "f:their": {}}}}}


async def test_what_is_taken_to_unblock_an_object_is_given_back_where_miwen_ends_meanwhile(
    world: World, autojump_clock: MockClock
) -> None:
    before = described_with_another_spec(world)
    world.kubernetes.fail_next("apply", rejected("a"))
    world.kubernetes.delays["apply"] = 1
    async with miwen(world):
        await trio.sleep(1.5)  # the first apply was refused, the second is on its way
        assert counted(world, "set-managed-fields") == 1
        assert live(world)["metadata"]["managedFields"] != before["metadata"]["managedFields"]
    assert live(world)["spec"] == before["spec"]
    assert live(world)["metadata"]["managedFields"] == before["metadata"]["managedFields"]


async def test_what_was_just_being_taken_to_unblock_an_object_is_given_back_where_miwen_ends(
    world: World, autojump_clock: MockClock
) -> None:
    before = described_with_another_spec(world)
    world.kubernetes.fail_next("apply", rejected("a"))
    world.kubernetes.late_answers["set_managed_fields"] = 2
    async with miwen(world):
        await trio.sleep(SOON)  # it is taken, and Miwen does not know it yet
        assert live(world)["metadata"]["managedFields"] != before["metadata"]["managedFields"]
    assert live(world)["spec"] == before["spec"]
    assert live(world)["metadata"]["managedFields"] == before["metadata"]["managedFields"]


def described_with_another_spec(world: World) -> Any:
    """Make an object as kubectl does, and commit it with another spec. Returns it as it is before Miwen starts."""
    metadata = {"name": "app", "namespace": "default"}
    world.cluster.put(config() | {"metadata": metadata, "spec": {"a": "1", "keep": "1"}}, KUBECTL)
    before = live(world)
    world.origin.commit({FILE: [{**config(), "spec": {"b": "1"}}]})
    world.add()
    return before


def live(world: World) -> Any:
    return world.cluster.get("ConfigMap", "default", "app")
