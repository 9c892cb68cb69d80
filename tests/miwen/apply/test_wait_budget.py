"""How long several things are waited for together."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from jiemi.miwen.apply.wait_budget import WaitBudget


async def never() -> bool:
    await trio.lowlevel.checkpoint()
    return False


async def test_waits_one_after_the_other_share_the_time_and_what_is_between_does_not_count(
    autojump_clock: MockClock,
) -> None:
    budget = WaitBudget(10.0, lambda: None)
    ready_at = trio.current_time() + 4

    async def is_ready() -> bool:
        await trio.lowlevel.checkpoint()
        return trio.current_time() >= ready_at

    assert await budget.poll_until(is_ready)
    await trio.sleep(100)
    began = trio.current_time()
    assert not await budget.poll_until(never)
    assert trio.current_time() - began == pytest.approx(6, abs=0.3)
    assert not await budget.poll_until(is_ready)


async def test_waits_at_once_count_once(autojump_clock: MockClock) -> None:
    budget = WaitBudget(10.0, lambda: None)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(budget.poll_until, never)
            await trio.sleep(1)
    assert trio.current_time() - began == pytest.approx(10)


async def test_what_the_check_raises_ends_the_wait(autojump_clock: MockClock) -> None:
    def check() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await WaitBudget(10.0, check).poll_until(never)
