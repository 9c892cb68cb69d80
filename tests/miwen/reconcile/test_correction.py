"""What is deployed is kept right whatever happened to the newest version of its file, or it is said that it is not."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import trio
from fakes.krapao import Plain
from support.miwen.objects import config, notes
from support.miwen.world import FILE, INTERVAL, URL, World, miwen, secret
from trio.testing import MockClock

from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.core.decisions.policy import read_policy
from jiemi.core.errors import Failure
from jiemi.miwen.reconcile.render import MAX_DECRYPTOR_BYTES
from jiemi.miwen.state.open_repository import tenant_of

SOON = 1.0
NO_OBJECT = {"apiVersion": "v1", "kind": "Secret", "metadata": {}}
ALL = {"repository": {"url": URL}, "files": ["*.yaml"]}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def look() -> None:
    await trio.sleep(INTERVAL + 1)


def edit(world: World, **spec: Any) -> None:
    world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, spec=spec)


async def kept_right(world: World, wanted: dict[str, str], name: str = "app") -> None:
    """Hack the Secret, add to it and delete it: each time it is as it was, a moment later, and nobody fights."""
    for change in (
        lambda: world.cluster.edit("Secret", "default", name, manager="lens", data={next(iter(wanted)): encoded("x")}),
        lambda: world.cluster.edit("Secret", "default", name, manager="lens", data={"more": encoded("x")}),
        lambda: world.cluster.delete("Secret", "default", name),
    ):
        change()
        await trio.sleep(SOON)
        assert world.data(name) == wanted
        assert not world.condition("Drifted")
        await trio.sleep(60)
    assert notes(world, "DriftConflict") == []
    assert len(notes(world, "Drifted")) >= 3


def _mac(world: World) -> None:
    world.origin.commit({FILE: Failure("MacMismatch", "the file was changed")})


def _key(world: World) -> None:
    world.origin.commit({FILE: Failure("KeyMissing", "none of 1 keys opens it")})


def _yaml(world: World) -> None:
    world.origin.commit({FILE: Failure("UnknownFormat", "no YAML")})


def _sops_block(world: World) -> None:
    world.origin.commit({FILE: Plain([secret(greeting="two")])})


def _no_object(world: World) -> None:
    world.origin.commit({FILE: [NO_OBJECT]})


def _nothing(world: World) -> None:
    world.origin.commit({FILE: []})


def _refused(world: World) -> None:
    world.cluster.policies["no-two"] = lambda _, obj: (obj.get("data") or {}).get("greeting") == encoded("two")
    world.origin.commit({FILE: [secret(greeting="two")]})


def _removed(world: World) -> None:
    world.origin.commit({}, remove=[FILE])


def _too_large(world: World) -> None:
    world.origin.commit({FILE: [secret(greeting="x" * MAX_DECRYPTOR_BYTES)]})


BREAK: dict[str, Callable[[World], None]] = {
    "MacMismatch": _mac,
    "KeyMissing": _key,
    "UnknownFormat": _yaml,
    "NotEncrypted": _sops_block,
    "NotAKubernetesObject": _no_object,
    "NotAKubernetesObject, without a document": _nothing,
    "AdmissionDenied": _refused,
    "FileNotFound": _removed,
    "LimitExceeded": _too_large,
}


@pytest.mark.parametrize("restarted", ["nothing", "Krapao", "Miwen", "both"])
@pytest.mark.parametrize("broken", BREAK)
async def test_what_is_deployed_is_kept_right_while_the_newest_version_of_its_file_is_refused(
    world: World, autojump_clock: MockClock, broken: str, restarted: str
) -> None:
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        BREAK[broken](world)
        await look()
        assert world.reason() == broken.partition(",")[0]
        if restarted in {"nothing", "Krapao"}:
            if restarted == "Krapao":
                world.krapao.forget()
            await kept_right(world, {"greeting": "one"})
            assert world.reason() == broken.partition(",")[0]
            return
    if restarted == "both":
        world.krapao.forget()
    async with miwen(world):
        await trio.sleep(SOON)
        await kept_right(world, {"greeting": "one"})
        world.cluster.policies.clear()
        world.origin.commit({FILE: [secret(greeting="three")]})
        await look()
        assert (world.reason(), world.data()) == ("Synced", {"greeting": "three"})
        assert all("revision" not in each for each in world.status()["inventory"])
    assert set(world.krapao.tenants) == {tenant_of("default")}, "also for what is read again"


async def test_each_object_is_kept_right_as_of_the_revision_that_it_was_applied_by(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(v="1")], "b.yaml": Plain([secret("b", v="1")])})
    world.add(source=ALL)
    async with miwen(world):
        await look()
        world.origin.commit({FILE: [secret(v="2")], "b.yaml": Failure("MacMismatch", "changed")})
        await look()
        assert (world.data(), world.data("b"), world.reason()) == ({"v": "2"}, {"v": "1"}, "MacMismatch")
        await kept_right(world, {"v": "2"})
        await kept_right(world, {"v": "1"}, "b")
        # What was deployed by a revision that was never whole is of that one.
        world.origin.commit({FILE: Failure("KeyMissing", "no key")})
        await look()
        world.krapao.forget()
        await kept_right(world, {"v": "2"})
        await kept_right(world, {"v": "1"}, "b")


async def test_an_object_of_a_file_that_is_not_deployed_whole_is_kept_right_as_it_was_applied(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(v="1"), secret("b", v="1")]})
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        world.cluster.policies["no-b"] = lambda _, obj: (
            obj["metadata"]["name"] == "b" and obj["data"]["v"] == encoded("2")
        )
        world.origin.commit({FILE: [secret(v="2"), secret("b", v="2")]})
        await look()
        assert (world.data(), world.data("b")) == ({"v": "2"}, {"v": "1"})
        await kept_right(world, {"v": "2"})
        await kept_right(world, {"v": "1"}, "b")


async def test_what_is_in_a_file_that_was_renamed_is_kept_right_while_the_new_one_is_broken(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"old.yaml": [secret("renamed", v="1")]})
    world.add(source=ALL, prune=True)
    async with miwen(world):
        await trio.sleep(SOON)
        world.origin.commit({"new.yaml": Failure("MacMismatch", "changed")}, remove=["old.yaml"])
        await look()
        await kept_right(world, {"v": "1"}, "renamed")
        world.origin.commit({"new.yaml": [secret("renamed", v="2")]})
        await look()
        assert (world.reason(), world.data("renamed")) == ("Synced", {"v": "2"})


async def test_what_moved_into_a_file_that_is_broken_is_kept_right(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"a.yaml": [secret("moved", v="1"), secret("stays", v="1")]})
    world.add(source=ALL, prune=True)
    async with miwen(world):
        await trio.sleep(SOON)
        world.origin.commit({"a.yaml": [secret("stays", v="2")], "b.yaml": Failure("KeyMissing", "no key")})
        await look()
        await kept_right(world, {"v": "1"}, "moved")
        await kept_right(world, {"v": "2"}, "stays")
        world.origin.commit({}, remove=["b.yaml"])
        await look()
        assert (world.reason(), world.data("moved"), world.data("stays")) == ("Synced", None, {"v": "2"})


async def test_what_left_the_files_for_certain_is_not_made_again_while_it_waits_to_be_pruned(
    world: World, autojump_clock: MockClock
) -> None:
    world.cluster.policies["no"] = lambda _, obj: obj["metadata"]["name"] == "denied"
    world.origin.commit({"gone.yaml": [config("gone", a="1")]})
    world.add(source=ALL, prune=True)
    async with miwen(world):
        await trio.sleep(SOON)
        world.origin.commit({"denied.yaml": Plain([config("denied", a="1")])}, remove=["gone.yaml"])
        await look()
        assert world.reason() == "AdmissionDenied"
        world.cluster.delete("ConfigMap", "default", "gone")
        await look()
        assert world.cluster.get("ConfigMap", "default", "gone") is None
        assert not world.condition("Drifted")
        world.cluster.policies.clear()
        await look()
        assert world.reason() == "Synced"


async def test_a_target_of_several_files_is_kept_right_while_one_is_broken(
    world: World, autojump_clock: MockClock
) -> None:
    source = {"repository": {"url": URL}, "files": ["a.enc.env", "b.enc.env"]}
    world.origin.commit({"a.enc.env": [{"A": "1"}], "b.enc.env": [{"B": "1"}]})
    world.add(source=source, target={"name": "settings"})
    async with miwen(world):
        await trio.sleep(SOON)
        assert world.data("settings") == {"A": "1", "B": "1"}
        world.origin.commit({"a.enc.env": [{"A": "2"}], "b.enc.env": Failure("MacMismatch", "changed")})
        await look()
        await kept_right(world, {"A": "1", "B": "1"}, "settings")
        world.origin.commit({"b.enc.env": [{"B": "3"}]})
        await look()
        assert (world.reason(), world.data("settings")) == ("Synced", {"A": "2", "B": "3"})


async def test_objects_whose_revision_an_earlier_release_did_not_keep_are_corrected_from_the_one_that_is_deployed(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(v="1")], "b.yaml": Plain([secret("b", v="1")])})
    world.add(source=ALL)
    async with miwen(world):
        await trio.sleep(SOON)
        world.origin.commit({FILE: [secret(v="2")], "b.yaml": Failure("MacMismatch", "changed")})
        await look()
    status = world.status()
    for entry in status["inventory"]:
        entry.pop("revision", None)
    world.cluster.set_status((API_VERSION, KIND, "default", "app"), status)
    world.krapao.forget()
    async with miwen(world):
        await trio.sleep(SOON)
        await kept_right(world, {"v": "2"})
        await kept_right(world, {"v": "1"}, "b")


# --- what can't be kept right is said


async def _differs(world: World, reason: str, *words: str) -> None:
    """Delete the Secret: it stays away, and the condition and an Event say so and why; nobody fights."""
    world.cluster.delete("Secret", "default", "app")
    await look()
    assert world.data() is None
    drifted = world.condition("Drifted")
    assert (drifted["status"], drifted["reason"]) == ("True", "NotCorrected")
    for word in ("Secret default/app was deleted", reason, *words):
        assert word in drifted["message"]
        assert any(word in note for note in notes(world, "Drifted"))
    assert world.condition("Ready")["status"] == "False"
    assert notes(world, "DriftConflict") == []
    told, written = len(notes(world, "Drifted")), world.versions()
    await look()
    assert (len(notes(world, "Drifted")), world.versions()) == (told, written), "it is told once"


@pytest.mark.parametrize("reason", ["RepositoryNotFound", "RepositoryAccessDenied"])
@pytest.mark.parametrize("restarted", [True, False])
async def test_what_the_host_refuses_is_not_decrypted_for_a_correction_and_that_is_reported(
    world: World, autojump_clock: MockClock, reason: str, restarted: bool
) -> None:
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        world.origin.fail = Failure(reason, "the host answers 404")
        await look()
        assert world.reason() == reason
        if restarted:
            world.krapao.forget()
        renders = world.renders()
        await _differs(world, reason)
        assert world.renders() == renders
        world.origin.fail = None
        await look()
        assert (world.reason(), world.data()) == ("Synced", {"greeting": "one"})
        assert not world.condition("Drifted")


async def test_a_host_that_is_away_keeps_nothing_from_being_corrected(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        world.origin.commit({FILE: Failure("MacMismatch", "changed")})
        await look()
        world.origin.fail = Failure("HostUnreachable", "no route")
        await look()
        await kept_right(world, {"greeting": "one"})


async def test_a_host_that_is_away_while_krapao_was_restarted_is_reported_and_waited_for(
    world: World, autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        world.origin.fail = Failure("HostUnreachable", "no route")
        world.krapao.forget()
        await look()
        world.cluster.delete("Secret", "default", "app")
        await trio.sleep(SOON)
        assert world.condition("Drifted")["reason"] == "NotCorrected"
        assert "HostUnreachable" in world.condition("Drifted")["message"]
        world.origin.fail = None
        await look()
        assert (world.reason(), world.data()) == ("Synced", {"greeting": "one"})
        assert not world.condition("Drifted")


async def test_a_revision_that_the_host_no_longer_gives_is_named(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        deployed = world.current()["revision"]
        _mac(world)
        await look()
        world.krapao.forget()
        world.origin.files["f" * 40] = world.origin.files.pop(deployed)
        await _differs(world, "DeployedVersionGone", deployed[:12])
        world.origin.commit({FILE: [secret(greeting="two")]})
        await look()
        assert (world.reason(), world.data()) == ("Synced", {"greeting": "two"})
        assert not world.condition("Drifted")


async def test_a_key_that_is_gone_opens_nothing_for_a_correction_either(
    world: World, autojump_clock: MockClock
) -> None:
    world.add_secret("keys", age="AGE-SECRET-KEY-FAKE-RIGHT")
    world.add(provider={"age": {"privateKey": {"secretName": "keys", "key": "age"}}})
    async with miwen(world):
        await trio.sleep(SOON)
        world.add_secret("keys", age="AGE-SECRET-KEY-FAKE-WRONG")
        await look()
        assert world.reason() == "KeyMissing"
        await _differs(world, "KeyMissing")


async def test_an_account_that_lost_its_rights_is_named(world: World, autojump_clock: MockClock) -> None:
    account = {"name": "deployer", "namespace": "default"}
    world.cluster.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    world.add(serviceAccountName="deployer")
    async with miwen(world):
        await trio.sleep(SOON)
        assert world.reason() == "Synced"
        world.cluster.account_rights["default/deployer"] = {("get", "secrets")}
        await _differs(world, "ApplyForbidden", "deployer")


async def test_what_the_operator_denies_now_is_not_corrected(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        _mac(world)
        await look()
    denied = read_policy("rules: [{namespaces: [default], repositories: ['https://other.example/**']}]")
    async with miwen(world, policy=denied):
        await trio.sleep(SOON)
        world.cluster.delete("Secret", "default", "app")
        await look()
        assert (world.reason(), world.data()) == ("PolicyDenied", None)
        assert notes(world, "DriftConflict") == []


async def test_a_drift_conflict_is_distinguished_from_what_can_not_be_corrected(
    world: World, autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        _mac(world)
        await look()
        for number in range(4):
            world.cluster.edit("Secret", "default", "app", manager="rival", data={"greeting": encoded(f"{number}")})
            await trio.sleep(SOON)
        assert world.condition("Drifted")["reason"] == "DriftConflict"
        assert len(notes(world, "DriftConflict")) == 1
