"""What makes a loop look, what it says then, and what it does not say twice; on a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from support.miwen.objects import config, deployment, notes
from support.miwen.world import FILE, INTERVAL, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.core.errors import Failure, JiemiError

SOON = 1.0
BY_SECRET = {"age": {"privateKey": {"secretName": "keys", "key": "age"}}}
RIGHT = "AGE-SECRET-KEY-FAKE-RIGHT"
DOWN = JiemiError("ClusterUnavailable", "down")


def source(file: str = FILE, **more: Any) -> dict[str, Any]:
    return {"repository": {"url": URL}, "fileToDecrypt": file, **more}


def edit(world: World, name: str = "app", **spec: Any) -> None:
    """Change fields of a Decryptor's spec; None takes one out."""
    world.cluster.edit(KIND, "default", name, api_version=API_VERSION, spec=spec)


def reconcile_at(world: World, text: str) -> None:
    annotations = {"jiemi.cr/reconcile-at": text}
    world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, metadata={"annotations": annotations})


# --- the annotation


async def test_the_annotation_applies_again_at_once_and_once(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        renders, asked = world.renders(), world.origin.asked
        reconcile_at(world, "1")
        await settle()
        assert (world.renders(), world.origin.asked) == (renders + 1, asked + 1)
        assert world.status()["lastHandledReconcileAt"] == "1"
        assert (world.current()["id"], world.status()["history"]) == (1, [])
        written = world.versions()
        await trio.sleep(3 * INTERVAL)
        assert (world.renders(), world.versions()) == (renders + 1, written)
    async with miwen(world):
        await trio.sleep(INTERVAL)
        assert (world.renders(), world.versions()) == (renders + 1, written), "a restart knows that it was handled"


async def test_what_the_annotation_asked_for_is_not_taken_for_done_when_it_failed(
    world: World, autojump_clock: MockClock
) -> None:
    world.add_secret("keys", age=RIGHT)
    world.add(provider=BY_SECRET)
    async with miwen(world):
        renders = world.renders()
        world.kubernetes.fail_next("get_secret", DOWN)
        reconcile_at(world, "1")
        await settle()
        assert world.reason() == "ClusterUnavailable"
        assert world.renders() == renders
        await trio.sleep(5)
        assert world.reason() == "Synced"
        assert world.renders() == renders + 1


# --- Secrets that the spec names


async def test_a_whole_secret_with_git_credentials_is_read_again_at_once_when_it_changes(
    world: World, autojump_clock: MockClock
) -> None:
    world.add_secret("git", bearerToken="old")
    repository = {"url": URL, "credentials": {"secretName": "git"}}
    world.add(source={"repository": repository, "fileToDecrypt": FILE})
    async with miwen(world):
        await trio.sleep(5)
        assert world.reason() == "Synced"
        assert [each["name"] for each in world.status()["observedSecrets"]] == ["git"]
        world.add_secret("git", bearerToken="new")
        await trio.sleep(5)
        tokens = [each.bearer.reveal() for each in world.krapao.credentials if each.bearer is not None]
        assert tokens == ["old", "new"]


async def test_a_changed_key_decrypts_again_at_once(world: World, autojump_clock: MockClock) -> None:
    world.add_secret("keys", age="AGE-SECRET-KEY-FAKE-WRONG")
    world.add(provider=BY_SECRET)
    async with miwen(world):
        assert world.reason() == "KeyMissing"
        world.add_secret("keys", age=RIGHT)
        await settle()
        assert world.reason() == "Synced"
        version = world.cluster.get("Secret", "default", "keys")
        assert version is not None
        assert world.status()["observedSecrets"] == [
            {"name": "keys", "resourceVersion": version["metadata"]["resourceVersion"]}
        ]


async def test_a_changed_key_that_could_not_be_tried_is_tried_until_it_could(
    world: World, autojump_clock: MockClock
) -> None:
    world.add_secret("keys", age=RIGHT)
    world.add(provider=BY_SECRET)
    async with miwen(world):
        await trio.sleep(SOON)
        world.kubernetes.fail_next("get_secret", DOWN, DOWN)
        world.add_secret("keys", age="AGE-SECRET-KEY-FAKE-WRONG")
        await settle()
        assert world.reason() == "ClusterUnavailable"
        await trio.sleep(20)
        assert world.reason() == "KeyMissing"
        await trio.sleep(3 * INTERVAL)
        assert world.reason() == "KeyMissing", "what fails goes on to"


async def test_a_key_that_changed_while_it_was_down_is_used_at_the_start(
    world: World, autojump_clock: MockClock
) -> None:
    world.add_secret("keys", age=RIGHT)
    world.add(provider=BY_SECRET)
    async with miwen(world):
        pass
    world.add_secret("keys", age="AGE-SECRET-KEY-FAKE-WRONG")
    async with miwen(world):
        await trio.sleep(SOON)
        assert world.reason() == "KeyMissing"
        assert world.data() == {"greeting": "one"}


async def test_a_secret_that_no_spec_names_wakes_nobody(world: World, autojump_clock: MockClock) -> None:
    world.add_secret("keys", age=RIGHT)
    world.add(provider=BY_SECRET)
    async with miwen(world):
        heads = world.heads()
        world.add_secret("unrelated", a="b")
        world.add_secret("unrelated", a="c")
        await trio.sleep(SOON)
        assert world.heads() == heads


# --- intervals


async def test_intervals_of_its_own_are_kept_to_the_second(world: World, autojump_clock: MockClock) -> None:
    world.add(interval="1m30s")
    async with miwen(world):
        asked = world.heads()
        await trio.sleep(89)
        assert world.heads() == asked
        await trio.sleep(2)
        assert world.heads() == asked + 1
        edit(world, interval="10m")
        await settle()
        asked = world.heads()
        await trio.sleep(598)
        assert world.heads() == asked
        await trio.sleep(4)
        assert world.heads() == asked + 1


async def test_a_retry_interval_of_its_own_replaces_growing_pauses(world: World, autojump_clock: MockClock) -> None:
    world.origin.fail = Failure("HostUnreachable", "no route")
    world.add(retryInterval="7s")
    async with miwen(world):
        asked = world.heads()
        await trio.sleep(71)
        assert world.heads() == asked + 10
        edit(world, retryInterval=None)
        await settle()
        asked = world.heads()
        await trio.sleep(71)
        assert world.heads() - asked <= 5


async def test_what_is_stalled_is_not_retried_by_the_retry_interval(world: World, autojump_clock: MockClock) -> None:
    world.add(source=source("none.yaml"), retryInterval="5s")
    async with miwen(world):
        assert world.condition("Stalled")["reason"] == "FileNotFound"
        asked = world.heads()
        await trio.sleep(INTERVAL - 5)
        assert world.heads() == asked


async def test_a_timeout_of_its_own_bounds_decrypting_and_applying(world: World, autojump_clock: MockClock) -> None:
    world.add(timeout="7s")
    world.kubernetes.delays["apply"] = 10
    async with miwen(world):
        await trio.sleep(8)
        assert world.reason() == "Timeout"
        assert "7 s" in world.condition("Ready")["message"]
        world.kubernetes.delays.clear()
        await trio.sleep(5)
        assert world.reason() == "Synced"


# --- suspend


async def test_a_suspended_one_does_nothing_for_days_and_survives_restarts(
    world: World, autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world):
        edit(world, suspend=True)
        await settle()
        assert world.condition("Suspended")["status"] == "True"
        world.origin.commit({FILE: [secret(greeting="two")]})
        world.cluster.delete("Secret", "default", "app")
        await trio.sleep(SOON)
        written, heads = world.versions(), world.heads()
        await trio.sleep(20 * INTERVAL)
        assert (world.versions(), world.heads(), world.data()) == (written, heads, None)
    async with miwen(world):
        await trio.sleep(2 * INTERVAL)
        assert (world.versions(), world.heads()) == (written, heads)
        edit(world, suspend=False)
        await settle()
        assert world.data() == {"greeting": "two"}
        assert not world.condition("Suspended")
        assert [note.partition(":")[0] for note in notes(world) if "Drifted" not in note] == [
            "Applied",
            "Suspended",
            "Resumed",
            "Applied",
        ]


async def test_suspending_and_resuming_a_failing_one_tells_no_recovery(world: World, autojump_clock: MockClock) -> None:
    world.add(source=source("none.yaml"))
    async with miwen(world):
        assert world.condition("Stalled")
        edit(world, suspend=True)
        await settle()
        assert not world.condition("Stalled")
        edit(world, suspend=None)
        await settle()
        assert world.condition("Stalled")["reason"] == "FileNotFound"
        world.origin.commit({"none.yaml": [secret(greeting="one")]})
        await trio.sleep(INTERVAL + 1)
        assert [note.partition(":")[0] for note in notes(world)] == [
            "FileNotFound",
            "Suspended",
            "Resumed",
            "Applied",
            "Recovered",
        ]


# --- no repeats, nothing untrue


async def test_a_failure_is_reported_once_in_a_day_of_restarts_and_looks(
    world: World, autojump_clock: MockClock
) -> None:
    world.add(source=source("none.yaml"))
    for _ in range(3):
        async with miwen(world):
            await trio.sleep(10 * INTERVAL)
    assert [note.partition(":")[0] for note in notes(world)] == ["FileNotFound"]


async def test_a_tick_that_is_broken_off_has_not_recovered(world: World, autojump_clock: MockClock) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "first"}}
    world.origin.commit({"good.yaml": [account, config("second", k="1")]})
    world.add(source=source("none.yaml"))
    async with miwen(world):
        assert world.condition("Stalled")
        world.kubernetes.delays["apply"] = 5
        edit(world, source=source("good.yaml"))
        await trio.sleep(2)
        edit(world, source=source("also-none.yaml"))  # while the first object is applied
        await trio.sleep(20)
        assert world.cluster.get("ServiceAccount", "default", "first") is not None
        assert world.cluster.get("ConfigMap", "default", "second") is None
        assert world.reason() == "FileNotFound"
        assert notes(world, "Recovered", "Applied") == []


async def test_a_deployment_whose_wait_was_interrupted_is_reported_once(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), deployment()]})
    world.add(wait=True, timeout="10m")
    async with miwen(world):
        await trio.sleep(SOON)
        assert notes(world, "Applied") == []
        world.cluster.delete("Secret", "default", "app")
        await trio.sleep(5)
        conditions = [
            {"type": "Available", "status": "True"},
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
        ]
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
        live = world.cluster.get("Deployment", "default", "app", api_version="apps/v1")
        assert live is not None
        generation = live["metadata"].get("generation", 1)
        status = {"observedGeneration": generation, "conditions": conditions, **counts}
        world.cluster.set_status(("apps/v1", "Deployment", "default", "app"), status, manager="controller")
        await trio.sleep(5)
        assert world.condition("Ready")["status"] == "True"
        assert len(notes(world, "Applied")) == 1
        assert notes(world, "Recovered") == []


# --- dry run


async def test_a_plan_survives_a_restart_and_is_recreated_for_a_new_commit_only(
    world: World, autojump_clock: MockClock
) -> None:
    world.add(mode="DryRun")
    async with miwen(world):
        assert world.reason() == "Planned"
        assert world.data() is None
        written, renders = world.versions(), world.renders()
        await trio.sleep(3 * INTERVAL)
    async with miwen(world):
        await trio.sleep(3 * INTERVAL)
        assert (world.versions(), world.renders()) == (written, renders)
        revision = world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL + 1)
        assert world.status()["plan"]["revision"] == revision
        assert world.renders() == renders + 1
        assert world.data() is None
        assert len(notes(world, "Planned")) == 2
        assert notes(world, "Applied") == []


async def test_going_back_and_forth_between_planning_and_applying(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        edit(world, mode="DryRun")
        await settle()
        assert (world.reason(), world.status()["plan"]["unchanged"]) == ("Planned", 1)
        world.cluster.delete("Secret", "default", "app")
        await trio.sleep(INTERVAL + 1)
        assert world.data() is None
        edit(world, mode="Apply")
        await settle()
        assert world.data() == {"greeting": "one"}
        assert (world.reason(), world.current()["id"]) == ("Synced", 1)
        assert "plan" not in world.status()


# --- order


async def test_a_dependent_goes_on_the_moment_the_other_is_ready(world: World, autojump_clock: MockClock) -> None:
    world.add("second", dependsOn=[{"name": "first"}])
    async with miwen(world):
        assert world.reason("second") == "DependencyNotReady"
        await trio.sleep(100)
        began = trio.current_time()
        world.add("first")
        await settle()
        assert world.reason("second") == "Synced"
        assert trio.current_time() - began < 1


async def test_a_chain_of_dependents_goes_on_one_after_the_other(world: World, autojump_clock: MockClock) -> None:
    names = [f"d{number}" for number in range(6)]
    for name, before in zip(names[1:], names, strict=False):
        world.add(name, dependsOn=[{"name": before}])
    async with miwen(world):
        assert {world.reason(name) for name in names[1:]} == {"DependencyNotReady"}
        world.add("d0")
        await trio.sleep(SOON)
        assert {world.reason(name) for name in names} == {"Synced"}


async def test_a_dependency_that_only_plans_has_applied_nothing(world: World, autojump_clock: MockClock) -> None:
    world.add("first", mode="DryRun")
    world.add("second", dependsOn=[{"name": "first"}])
    async with miwen(world):
        await trio.sleep(SOON)
        assert world.reason("first") == "Planned"
        assert world.reason("second") == "DependencyNotReady"
        edit(world, "first", mode="Apply")
        await trio.sleep(SOON)
        assert world.reason("second") == "Synced"


@pytest.mark.parametrize("broken_by", ["spec", "deletion"])
async def test_a_circle_that_is_broken_is_left_at_once(world: World, autojump_clock: MockClock, broken_by: str) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        world.add(name, dependsOn=[{"name": other}])
    async with miwen(world):
        await trio.sleep(SOON)
        assert {world.reason(name) for name in "abc"} == {"DependencyCycle"}
        if broken_by == "spec":
            edit(world, "c", dependsOn=None)
            await trio.sleep(SOON)
            assert {world.reason(name) for name in "abc"} == {"Synced"}
        else:
            world.delete("c")
            await trio.sleep(SOON)
            assert {world.reason(name) for name in "ab"} == {"DependencyNotReady"}
