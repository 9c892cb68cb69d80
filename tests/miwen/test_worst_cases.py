"""Writers of repositories and of Decryptors who mean harm, and failures at the worst moment."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from fakes.kubernetes import FakeObjects
from support.miwen.objects import config, deployment, notes
from support.miwen.world import FILE, INTERVAL, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.decisions.policy import read_policy
from jiemi.core.errors import Failure, JiemiError
from jiemi.miwen.kubernetes.port import JsonObject
from jiemi.miwen.reconcile.tenancy import Tenancy

ETCD_BYTES = 1_500_000
HOUR = 3600.0


def source(*files: str) -> dict[str, Any]:
    return {"repository": {"url": URL}, "files": list(files)}


def inventory(world: World, name: str = "app", namespace: str = "default") -> set[str]:
    return {each["name"] for each in world.status(name, namespace).get("inventory", ())}


def bound_statuses(world: World) -> None:
    """Refuse statuses that are too large for etcd, as the real API server does (500)."""
    write = world.kubernetes.patch_status

    async def patch_status(namespace: str, name: str, status: JsonObject, *, uid: str) -> JsonObject | None:
        if len(json.dumps(status)) > ETCD_BYTES:
            raise JiemiError("ClusterUnavailable", "writing the status: 500")
        return await write(namespace, name, status, uid=uid)

    world.kubernetes.patch_status = patch_status  # type: ignore[method-assign, assignment]  # the fake only is bounded


async def test_a_name_that_no_object_can_have_keeps_no_status_from_being_written(
    world: World, autojump_clock: MockClock
) -> None:
    bound_statuses(world)
    world.add()
    async with miwen(world):
        world.origin.commit({FILE: [secret(greeting="two"), secret("n" * 1_600_000)]})
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "NotAKubernetesObject"
        assert "metadata.name of document 2" in world.current()["error_message"]
        assert world.data() == {"greeting": "two"}
        world.origin.commit({FILE: [secret(greeting="three")]})
        await trio.sleep(INTERVAL + 1)
        assert (world.reason(), world.data()) == ("Synced", {"greeting": "three"})


async def test_objects_in_paths_that_no_status_can_hold_are_refused_before_any_is_applied(
    world: World, autojump_clock: MockClock
) -> None:
    bound_statuses(world)
    deep = "d/" * 500
    world.origin.commit({f"{deep}{number}.yaml": [secret(f"s{number}", k="1")] for number in range(900)})
    world.add(source=source("**/*.yaml"))
    async with miwen(world):
        await trio.sleep(60)
        assert world.reason() == "LimitExceeded"
        assert world.data("s0") is None


async def test_an_object_is_reported_before_it_is_made_also_after_a_status_could_not_be_written(
    world: World, autojump_clock: MockClock
) -> None:
    world.add(prune=True)
    async with miwen(world):
        world.origin.commit({FILE: [secret(greeting="two"), secret("fresh", k="1")]})
        unwritten = JiemiError("ClusterUnavailable", "no answer")
        world.kubernetes.fail_next("patch_status", unwritten, unwritten)
        applied: list[bool] = []
        apply = FakeObjects.apply

        async def told_first(objects: FakeObjects, *arguments: Any, **more: Any) -> JsonObject:
            # A Miwen that is killed now forgets none.
            applied.append("fresh" in inventory(world))
            return await apply(objects, *arguments, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeObjects, "apply", told_first)
            await trio.sleep(2 * INTERVAL)
        assert applied
        assert all(applied)
        assert world.data("fresh") == {"k": "1"}


async def test_a_commit_is_seen_while_objects_are_waited_for(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [deployment("web")]})
    world.add(wait=True, timeout="2h")
    async with miwen(world):
        await trio.sleep(5)
        assert world.reason() == "ObjectsNotReady"
        world.origin.commit({FILE: [deployment("web"), secret("fix", k="1")]})
        await trio.sleep(INTERVAL + 1)
        assert world.data("fix") == {"k": "1"}


async def test_news_of_a_movement_end_a_wait(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [deployment("web")]})
    world.add(wait=True, timeout="2h")
    async with miwen(world):
        await trio.sleep(INTERVAL / 2 + 5)
        world.origin.commit({FILE: [deployment("web"), secret("fix", k="1")]})
        # A question of another makes Krapao see that the repository moved.
        world.add("teller", source={"repository": {"url": URL}, "fileToDecrypt": "none.yaml"})
        await trio.sleep(3)
        assert world.data("fix") == {"k": "1"}


async def test_each_file_of_a_target_is_judged_by_its_own_rule(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"a/x.json": [{"A": "1"}], "b/y.json": [{"B": "restricted"}]}, remove=[FILE])
    policy = read_policy(
        "rules:\n"
        '- {namespaces: [default], paths: ["a/**"], objectNamespaces: [default]}\n'
        '- {namespaces: [default], paths: ["b/**"], objectNamespaces: [vault]}\n'
    )
    world.add(source=source("**/*.json"), target={"name": "all"})
    async with miwen(world, policy=policy):
        assert (world.reason(), world.data("all")) == ("PolicyDenied", None)


@pytest.mark.parametrize("how", ["too many", "too slow"])
async def test_who_may_not_write_an_object_keeps_nobody_else_from_it(
    world: World, autojump_clock: MockClock, how: str
) -> None:
    for name in ("evil", "team"):
        world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    world.cluster.account_rights["evil/deployer"] = set()
    url = "https://git.example/evil.git"
    objects = [secret("password", "team", k="x")]
    if how == "too many":
        objects += [secret(f"s{number}", "team") for number in range(2000)]
    world.krapao.add_origin(url).commit({FILE: objects})
    world.origin.commit({FILE: [secret("password", "team", real="1")]})
    world.add("evil", "evil", source={"repository": {"url": url}, "fileToDecrypt": FILE}, timeout="2s")
    if how == "too slow":
        world.kubernetes.delays["apply"] = 3
    async with miwen(world, tenancy=Tenancy(default_service_account="deployer")):
        await trio.sleep(10)
        world.kubernetes.delays.clear()
        await trio.sleep(INTERVAL)
        world.add("app", "team")
        await settle()
        assert world.data("password", "team") == {"real": "1"}


async def test_drift_of_a_target_is_no_deployment(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"a.json": [{"A": "1"}]}, remove=[FILE])
    world.add(source=source("*.json"), target={"name": "all"})
    async with miwen(world):
        world.origin.commit({"README.md": ["x"]})
        await trio.sleep(INTERVAL + 1)
        before = world.current()
        world.cluster.delete("Secret", "default", "all")
        await trio.sleep(1)
        assert (world.data("all"), world.current()) == ({"A": "1"}, before)
        assert len(notes(world, "Applied")) == 1


async def test_a_kind_that_nobody_has_any_more_is_not_watched_nor_reported(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), config("c", a="1")]})
    world.kubernetes.deny("list", "configmaps")
    world.add(prune=True)
    async with miwen(world):
        await trio.sleep(60)
        assert world.condition("Drifted")["reason"] == "WatchForbidden"
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL + 1)
        assert not world.condition("Drifted")
        watches = world.kubernetes.requests.snapshot().of("list", "configmaps")
        await trio.sleep(HOUR)
        assert world.kubernetes.requests.snapshot().of("list", "configmaps") == watches


@pytest.mark.parametrize("spec", [{}, {"retryInterval": "1s"}])
async def test_an_object_that_is_refused_for_ever_costs_no_write(
    world: World, autojump_clock: MockClock, spec: dict[str, str]
) -> None:
    lost = config("c", a="1") | {"metadata": {"name": "c", "namespace": "nowhere"}}
    world.origin.commit({FILE: [secret(greeting="one"), lost]})
    world.add(**spec)
    async with miwen(world):
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "NamespaceNotFound"
        written = world.versions()
        await trio.sleep(INTERVAL)
        assert world.versions() == written


async def test_a_host_that_was_away_at_a_restart_has_nothing_decrypted_again(
    world: World, autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world):
        world.origin.fail = Failure("HostUnreachable", "no answer")
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "HostUnreachable"
    renders = world.renders()
    async with miwen(world):
        world.origin.fail = None
        await trio.sleep(INTERVAL + 1)
        assert (world.reason(), world.renders()) == ("Synced", renders)


async def test_of_two_files_the_one_that_had_an_object_first_has_it_after_a_restart_too(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"b.yaml": [secret("x", of="b")]}, remove=[FILE])
    world.add(source=source("*.yaml"))
    async with miwen(world):
        world.origin.commit({"a.yaml": [secret("x", of="a")]})
        await trio.sleep(INTERVAL + 1)
        assert (world.reason(), world.data("x")) == ("DuplicateObject", {"of": "b"})
    async with miwen(world):
        world.add(source=source("*.yaml"), interval="1h")
        await trio.sleep(1)
        assert (world.reason(), world.data("x")) == ("DuplicateObject", {"of": "b"})


async def test_who_only_looked_deletes_nothing_when_it_goes(world: World, autojump_clock: MockClock) -> None:
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        world.add(deletionPolicy="Delete", mode="DryRun")
        await settle()
        world.delete()
        await settle()
        assert world.cluster.get("Decryptor", "default", "app", api_version="jiemi.cr/v1alpha1") is None
        assert world.data() == {"greeting": "one"}
