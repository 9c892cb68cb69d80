"""Objects are watched by one watch per kind, and a change is reported once, through everything that a watch may do."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import attrs
import pytest
import trio
from fakes.kubernetes import FakeKubernetes
from structlog.testing import capture_logs
from support.miwen.world import World, settle
from trio.testing import MockClock

from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import Owner
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import JsonObject, Page
from jiemi.miwen.watch.kind_watch import SECRETS
from jiemi.miwen.watch.object_watches import NotSynced, ObjectWatches

CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps", namespaced=True)
DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments", namespaced=True)
NAMESPACES = Resource("v1", "Namespace", "namespaces", namespaced=False)
OURS = Owner.of("team", "app").labels
CANARY = "canary-3f9a"


class Reported:
    """The listener. `changes` are (name, deleted) in order; `last` is the metadata of the last one."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, bool]] = []
        self.last: JsonObject = {}
        self.kinds: list[str] = []

    def __call__(self, resource: Resource, metadata: JsonObject, *, deleted: bool) -> None:
        self.changes.append((metadata["name"], deleted))
        self.kinds.append(resource.kind)
        self.last = metadata

    def new(self) -> list[tuple[str, bool]]:
        """What was reported since this was asked last."""
        changes, self.changes = self.changes, []
        return changes


@pytest.fixture
def reported() -> Reported:
    return Reported()


@asynccontextmanager
async def watching(kubernetes: FakeKubernetes, reported: Reported, *wanted: Resource) -> AsyncIterator[ObjectWatches]:
    """Watches while the context lasts; nothing of them is left after it."""
    async with trio.open_nursery() as nursery:
        watches = ObjectWatches(kubernetes, nursery, reported, random=lambda: 0.5)
        for resource in wanted:
            watches.want(resource)
        await settle()
        yield watches
        nursery.cancel_scope.cancel()
    assert kubernetes.cluster.watches == 0


def put(
    world: World,
    name: str,
    kind: Resource = CONFIG_MAPS,
    *,
    labels: dict[str, str] | None = OURS,
    namespace: str = "default",
    **fields: Any,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": labels or {}}
    if kind.namespaced:
        metadata["namespace"] = namespace
    return world.cluster.put({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields})


def requests(world: World, verb: str, resource: Resource) -> int:
    return world.kubernetes.requests.snapshot().of(verb, resource.plural)


def unavailable() -> JiemiError:
    return JiemiError("ClusterUnavailable", "no answer")


async def until_synced(watches: ObjectWatches, resource: Resource, seconds: float = 600) -> bool:
    with trio.fail_after(seconds):
        return await watches.synced(resource)


# --- one watch a kind


async def test_two_hundred_wishes_for_a_kind_share_one_list_and_one_watch(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    put(world, "settings")
    async with watching(world.kubernetes, reported) as watches:
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(until_synced, watches, CONFIG_MAPS)
        assert (requests(world, "list", CONFIG_MAPS), requests(world, "watch", CONFIG_MAPS)) == (1, 1)
        assert reported.changes == [("settings", False)]


async def test_kinds_are_watched_apart_and_only_what_is_ours(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    put(world, "settings")
    put(world, "of-others", labels={"app": "x"})
    put(world, "web", DEPLOYMENTS)
    put(world, "team", NAMESPACES)
    async with watching(world.kubernetes, reported, CONFIG_MAPS, DEPLOYMENTS, NAMESPACES) as watches:
        assert sorted(reported.new()) == [("settings", False), ("team", False), ("web", False)]
        assert watches.version_of("", "Namespace", "", "team") == version_in(world, NAMESPACES, "team")
        assert watches.version_of("", "ConfigMap", "default", "of-others") is None
        put(world, "web2", DEPLOYMENTS)
        await settle()
        assert (reported.new(), reported.kinds[-1]) == ([("web2", False)], "Deployment")
        assert world.cluster.watches == 3


def version_in(world: World, kind: Resource, name: str) -> str:
    found = world.cluster.get(kind.kind, "default" if kind.namespaced else None, name, api_version=kind.api_version)
    assert found is not None
    return str(found["metadata"]["resourceVersion"])


async def test_secrets_are_watched_whoever_made_them_except_for_helms_releases(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    put(world, "ours", SECRETS)
    put(world, "credentials", SECRETS, labels=None)
    put(world, "sh.helm.release.v1.app.v1", SECRETS, labels=None, type="helm.sh/release.v1")
    async with watching(world.kubernetes, reported, SECRETS):
        assert sorted(reported.new()) == [("credentials", False), ("ours", False)]
        put(world, "credentials", SECRETS, labels=None, data={"token": "dG9rZW4="})
        put(world, "sh.helm.release.v1.app.v2", SECRETS, labels=None, type="helm.sh/release.v1")
        await settle()
        assert reported.new() == [("credentials", False)]
        assert "data" not in reported.last
        assert requests(world, "watch", SECRETS) == 1


async def test_many_objects_are_listed_page_by_page(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    for number in range(1203):
        put(world, f"c{number}")
    async with watching(world.kubernetes, reported, CONFIG_MAPS) as watches:
        assert requests(world, "list", CONFIG_MAPS) == 13
        assert len(reported.changes) == 1203
        assert watches.version_of("", "ConfigMap", "default", "c1202") is not None


# --- what is reported


async def test_a_change_is_reported_with_all_metadata_and_a_deletion_too(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    async with watching(world.kubernetes, reported, CONFIG_MAPS):
        put(world, "settings")
        await settle()
        assert reported.last["managedFields"]
        assert reported.last["labels"] == OURS
        made = reported.last["uid"]
        world.cluster.delete("ConfigMap", "default", "settings")
        await settle()
        assert reported.new() == [("settings", False), ("settings", True)]
        assert reported.last["uid"] == made


async def test_an_object_that_lost_the_label_is_reported_as_deleted_though_it_is_there(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    put(world, "settings")
    async with watching(world.kubernetes, reported, CONFIG_MAPS) as watches:
        reported.new()
        put(world, "settings", labels={"app": "x"})
        await settle()
        assert reported.new() == [("settings", True)]
        assert watches.version_of("", "ConfigMap", "default", "settings") is None
        put(world, "settings")
        await settle()
        assert reported.new() == [("settings", False)]


async def test_not_known_yet_is_something_else_than_not_there(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    world.kubernetes.delays["list_metadata"] = 10
    put(world, "credentials", SECRETS, labels=None)
    async with watching(world.kubernetes, reported, SECRETS) as watches:
        assert not watches.known(SECRETS)
        with pytest.raises(NotSynced):
            watches.version_of("", "Secret", "default", "credentials")
        with trio.move_on_after(5) as scope:
            await watches.synced(SECRETS)
        assert scope.cancelled_caught
        assert await until_synced(watches, SECRETS)
        assert watches.known(SECRETS)
        assert watches.version_of("", "Secret", "default", "credentials") == version_in(world, SECRETS, "credentials")
        assert watches.version_of("", "Secret", "default", "other") is None
        assert watches.version_of("", "Secret", "team", "credentials") is None
        with pytest.raises(NotSynced):
            watches.version_of("", "ConfigMap", "default", "credentials")


# --- watches end, break and expire


async def test_a_watch_that_ends_goes_on_where_it_was(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    put(world, "settings")
    async with watching(world.kubernetes, reported, CONFIG_MAPS):
        await trio.sleep(10)
        world.cluster.end_watches()
        put(world, "more")
        await trio.sleep(1000)  # ends by its timeout too
        world.cluster.delete("ConfigMap", "default", "settings")
        await settle()
        assert reported.new() == [("settings", False), ("more", False), ("settings", True)]
        assert requests(world, "list", CONFIG_MAPS) == 1


async def test_after_410_gone_only_what_is_new_is_reported_and_what_vanished(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    for name in ("stays", "changes", "goes", "is-made-again"):
        put(world, name)
    gone = world.cluster.get("ConfigMap", "default", "goes")
    async with watching(world.kubernetes, reported, CONFIG_MAPS) as watches:
        reported.new()
        world.kubernetes.fail_next("watch_metadata", *[unavailable()] * 3)
        world.cluster.end_watches()
        await settle()
        put(world, "changes", data={"a": "b"})
        world.cluster.delete("ConfigMap", "default", "is-made-again")
        put(world, "is-made-again")
        put(world, "comes")
        world.cluster.delete("ConfigMap", "default", "goes")
        world.cluster.compact()
        await trio.sleep(60)
        assert reported.new() == [("changes", False), ("comes", False), ("is-made-again", False), ("goes", True)]
        assert gone is not None
        assert reported.last == {
            field: gone["metadata"][field] for field in ("name", "namespace", "uid", "resourceVersion", "labels")
        }
        assert watches.version_of("", "ConfigMap", "default", "goes") is None
        assert requests(world, "list", CONFIG_MAPS) == 2


async def test_a_list_that_breaks_off_halfway_takes_nothing_for_gone(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    for number in range(600):
        put(world, f"c{number}")
    async with watching(world.kubernetes, reported, CONFIG_MAPS):
        reported.new()
        world.kubernetes.fail_next("watch_metadata", JiemiError("WatchExpired", "too old"))
        original = world.kubernetes.list_metadata

        async def one_page(*args: Any, continue_token: str | None, **kwargs: Any) -> Page:
            if continue_token is not None:
                raise unavailable()
            return await original(*args, continue_token=None, **kwargs)

        world.kubernetes.list_metadata = one_page  # type: ignore[method-assign]
        world.cluster.end_watches()
        await trio.sleep(300)
        assert requests(world, "list", CONFIG_MAPS) > 5
        assert reported.new() == []


async def test_a_silent_watch_is_taken_up_again(world: World, reported: Reported, autojump_clock: MockClock) -> None:
    async with watching(world.kubernetes, reported, CONFIG_MAPS) as watches:
        world.kubernetes.silent = True
        put(world, "settings")
        await trio.sleep(300)
        assert reported.new() == []
        world.kubernetes.silent = False
        await trio.sleep(40)
        assert reported.new() == [("settings", False)]
        assert requests(world, "list", CONFIG_MAPS) == 1
        assert watches.failure(CONFIG_MAPS) is None


async def test_watches_that_fall_silent_again_and_again_are_each_taken_up_soon(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    async with watching(world.kubernetes, reported, CONFIG_MAPS) as watches:
        world.kubernetes.silent = True
        world.cluster.end_watches()
        await trio.sleep(3400)  # ten times 330 s and a second or two
        assert requests(world, "watch", CONFIG_MAPS) >= 11
        assert watches.failure(CONFIG_MAPS) is None, "each time it is the first failure"


async def test_what_is_no_watch_means_list_again_but_not_as_fast_as_it_can(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    put(world, "settings")
    world.kubernetes.watch_metadata = _Says(b"<html>\n")  # type: ignore[method-assign]
    async with watching(world.kubernetes, reported, CONFIG_MAPS):
        await trio.sleep(300)
        assert 5 < requests(world, "list", CONFIG_MAPS) < 20
        assert reported.new() == [("settings", False)]


class _Says:
    """A watch that says one thing and then nothing more."""

    def __init__(self, chunk: bytes, *, stay: bool = False) -> None:
        self._chunk = chunk
        self._stay = stay

    @asynccontextmanager
    async def __call__(self, resource: Resource, **_: str | None) -> AsyncIterator[AsyncIterator[bytes]]:
        await trio.lowlevel.checkpoint()
        async with aclosing(self._chunks()) as chunks:
            yield chunks

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        await trio.lowlevel.checkpoint()
        yield self._chunk
        if self._stay:
            await trio.sleep_forever()


# --- failures


async def test_an_api_server_that_does_not_answer_is_asked_again_and_that_is_reported_from_the_second_time_on(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    world.kubernetes.fail_next("list_metadata", *[unavailable()] * 4)
    put(world, "settings")
    async with watching(world.kubernetes, reported, CONFIG_MAPS) as watches:
        assert watches.failure(CONFIG_MAPS) is None
        await trio.sleep(1.5)
        failure = watches.failure(CONFIG_MAPS)
        assert failure is not None
        assert failure.reason == "ClusterUnavailable"
        await trio.sleep(14)  # 1 + 2 + 4 + 8 s
        assert reported.new() == [("settings", False)]
        assert watches.failure(CONFIG_MAPS) is None


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_a_missing_right_is_logged_once_asked_for_slowly_and_reported_until_it_is_granted(
    verb: str, world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    put(world, "settings")
    world.kubernetes.deny(verb, "configmaps")
    with capture_logs() as logs:
        async with watching(world.kubernetes, reported, CONFIG_MAPS, SECRETS) as watches:
            assert not await until_synced(watches, CONFIG_MAPS, 0.1)
            assert await until_synced(watches, SECRETS, 0.1)
            await trio.sleep(3600)
            failure = watches.failure(CONFIG_MAPS)
            assert failure is not None
            assert failure.reason == "WatchForbidden"
            assert watches.failure(SECRETS) is None
            assert requests(world, verb, CONFIG_MAPS) < 20
            warnings = [line for line in logs if line["log_level"] == "warning"]
            assert [(line["reason"], line["kind"]) for line in warnings] == [("WatchForbidden", "ConfigMap")]
            world.kubernetes.denied.clear()
            await trio.sleep(330)
            assert watches.known(CONFIG_MAPS)
            assert watches.failure(CONFIG_MAPS) is None
            assert reported.new() == [("settings", False)]


async def test_after_a_long_outage_a_right_that_is_missing_for_a_moment_is_asked_for_soon(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    missing = JiemiError("WatchForbidden", "the API server starts, and does not know its roles yet")
    world.kubernetes.fail_next("list_metadata", *[unavailable()] * 8, missing)
    async with watching(world.kubernetes, reported, CONFIG_MAPS) as watches:
        await trio.sleep(1 + 2 + 4 + 8 + 16 + 30 + 30 + 30 + 11)
        assert watches.known(CONFIG_MAPS)


async def test_a_right_that_is_taken_away_makes_nothing_gone(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    put(world, "settings")
    async with watching(world.kubernetes, reported, CONFIG_MAPS) as watches:
        reported.new()
        world.kubernetes.deny("list", "configmaps")
        world.kubernetes.deny("watch", "configmaps")
        world.cluster.fail_watches(410)
        await trio.sleep(3600)
        assert watches.failure(CONFIG_MAPS) is not None
        assert watches.known(CONFIG_MAPS)
        assert watches.version_of("", "ConfigMap", "default", "settings") is not None
        assert reported.new() == []


WIDGETS = Resource("example.com/v1", "Widget", "widgets", namespaced=True)
WIDGETS_V2 = Resource("example.com/v2", "Widget", "widgets", namespaced=True)


async def test_a_kind_that_is_no_longer_served_makes_nothing_gone_until_it_is_listed_again(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    world.cluster.add_kind("example.com/v1", "Widget", "widgets", namespaced=True)
    put(world, "stays", WIDGETS)
    put(world, "goes", WIDGETS)
    async with watching(world.kubernetes, reported, WIDGETS) as watches:
        assert sorted(reported.new()) == [("goes", False), ("stays", False)]
        world.cluster.remove_kind("example.com/v1", "Widget")
        world.cluster.end_watches()
        await trio.sleep(3600)
        failure = watches.failure(WIDGETS)
        assert failure is not None
        assert failure.reason == "KindUnknown"
        assert requests(world, "list", WIDGETS) + requests(world, "watch", WIDGETS) < 20
        assert reported.new() == []
        del world.cluster.objects["example.com/v1", "Widget", "default", "goes"]
        world.cluster.add_kind("example.com/v1", "Widget", "widgets", namespaced=True)
        await trio.sleep(330)
        assert reported.new() == [("goes", True)]
        assert watches.failure(WIDGETS) is None


async def test_a_kind_that_comes_is_found(world: World, reported: Reported, autojump_clock: MockClock) -> None:
    async with watching(world.kubernetes, reported) as watches:
        assert not await until_synced(watches, WIDGETS, 0.1)
        world.cluster.add_kind("example.com/v1", "Widget", "widgets", namespaced=True)
        put(world, "new", WIDGETS)
        await trio.sleep(15)
        assert await until_synced(watches, WIDGETS)
        assert reported.new() == [("new", False)]


async def test_another_version_of_a_kind_shares_its_watch_and_takes_its_place_when_the_first_is_no_longer_served(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    world.cluster.add_kind("example.com/v1", "Widget", "widgets", namespaced=True)
    world.cluster.add_kind("example.com/v2", "Widget", "widgets", namespaced=True)
    made = put(world, "widget", WIDGETS)
    async with watching(world.kubernetes, reported, WIDGETS) as watches:
        watches.want(WIDGETS_V2)
        await settle()
        assert requests(world, "watch", WIDGETS) == 1
        assert watches.known(WIDGETS_V2)
        world.cluster.remove_kind("example.com/v1", "Widget")
        world.cluster.end_watches()
        await settle()
        # A real API server shows the same object by both versions.
        del world.cluster.objects["example.com/v1", "Widget", "default", "widget"]
        world.cluster.objects["example.com/v2", "Widget", "default", "widget"] = {
            **made,
            "apiVersion": "example.com/v2",
        }
        await trio.sleep(60)
        assert watches.failure(WIDGETS_V2) is not None
        watches.want(WIDGETS)
        assert watches.failure(WIDGETS_V2) is not None, "the same one again changes nothing"
        watches.want(WIDGETS_V2)
        assert watches.known(WIDGETS_V2)
        await settle()
        assert watches.failure(WIDGETS_V2) is None
        assert reported.new() == [("widget", False)]
        asked = requests(world, "list", WIDGETS)
        await trio.sleep(3500)
        assert requests(world, "list", WIDGETS) == asked, "the first one ended"
        assert world.cluster.watches == 1


def metadata(**changes: Any) -> dict[str, Any]:
    whole = {"name": CANARY, "namespace": "default", "uid": "u", "resourceVersion": "102", "labels": OURS}
    return {field: value for field, value in {**whole, **changes}.items() if value is not None}


def changed(change: str, metadata: JsonObject) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": change, "object": {"metadata": metadata}}).encode() + b"\n"


MALFORMED = [
    metadata(name=None),
    metadata(name=""),
    metadata(name=[CANARY]),
    metadata(namespace=None),
    metadata(uid=None),
    metadata(uid=7),
    metadata(labels=[CANARY]),
    metadata(labels="x"),
]


@pytest.mark.parametrize("malformed", MALFORMED)
@pytest.mark.parametrize("change", ["ADDED", "MODIFIED", "DELETED"])
async def test_an_event_whose_metadata_are_malformed_is_passed_over(
    change: str, malformed: JsonObject, world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    right = metadata(name="right", labels=None, resourceVersion="103")
    chunk = changed(change, malformed) + changed("ADDED", right)
    world.kubernetes.watch_metadata = _Says(chunk, stay=True)  # type: ignore[method-assign]
    with capture_logs() as logs:
        async with watching(world.kubernetes, reported, CONFIG_MAPS):
            assert reported.new() == [("right", False)]
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["object_metadata_unreadable"]
    assert CANARY not in repr(logs)


@pytest.mark.parametrize("malformed", [*({"metadata": each} for each in MALFORMED), {}, {"metadata": None}])
async def test_a_list_with_something_malformed_on_it_reports_the_rest_and_takes_nothing_for_gone(
    malformed: JsonObject, world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    put(world, "perhaps-it-is-this")
    put(world, "other")
    async with watching(world.kubernetes, reported, CONFIG_MAPS):
        reported.new()
        put(world, "new")
        items = [malformed, {"metadata": metadata_in(world, "new")}]

        async def listed(*_: Any, **__: Any) -> Page:
            await trio.lowlevel.checkpoint()
            return Page(tuple(items), str(world.cluster.version), None)

        original = world.kubernetes.list_metadata
        world.kubernetes.list_metadata = listed  # type: ignore[method-assign]
        world.cluster.fail_watches(410)
        await trio.sleep(10)
        assert reported.new() == [("new", False)]
        world.kubernetes.list_metadata = original  # type: ignore[method-assign]
        world.cluster.objects.pop(("v1", "ConfigMap", "default", "other"))
        world.cluster.fail_watches(410)
        await trio.sleep(10)
        assert reported.new() == [("other", True)]


async def test_a_list_that_leaves_out_what_is_too_large_reports_the_rest_and_takes_nothing_for_gone(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    put(world, "large")
    put(world, "other")
    async with watching(world.kubernetes, reported, CONFIG_MAPS):
        reported.new()
        put(world, "new")
        original = world.kubernetes.list_metadata

        async def listed(*args: Any, continue_token: str | None, **kwargs: Any) -> Page:
            page = await original(*args, continue_token=continue_token, **kwargs)
            kept = tuple(each for each in page.items if each["metadata"]["name"] != "large")
            return attrs.evolve(page, items=kept, left_out=len(page.items) - len(kept))

        world.kubernetes.list_metadata = listed  # type: ignore[method-assign]
        world.cluster.fail_watches(410)
        await trio.sleep(10)
        assert reported.new() == [("new", False)]
        # Watches go on in spite of it.
        put(world, "newer")
        await settle()
        assert reported.new() == [("newer", False)]


def metadata_in(world: World, name: str) -> JsonObject:
    found = world.cluster.get("ConfigMap", "default", name)
    assert found is not None
    return cast(JsonObject, found["metadata"])


# --- the end


async def test_a_kind_that_nobody_wants_any_more_is_not_watched_and_forgotten(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    put(world, "settings")
    async with watching(world.kubernetes, reported, CONFIG_MAPS, SECRETS) as watches:
        assert reported.new() == [("settings", False)]
        watches.keep_only([SECRETS])
        put(world, "on-its-way")
        await settle()
        assert world.cluster.watches == 1
        assert reported.new() == []
        assert not watches.known(CONFIG_MAPS)
        assert watches.failure(CONFIG_MAPS) is None
        with pytest.raises(NotSynced):
            watches.version_of("", "ConfigMap", "default", "settings")
        watches.want(CONFIG_MAPS)
        await settle()
        assert sorted(reported.new()) == [("on-its-way", False), ("settings", False)]
        assert requests(world, "list", SECRETS) == 1


@pytest.mark.parametrize("how", ["listed", "watched", "deleted", "vanished"])
async def test_what_is_notified_may_end_the_watch_and_is_notified_no_longer(
    how: str, world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    def ending(resource: Resource, metadata: JsonObject, *, deleted: bool) -> None:
        reported(resource, metadata, deleted=deleted)
        if ready:
            watches.keep_only([])

    ready = how == "listed"
    if how != "watched":
        put(world, "a")
        put(world, "b")
    async with trio.open_nursery() as nursery:
        watches = ObjectWatches(world.kubernetes, nursery, ending, random=lambda: 0.5)
        watches.want(CONFIG_MAPS)
        await settle()
        if not ready:
            ready = True
            reported.new()
            if how == "watched":
                lines = [changed(kind, {**metadata(), "name": name}) for kind, name in (("ADDED", "a"), ("ADDED", "b"))]
            elif how == "deleted":
                lines = [changed("DELETED", metadata_in(world, name)) for name in ("a", "b")]
            else:
                lines = []
                world.cluster.objects.clear()
                world.cluster.fail_watches(410)
            world.kubernetes.watch_metadata = _Says(b"".join(lines), stay=True)  # type: ignore[method-assign]
            world.cluster.end_watches()
            await trio.sleep(5)
    assert len(reported.new()) == 1
    assert world.cluster.watches == 0


async def test_who_waits_for_a_kind_wants_it_though_another_ends_it(
    world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    world.kubernetes.delays["list_metadata"] = 10
    async with watching(world.kubernetes, reported) as watches, trio.open_nursery() as nursery:
        nursery.start_soon(until_synced, watches, CONFIG_MAPS)
        await trio.sleep(5)
        watches.keep_only([])
        await trio.sleep(11)
        assert watches.known(CONFIG_MAPS)


@pytest.mark.parametrize("delayed", ["list_metadata", "watch_metadata", None])
async def test_cancelled_at_any_point_nothing_is_left(
    delayed: str | None, world: World, reported: Reported, autojump_clock: MockClock
) -> None:
    if delayed is not None:
        world.kubernetes.delays[delayed] = 10
    async with watching(world.kubernetes, reported, CONFIG_MAPS, SECRETS):
        await trio.sleep(5)
        assert world.cluster.watches == (0 if delayed else 2)
