"""What is decrypted and applied at once: bounded in number, in time and in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from jiemi.concurrency.fair_limiter import FairLimiter, Slot
from jiemi.miwen.reconcile.phases import Phase, PhaseTimes
from jiemi.miwen.reconcile.render import NeedsMore
from jiemi.miwen.reconcile.timing import Timing
from jiemi.miwen.reconcile.work_slots import WorkSlots
from jiemi.miwen.state.loop_state import LoopState

TIMEOUT_SECONDS = 30.0


def a_context(namespace: str = "default") -> Any:
    meta, spec = SimpleNamespace(namespace=namespace), SimpleNamespace()
    return SimpleNamespace(decryptor=SimpleNamespace(meta=meta, spec=spec), state=LoopState(), phases=PhaseTimes())


def some_slots(most: int = 4) -> WorkSlots:
    return WorkSlots(FairLimiter(most), Timing(180.0, TIMEOUT_SECONDS))


async def test_work_that_needs_more_memory_is_done_again_as_large_work() -> None:
    context, alone = a_context(), []

    async def work(slot: Slot) -> None:
        alone.append(context.state.files.is_large)
        if not context.state.files.is_large:
            context.state.files.set_large(True)
            raise NeedsMore

    await some_slots().run(context, work)
    assert alone == [False, True]


async def test_large_work_is_done_one_at_a_time_and_small_work_beside_it(autojump_clock: MockClock) -> None:
    slots, running, most = some_slots(), {"large": 0, "small": 0}, {"large": 0, "small": 0}

    async def run(number: int, size: str) -> None:
        context = a_context(f"n{number}")
        context.state.files.set_large(size == "large")

        async def work(slot: Slot) -> None:
            running[size] += 1
            most[size] = max(most[size], running[size])
            await trio.sleep(1)
            running[size] -= 1

        await slots.run(context, work)

    async with trio.open_nursery() as nursery:
        for number, size in enumerate(["large", "small"] * 3):
            nursery.start_soon(run, number, size)
    assert most == {"large": 1, "small": 3}


async def test_work_that_is_not_done_in_time_is_ended(autojump_clock: MockClock) -> None:
    began = trio.current_time()

    async def work(slot: Slot) -> None:
        await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError):
        await some_slots().run(a_context(), work)
    assert trio.current_time() - began == TIMEOUT_SECONDS


async def test_how_long_work_waited_for_its_slot_is_noted_and_how_long_it_took_is_not(
    autojump_clock: MockClock,
) -> None:
    slots, contexts = some_slots(most=1), [a_context("one"), a_context("two")]

    async def work(slot: Slot) -> None:
        slot.keep()
        await trio.sleep(7)

    async with trio.open_nursery() as nursery:
        for context in contexts:
            nursery.start_soon(slots.run, context, work)
    waited = sorted(seconds for context in contexts for _, seconds in context.phases.seconds)
    assert waited == [0, 7]
    assert {phase for context in contexts for phase, _ in context.phases.seconds} == {Phase.QUEUE}
