"""spec.force: what is deleted to be recreated, what is not, and how long an apply waits."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from support.miwen.objects import config, notes
from support.miwen.world import FILE, INTERVAL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.miwen.apply.applier import GONE_SECONDS, SERVED_SECONDS


def fixed(name: str = "app", **values: str) -> dict[str, Any]:
    """A Secret that can't be changed."""
    return {**secret(name, **values), "immutable": True}


def message(world: World, name: str = "app") -> str:
    return str(world.current(name)["error_message"])


def deleted(world: World) -> int:
    """How many deletions of Secrets were asked for."""
    return world.kubernetes.requests.snapshot().of("delete", "secrets")


def uid(world: World) -> str:
    found = world.cluster.get("Secret", "default", "app")
    assert found is not None
    return str(found["metadata"]["uid"])


async def look() -> None:
    await trio.sleep(INTERVAL + 1)


def no_creates(world: World) -> None:
    world.cluster.policies["no-creates"] = lambda operation, obj: operation == "CREATE" and obj["kind"] == "Secret"


def no_room(world: World) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": "default"}}
    world.cluster.put({**quota, "spec": {"hard": {"count/secrets": "1"}}})


def no_right(world: World) -> None:
    world.kubernetes.deny("create", "secrets")


# --- what could not be made again


@pytest.mark.parametrize(
    ("forbid", "reason", "text"),
    [
        (no_creates, "AdmissionDenied", "trying Secret default/app: ValidatingAdmissionPolicy no-creates"),
        (no_room, "QuotaExceeded", "quota few of namespace default is used up"),
        (no_right, "ApplyForbidden", "Grant `create` and `patch` on secrets"),
    ],
)
async def test_what_could_not_be_made_again_stays(
    world: World, autojump_clock: MockClock, forbid: Any, reason: str, text: str
) -> None:
    world.origin.commit({FILE: [fixed(k="1")]})
    world.add(force=True)
    async with miwen(world):
        old = uid(world)
        forbid(world)
        world.origin.commit({FILE: [fixed(k="2")]})
        await look()
        assert (world.reason(), world.data(), deleted(world)) == (reason, {"k": "1"}, 0)
        assert "spec.force does not delete Secret default/app, because it could not be recreated: " in message(world)
        assert text in message(world)
        written = world.versions()
        await look()
        await look()
        assert world.versions() == written  # it is reported in the same words each time
        world.cluster.policies.clear()
        world.kubernetes.denied.clear()
        if forbid is no_room:
            world.cluster.delete("ResourceQuota", "default", "few")
        await look()
        assert (world.reason(), world.data()) == ("Synced", {"k": "2"})
        assert uid(world) != old


async def test_the_api_server_is_asked_under_a_name_that_could_be_one(world: World, autojump_clock: MockClock) -> None:
    seen: list[str] = []

    def note(operation: str, obj: Any) -> bool:
        if operation == "CREATE" and obj["kind"] == "Secret":
            seen.append(obj["metadata"]["name"])
        return False

    names = ["a", "a" * 43, f"{'a' * 42}.b.c", "a" * 63, "a" * 253]
    world.origin.commit({FILE: [fixed(name, k="1") for name in names]})
    world.add(force=True)
    async with miwen(world):
        assert world.reason() == "Synced"
        world.cluster.policies["note"] = note
        world.origin.commit({FILE: [fixed(name, k="2") for name in names]})
        await look()
        assert world.reason() == "Synced"
        others = sorted(set(seen) - set(names), key=len)
        assert [len(name) for name in others] == [10, 51, 52, 63, 253]
        assert [world.data(name) for name in names] == [{"k": "2"}] * len(names)
        assert sum(key[1] == "Secret" for key in world.cluster.objects) == len(names)


async def test_a_service_that_has_its_node_port_does_not_stand_in_its_own_way(
    world: World, autojump_clock: MockClock
) -> None:
    def service(address: str) -> dict[str, Any]:
        ports = [{"port": 80, "nodePort": 30080}]
        spec = {"type": "NodePort", "clusterIP": address, "ports": ports}
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}

    def taken(operation: str, obj: Any) -> bool:
        there = world.cluster.get("Service", "default", "web") is not None
        return operation == "CREATE" and there and obj["kind"] == "Service" and "nodePort" in obj["spec"]["ports"][0]

    world.cluster.policies["taken"] = taken
    world.origin.commit({FILE: [service("10.0.0.1")]})
    world.add(force=True)
    async with miwen(world):
        world.origin.commit({FILE: [service("10.0.0.2")]})
        await look()
        assert world.reason() == "Synced"
        found = world.cluster.get("Service", "default", "web")
        assert found is not None
        assert found["spec"] == service("10.0.0.2")["spec"]


async def test_one_that_can_not_be_made_after_all_is_reported_as_gone(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [fixed(k="1")]})
    world.add(force=True)
    async with miwen(world):
        # It is not known before: another name would do.
        world.cluster.policies["name"] = lambda operation, obj: (
            operation == "CREATE" and obj["kind"] == "Secret" and obj["metadata"]["name"] == "app"
        )
        world.origin.commit({FILE: [fixed(k="2")]})
        await look()
        assert (world.reason(), world.data()) == ("AdmissionDenied", None)
        assert notes(world, "AdmissionDenied")[0].startswith(
            "AdmissionDenied: Secret default/app was deleted to be recreated (spec.force), and now is not there: "
            "applying Secret default/app: ValidatingAdmissionPolicy name (binding name) refuses it"
        )
        world.cluster.policies.clear()
        await look()
        assert (world.reason(), world.data()) == ("Synced", {"k": "2"})


# --- whose it is


async def test_an_object_that_was_never_applied_is_not_deleted_however_often_it_is_tried(
    world: World, autojump_clock: MockClock
) -> None:
    world.cluster.put({**fixed(), "metadata": {"name": "app", "namespace": "default"}})
    world.origin.commit({FILE: [fixed(k="2")]})
    world.add(force=True)
    async with miwen(world):
        for _ in range(3):
            assert (world.reason(), deleted(world)) == ("FieldImmutable", 0)
            assert "was never applied by Jiemi, so spec.force does not delete it. Delete it yourself" in message(world)
            await look()
        world.cluster.delete("Secret", "default", "app")
        await look()
        assert (world.reason(), world.data()) == ("Synced", {"k": "2"})


async def test_an_object_whose_labels_name_another_decryptor_is_not_deleted(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [fixed(k="1")]})
    world.add(force=True, driftPolicy="Report")
    async with miwen(world):
        labels = {"jiemi.cr/decryptor-name": "other", "jiemi.cr/decryptor-namespace": "team"}
        world.cluster.edit("Secret", "default", "app", metadata={"labels": labels})
        world.origin.commit({FILE: [fixed(k="2")]})
        await look()
        assert (world.reason(), world.data(), deleted(world)) == ("FieldImmutable", {"k": "1"}, 0)
        assert "It is Decryptor team/other's by its labels" in message(world)


async def test_an_applied_object_that_lost_its_labels_is_recreated(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [fixed(k="1")]})
    world.add(force=True, driftPolicy="Report")
    async with miwen(world):
        world.cluster.edit("Secret", "default", "app", metadata={"labels": None})
        world.origin.commit({FILE: [fixed(k="2")]})
        await look()
        assert (world.reason(), world.data()) == ("Synced", {"k": "2"})


# --- how long


def held(name: str, **values: str) -> dict[str, Any]:
    """A Secret that can't be changed, and stays for its finalizer when it is deleted."""
    return {**fixed(name, **values), "metadata": {"name": name, "finalizers": ["tests/holds"]}}


async def test_all_objects_of_an_apply_are_waited_for_together(world: World, autojump_clock: MockClock) -> None:
    names = [f"s{number:02}" for number in range(20)]
    world.origin.commit({FILE: [held(name, k="1") for name in names]})
    world.add(force=True)
    async with miwen(world):
        assert world.reason() == "Synced"
        world.origin.commit({FILE: [*(held(name, k="2") for name in names), fixed("z", k="1"), config("last")]})
        await trio.sleep(INTERVAL + GONE_SECONDS + 3)
        assert world.reason() == "FieldImmutable"
        assert "20 of 22 objects were not applied" in message(world)
        assert world.data("z") == {"k": "1"}
        # All are deleted: one that nothing holds is recreated though the time for others is up.
        assert deleted(world) == 20
        for name in names:
            world.cluster.edit("Secret", "default", name, metadata={"finalizers": None})
        await look()
        assert (world.reason(), world.data("s19")) == ("Synced", {"k": "2"})


async def test_one_that_goes_at_once_is_recreated_when_the_time_for_others_is_up(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [*(held(f"s{number}", k="1") for number in range(4)), fixed("z", k="1")]})
    world.add(force=True)
    async with miwen(world):
        world.origin.commit({FILE: [*(held(f"s{number}", k="2") for number in range(4)), fixed("z", k="2")]})
        await trio.sleep(INTERVAL + GONE_SECONDS + 3)
        assert (world.reason(), world.data("z")) == ("FieldImmutable", {"k": "2"})


async def test_a_wait_for_objects_that_are_held_ends_with_what_is_wanted(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [held("a", k="1")]})
    world.add(force=True)
    async with miwen(world):
        world.origin.commit({FILE: [held("a", k="2")]})
        await trio.sleep(INTERVAL + 5)
        assert deleted(world) == 1
        world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, spec={"suspend": True})
        await trio.sleep(1)
        assert world.condition("Suspended")["status"] == "True"


def definition(kind: str) -> dict[str, Any]:
    names = {"kind": kind, "plural": f"{kind.lower()}s"}
    versions = [{"name": "v1", "served": True, "storage": True}]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions},
    }


async def test_all_definitions_of_an_apply_are_waited_for_together(world: World, autojump_clock: MockClock) -> None:
    world.cluster.crd_delay_seconds = 10_000
    world.origin.commit({FILE: [*(definition(f"Kind{number}") for number in range(5)), secret(k="1")]})
    world.add()
    async with miwen(world):
        await trio.sleep(SERVED_SECONDS - 1)
        assert world.data() is None
        await trio.sleep(2)
        assert world.data() == {"k": "1"}


async def test_a_wait_for_a_definition_ends_with_what_is_wanted(world: World, autojump_clock: MockClock) -> None:
    world.cluster.crd_delay_seconds = 10_000
    world.origin.commit({FILE: [definition("Widget"), secret(k="1")]})
    world.add()
    async with miwen(world):
        await trio.sleep(5)
        world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, spec={"suspend": True})
        await trio.sleep(1)
        await settle()
        assert (world.condition("Suspended")["status"], world.data()) == ("True", None)


async def test_a_definition_that_can_not_be_read_is_not_waited_for(world: World, autojump_clock: MockClock) -> None:
    world.cluster.crd_delay_seconds = 10_000
    world.kubernetes.deny("get", "customresourcedefinitions")
    world.origin.commit({FILE: [definition("Widget"), secret(k="1")]})
    world.add()
    async with miwen(world):
        await trio.sleep(1)
        assert world.data() == {"k": "1"}
