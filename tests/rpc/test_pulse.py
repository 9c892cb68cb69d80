"""Whether the RPC thread answers: it does while it works, and not while it stands still."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import pytest
import trio

from jiemi.rpc.bridge import Bridge, open_bridge
from jiemi.rpc.pulse import keep_pulse


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with open_bridge() as bridge:
        yield bridge


async def test_there_is_a_beat_for_each_answer_and_none_while_the_thread_hangs(bridge: Bridge) -> None:
    beats = 0
    beaten = trio.Event()

    def beat() -> None:
        nonlocal beats, beaten
        beats += 1
        beaten.set()
        beaten = trio.Event()

    async def next_beat() -> None:
        with trio.fail_after(5):
            await beaten.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: keep_pulse(bridge, beat, every_seconds=0.01))
        for _ in range(3):
            await next_beat()
        hangs, go_on = threading.Event(), threading.Event()

        def hang() -> None:
            hangs.set()
            go_on.wait(20)

        bridge.post(hang)
        assert await trio.to_thread.run_sync(hangs.wait, 5)
        await trio.sleep(0.05)  # an answer that was on its way
        before = beats
        await trio.sleep(0.3)
        assert beats == before
        go_on.set()
        await next_beat()
        await next_beat()
        nursery.cancel_scope.cancel()


async def test_it_ends_without_a_beat_when_the_thread_has_ended() -> None:
    beats, beaten = 0, trio.Event()

    def beat() -> None:
        nonlocal beats
        beats += 1
        beaten.set()

    async with trio.open_nursery() as nursery:
        async with open_bridge() as bridge:
            nursery.start_soon(lambda: keep_pulse(bridge, beat, every_seconds=0.01))
            with trio.fail_after(5):
                await beaten.wait()
        count = beats
        await trio.sleep(0.1)
        assert beats == count
        nursery.cancel_scope.cancel()
