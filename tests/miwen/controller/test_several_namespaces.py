"""A Miwen that looks at some namespaces only: each is listed and watched by itself."""

from __future__ import annotations

import pytest
import trio
from fakes.kubernetes import FakeKubernetes
from support.miwen.world import FILE, INTERVAL, World, miwen, secret
from trio.testing import MockClock

from jiemi.core.errors import JiemiError
from jiemi.miwen.reconcile.tenancy import Tenancy
from jiemi.miwen.report.metrics import MiwenMetrics

NAMESPACES = ("team-a", "team-b")
TENANCY = Tenancy(namespaces=frozenset(NAMESPACES))


@pytest.fixture
def world(world: World) -> World:
    """One with three namespaces, of which Miwen looks at two."""
    for name in (*NAMESPACES, "other"):
        world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    world.kubernetes = FakeKubernetes(world.cluster, namespaces=NAMESPACES)
    world.origin.commit({FILE: [secret(k="v")]})
    return world


def ready(world: World, namespace: str) -> str:
    """The reason of a Decryptor's condition Ready; empty where it has no status."""
    conditions = world.status("app", namespace).get("conditions", ())
    return next((each["reason"] for each in conditions if each["type"] == "Ready"), "")


def drifted(world: World, namespace: str) -> tuple[str, str]:
    """The reason and message of a Decryptor's condition Drifted; empty where it has none."""
    conditions = world.status("app", namespace)["conditions"]
    return next(((each["reason"], each["message"]) for each in conditions if each["type"] == "Drifted"), ("", ""))


def spoil(world: World, namespace: str) -> None:
    world.cluster.edit("Secret", namespace, "app", manager="kubectl", data={"k": "eA=="})


async def test_decryptors_of_these_namespaces_are_followed_and_no_others(
    world: World, autojump_clock: MockClock
) -> None:
    for namespace in (*NAMESPACES, "other"):
        world.add(namespace=namespace)
    async with miwen(world, tenancy=TENANCY):
        assert [ready(world, each) for each in (*NAMESPACES, "other")] == ["Synced", "Synced", ""]
        assert world.data("app", "other") is None
        world.delete(namespace="team-a")
        world.origin.commit({FILE: [secret(k="w")]})
        await trio.sleep(2 * INTERVAL)
        assert (world.data("app", "team-a"), world.data("app", "team-b")) == ({"k": "v"}, {"k": "w"})


async def test_the_list_of_one_namespace_says_nothing_about_another(world: World, autojump_clock: MockClock) -> None:
    for namespace in NAMESPACES:
        world.add(namespace=namespace)
    async with miwen(world, tenancy=TENANCY):
        opened = world.krapao.opened
        world.cluster.end_watches()
        world.delete(namespace="team-a")
        world.cluster.compact()
        await trio.sleep(60)
        assert (opened, world.krapao.opened) == (2, 1)
        world.origin.commit({FILE: [secret(k="w")]})
        await trio.sleep(2 * INTERVAL)
        assert world.data("app", "team-b") == {"k": "w"}


async def test_a_namespace_that_may_not_be_read_holds_up_no_other_and_is_followed_once_it_may(
    world: World, autojump_clock: MockClock
) -> None:
    for namespace in NAMESPACES:
        world.add(namespace=namespace)
    world.kubernetes.closed.add(("decryptors", "team-b"))
    async with miwen(world, tenancy=TENANCY):
        assert [ready(world, each) for each in NAMESPACES] == ["Synced", ""]
        world.kubernetes.closed.clear()
        await trio.sleep(60)
        assert [ready(world, each) for each in NAMESPACES] == ["Synced", "Synced"]


async def test_nothing_is_applied_before_every_namespace_that_may_be_read_was(
    world: World, autojump_clock: MockClock
) -> None:
    for namespace in NAMESPACES:
        world.add(namespace=namespace)
    world.kubernetes.fail_next("list_decryptors", JiemiError("ClusterUnavailable", "no answer"))
    async with miwen(world, tenancy=TENANCY):
        assert [ready(world, each) for each in NAMESPACES] == ["", ""], "an object may be another Decryptor's"
        await trio.sleep(30)
        assert [ready(world, each) for each in NAMESPACES] == ["Synced", "Synced"]


async def test_drift_is_corrected_in_one_namespace_while_another_may_not_be_watched_and_says_so(
    world: World, autojump_clock: MockClock
) -> None:
    for namespace in NAMESPACES:
        world.add(namespace=namespace)
    world.kubernetes.closed.add(("secrets", "team-b"))
    async with miwen(world, tenancy=TENANCY):
        await trio.sleep(1)
        for namespace in NAMESPACES:
            spoil(world, namespace)
        await trio.sleep(10)
        assert (world.data("app", "team-a"), world.data("app", "team-b")) == ({"k": "v"}, {"k": "x"})
        assert drifted(world, "team-a") == ("", "")
        reason, message = drifted(world, "team-b")
        assert reason == "WatchForbidden"
        assert "Grant `list` and `watch` on secrets of the core API group" in message
        assert "in namespace team-b" in message
        world.kubernetes.closed.clear()
        await trio.sleep(2 * 300)
        assert (world.data("app", "team-b"), drifted(world, "team-b")) == ({"k": "v"}, ("", ""))


async def test_a_right_that_is_missing_in_one_namespace_is_not_hidden_by_a_passing_failure_in_another(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("app", "team-a", k="v"), secret("app", "team-b", k="v")]})
    world.add(namespace="team-b")
    world.kubernetes.closed.add(("secrets", "team-b"))
    down = JiemiError("ClusterUnavailable", "no answer")
    world.kubernetes.fail_next("watch_metadata", *[down] * 40)
    async with miwen(world, tenancy=TENANCY):
        await trio.sleep(INTERVAL)
        assert world.data("app", "team-a") == {"k": "v"}
        assert drifted(world, "team-b")[0] == "WatchForbidden"


async def test_an_object_that_a_decryptor_of_another_followed_namespace_dropped_is_free(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("shared", "team-a", k="v")]})
    world.add(namespace="team-b", prune=False)
    async with miwen(world, tenancy=TENANCY):
        world.origin.commit({FILE: [secret("another", k="v")]})
        await trio.sleep(2 * INTERVAL)
        assert world.data("another", "team-b") == {"k": "v"}
        world.origin.commit({FILE: [secret("another", k="v")], "a.yaml": [secret("shared", k="w")]})
        world.add(
            namespace="team-a", source={"repository": {"url": "https://git.example/app.git"}, "fileToDecrypt": "a.yaml"}
        )
        await trio.sleep(2 * INTERVAL)
        assert (ready(world, "team-a"), world.data("shared", "team-a")) == ("Synced", {"k": "w"})


async def test_its_watch_counts_as_open_only_where_it_is_in_each_namespace(
    world: World, autojump_clock: MockClock
) -> None:
    metrics = MiwenMetrics()
    for namespace in NAMESPACES:
        world.add(namespace=namespace)
    world.kubernetes.closed.add(("secrets", "team-b"))
    async with miwen(world, tenancy=TENANCY, metrics=metrics):
        await trio.sleep(1)
        assert (metrics.watches.open["secrets"], metrics.watches.closed["secrets"]) == (1, 1)
        world.kubernetes.closed.clear()
        await trio.sleep(300)
        assert (metrics.watches.open["secrets"], metrics.watches.closed["secrets"]) == (2, 0)
    assert (metrics.watches.open, metrics.watches.closed) == ({}, {})
