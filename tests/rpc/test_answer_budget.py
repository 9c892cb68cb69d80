"""What answers may hold that wait to be sent."""

from __future__ import annotations

import gc

import pytest
import trio
from rpc.rpc_helpers import until

from jiemi.core.errors import JiemiError
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.contract import MEBIBYTE
from jiemi.rpc.limits import Account
from jiemi.rpc.open_repositories import Budget, Permit


async def test_answers_that_wait_are_charged_and_one_too_many_is_refused() -> None:
    async with open_bridge() as bridge:
        process = Account(6 * MEBIBYTE)
        account = Account(100 * MEBIBYTE, process)
        budget = Budget(2 * MEBIBYTE, bridge, account)
        permits: list[Permit] = []

        async def one() -> None:
            permits.append(await budget.acquire(1_500_000))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one)
            await until(lambda: account.used > 6_000_000)
            assert len(permits) == 1, "the others wait"
            with pytest.raises(JiemiError, match="KrapaoUnavailable"):
                await budget.acquire(1_500_000)
            # As each is taken, another is sent.
            for number in range(2, 5):
                permits.clear()
                gc.collect()
                await until(lambda: len(permits) == 1, f"answer {number}")
        permits.clear()
        await until(lambda: process.used == 0)


async def test_an_answer_that_is_not_waited_for_any_more_holds_nothing() -> None:
    async with open_bridge() as bridge:
        account = Account(100 * MEBIBYTE)
        budget = Budget(2 * MEBIBYTE, bridge, account)
        first = await budget.acquire(1_500_000)
        used = account.used
        for _ in range(3):
            with trio.move_on_after(0.01) as scope:
                await budget.acquire(1_500_000)
            assert scope.cancelled_caught
        assert account.used == used
        del first
        await until(lambda: account.used == 0)
        permit = await budget.acquire(1_500_000)
        assert account.used == used
        del permit
        await until(lambda: account.used == 0)
