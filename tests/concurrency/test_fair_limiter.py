"""Fairness between tenants, on the virtual clock. A "drip" holds its slot for a minute and does nothing."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.fair_limiter import PATIENCE_SECONDS, Bound, FairLimiter, Slot

DRIP_SECONDS = 60.0


async def drip(limiter: FairLimiter, tenant: str, *bounds: Bound, slow: bool = True) -> None:
    async def hang(slot: Slot) -> None:
        slot.is_slow = lambda: slow
        await trio.sleep(DRIP_SECONDS)

    await limiter.run(tenant, hang, *bounds)


async def seconds_until_served(limiter: FairLimiter, tenant: str, *bounds: Bound) -> float:
    began = trio.current_time()

    async def now(_: Slot) -> float:
        return trio.current_time() - began

    return await limiter.run(tenant, now, *bounds)


@pytest.mark.parametrize(
    ("total", "hostile"),
    [(4, 1), (4, 2), (4, 3), (8, 1), (8, 2), (8, 3), (8, 7), (32, 1), (32, 2), (32, 3), (32, 10), (32, 31)],
)
@pytest.mark.parametrize("each", [1, 60])
async def test_tenants_that_hang_hold_up_another_for_seconds_at_most(
    total: int, hostile: int, each: int, autojump_clock: MockClock
) -> None:
    limiter = FairLimiter(total)
    async with trio.open_nursery() as nursery:
        for number in range(hostile):
            for _ in range(each):
                nursery.start_soon(drip, limiter, f"hostile-{number}")
        await trio.sleep(20)
        assert await seconds_until_served(limiter, "honest") <= PATIENCE_SECONDS
        nursery.cancel_scope.cancel()
    assert (limiter.running, limiter.waiting) == (0, 0)


async def test_with_more_tenants_that_hang_than_slots_another_gets_the_next_that_becomes_free(
    autojump_clock: MockClock,
) -> None:
    limiter = FairLimiter(8)
    freed: list[float] = []

    async def hang(tenant: str) -> None:
        await drip(limiter, tenant)
        freed.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for number in range(20):
            for _ in range(10):
                nursery.start_soon(hang, f"hostile-{number}")
        await trio.sleep(200)
        began, freed[:] = trio.current_time(), []
        waited = await seconds_until_served(limiter, "honest")
        assert waited <= max(PATIENCE_SECONDS, freed[0] - began if freed else 0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("hostile", [1, 2, 3, 7])
async def test_work_that_gets_on_but_lasts_holds_up_another_for_seconds_while_there_are_more_slots_than_tenants(
    hostile: int, autojump_clock: MockClock
) -> None:
    limiter = FairLimiter(8)
    async with trio.open_nursery() as nursery:
        for number in range(hostile):
            for _ in range(60):
                nursery.start_soon(functools.partial(drip, limiter, f"hostile-{number}", slow=False))
        await trio.sleep(20)
        assert await seconds_until_served(limiter, "honest") <= PATIENCE_SECONDS
        nursery.cancel_scope.cancel()


async def test_the_last_slot_of_a_tenant_is_not_taken_while_its_work_gets_on(autojump_clock: MockClock) -> None:
    limiter = FairLimiter(3)
    begun: Counter[str] = Counter()

    async def last(tenant: str) -> float:
        async def work(_: Slot) -> float:
            begun[tenant] += 1
            await trio.sleep(DRIP_SECONDS)
            return trio.current_time()

        return await limiter.run(tenant, work)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for tenant in "abc":
            nursery.start_soon(last, tenant)
        await wait_all_tasks_blocked()
        assert await seconds_until_served(limiter, "d") == DRIP_SECONDS
    assert begun == {"a": 1, "b": 1, "c": 1}
    assert trio.current_time() - began == DRIP_SECONDS


async def test_slow_work_is_made_to_wait_once_and_then_comes_to_its_end(autojump_clock: MockClock) -> None:
    limiter = FairLimiter(1)
    runs = 0

    async def slow(slot: Slot) -> str:
        nonlocal runs
        runs += 1
        slot.is_slow = lambda: True
        await trio.sleep(DRIP_SECONDS)
        return "done"

    results: list[str] = []

    async def collect() -> None:
        results.append(await limiter.run("slow", slow))

    async def busy(tenant: str) -> None:
        for _ in range(50):
            async with limiter.slot(tenant):
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect)
        await wait_all_tasks_blocked()
        nursery.start_soon(busy, "a")
        nursery.start_soon(busy, "b")
    assert (results, runs) == (["done"], 2)


async def test_a_slot_that_is_to_be_kept_is_not_taken_back(autojump_clock: MockClock) -> None:
    limiter = FairLimiter(2)
    begun = 0

    async def work(slot: Slot) -> None:
        nonlocal begun
        begun += 1
        slot.is_slow = lambda: True
        slot.keep()
        await trio.sleep(DRIP_SECONDS)

    async with trio.open_nursery() as nursery:
        for tenant in "ab":
            nursery.start_soon(limiter.run, tenant, work)
        await wait_all_tasks_blocked()
        assert await seconds_until_served(limiter, "c") == DRIP_SECONDS
        async with limiter.slot("a"), limiter.slot("b"):
            waiting = trio.current_time()
            nursery.start_soon(limiter.run, "c", work)
            await trio.sleep(DRIP_SECONDS)
            assert begun == 2
        assert trio.current_time() - waiting == DRIP_SECONDS


async def test_one_tenant_alone_has_three_quarters_and_others_are_let_in_at_once(autojump_clock: MockClock) -> None:
    limiter = FairLimiter(32)
    held: Counter[str] = Counter()

    async def hold(tenant: str) -> None:
        async with limiter.slot(tenant):
            held[tenant] += 1
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for tenant in "abcdefg":
            for _ in range(40):
                nursery.start_soon(hold, tenant)
            await wait_all_tasks_blocked()
        assert held == {"a": 24, "b": 6, "c": 1, "d": 1}
        nursery.cancel_scope.cancel()


async def test_a_host_that_hangs_for_many_tenants_leaves_slots_to_other_hosts(autojump_clock: MockClock) -> None:
    limiter = FairLimiter(8)
    evil, good = Bound("evil.example", 6), Bound("good.example", 6)
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(functools.partial(drip, limiter, f"tenant-{number}", evil, slow=False))
        await trio.sleep(1)
        assert await seconds_until_served(limiter, "another", good) == 0
        assert await seconds_until_served(limiter, "tenant-1", good) == 0
        nursery.cancel_scope.cancel()


async def test_one_host_that_hangs_leaves_slots_to_the_other_hosts_of_the_same_tenant(
    autojump_clock: MockClock,
) -> None:
    limiter = FairLimiter(8)
    evil, good = Bound("evil.example", 6), Bound("good.example", 6)
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(functools.partial(drip, limiter, "tenant", evil, slow=False))
        await trio.sleep(1)
        assert await seconds_until_served(limiter, "tenant", good) == 0
        nursery.cancel_scope.cancel()


async def test_one_tenant_cannot_use_up_a_host_that_others_follow_too(autojump_clock: MockClock) -> None:
    limiter = FairLimiter(8)
    host = Bound("git.example", 6)
    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(functools.partial(drip, limiter, "hostile", host, slow=False))
        await trio.sleep(1)
        for honest in "abc":
            assert await seconds_until_served(limiter, honest, host) == 0
        nursery.cancel_scope.cancel()


async def test_two_tenants_do_not_take_one_repository_from_each_other_by_turns(autojump_clock: MockClock) -> None:
    limiter = FairLimiter(8)
    folder = Bound("folder", 1)
    begun: Counter[str] = Counter()

    async def fetch(tenant: str) -> None:
        async def work(_: Slot) -> None:
            begun[tenant] += 1
            await trio.sleep(DRIP_SECONDS)

        await limiter.run(tenant, work, folder)

    async with trio.open_nursery() as nursery:
        for tenant in "ab":
            for _ in range(2):
                nursery.start_soon(functools.partial(drip, limiter, tenant, slow=False))
            nursery.start_soon(fetch, tenant)
    assert begun == {"a": 1, "b": 1}


async def test_who_joins_work_that_waits_in_anothers_queue_does_not_wait_behind_it(autojump_clock: MockClock) -> None:
    limiter = FairLimiter(8)
    askers = Askers("hostile")
    done = trio.Event()

    async def shared() -> None:
        async with limiter.slot(askers):
            done.set()

    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(drip, limiter, "hostile")
        await wait_all_tasks_blocked()
        nursery.start_soon(shared)
        await trio.sleep(1)
        assert not done.is_set()
        with askers.joined(Askers("honest")):
            await wait_all_tasks_blocked()
            assert done.is_set()
        nursery.cancel_scope.cancel()


async def test_shared_work_counts_for_the_tenant_that_still_waits_for_it(autojump_clock: MockClock) -> None:
    limiter = FairLimiter(4)
    askers = Askers()
    with askers.joined(Askers("a")):
        context = limiter.slot(askers)
        await context.__aenter__()
        stays = askers.joined(Askers("b"))
        stays.__enter__()
    async with limiter.slot("a"), limiter.slot("c"):  # a no longer holds one, so this is its first
        with trio.move_on_after(1) as scope:
            async with limiter.slot("b"):
                raise AssertionError("b holds one, and only one is free")
        assert scope.cancelled_caught
    stays.__exit__(None, None, None)
    await context.__aexit__(None, None, None)
    assert limiter.running == 0


async def test_what_joins_through_another_piece_of_work_leaves_with_it() -> None:
    inner, outer = Askers(), Askers("a")
    seen = []
    with inner.joined(outer):
        seen.append(inner.tenants)
        with outer.joined(Askers("b", "a")):
            seen.append(inner.tenants)
        seen.append(inner.tenants)
    seen.append(inner.tenants)
    assert seen == [("a",), ("a", "b"), ("a",), ()]


async def test_nobody_who_is_cancelled_leaves_anything_behind(autojump_clock: MockClock) -> None:
    limiter = FairLimiter(1)
    async with limiter.slot("a", Bound("host", 1)):
        for _ in range(3):
            with trio.move_on_after(1):
                await seconds_until_served(limiter, "b", Bound("host", 1))
        with trio.CancelScope() as scope:
            scope.cancel()
            await seconds_until_served(limiter, "c")
        assert (limiter.running, limiter.waiting) == (1, 0)
    with trio.CancelScope() as scope:
        scope.cancel()
        await seconds_until_served(limiter, "c")
    assert (limiter.running, limiter.waiting, limiter._pools, limiter._taking_back) == (0, 0, {}, {})


async def test_a_failure_of_the_work_is_its_own_and_frees_the_slot() -> None:
    limiter = FairLimiter(1)

    async def fail(_: Slot) -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await limiter.run("a", fail)
    assert limiter.running == 0


# --- any order of events


@attrs.frozen
class Job:
    tenants: tuple[str, ...]
    host: str
    at: int
    seconds: int
    slow: bool
    cancelled_after: int | None
    joined_by: str | None


JOBS = st.lists(
    st.builds(
        Job,
        tenants=st.lists(st.sampled_from("abcde"), max_size=2, unique=True).map(tuple),
        host=st.sampled_from("xyz"),
        at=st.integers(0, 20),
        seconds=st.integers(0, 12),
        slow=st.booleans(),
        cancelled_after=st.none() | st.integers(0, 30),
        joined_by=st.none() | st.sampled_from("abcde"),
    ),
    max_size=40,
)


class Watch:
    """Looks at a limiter from outside at each event."""

    def __init__(self, total: int, most: int) -> None:
        self.limiter = FairLimiter(total)
        self.total, self.most = total, most
        self.running: Counter[str] = Counter()
        self.finished = 0
        self.begun: list[int] = []

    async def run(self, number: int, job: Job) -> None:
        await trio.sleep(job.at)
        askers = Askers(*job.tenants)
        with trio.move_on_after(job.cancelled_after if job.cancelled_after is not None else float("inf")) as scope:
            async with trio.open_nursery() as nursery:
                if job.joined_by is not None:
                    nursery.start_soon(self._join, askers, job.joined_by)
                await self.limiter.run(askers, self._work(number, job), Bound(job.host, self.most))
                nursery.cancel_scope.cancel()
        assert job.cancelled_after is not None or not scope.cancelled_caught
        self.finished += 1

    async def _join(self, askers: Askers, tenant: str) -> None:
        await trio.sleep(3)
        with askers.joined(Askers(tenant)):
            await trio.sleep(5)

    def _work(self, number: int, job: Job) -> Callable[[Slot], Awaitable[None]]:
        async def work(slot: Slot) -> None:
            slot.is_slow = lambda: job.slow
            self.running[job.host] += 1
            self.begun.append(number)
            try:
                self.check()
                await trio.sleep(job.seconds)
            finally:
                self.running[job.host] -= 1

        return work

    def check(self) -> None:
        assert self.running.total() <= self.total
        assert all(number <= self.most for number in self.running.values())
        limiter = self.limiter
        # Nothing that may have a slot waits.
        for tenant, queue in limiter._queues.items():
            for slot in queue:
                assert not all(pool.admits(tenant) for pool in slot._pools)
                assert slot not in limiter._running


@settings(max_examples=300, deadline=None)
@given(total=st.integers(1, 6), most=st.integers(1, 4), jobs=JOBS)
def test_no_order_of_events_exceeds_a_bound_or_loses_anyone(total: int, most: int, jobs: list[Job]) -> None:
    async def main() -> None:
        watch = Watch(total, most)
        async with trio.open_nursery() as nursery:
            for number, job in enumerate(jobs):
                nursery.start_soon(watch.run, number, job)
        assert watch.finished == len(jobs)
        limiter = watch.limiter
        assert (limiter.running, limiter._queues, limiter._pools, limiter._taking_back) == (0, {}, {}, {})
        assert limiter._all.held == {}

    trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(max_examples=100, deadline=None)
@given(plan=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2)), max_size=30))
def test_tenants_are_served_by_turns_and_each_in_its_own_order(plan: list[tuple[str, int]]) -> None:
    async def main() -> list[tuple[str, int]]:
        limiter = FairLimiter(1)
        begun: list[tuple[str, int]] = []

        async def one(tenant: str, number: int, seconds: int) -> None:
            async with limiter.slot(tenant):
                begun.append((tenant, number))
                await trio.sleep(seconds)

        async with trio.open_nursery() as nursery, limiter.slot("who was first"):
            for number, (tenant, seconds) in enumerate(plan):
                nursery.start_soon(one, tenant, number, seconds)
                await wait_all_tasks_blocked()
        return begun

    queues: dict[str, list[int]] = {}
    for number, (tenant, _) in enumerate(plan):
        queues.setdefault(tenant, []).append(number)
    expected = []
    while any(queues.values()):
        expected += [(tenant, queue.pop(0)) for tenant, queue in queues.items() if queue]
    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == expected


async def test_a_tenant_that_comes_back_at_once_each_time_does_not_overtake_those_that_wait(
    autojump_clock: MockClock,
) -> None:
    limiter = FairLimiter(1)
    begun: list[str] = []

    async def again_and_again(tenant: str) -> None:
        for _ in range(10):
            async with limiter.slot(tenant):
                begun.append(tenant)
                await trio.sleep(1)

    async def one(tenant: str) -> None:
        async with limiter.slot(tenant):
            begun.append(tenant)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(again_and_again, "eager")
        await wait_all_tasks_blocked()
        for tenant in "ab":
            for _ in range(3):
                nursery.start_soon(one, tenant)
                await wait_all_tasks_blocked()
    assert begun[:7] == ["eager", "a", "b", "eager", "a", "b", "eager"]
