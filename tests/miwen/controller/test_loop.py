"""The loop of one Decryptor, on a virtual clock: when it looks, what it writes, how it fails and recovers."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import trio
from support.miwen.world import FILE, INTERVAL, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.concurrency.fair_limiter import PATIENCE_SECONDS
from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.core.errors import Failure, JiemiError
from jiemi.miwen.state.open_repository import tenant_of
from jiemi.rpc.keys import PgpKey


async def test_a_new_decryptor_is_deployed_at_once(world: World, autojump_clock: MockClock) -> None:
    async with miwen(world):
        world.add()
        await settle()
        assert world.data() == {"greeting": "one"}
        assert world.current() == {
            "id": 1,
            "revision": world.origin.refs["HEAD"],
            "file_to_decrypt": FILE,
            "deployed_at": "2026-11-24T00:00:00Z",
            "status": "Sync",
            "error_message": None,
        }
        assert world.reason() == "Synced"


async def test_a_commit_is_deployed_at_the_next_look_and_not_before(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        revision = world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL - 1)
        assert world.data() == {"greeting": "one"}
        await trio.sleep(2)
        assert world.data() == {"greeting": "two"}
        assert (world.current()["id"], world.current()["revision"]) == (2, revision)
        assert [entry["id"] for entry in world.status()["history"]] == [1]


async def test_an_unchanged_look_asks_one_thing_and_writes_nothing(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        written, heads, renders, opened = (
            world.versions(),
            world.heads(),
            world.renders(),
            len(world.krapao.credentials),
        )
        counted = world.kubernetes.requests.snapshot()
        await trio.sleep(10 * INTERVAL + 1)
        assert world.versions() == written
        assert world.heads() == heads + 10
        assert world.renders() == renders
        assert len(world.krapao.credentials) == opened
        for verb, resource in (("get", "secrets"), ("apply", "secrets"), ("patch", "decryptors/status")):
            assert world.kubernetes.requests.snapshot().of(verb, resource) == counted.of(verb, resource)


@pytest.mark.parametrize("edited", [{}, {"current": {"id": 7, "revision": "", "status": "NotSync"}}])
async def test_a_status_that_another_edits_is_put_back_at_the_next_look(
    world: World, autojump_clock: MockClock, edited: dict[str, Any]
) -> None:
    world.add()
    async with miwen(world):
        written, renders = world.status(), world.renders()
        world.cluster.set_status((API_VERSION, KIND, "default", "app"), edited, manager="kubectl-edit")
        await trio.sleep(INTERVAL + 1)
        assert world.status() == written
        assert world.renders() == renders
        counted = world.kubernetes.requests.snapshot().of("patch", "decryptors/status")
        await trio.sleep(3 * INTERVAL)
        assert world.kubernetes.requests.snapshot().of("patch", "decryptors/status") == counted


async def test_after_a_restart_an_unchanged_decryptor_is_recognized_from_its_status(
    world: World, autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world):
        pass
    written, renders = world.versions(), world.renders()
    async with miwen(world):
        await trio.sleep(2 * INTERVAL)
    assert (world.versions(), world.renders()) == (written, renders)


async def test_a_change_of_the_spec_is_deployed_at_once(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"other.yaml": [secret("other", greeting="other")]})
    world.add()
    async with miwen(world):
        world.add(source={"repository": {"url": URL}, "fileToDecrypt": "other.yaml"})
        await settle()
        assert world.data("other") == {"greeting": "other"}
        assert world.current()["id"] == 2
        assert world.status()["observedGeneration"] == 2


async def test_news_of_a_movement_wakes_the_others_of_that_repository(world: World, autojump_clock: MockClock) -> None:
    for name in ("a", "b", "c"):
        world.add(name)
    async with miwen(world):
        await trio.sleep(INTERVAL / 2 + 1)
        revision = world.origin.commit({FILE: [secret(greeting="two")]})
        # Any one's question makes Krapao see the movement; here it is a new Decryptor's.
        world.add("d")
        await settle()
        assert {world.current(name)["revision"] for name in "abcd"} == {revision}


async def test_many_changes_during_a_tick_cause_one_more_tick_with_the_last(
    world: World, autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world):
        world.krapao.gate = trio.Event()
        for number in range(10):
            world.origin.commit({f"{number}.yaml": [secret(f"s{number}", n=str(number))]})
            world.add(source={"repository": {"url": URL}, "fileToDecrypt": f"{number}.yaml"})
            await settle()
        heads = world.heads()
        world.krapao.gate.set()
        await settle()
        assert world.data("s9") == {"n": "9"}
        assert world.heads() - heads <= 1
        assert world.status()["observedGeneration"] == 11


async def test_a_failure_keeps_the_last_good_secret_and_says_why_once(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        first = world.current()["revision"]
        broken = world.origin.commit({FILE: Failure("MacMismatch", f"{FILE} was changed")})
        await trio.sleep(INTERVAL + 1)
        assert world.data() == {"greeting": "one"}
        assert (world.current()["id"], world.current()["revision"]) == (1, first)
        assert world.current()["status"] == "NotSync"
        assert world.current()["error_message"].startswith(f"MacMismatch: {FILE} was changed. ")
        assert world.status()["lastAttemptedRevision"] == broken
        written = world.versions()
        await trio.sleep(5 * INTERVAL)
        assert world.versions() == written
        world.origin.commit({FILE: [secret(greeting="mended")]})
        await trio.sleep(INTERVAL + 1)
        assert world.data() == {"greeting": "mended"}
        assert (world.current()["id"], world.current()["error_message"]) == (2, None)
        assert [(entry["id"], entry["status"]) for entry in world.status()["history"]] == [(1, "Sync")]


async def test_transient_failures_are_tried_again_with_growing_pauses_up_to_the_interval(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.fail = Failure("HostUnreachable", "git.example does not answer")
    world.add()
    times: list[float] = []
    async with miwen(world):
        for _ in range(60):
            asked = world.origin.asked
            await trio.sleep(10)
            times.append(world.origin.asked - asked)
        # 2 + 4 + 8 + 16 + 32 + 64 + 128 s, then each interval: asked at 0, 2, 6, 14, 30, 62, 126, 254 and 434 s.
        assert world.origin.asked == 9
        world.origin.fail = None
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "Synced"
    assert sum(times[:2]) >= 3


def _ask(world: World) -> None:
    annotations = {"jiemi.cr/reconcile-at": "now"}
    world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, metadata={"annotations": annotations})


def _change_the_spec(world: World) -> None:
    world.add(prune=True)


def _push(world: World) -> None:
    world.origin.commit({FILE: [secret(greeting="two"), WIDGET]})


WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}}


@pytest.mark.parametrize("act", [_ask, _change_the_spec, _push])
async def test_who_does_something_about_a_failure_does_not_wait_for_the_pauses_that_grew_before(
    world: World, autojump_clock: MockClock, act: Callable[[World], None]
) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), WIDGET]})
    world.add()
    async with miwen(world):
        await trio.sleep(20 * INTERVAL)
        assert world.reason() == "KindUnknown"
        act(world)
        # A push is seen at the next look. What mends it comes a moment later: a definition is served after it is made.
        asked = world.heads()
        while world.heads() == asked:  # noqa: ASYNC110 - the fake has no event for it
            await trio.sleep(0.5)
        await trio.sleep(1)
        assert world.reason() == "KindUnknown"
        world.cluster.add_kind("example.com/v1", "Widget", "widgets", namespaced=True)
        await trio.sleep(10)
        assert world.reason() == "Synced"


async def test_an_unreadable_spec_is_reported_until_it_is_corrected(world: World, autojump_clock: MockClock) -> None:
    world.add(provider={"age": {"privateKey": {"literal": "x", "secretName": "y", "key": "z"}}})
    async with miwen(world):
        assert world.reason() == "InvalidSpec"
        assert world.current()["file_to_decrypt"] == ""
        assert world.krapao.calls == []
        world.add()
        await settle()
        assert world.reason() == "Synced"


async def test_a_secret_that_comes_late_is_waited_for(world: World, autojump_clock: MockClock) -> None:
    world.add(provider={"age": {"privateKey": {"secretName": "key", "key": "age"}}})
    async with miwen(world):
        assert world.reason() == "SecretNotFound"
        world.add_secret("key", other="x")
        await trio.sleep(4)
        assert world.reason() == "SecretKeyNotFound"
        world.add_secret("key", age=" \n")
        await trio.sleep(7)
        assert world.reason() == "SecretValueEmpty"
        world.add_secret("key", age="AGE-SECRET-KEY-FAKE-RIGHT")
        await trio.sleep(13)
        assert world.reason() == "Synced"


async def test_a_binary_pgp_key_is_passed_on_as_text_and_other_bytes_are_reported(
    world: World, autojump_clock: MockClock
) -> None:
    key = {"secretName": "key", "key": "pgp"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": "default"}}
    world.cluster.put(secret | {"data": {"pgp": base64.b64encode(b"\x95\x00\x02xx").decode()}})
    world.add(provider={"pgp": {"privateKey": key}})
    async with miwen(world):
        [given] = world.krapao.requests[-1].keys
        assert isinstance(given, PgpKey)
        assert given.private_key.reveal().startswith("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQACeHg=\n=")
        world.cluster.put(secret | {"data": {"pgp": base64.b64encode(b"\x1f\x8b\x08\x00").decode()}})
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "SecretValueEmpty"


async def test_only_secrets_of_its_own_namespace_are_read(world: World, autojump_clock: MockClock) -> None:
    world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    world.add_secret("key", "other", age="AGE-SECRET-KEY-FAKE-RIGHT")
    world.add(provider={"age": {"privateKey": {"secretName": "key", "key": "age"}}})
    async with miwen(world):
        await trio.sleep(INTERVAL)
        assert world.reason() == "SecretNotFound"
        assert "default/key" in world.current()["error_message"]


async def test_new_git_credentials_are_read_after_a_refusal(world: World, autojump_clock: MockClock) -> None:
    world.add_secret("git", token="old\n")
    repository = {"url": URL, "credentials": {"token": {"secretName": "git", "key": "token"}}}
    world.add(source={"repository": repository, "fileToDecrypt": FILE})
    async with miwen(world):
        world.origin.fail = Failure("RepositoryAccessDenied", "git.example refuses the token")
        world.add_secret("git", token="new\n")
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "RepositoryAccessDenied"
        world.origin.fail = None
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "Synced"
        tokens = [each.token.reveal() for each in world.krapao.credentials if each.token is not None]
        assert tokens[0] == "old"
        assert tokens[-1] == "new"


async def test_each_object_of_a_file_is_applied_though_another_fails(world: World, autojump_clock: MockClock) -> None:
    documents = [
        secret("a", k="1"),
        {"apiVersion": "x/v1", "kind": "Unknown", "metadata": {"name": "u"}},
        secret("b", k="2"),
    ]
    world.origin.commit({FILE: documents})
    world.add()
    async with miwen(world):
        assert (world.data("a"), world.data("b")) == ({"k": "1"}, {"k": "2"})
        assert world.reason() == "KindUnknown"
        assert world.current()["error_message"].startswith("KindUnknown: 1 of 3 objects was not applied, the first: ")


async def test_a_status_that_could_not_be_written_is_written_later_and_counts_once(
    world: World, autojump_clock: MockClock
) -> None:
    world.kubernetes.fail_next("patch_status", *[JiemiError("ClusterUnavailable", "no answer")] * 3)
    world.add()
    async with miwen(world):
        assert world.status() == {}
        await trio.sleep(60)
        assert world.current()["id"] == 1
        assert world.status()["history"] == []


async def test_a_deleted_decryptor_ends_its_task_and_its_objects_stay(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        assert world.krapao.opened == 1
        world.delete()
        await settle()
        assert world.krapao.opened == 0
        assert world.data() == {"greeting": "one"}
        heads = world.heads()
        await trio.sleep(3 * INTERVAL)
        assert world.heads() == heads


async def test_a_decryptor_made_again_under_its_name_starts_from_1(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL + 1)
        assert world.current()["id"] == 2
        world.delete()
        world.add()
        await settle()
        assert (world.current()["id"], world.status()["history"]) == (1, [])
        assert world.krapao.opened == 1


async def test_a_decryptor_that_is_being_deleted_is_left_alone(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        gone = world.cluster.get("Decryptor", "default", "app", api_version="jiemi.cr/v1alpha1")
        assert gone is not None
        gone["metadata"]["deletionTimestamp"] = "2026-11-24T00:00:00Z"
        world.cluster.put(gone)
        await settle()
        assert world.krapao.opened == 0


async def test_deployments_at_once_are_bounded(world: World, autojump_clock: MockClock) -> None:
    async with miwen(world, max_concurrent_deployments=4):
        world.kubernetes.delays["get_secret"] = 10
        world.add_secret("key", age="AGE-SECRET-KEY-FAKE-RIGHT")
        for number in range(12):
            world.add(f"d{number}", provider={"age": {"privateKey": {"secretName": "key", "key": "age"}}})
        await trio.sleep(39)
        assert sum(bool(world.status(f"d{number}")) for number in range(12)) == 9
        await trio.sleep(2)
        assert all(world.status(f"d{number}") for number in range(12))


async def test_a_deployment_that_hangs_ends_at_its_deadline(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world, deploy_timeout_seconds=30):
        world.origin.commit({FILE: [secret(greeting="two")]})
        world.kubernetes.delays["apply"] = 1000
        await trio.sleep(INTERVAL + 40)
        assert world.reason() == "Timeout"
        assert world.data() == {"greeting": "one"}
        del world.kubernetes.delays["apply"]
        await trio.sleep(60)
        assert world.data() == {"greeting": "two"}


async def test_one_namespace_that_hangs_leaves_places_to_the_others(world: World, autojump_clock: MockClock) -> None:
    for name in ("evil", "good"):
        world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    world.origin.commit({"hangs.yaml": [secret("hangs", "evil", k="v")]})
    async with miwen(world, deploy_timeout_seconds=300, max_concurrent_deployments=4):
        world.kubernetes.delays["get_secret"] = 1000
        for number in range(20):
            provider = {"age": {"privateKey": {"secretName": "key", "key": "age"}}}
            world.add(f"d{number}", "evil", provider=provider)
        await trio.sleep(1)
        world.add("app", "good")
        await settle()
        assert world.status("app", "good")["current"]["status"] == "Sync"


@pytest.mark.parametrize("hostile", [1, 2, 3, 7])
async def test_namespaces_that_hang_hold_up_another_for_seconds_at_most(
    world: World, hostile: int, autojump_clock: MockClock
) -> None:
    names = [f"evil{number}" for number in range(hostile)]
    for name in (*names, "good"):
        world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    async with miwen(world, deploy_timeout_seconds=300):
        world.kubernetes.delays["get_secret"] = 1000
        for name in names:
            for number in range(20):
                provider = {"age": {"privateKey": {"secretName": "key", "key": "age"}}}
                world.add(f"d{number}", name, provider=provider)
        await trio.sleep(1)
        world.add("app", "good")
        await trio.sleep(2 * PATIENCE_SECONDS)
        assert world.status("app", "good")["current"]["status"] == "Sync"


async def test_a_deployment_that_makes_room_while_it_waits_for_krapao_is_done_afterwards(
    world: World, autojump_clock: MockClock
) -> None:
    for name in ("one", "two"):
        world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    async with miwen(world, max_concurrent_deployments=1):
        world.kubernetes.delays["get_secret"] = 10
        for name in ("one", "two"):
            world.add_secret("key", namespace=name, age="AGE-SECRET-KEY-FAKE-RIGHT")
            world.add("app", name, provider={"age": {"privateKey": {"secretName": "key", "key": "age"}}})
            await trio.sleep(1)
        await trio.sleep(PATIENCE_SECONDS + 11)
        assert world.status("app", "two")["current"]["status"] == "Sync"
        assert not world.status("app", "one")
        await trio.sleep(10)
        assert world.status("app", "one")["current"]["status"] == "Sync"
        assert world.status("app", "one")["current"]["id"] == 1


async def test_repositories_are_opened_for_the_namespace_without_its_name(
    world: World, autojump_clock: MockClock
) -> None:
    world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    async with miwen(world):
        for name in ("a", "b"):
            world.add(name)
        world.add("a", "other")
        await settle()
        assert len(world.krapao.tenants) == 3
        assert set(world.krapao.tenants) == {tenant_of("default"), tenant_of("other")}
        assert not any("default" in tenant or "other" in tenant for tenant in world.krapao.tenants)


async def test_going_back_to_the_good_commit_wakes_those_that_failed(world: World, autojump_clock: MockClock) -> None:
    world.add("a")
    async with miwen(world):
        good = world.origin.refs["HEAD"]
        world.origin.commit({FILE: Failure("MacMismatch", f"{FILE} was changed")})
        await trio.sleep(INTERVAL + 1)
        assert world.reason("a") == "MacMismatch"
        world.origin.refs["HEAD"] = good
        world.add("new")  # its question shows the movement
        await settle()
        assert world.reason("a") == "Synced"
        assert world.current("a")["id"] == 1


async def test_a_broken_commit_is_decrypted_once_a_look(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        renders = world.renders()
        world.origin.commit({FILE: Failure("MacMismatch", f"{FILE} was changed")})
        await trio.sleep(INTERVAL + 1)
        assert world.renders() == renders + 1


async def test_after_a_blip_of_the_host_nothing_is_decrypted_again(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        before = world.current()
        counted = world.kubernetes.requests.snapshot().of("apply", "secrets")
        world.origin.fail = Failure("HostUnreachable", "git.example does not answer")
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "HostUnreachable"
        world.origin.fail = None
        await trio.sleep(INTERVAL)
        assert world.current() == before
        assert world.renders() == 1
        assert world.kubernetes.requests.snapshot().of("apply", "secrets") == counted


async def test_a_deployment_that_was_cut_is_done_again_though_the_revision_goes_back(
    world: World, autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world):
        good = world.origin.refs["HEAD"]
        documents = [secret(greeting="two"), {"apiVersion": "x/v1", "kind": "Unknown", "metadata": {"name": "u"}}]
        world.origin.commit({FILE: documents})
        await trio.sleep(INTERVAL + 1)
        assert (world.reason(), world.data()) == ("KindUnknown", {"greeting": "two"})
        world.origin.refs["HEAD"] = good
        await trio.sleep(INTERVAL)
        assert (world.reason(), world.data()) == ("Synced", {"greeting": "one"})


async def test_the_first_object_that_the_api_server_does_not_answer_for_ends_the_attempt(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(f"s{number}", k="1") for number in range(20)]})
    world.kubernetes.fail_next("apply", JiemiError("ClusterUnavailable", "no answer"))
    world.add()
    async with miwen(world):
        # As many as are under way at once.
        assert world.kubernetes.requests.snapshot().of("apply", "secrets") <= 4
        assert world.data("s19") is None
        assert world.reason() == "ClusterUnavailable"
        await trio.sleep(3)
        assert world.reason() == "Synced"
        assert world.data("s19") == {"k": "1"}


async def test_a_status_write_that_finds_nothing_is_tried_again(world: World, autojump_clock: MockClock) -> None:
    original = world.kubernetes.patch_status
    lost = 0

    async def patch_status(*arguments: Any, **more: Any) -> Any:
        nonlocal lost
        lost += 1
        return None if lost == 1 else await original(*arguments, **more)

    world.kubernetes.patch_status = patch_status  # type: ignore[method-assign]
    world.add()
    async with miwen(world):
        assert world.status() == {}
        await trio.sleep(INTERVAL + 1)
        assert (world.reason(), world.current()["id"]) == ("Synced", 1)


async def test_a_fault_of_ours_in_one_loop_does_not_end_the_others(world: World, autojump_clock: MockClock) -> None:
    original = world.kubernetes.patch_status

    async def patch_status(namespace: str, name: str, *arguments: Any, **more: Any) -> Any:
        if name == "cursed":
            raise ValueError("canary")
        return await original(namespace, name, *arguments, **more)

    world.kubernetes.patch_status = patch_status  # type: ignore[method-assign]
    world.add("cursed")
    world.add("fine")
    async with miwen(world):
        await trio.sleep(2 * INTERVAL)
        assert world.reason("fine") == "Synced"
