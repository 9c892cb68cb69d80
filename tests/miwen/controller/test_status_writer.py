"""A status that the API server refuses: the refusal is reported in its place."""

from __future__ import annotations

from typing import Any

import trio
from support.miwen.world import FILE, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.errors import JiemiError

_REFUSAL = JiemiError("ApplyRejected", "writing the status of Decryptor default/app: too much of it")


def _refuse_whole_ones(world: World, *, parts_too: bool = False) -> None:
    """Refuse each status but one that is written in parts, as an API server does whose bounds are others."""
    write = world.kubernetes.patch_status

    async def patch_status(*arguments: Any, keep_rest: bool = False, **more: Any) -> Any:
        if parts_too or not keep_rest:
            raise _REFUSAL
        return await write(*arguments, keep_rest=keep_rest, **more)

    world.kubernetes.patch_status = patch_status  # type: ignore[method-assign]


def _events(world: World) -> list[str]:
    return [obj["note"] for key, obj in world.cluster.objects.items() if key[1] == "Event"]


async def test_what_users_look_at_says_so_and_the_rest_stays(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        assert world.reason() == "Synced"
    before = world.status()
    _refuse_whole_ones(world)
    async with miwen(world):
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(400)
        after = world.status()
        assert after["current"]["status"] == "NotSync"
        assert after["current"]["error_message"] == str(_REFUSAL)
        assert world.reason() == "ApplyRejected"
        assert after["inventory"] == before["inventory"]
        assert [note for note in _events(world) if "too much of it" in note]
        written = world.versions()
        await trio.sleep(400)
        assert world.versions() == written, "it is said once"


async def test_it_is_deployed_as_soon_as_the_status_is_taken(world: World, autojump_clock: MockClock) -> None:
    write = world.kubernetes.patch_status
    world.add()
    async with miwen(world):
        _refuse_whole_ones(world)
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(400)
        assert world.reason() == "ApplyRejected"
        world.kubernetes.patch_status = write  # type: ignore[method-assign]
        await trio.sleep(400)
        assert world.reason() == "Synced"
        assert world.data() == {"greeting": "two"}
        assert world.current()["id"] == 2


async def test_an_event_says_so_where_nothing_at_all_can_be_written(world: World, autojump_clock: MockClock) -> None:
    _refuse_whole_ones(world, parts_too=True)
    world.add()
    async with miwen(world):
        await settle()
        await trio.sleep(30)
        assert world.status() == {}
        assert world.data() is None, "nothing is applied that no status could tell"
        assert [note for note in _events(world) if "too much of it" in note]
