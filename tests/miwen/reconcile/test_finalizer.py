"""The end of a Decryptor: what becomes of its objects, and that nothing holds it for ever."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fakes.kubernetes import FakeObjects
from support.miwen.world import FILE, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.api.decryptor import API_VERSION, FINALIZER, KIND
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.miwen.kubernetes.port import JsonObject
from jiemi.miwen.reconcile.finalizer import CLEANUP_SECONDS, LATE_SECONDS


def finalizers(world: World) -> list[str] | None:
    """Of the Decryptor; None where it is gone."""
    found = world.cluster.get(KIND, "default", "app", api_version=API_VERSION)
    return None if found is None else list(found["metadata"].get("finalizers") or ())


def events(world: World) -> dict[str, str]:
    """The notes of the Events, by their reasons."""
    found = [obj for key, obj in world.cluster.objects.items() if key[1] == "Event"]
    return {each["reason"]: each["note"] for each in found}


async def test_the_objects_go_with_a_decryptor_that_says_so(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), secret("b", k="1")]})
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        assert finalizers(world) == [FINALIZER]
        world.delete()
        await settle()
        assert (world.data("a"), world.data("b"), finalizers(world)) == (None, None, None)
        assert world.krapao.opened == 0


async def test_the_objects_stay_where_nothing_is_said(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        assert finalizers(world) == []
        world.delete()
        await settle()
        assert (world.data(), finalizers(world)) == ({"greeting": "one"}, None)


async def test_the_finalizer_comes_and_goes_with_the_policy(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, spec={"deletionPolicy": "Delete"})
        await settle()
        assert finalizers(world) == [FINALIZER]
        world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, spec={"deletionPolicy": "Orphan"})
        await settle()
        assert finalizers(world) == []


async def test_the_finalizer_is_there_before_the_first_object(world: World, autojump_clock: MockClock) -> None:
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        made = [each.obj for each in world.cluster.events if each.change in {"ADDED", "MODIFIED"}]
        first = next(each for each in made if each["kind"] == "Secret")
        marked = next(each for each in made if each["metadata"].get("finalizers") == [FINALIZER])
        assert made.index(marked) < made.index(first)


async def test_finalizers_of_others_stay_and_the_decryptor_with_them(world: World, autojump_clock: MockClock) -> None:
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.cluster.edit(
            KIND, "default", "app", api_version=API_VERSION, metadata={"finalizers": ["tests/holds", FINALIZER]}
        )
        world.delete()
        await settle()
        assert (world.data(), finalizers(world)) == (None, ["tests/holds"])
        written = world.versions()
        await trio.sleep(1000)
        assert world.versions() == written


async def test_objects_that_keep_themselves_or_are_anothers_stay(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret("kept", k="1"), secret("taken", k="1"), secret("gone", k="1")]})
    world.add(deletionPolicy="Delete", driftPolicy="Report")
    async with miwen(world):
        world.cluster.edit("Secret", "default", "kept", metadata={"annotations": {"jiemi.cr/prune": "disabled"}})
        world.cluster.edit("Secret", "default", "taken", metadata={"labels": {"jiemi.cr/decryptor-name": "another"}})
        world.delete()
        await settle()
        assert (world.data("kept"), world.data("taken"), world.data("gone")) == ({"k": "1"}, {"k": "1"}, None)
        assert finalizers(world) is None


async def test_what_can_not_be_deleted_is_reported_and_tried_again_every_few_seconds(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), {**CONFIG, "metadata": {"name": "c"}}]})
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.kubernetes.deny("delete", "configmaps")
        world.delete()
        await settle()
        assert (world.data("a"), finalizers(world)) == (None, [FINALIZER])
        assert world.reason() == "DeleteForbidden"
        text = world.current()["error_message"]
        assert "deleting this Decryptor: an object is not deleted yet: deleting ConfigMap default/c" in text
        assert "Grant `delete` on configmaps" in text
        assert [each["name"] for each in world.status()["inventory"]] == ["c"]
        written = world.versions()
        await trio.sleep(60)
        assert world.versions() == written
        world.kubernetes.denied.clear()
        await trio.sleep(6)
        assert world.cluster.get("ConfigMap", "default", "c") is None
        assert finalizers(world) is None


CONFIG: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "1"}}


async def test_after_five_minutes_it_gives_up_and_says_what_stays(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [{**CONFIG, "metadata": {"name": f"c{number}"}} for number in range(7)]})
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.kubernetes.deny("delete", "configmaps")
        world.delete()
        await trio.sleep(CLEANUP_SECONDS - 5)
        assert finalizers(world) == [FINALIZER]
        await trio.sleep(15)
        assert finalizers(world) is None
        assert world.cluster.get("ConfigMap", "default", "c0") is not None
        note = events(world)["CleanupGivenUp"]
        assert "after 300 s, 7 objects stay: ConfigMap default/c0, " in note
        assert "ConfigMap default/c4;" in note
        assert "DeleteForbidden: " in note


async def test_the_wait_for_an_api_server_that_does_not_answer_ends(world: World, autojump_clock: MockClock) -> None:
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.kubernetes.fail_next("delete", *[JiemiError("ClusterUnavailable", "no answer")] * 3)
        world.delete()
        await settle()
        assert world.reason() == "ClusterUnavailable"
        await trio.sleep(20)
        assert (world.data(), finalizers(world)) == (None, None)


async def test_a_cleanup_may_take_longer_than_the_timeout_of_a_deployment(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(f"s{number}", k="1") for number in range(40)]})
    world.add(deletionPolicy="Delete", timeout="2s")
    async with miwen(world):
        world.kubernetes.delays["get_metadata"] = 0.1
        world.delete()
        await trio.sleep(5)
        assert (world.data("s0"), world.data("s39"), finalizers(world)) == (None, None, None)


async def test_a_cleanup_that_takes_too_long_ends_and_says_what_stays(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret(f"s{number:02}", k="1") for number in range(40)]})
    world.add(deletionPolicy="Delete", timeout="2s")
    async with miwen(world):
        world.kubernetes.delays["get_metadata"] = 10
        world.delete()
        await trio.sleep(CLEANUP_SECONDS - 1)
        assert finalizers(world) == [FINALIZER]
        await trio.sleep(2)
        assert finalizers(world) is None
        there = [number for number in range(40) if world.data(f"s{number:02}") is not None]
        assert there in ([*range(29, 40)], [*range(30, 40)])
        assert events(world)["CleanupGivenUp"].startswith(
            f"after 300 s, {len(there)} objects stay: Secret default/s{there[0]:02}, "
        )
        assert events(world)["CleanupGivenUp"].endswith("; it took too long")


async def test_an_api_server_that_never_answers_again_holds_a_decryptor_no_longer_than_that(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), secret("b", k="1"), secret("c", k="1")]})
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.kubernetes.delays["delete"] = 20
        world.kubernetes.fail_next("delete", *[JiemiError("ClusterUnavailable", "no answer")] * 100)
        world.delete()
        await trio.sleep(CLEANUP_SECONDS - 1)
        assert finalizers(world) == [FINALIZER]
        await trio.sleep(LATE_SECONDS + 1)
        assert finalizers(world) is None
        assert "3 objects stay: Secret default/a, " in events(world)["CleanupGivenUp"]


async def test_what_is_deleted_is_known_when_the_api_server_ends_to_answer(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), secret("b", k="1"), secret("c", k="1")]})
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.delete()
        world.kubernetes.delays["delete"] = 1
        await trio.sleep(1.5)
        world.kubernetes.fail_next("delete", JiemiError("ClusterUnavailable", "no answer"))
        await trio.sleep(1)
        assert [each["name"] for each in world.status()["inventory"]] == ["b", "c"]
        await trio.sleep(10)
        assert finalizers(world) is None


async def test_a_fault_of_ours_holds_a_decryptor_no_longer_than_that(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), secret("b", k="1")]})
    world.add(deletionPolicy="Delete")
    real = FakeObjects.get_metadata

    async def broken(self: FakeObjects, ref: ObjectRef) -> JsonObject | None:
        if ref.name == "b":
            raise LookupError(ref.name)
        return await real(self, ref)

    monkeypatch.setattr(FakeObjects, "get_metadata", broken)
    async with miwen(world):
        world.delete()
        await settle()
        assert (world.reason(), world.data("a")) == ("InternalError", None)
        assert [each["name"] for each in world.status()["inventory"]] == ["b"]
        await trio.sleep(CLEANUP_SECONDS + 10)
        assert finalizers(world) is None
        assert "1 objects stay: Secret default/b; " in events(world)["CleanupGivenUp"]


async def test_what_was_deleted_long_ago_while_miwen_was_down_has_time_for_its_objects(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(f"s{number}", k="1") for number in range(40)]})
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        found = world.cluster.get(KIND, "default", "app", api_version=API_VERSION)
        assert found is not None
    found["metadata"] |= {"deletionTimestamp": "2026-11-23T00:00:00Z"}
    world.cluster.put(found)
    world.kubernetes.delays["get_metadata"] = 1
    async with miwen(world):
        await trio.sleep(LATE_SECONDS - 15)
        assert (world.data("s0"), world.data("s39"), finalizers(world)) == (None, None, None)


async def test_what_was_deleted_while_miwen_was_down_is_cleaned_up_at_its_start(
    world: World, autojump_clock: MockClock
) -> None:
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        pass
    world.delete()
    assert (world.data(), finalizers(world)) == ({"greeting": "one"}, [FINALIZER])
    async with miwen(world):
        assert (world.data(), finalizers(world)) == (None, None)


async def test_a_time_of_deletion_that_can_not_be_read_is_long_ago(world: World, autojump_clock: MockClock) -> None:
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.kubernetes.deny("delete", "secrets")
        found = world.cluster.get(KIND, "default", "app", api_version=API_VERSION)
        assert found is not None
        found["metadata"] |= {"deletionTimestamp": "yesterday"}
        world.cluster.put(found)
        await settle()
        assert (world.data(), finalizers(world)) == ({"greeting": "one"}, None)
        assert "CleanupGivenUp" in events(world)


async def test_suspended_it_leaves_its_objects(world: World, autojump_clock: MockClock) -> None:
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, spec={"suspend": True})
        await settle()
        assert finalizers(world) == [FINALIZER]
        world.delete()
        await settle()
        assert (world.data(), finalizers(world)) == ({"greeting": "one"}, None)


async def test_a_spec_that_can_not_be_read_leaves_its_objects(world: World, autojump_clock: MockClock) -> None:
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, spec={"source": None})
        await settle()
        assert world.reason() == "InvalidSpec"
        world.delete()
        await settle()
        assert (world.data(), finalizers(world)) == ({"greeting": "one"}, None)


async def test_neither_the_repository_nor_krapao_is_needed_to_end(world: World, autojump_clock: MockClock) -> None:
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        pass
    world.origin.fail = Failure("HostUnreachable", "git.example does not answer")
    world.krapao.gate = trio.Event()
    world.delete()
    async with miwen(world):
        assert (world.data(), finalizers(world)) == (None, None)


async def test_what_failed_to_be_deployed_goes_too(world: World, autojump_clock: MockClock) -> None:
    documents = [secret("a", k="1"), {"apiVersion": "x/v1", "kind": "Unknown", "metadata": {"name": "u"}}]
    world.origin.commit({FILE: documents})
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        assert (world.reason(), world.data("a")) == ("KindUnknown", {"k": "1"})
        world.delete()
        await settle()
        assert (world.data("a"), finalizers(world)) == (None, None)


async def test_a_kind_that_no_longer_exists_holds_nothing(world: World, autojump_clock: MockClock) -> None:
    world.cluster.add_kind("example.com/v1", "Widget", "widgets", namespaced=True)
    world.origin.commit({FILE: [{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}]})
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        assert world.reason() == "Synced"
        world.cluster.remove_kind("example.com/v1", "Widget")
        world.kubernetes.discovery.forget("example.com/v1")
        await trio.sleep(10)
        world.delete()
        await settle()
        assert finalizers(world) is None


async def test_it_is_deleted_as_its_service_account(world: World, autojump_clock: MockClock) -> None:
    allowed = {("patch", "secrets"), ("create", "secrets"), ("get", "secrets")}
    world.cluster.account_rights["default/deployer"] = set(allowed)
    account = {"name": "deployer", "namespace": "default"}
    world.cluster.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    world.add(deletionPolicy="Delete", serviceAccountName="deployer")
    async with miwen(world):
        world.delete()
        await settle()
        assert (world.reason(), world.data()) == ("DeleteForbidden", {"greeting": "one"})
        assert "ServiceAccount default/deployer" in world.current()["error_message"]
        world.cluster.account_rights["default/deployer"].add(("delete", "secrets"))
        await trio.sleep(6)
        assert (world.data(), finalizers(world)) == (None, None)


async def test_the_finalizer_is_set_again_where_another_writes_at_the_same_moment(
    world: World, autojump_clock: MockClock
) -> None:
    conflict = JiemiError("ApplyConflict", "the Decryptor was changed by another at the same moment")
    world.kubernetes.fail_next("set_finalizers", conflict, conflict)
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        assert (world.reason(), finalizers(world)) == ("Synced", [FINALIZER])


async def test_without_its_finalizer_nothing_is_applied(world: World, autojump_clock: MockClock) -> None:
    conflict = JiemiError("ApplyConflict", "the Decryptor was changed by another at the same moment")
    world.kubernetes.fail_next("set_finalizers", conflict, conflict, conflict)
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        assert (world.reason(), world.data(), finalizers(world)) == ("ApplyConflict", None, [])
        await trio.sleep(3)
        assert (world.reason(), finalizers(world)) == ("Synced", [FINALIZER])


async def test_without_the_right_to_write_finalizers_it_says_so(world: World, autojump_clock: MockClock) -> None:
    world.kubernetes.deny("patch", "decryptors")
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        assert (world.reason(), world.data()) == ("ListForbidden", None)


@pytest.mark.parametrize("again", [False, True])
async def test_one_that_is_gone_before_its_finalizer_is_set_is_left(
    world: World, autojump_clock: MockClock, again: bool
) -> None:
    world.kubernetes.delays["get_decryptor"] = 5
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.kubernetes.silent = True  # it is not told
        world.delete()
        if again:
            world.add(deletionPolicy="Delete")
        await trio.sleep(60)
        assert (world.data(), finalizers(world)) == (None, [] if again else None)


async def test_no_finalizer_is_put_on_one_that_is_being_deleted(world: World, autojump_clock: MockClock) -> None:
    world.kubernetes.delays["get_decryptor"] = 5
    world.add(deletionPolicy="Delete")
    world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, metadata={"finalizers": ["tests/holds"]})
    async with miwen(world):
        world.delete()
        await trio.sleep(60)
        assert finalizers(world) == ["tests/holds"]
        # It was on its way to be deployed when its deletion was asked for.
        assert world.data() is None


async def test_a_finalizer_that_is_there_by_now_is_not_set_again(world: World, autojump_clock: MockClock) -> None:
    world.kubernetes.delays["get_decryptor"] = 5
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.kubernetes.silent = True
        world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, metadata={"finalizers": [FINALIZER]})
        await trio.sleep(60)
        assert (world.reason(), world.data()) == ("Synced", {"greeting": "one"})
        assert world.kubernetes.requests.snapshot().of("patch", "decryptors") == 0


async def test_one_that_is_made_again_under_the_name_makes_its_objects_again(
    world: World, autojump_clock: MockClock
) -> None:
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.kubernetes.delays["delete"] = 5
        world.delete()
        await trio.sleep(6)
        world.add()
        await trio.sleep(6)
        assert (world.reason(), world.data()) == ("Synced", {"greeting": "one"})
        assert world.current()["id"] == 1


async def test_the_target_of_several_files_goes_too(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"a.env": [{"A": "1"}], "b.env": [{"B": "1"}]})
    files = {"repository": {"url": URL}, "files": ["*.env"]}
    world.add(deletionPolicy="Delete", source=files, target={"name": "settings"})
    async with miwen(world):
        assert world.data("settings") == {"A": "1", "B": "1"}
        world.delete()
        await settle()
        assert (world.data("settings"), finalizers(world)) == (None, None)


async def test_a_dry_run_adds_no_finalizer_and_takes_off_none_of_what_is_applied(
    world: World, autojump_clock: MockClock
) -> None:
    world.add(deletionPolicy="Delete", mode="DryRun")
    async with miwen(world):
        assert world.reason() == "Planned"
        assert finalizers(world) == []
        world.add(deletionPolicy="Delete")
        await settle()
        assert (world.reason(), finalizers(world)) == ("Synced", [FINALIZER])
        world.add(deletionPolicy="Delete", mode="DryRun")
        await settle()
        assert (world.reason(), finalizers(world)) == ("Planned", [FINALIZER])
