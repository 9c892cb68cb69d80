"""Decryptors are followed through everything that a watch may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from support.miwen.world import INTERVAL, URL, World, miwen, settle
from trio.testing import MockClock

from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.core.errors import JiemiError


async def test_those_that_exist_are_found_page_by_page(world: World, autojump_clock: MockClock) -> None:
    for number in range(1203):
        world.add(f"d{number}", provider={})
    async with miwen(world):
        assert world.kubernetes.requests.snapshot().of("list", "decryptors") == 13
        assert world.reason("d1202") == "InvalidSpec"


async def test_a_watch_that_ends_goes_on_where_it_was(world: World, autojump_clock: MockClock) -> None:
    async with miwen(world):
        world.cluster.end_watches()
        world.add()
        await trio.sleep(2)
        assert world.reason() == "Synced"
        assert world.kubernetes.requests.snapshot().of("list", "decryptors") == 1


async def test_after_410_gone_it_lists_again_and_finds_what_was_deleted_meanwhile(
    world: World, autojump_clock: MockClock
) -> None:
    world.add("stays")
    world.add("goes")
    async with miwen(world):
        assert world.krapao.opened == 2
        world.kubernetes.fail_next("watch_decryptors", *[JiemiError("ClusterUnavailable", "no answer")] * 3)
        world.cluster.end_watches()
        await settle()
        world.delete("goes")
        world.add("comes")
        world.cluster.compact()
        await trio.sleep(30)
        assert world.kubernetes.requests.snapshot().of("list", "decryptors") == 2
        assert world.krapao.opened == 2
        assert world.reason("comes") == "Synced"


async def test_an_error_in_the_watch_opens_it_again(world: World, autojump_clock: MockClock) -> None:
    async with miwen(world):
        world.cluster.fail_watches(500)
        await trio.sleep(3)
        world.add()
        await trio.sleep(3)
        assert world.reason() == "Synced"


async def test_a_list_that_fails_is_tried_again_and_removes_nothing(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        world.kubernetes.fail_next("list_decryptors", *[JiemiError("ClusterUnavailable", "no answer")] * 5)
        world.cluster.fail_watches(410)
        await trio.sleep(10)
        assert world.krapao.opened == 1
        await trio.sleep(60)
        assert world.krapao.opened == 1


async def test_a_list_with_something_unreadable_on_it_removes_nothing(world: World, autojump_clock: MockClock) -> None:
    world.add("stays")
    world.add("goes")
    async with miwen(world):
        strange = world.cluster.objects[API_VERSION, KIND, "default", "stays"]["metadata"]
        uid, strange["uid"] = strange["uid"], None
        del world.cluster.objects[API_VERSION, KIND, "default", "goes"]
        world.cluster.fail_watches(410)
        await trio.sleep(10)
        assert world.krapao.opened == 2
        strange["uid"] = uid
        world.cluster.fail_watches(410)
        await trio.sleep(10)
        assert world.krapao.opened == 1


async def test_watches_that_fall_silent_again_and_again_are_each_taken_up_soon(
    world: World, autojump_clock: MockClock
) -> None:
    async with miwen(world):
        world.kubernetes.silent = True
        world.cluster.end_watches()
        await trio.sleep(3400)  # ten times 330 s and a second or two
        assert world.kubernetes.requests.snapshot().of("watch", "decryptors") >= 11


async def test_without_the_right_to_list_it_waits_for_it(world: World, autojump_clock: MockClock) -> None:
    world.kubernetes.fail_next("list_decryptors", *[JiemiError("ListForbidden", "grant it")] * 4)
    world.add()
    async with miwen(world):
        await trio.sleep(60)
        assert world.reason() == "Synced"


async def test_its_own_status_writes_cause_no_ticks(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        await settle()
        assert world.heads() == 1
        await trio.sleep(INTERVAL - 1)
        assert world.heads() == 1


class _BreakingWatch:
    """The fake's watch, broken off after each chunk, as a connection that is cut."""

    def __init__(self, world: World) -> None:
        self.versions: list[int] = []
        self._original = world.kubernetes.watch_decryptors

    @asynccontextmanager
    async def __call__(
        self, *, resource_version: str, namespace: str | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.versions.append(int(resource_version))
        async with self._original(resource_version=resource_version, namespace=namespace) as chunks:
            yield self._breaking(chunks)

    async def _breaking(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
            await settle()
            raise JiemiError("ClusterUnavailable", "the connection was cut")


async def test_a_watch_that_breaks_does_not_show_old_states_again(world: World, autojump_clock: MockClock) -> None:
    watch = _BreakingWatch(world)
    world.kubernetes.watch_decryptors = watch  # type: ignore[method-assign]  # the fake's own, so that it can break
    async with miwen(world):
        for number in range(4):
            world.add(source={"repository": {"url": URL}, "fileToDecrypt": f"{number}.yaml"})
            await trio.sleep(60)
        world.delete()
        await trio.sleep(60)
        renders = world.renders()
        await trio.sleep(10 * INTERVAL)
        assert world.renders() == renders
        assert world.krapao.opened == 0
    assert watch.versions == sorted(watch.versions), "each watch goes on where the last one was"
