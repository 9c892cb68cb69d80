"""What the watches of objects make a loop do, on a virtual clock: corrections, pauses, what is told and what is not."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
import trio
from fakes.krapao import Plain
from support.miwen.objects import config, deployment, notes
from support.miwen.world import FILE, INTERVAL, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.identity import NAME_LABEL

SOON = 1.0


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def read(world: World, name: str = "app") -> dict[str, Any]:
    found = world.cluster.get("ConfigMap", "default", name)
    return found["data"] if found is not None else {}


async def test_a_change_is_corrected_without_waiting_for_the_interval(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        world.cluster.edit("Secret", "default", "app", manager="lens", data={"greeting": encoded("theirs")})
        await trio.sleep(SOON)
        assert world.data() == {"greeting": "one"}
        world.cluster.edit("Secret", "default", "app", manager="vault-injector", data={"more": encoded("theirs")})
        await trio.sleep(SOON)
        assert world.data() == {"greeting": "one"}
        world.cluster.delete("Secret", "default", "app")
        await trio.sleep(SOON)
        assert world.data() == {"greeting": "one"}
        assert notes(world, "Drifted") == [
            "Drifted: Secret default/app was changed by field manager lens; it is applied again",
            "Drifted: Secret default/app got the keys more from field manager vault-injector; it is applied again",
            "Drifted: Secret default/app was deleted (the API server does not keep by whom); it is applied again",
        ]
        assert not world.condition("Drifted")
        assert (world.current()["id"], world.status()["history"]) == (1, [])


async def test_writes_of_others_to_what_is_theirs_cause_no_look(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [config(a="one")]})
    world.add()
    async with miwen(world):
        heads, renders = world.heads(), world.renders()
        for number in range(20):
            world.cluster.edit("ConfigMap", "default", "app", metadata={"labels": {"n": str(number)}}, data={"b": "x"})
            await trio.sleep(SOON)
        assert (world.heads(), world.renders()) == (heads, renders)
        assert read(world) == {"a": "one", "b": "x"}


async def test_the_one_who_wrote_is_named_and_not_one_who_wrote_before(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [config(a="one", b="two")]})
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        # At the same second as the next, and later in the alphabet.
        world.cluster.edit("ConfigMap", "default", "app", manager="zebra", metadata={"labels": {"theirs": "x"}})
        world.cluster.edit("ConfigMap", "default", "app", manager="attacker", data={"a": "theirs"})
        await trio.sleep(SOON)
        # Who only takes fields out owns none.
        world.cluster.edit("ConfigMap", "default", "app", manager="remover", data={"b": None})
        await trio.sleep(SOON)
        assert read(world) == {"a": "one", "b": "two"}
        assert notes(world, "Drifted") == [
            "Drifted: ConfigMap default/app was changed by field manager attacker; it is applied again",
            "Drifted: ConfigMap default/app was changed by a client that owns none of its fields; it is applied again",
        ]


async def test_many_objects_that_drift_at_once_are_read_from_their_files_once(
    world: World, autojump_clock: MockClock
) -> None:
    names = [f"s{number}" for number in range(10)]
    world.origin.commit(
        {"a.yaml": [secret(name, k="a") for name in names[:5]], "b.yaml": [secret(name, k="b") for name in names[5:]]}
    )
    world.add(source={"repository": {"url": URL}, "files": ["*.yaml"], "exclude": [FILE]})
    async with miwen(world):
        renders, applies = world.renders(), world.kubernetes.requests.snapshot().of("apply", "secrets")
        for name in names[:3] + names[5:8]:
            world.cluster.edit("Secret", "default", name, data={"k": encoded("theirs")})
        await trio.sleep(SOON)
        assert [world.data(name) for name in names] == [{"k": "a"}] * 5 + [{"k": "b"}] * 5
        assert world.renders() - renders == 2
        assert world.kubernetes.requests.snapshot().of("apply", "secrets") - applies == 6
        assert len(notes(world, "Drifted")) == 6


async def test_drift_during_a_tick_is_corrected_after_it(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"other.yaml": [secret("other", a="one")]})
    world.add(source={"repository": {"url": URL}, "files": ["*.yaml"]})
    async with miwen(world):
        world.krapao.gate = trio.Event()
        world.origin.commit({"other.yaml": [secret("other", a="two")]})
        world.cluster.edit("Decryptor", "default", "app", api_version="jiemi.cr/v1alpha1", spec={"interval": "1h"})
        await settle()
        world.cluster.delete("Secret", "default", "app")
        await settle()
        world.krapao.gate.set()
        await trio.sleep(SOON)
        assert world.data("other") == {"a": "two"}
        assert world.data() == {"greeting": "one"}


async def test_a_multitude_of_keys_of_others_is_put_right_and_told_in_few_words(
    world: World, autojump_clock: MockClock
) -> None:
    """Whenever they come: what is kept of each change until it is judged is little."""
    many = {f"k{number:03}": encoded("theirs") for number in range(300)}
    world.origin.commit({"other.yaml": [secret("other", a="one")]})
    world.add(source={"repository": {"url": URL}, "files": ["*.yaml"]})
    async with miwen(world):
        world.cluster.edit("Secret", "default", "app", manager="vault-injector", data=many)
        await trio.sleep(SOON)
        assert world.data() == {"greeting": "one"}
        world.krapao.gate = trio.Event()
        world.origin.commit({"other.yaml": [secret("other", a="two")]})
        world.cluster.edit("Decryptor", "default", "app", api_version="jiemi.cr/v1alpha1", spec={"interval": "1h"})
        await settle()
        world.cluster.edit("Secret", "default", "app", manager="vault-injector", data=many)
        await settle()
        world.krapao.gate.set()
        await trio.sleep(SOON)
        assert world.data("other") == {"a": "two"}
        assert world.data() == {"greeting": "one"}
        names = ", ".join(sorted(many)[:10])
        told = f"got the keys {names} and 290 more from field manager vault-injector; it is applied again"
        assert set(notes(world, "Drifted")) == {f"Drifted: Secret default/app {told}"}
        assert not world.condition("Drifted")
        # What others may have does not cause looks for ever.
        before = world.cluster.version, world.heads()
        await trio.sleep(100)
        assert (world.cluster.version, world.heads()) == before


# --- fights


async def _insist(world: World, writes: list[float], over: trio.Event) -> None:
    """Another controller, which wants another value and writes a second after it sees ours."""
    while not over.is_set():
        news = world.cluster.news
        if read(world).get("a") == "ours":
            await trio.sleep(1)
            writes.append(trio.current_time())
            world.cluster.edit("ConfigMap", "default", "app", manager="rival", data={"a": "theirs"})
        else:
            await news.wait()


async def test_a_fight_is_left_alone_for_growing_pauses_and_told_once_each(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [config(a="ours")]})
    world.add()
    async with miwen(world), trio.open_nursery() as nursery:
        writes, over = list[float](), trio.Event()
        nursery.start_soon(_insist, world, writes, over)
        await trio.sleep(10)
        drifted = world.condition("Drifted")
        assert (drifted["status"], drifted["reason"]) == ("True", "DriftConflict")
        assert "rival" in drifted["message"]
        assert world.reason() == "DriftConflict", "the cluster is not what git says"
        assert "ConfigMap default/app was changed by field manager rival" in world.condition("Ready")["message"]
        assert world.condition("Stalled")["status"] == "True"
        await trio.sleep(4000)
        pauses = [round(after - before) for before, after in itertools.pairwise(writes)]
        assert pauses[:3] == [1, 1, 1]
        for pause, wanted in zip(pauses[3:], (60, 120, 240, 480, 900, 900), strict=False):
            assert wanted + 1 <= pause <= wanted + 2, pauses
        told = notes(world, "DriftConflict")
        assert [note.rpartition(" for ")[2] for note in told[:4]] == ["60 s", "120 s", "240 s", "480 s"]
        looks = world.heads()
        await trio.sleep(600)
        assert world.heads() - looks <= 600 / INTERVAL + 3, "a fight causes no looks but its own"

        over.set()
        await trio.sleep(1000)
        nursery.cancel_scope.cancel()
        assert read(world) == {"a": "ours"}
        assert not world.condition("Drifted")
        assert world.condition("Ready")["status"] == "True"


async def test_one_object_that_is_fought_over_keeps_no_other_from_being_corrected(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [config(a="ours"), config("calm", a="ours")]})
    world.add()
    async with miwen(world), trio.open_nursery() as nursery:
        writes, over = list[float](), trio.Event()
        nursery.start_soon(_insist, world, writes, over)
        await trio.sleep(10)
        number = len(writes)
        world.cluster.delete("ConfigMap", "default", "calm")
        await trio.sleep(SOON)
        assert read(world, "calm") == {"a": "ours"}
        assert len(writes) == number
        nursery.cancel_scope.cancel()


async def test_a_new_commit_ends_a_pause(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [config(a="ours")]})
    world.add()
    async with miwen(world):
        for _ in range(4):
            world.cluster.edit("ConfigMap", "default", "app", manager="rival", data={"a": "theirs"})
            await trio.sleep(SOON)
        assert world.condition("Drifted")["reason"] == "DriftConflict"
        world.origin.commit({FILE: [config(a="new")]})
        world.add("teller")  # its question shows that the repository moved
        await trio.sleep(SOON)
        assert read(world) == {"a": "new"}
        assert not world.condition("Drifted")


# --- what is told


async def test_reported_drift_lists_the_first_few_and_goes_as_it_is_mended(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [config(f"c{number}", a="ours") for number in range(7)]})
    world.add(driftPolicy="Report")
    async with miwen(world):
        for number in range(7):
            world.cluster.edit("ConfigMap", "default", f"c{number}", manager="editor", data={"a": "theirs"})
        await trio.sleep(SOON)
        message = world.condition("Drifted")["message"]
        assert message.count("was changed by field manager editor") == 5
        assert message.endswith("; and 2 more")
        assert len(notes(world, "Drifted")) == 7
        # A look that finds the same says nothing.
        written = world.versions()
        await trio.sleep(3 * INTERVAL)
        assert world.versions() == written
        world.cluster.edit("Decryptor", "default", "app", api_version="jiemi.cr/v1alpha1", spec={"driftPolicy": None})
        await trio.sleep(SOON)
        assert not world.condition("Drifted")
        assert all(read(world, f"c{number}") == {"a": "ours"} for number in range(7))


async def test_reported_drift_that_the_other_takes_back_is_told_no_more(
    world: World, autojump_clock: MockClock
) -> None:
    world.add(driftPolicy="Report")
    async with miwen(world):
        world.cluster.edit("Secret", "default", "app", manager="editor", data={"more": encoded("theirs")})
        await trio.sleep(SOON)
        assert "editor" in world.condition("Drifted")["message"]
        world.cluster.edit("Secret", "default", "app", manager="editor", data={"more": None})
        await trio.sleep(SOON)
        assert not world.condition("Drifted")


async def test_drift_is_corrected_and_told_though_another_object_is_refused_for_ever(
    world: World, autojump_clock: MockClock
) -> None:
    world.cluster.policies["no"] = lambda operation, obj: obj["metadata"]["name"] == "denied"
    world.origin.commit({"denied.yaml": [config("denied", a="one")], "good.yaml": [config(a="ours")]})
    world.add(source={"repository": {"url": URL}, "files": ["*.yaml"], "exclude": [FILE]})
    async with miwen(world):
        assert world.reason() == "AdmissionDenied"
        for number in range(4):
            world.cluster.edit("ConfigMap", "default", "app", manager="rival", data={"a": f"theirs {number}"})
            await trio.sleep(SOON)
            assert read(world) == {"a": "ours" if number < 3 else "theirs 3"}
        assert world.reason() == "AdmissionDenied"
        assert world.condition("Drifted")["reason"] == "DriftConflict"
        assert len(notes(world, "Drifted")) == 3


async def test_what_can_not_be_corrected_yet_is_when_it_can_and_told_then(
    world: World, autojump_clock: MockClock
) -> None:
    world.add_secret("keys", age="AGE-SECRET-KEY-FAKE-RIGHT")
    world.add(provider={"age": {"privateKey": {"secretName": "keys", "key": "age"}}})
    async with miwen(world):
        world.kubernetes.fail_next("get_secret", JiemiError("ClusterUnavailable", "down"))
        world.cluster.delete("Secret", "default", "app")
        await trio.sleep(SOON)
        assert world.reason() == "ClusterUnavailable"
        assert notes(world, "Drifted") == []
        await trio.sleep(5)
        assert world.data() == {"greeting": "one"}
        assert world.reason() == "Synced"
        assert len(notes(world, "Drifted")) == 1


# --- what can't be seen


async def test_a_kind_that_may_not_be_watched_is_told_at_once_and_seen_once_it_may(
    world: World, autojump_clock: MockClock
) -> None:
    world.kubernetes.deny("list", "configmaps")
    world.origin.commit({FILE: [config(a="ours")]})
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        drifted = world.condition("Drifted")
        assert (drifted["status"], drifted["reason"]) == ("Unknown", "WatchForbidden")
        assert "configmaps" in drifted["message"]
        assert world.reason() == "Synced"
        world.cluster.delete("ConfigMap", "default", "app")
        await trio.sleep(SOON)
        assert read(world) == {}
        world.kubernetes.denied.clear()
        # The reflector's longest pause is five minutes.
        await trio.sleep(400)
        assert read(world) == {"a": "ours"}, "what was deleted meanwhile is found"
        assert not world.condition("Drifted")


async def test_an_api_server_that_is_away_when_a_kind_is_first_watched_hides_no_deletion(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [config(a="ours")]})
    world.add()
    async with miwen(world):
        pass
    world.cluster.delete("ConfigMap", "default", "app")
    world.kubernetes.fail_next("list_metadata", *(JiemiError("ClusterUnavailable", "down") for _ in range(3)))
    async with miwen(world):
        await trio.sleep(60)
        assert read(world) == {"a": "ours"}


async def test_a_deletion_that_may_not_be_confirmed_is_told_and_causes_no_storm(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [config(a="ours")]})
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        world.kubernetes.deny("get", "configmaps")
        world.kubernetes.delays["get_metadata"] = 1.0  # so that time passes in a storm, and this ends
        heads = world.heads()
        world.cluster.delete("ConfigMap", "default", "app")
        await trio.sleep(10 * INTERVAL)
        assert world.heads() - heads <= 12
        drifted = world.condition("Drifted")
        assert (drifted["status"], drifted["reason"]) == ("Unknown", "ReadForbidden")
        world.kubernetes.denied.clear()
        await trio.sleep(INTERVAL + 1)
        assert read(world) == {"a": "ours"}
        assert not world.condition("Drifted")


async def test_a_deletion_is_confirmed_soon_again_after_the_api_server_was_away(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [config(a="ours")]})
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        world.kubernetes.fail_next("get_metadata", JiemiError("ClusterUnavailable", "down"))
        world.cluster.delete("ConfigMap", "default", "app")
        await trio.sleep(SOON)
        assert read(world) == {}
        await trio.sleep(6)
        assert read(world) == {"a": "ours"}


async def test_an_object_that_lost_its_label_is_not_taken_for_deleted(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [config(a="ours")]})
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        world.cluster.edit("ConfigMap", "default", "app", metadata={"labels": {NAME_LABEL: None}})
        await trio.sleep(SOON)
        found = world.cluster.get("ConfigMap", "default", "app")
        assert found is not None
        assert found["metadata"]["labels"][NAME_LABEL] == "app"
        [note] = notes(world, "Drifted")
        assert "was changed by" in note


# --- restarts


async def test_a_restart_after_corrections_writes_nothing(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), config(a="ours"), deployment()]})
    world.add()
    async with miwen(world):
        world.cluster.edit("Secret", "default", "app", data={"more": encoded("theirs")})
        world.cluster.edit("ConfigMap", "default", "app", data={"a": "theirs", "b": "theirs"})
        world.cluster.delete("Deployment", "default", "app", api_version="apps/v1")
        await trio.sleep(5)
    written, renders = world.versions(), world.renders()
    async with miwen(world):
        await trio.sleep(3 * INTERVAL)
    assert (world.versions(), world.renders()) == (written, renders)


@pytest.mark.parametrize("policy", ["Correct", "Report"])
async def test_drift_while_it_was_down_is_found_at_the_start(
    world: World, autojump_clock: MockClock, policy: str
) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), config(a="ours"), config("gone", a="ours")]})
    world.add(driftPolicy=policy)
    async with miwen(world):
        pass
    world.cluster.edit("Secret", "default", "app", manager="night", data={"greeting": encoded("theirs")})
    world.cluster.edit("ConfigMap", "default", "app", metadata={"labels": {NAME_LABEL: None}})
    world.cluster.delete("ConfigMap", "default", "gone")
    async with miwen(world):
        await trio.sleep(5)
        assert len(notes(world, "Drifted")) == 3
        assert any("field manager night" in note for note in notes(world, "Drifted"))
        if policy == "Correct":
            assert (world.data(), read(world, "gone")) == ({"greeting": "one"}, {"a": "ours"})
            assert not world.condition("Drifted")
        else:
            assert (world.data(), read(world, "gone")) == ({"greeting": "theirs"}, {})
            assert world.condition("Drifted")["message"].count(";") == 2


async def test_drift_that_was_told_before_a_restart_and_is_mended_meanwhile_is_told_no_more(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [config(a="ours")]})
    world.add(driftPolicy="Report")
    async with miwen(world):
        await trio.sleep(SOON)
        world.cluster.edit("ConfigMap", "default", "app", data={"a": "theirs"})
        await trio.sleep(SOON)
        assert world.condition("Drifted")
    async with miwen(world):
        await trio.sleep(INTERVAL + 1)
        assert world.condition("Drifted"), "it still differs"
    # As git has it, by another Jiemi: the field is owned again.
    applied = world.cluster.get("ConfigMap", "default", "app")
    assert applied is not None
    world.cluster.delete("ConfigMap", "default", "app")
    async with miwen(world):
        await trio.sleep(SOON)
        assert "was deleted" in world.condition("Drifted")["message"]


# --- with spec.wait


async def test_drift_is_corrected_while_objects_are_waited_for(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), deployment()]})
    world.add(wait=True, timeout="10m")
    async with miwen(world):
        await trio.sleep(SOON)
        assert world.condition("Reconciling")["reason"] == "WaitingForObjects"
        world.cluster.delete("Secret", "default", "app")
        await trio.sleep(3)
        assert world.data() == {"greeting": "one"}
        assert world.condition("Reconciling")["reason"] == "WaitingForObjects"
        assert notes(world, "Recovered") == []


async def test_interruptions_make_a_wait_no_longer(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), secret("other", greeting="one"), deployment()]})
    world.add(wait=True, timeout="60s")
    async with miwen(world):
        for number in range(5):
            await trio.sleep(11)
            assert world.reason() == "ObjectsNotReady"
            assert world.condition("Ready")["status"] == "Unknown"
            world.cluster.delete("Secret", "default", "app" if number % 2 else "other")
        await trio.sleep(10)
        assert (world.condition("Ready")["status"], world.reason()) == ("False", "ObjectsNotReady")
        assert len(notes(world, "ObjectsNotReady")) == 1


@pytest.mark.parametrize("plain", [True, False])
async def test_a_plain_file_is_corrected_as_an_encrypted_one(
    world: World, autojump_clock: MockClock, plain: bool
) -> None:
    content = [config(a="ours")]
    world.origin.commit({"plain.yaml": Plain(content) if plain else content})
    world.add(source={"repository": {"url": URL}, "files": ["plain.yaml"]})
    async with miwen(world):
        await trio.sleep(SOON)
        world.cluster.edit("ConfigMap", "default", "app", data={"a": "theirs"})
        await trio.sleep(SOON)
        assert read(world) == {"a": "ours"}


async def test_a_target_of_several_files_is_corrected_with_all_its_keys(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"a.env": [{"A": "1"}], "b.env": [{"B": "2"}]})
    world.add(source={"repository": {"url": URL}, "files": ["*.env"]}, target={"name": "both"})
    async with miwen(world):
        await trio.sleep(SOON)
        assert world.data("both") == {"A": "1", "B": "2"}
        world.cluster.edit("Secret", "default", "both", data={"A": None})
        await trio.sleep(SOON)
        assert world.data("both") == {"A": "1", "B": "2"}


async def test_a_host_that_does_not_answer_keeps_nobody_from_correcting(
    world: World, autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world):
        world.origin.fail = Failure("HostUnreachable", "no answer")
        await trio.sleep(2 * INTERVAL)
        assert world.reason() == "HostUnreachable"
        world.cluster.edit("Secret", "default", "app", manager="lens", data={"greeting": encoded("theirs")})
        await trio.sleep(SOON)
        assert world.data() == {"greeting": "one"}
        assert len(notes(world, "Drifted")) == 1
        assert (world.reason(), world.current()["status"]) == ("HostUnreachable", "NotSync")
        world.origin.fail = None
        await trio.sleep(INTERVAL + 1)
        assert (world.reason(), world.current()["id"]) == ("Synced", 1)


async def test_what_is_deployed_is_corrected_while_what_is_new_waits_for_another(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"other.yaml": [secret("other", a="one")]})
    needs = [{"name": "first"}]
    world.add("first", target={"name": "first", "key": "file"})
    world.add(source={"repository": {"url": URL}, "files": ["*.yaml"]}, prune=True, dependsOn=needs)
    async with miwen(world):
        await trio.sleep(INTERVAL)
        assert world.reason() == "Synced"
        world.add("first", source={"repository": {"url": URL}, "fileToDecrypt": "missing.yaml"})
        world.origin.commit({FILE: [secret(greeting="two")]}, remove=["other.yaml"])
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "DependencyNotReady"
        world.cluster.delete("Secret", "default", "app")
        world.cluster.edit("Secret", "default", "other", manager="lens", data={"a": encoded("theirs")})
        await trio.sleep(SOON)
        # By the revision that is deployed, not by the one that waits.
        assert (world.data("app"), world.data("other")) == ({"greeting": "one"}, {"a": "one"})
        assert world.reason() == "DependencyNotReady"

        world.origin.commit({FILE: [secret(greeting="one")], "other.yaml": [secret("other", a="one")]})
        await trio.sleep(INTERVAL + 1)
        assert (world.data("app"), world.data("other")) == ({"greeting": "one"}, {"a": "one"})
        world.origin.commit({"third.yaml": [secret("third", a="one")]})
        await trio.sleep(INTERVAL + 1)
        world.cluster.delete("Secret", "default", "app")
        await trio.sleep(SOON)
        assert (world.data("app"), world.data("third")) == ({"greeting": "one"}, None)
        assert (world.reason(), world.current()["id"]) == ("DependencyNotReady", 1)
        world.add("first", target={"name": "first", "key": "file"})
        await trio.sleep(INTERVAL + 1)
        assert (world.reason(), world.data("third")) == ("Synced", {"a": "one"})


# --- values that are no text


def _with_null(**values: str | None) -> dict[str, Any]:
    return secret() | {"stringData": values}


async def test_a_null_in_string_data_does_not_turn_drift_correction_off(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [_with_null(password="good", comment=None)]})
    world.add()
    wanted = {"password": "good", "comment": ""}
    async with miwen(world):
        await trio.sleep(SOON)
        assert world.data() == wanted
        for change in ({"password": encoded("theirs")}, {"comment": encoded("theirs")}, {"more": encoded("x")}):
            world.cluster.edit("Secret", "default", "app", manager="lens", data=change)
            await trio.sleep(SOON)
            assert world.data() == wanted
            await trio.sleep(INTERVAL)
        for key in wanted:
            world.cluster.edit("Secret", "default", "app", manager="lens", data={key: None})
            await trio.sleep(SOON)
            assert world.data() == wanted
            await trio.sleep(INTERVAL)
        world.origin.commit({FILE: [_with_null(password="good")]})
        await trio.sleep(INTERVAL + 1)
        assert world.data() == {"password": "good"}
        assert not world.condition("Drifted")


async def test_what_a_release_applied_as_string_data_is_applied_as_data(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [_with_null(password="good", comment=None)]})
    world.add()
    async with miwen(world):
        await trio.sleep(SOON)
        # As it was left: ours in stringData, and a key that the manifest gives is gone for good.
        left = world.cluster.get("Secret", "default", "app") or {}
        [ours] = [each for each in left["metadata"]["managedFields"] if each["manager"] == "jiemi"]
        ours["fieldsV1"]["f:stringData"] = ours["fieldsV1"].pop("f:data")
        del left["data"]["password"]
        world.cluster._store(("v1", "Secret", "default", "app"), left)
        await trio.sleep(SOON)
        assert world.data() == {"password": "good", "comment": ""}
        assert not world.condition("Drifted")


@pytest.mark.parametrize("comes", ["with the object", "later"])
async def test_a_key_that_the_manifest_gives_is_not_taken_out_though_admission_made_it_its_own(
    world: World, autojump_clock: MockClock, comes: str
) -> None:
    first = {"other": "ours"} if comes == "later" else {"password": "good", "other": "ours"}
    world.origin.commit({FILE: [secret(**first)]})
    world.add()
    real = world.cluster.apply

    def mutated(*args: Any, **more: Any) -> dict[str, Any]:
        made = real(*args, **more)
        if made["kind"] == "Secret" and "password" in made["data"] and not more.get("dry_run"):
            made = world.cluster.put({**made, "data": {**made["data"], "password": encoded("injected")}}, "webhook")
        return made

    world.cluster.apply = mutated  # type: ignore[method-assign]
    async with miwen(world):
        await trio.sleep(SOON)
        if comes == "later":
            world.origin.commit({FILE: [secret(password="good", other="ours")]})
            await trio.sleep(INTERVAL + SOON)
        assert world.data() == {"password": "injected", "other": "ours"}
        world.cluster.edit("Secret", "default", "app", manager="lens", data={"more": encoded("x")})
        await trio.sleep(SOON)
        assert world.data() == {"password": "injected", "other": "ours"}
        written = world.versions()
        await trio.sleep(3 * INTERVAL)
        assert world.versions() == written
        assert not world.condition("Drifted")
