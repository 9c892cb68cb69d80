"""Of several Miwens one works at a time: who it is, who is next, and when writes stop. On the virtual clock."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from fakes.kubernetes import FakeKubernetes, FakeLeases
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.fence import Fence, Moment
from jiemi.miwen.leadership.elector import Elector, LeaseTiming
from jiemi.miwen.leadership.lease import LeaseRecord, as_text

PLACE = ("jiemi", "jiemi-miwen")
TIMING = LeaseTiming()
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def moment() -> Moment:
    return Moment(trio.current_time(), trio.current_time())


def wall() -> datetime.datetime:
    return START + datetime.timedelta(seconds=trio.current_time())


@attrs.define
class Miwen:
    """One of several, with its own way to the API server.

    Attributes:
        wrote: the times at which its fence let it write.
    """

    name: str
    leases: FakeLeases
    history: list[tuple[float, str]]
    fence: Fence = attrs.field(factory=lambda: Fence(moment))
    wrote: list[float] = attrs.field(factory=list)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    paused: bool = False

    async def work(self) -> None:
        self.history.append((trio.current_time(), f"+{self.name}"))
        try:
            while True:
                if not self.paused and self.fence.left_seconds() > 0:
                    self.wrote.append(trio.current_time())
                await trio.sleep(0.1)
        finally:
            self.history.append((trio.current_time(), f"-{self.name}"))

    async def run(self) -> None:
        elector = Elector(self.leases, PLACE, self.name, self.fence, wall)
        with self.scope:
            await elector.lead(self.work)


@attrs.define
class Scene:
    """Some Miwens of one cluster."""

    kubernetes: FakeKubernetes
    nursery: trio.Nursery
    history: list[tuple[float, str]] = attrs.field(factory=list)
    miwens: list[Miwen] = attrs.field(factory=list)

    def start(self, name: str) -> Miwen:
        made = Miwen(name, FakeLeases(self.kubernetes.cluster), self.history)
        self.miwens.append(made)
        self.nursery.start_soon(made.run)
        return made

    @property
    def active(self) -> list[str]:
        found: list[str] = []
        for _, what in self.history:
            if what[0] == "+":
                found.append(what[1:])
            else:
                found.remove(what[1:])
        return found

    def assert_one_writes_at_a_time(self) -> None:
        """From the last write of one until the first of another there is the margin for those on their way."""
        every = sorted((at, each.name) for each in self.miwens for at in each.wrote)
        for (at, name), (later, another) in itertools.pairwise(every):
            assert name == another or later - at >= 0.3, (at, name, later, another)


Body = Callable[[Scene], Awaitable[None]]


async def play(body: Body) -> Scene:
    kubernetes = FakeKubernetes()
    kubernetes.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE[0]}})
    async with trio.open_nursery() as nursery:
        scene = Scene(kubernetes, nursery)
        await body(scene)
        nursery.cancel_scope.cancel()
    scene.assert_one_writes_at_a_time()
    return scene


async def test_one_of_three_works_and_stays_the_one(autojump_clock: MockClock) -> None:
    async def body(scene: Scene) -> None:
        for name in "abc":
            scene.start(name)
        await trio.sleep(120)
        assert len(scene.active) == 1
        assert len(scene.history) == 1

    await play(body)


async def test_who_is_asked_to_end_gives_it_up_and_another_works_within_a_second(autojump_clock: MockClock) -> None:
    async def body(scene: Scene) -> None:
        first = scene.start("a")
        await trio.sleep(1)
        scene.start("b")
        await trio.sleep(20)
        assert scene.active == ["a"]
        began = trio.current_time()
        first.scope.cancel()
        await trio.sleep(1)
        assert scene.active == ["b"]
        assert [what for _, what in scene.history] == ["+a", "-a", "+b"], "the work ended before it was given up"
        assert scene.history[-1][0] - began < 1

    await play(body)


async def test_who_is_gone_is_replaced_within_seven_seconds(autojump_clock: MockClock) -> None:
    async def body(scene: Scene) -> None:
        first = scene.start("a")
        await trio.sleep(1)
        scene.start("b")
        await trio.sleep(20)
        # As a killed process: it writes nothing any more, the Lease neither.
        first.leases.away = True
        first.paused = True
        began = trio.current_time()
        await trio.sleep(7)
        assert scene.active == ["b"]
        assert scene.history[-1][0] - began < 7

    await play(body)


async def test_who_cant_reach_the_api_server_stops_before_another_begins_and_waits_again(
    autojump_clock: MockClock,
) -> None:
    async def body(scene: Scene) -> None:
        first = scene.start("a")
        await trio.sleep(1)
        second = scene.start("b")
        await trio.sleep(20)
        first.leases.away = True
        await trio.sleep(20)
        assert scene.active == ["b"]
        stopped = next(at for at, what in scene.history if what == "-a")
        began = next(at for at, what in scene.history if what == "+b")
        assert stopped < began
        first.leases.away = False
        second.leases.away = True
        await trio.sleep(20)
        assert scene.active == ["a"]

    await play(body)


async def test_a_process_that_stood_still_writes_nothing_when_it_goes_on(autojump_clock: MockClock) -> None:
    async def body(scene: Scene) -> None:
        first = scene.start("a")
        await trio.sleep(6)
        # Its own clocks went on; it notices nothing until it looks.
        ahead = 100.0
        first.fence.now = lambda: Moment(trio.current_time() + ahead, trio.current_time())
        before = len(first.wrote)
        assert before
        await trio.sleep(1)
        assert len(first.wrote) == before

    await play(body)


async def test_a_wall_clock_that_is_set_forward_takes_nothing_from_who_has_the_lease(autojump_clock: MockClock) -> None:
    async def body(scene: Scene) -> None:
        scene.start("a")
        await trio.sleep(1)
        second = scene.start("b")
        await trio.sleep(10)
        # An hour further with each look.
        second.fence.now = lambda: Moment(trio.current_time(), trio.current_time() * 7_200)
        await trio.sleep(20)
        assert [what for _, what in scene.history] == ["+a"]

    await play(body)


async def test_a_slow_answer_is_counted_from_when_it_came(autojump_clock: MockClock) -> None:
    """A question that was asked before a renewal, and answered after it, says nothing of the time before."""

    class Slow(FakeLeases):
        async def get(self, namespace: str, name: str) -> Any:
            await trio.sleep(4.9)
            return await super().get(namespace, name)

    async def body(scene: Scene) -> None:
        first = scene.start("a")
        await trio.sleep(1)
        second = Miwen("b", Slow(scene.kubernetes.cluster), scene.history)
        scene.miwens.append(second)
        scene.nursery.start_soon(second.run)
        await trio.sleep(30.3)
        first.leases.away = True
        await trio.sleep(60)
        assert scene.active == ["b"]

    await play(body)


async def test_a_lease_is_given_up_though_its_last_renewal_was_cut_off(autojump_clock: MockClock) -> None:
    class CutOff(FakeLeases):
        cut = False

        async def write(self, namespace: str, name: str, lease: Any, spec: Any) -> Any:
            written = await super().write(namespace, name, lease, spec)
            if self.cut and spec["holderIdentity"]:
                await trio.sleep(30)  # it is written, and nobody hears of it
            return written

    async def body(scene: Scene) -> None:
        first = Miwen("a", CutOff(scene.kubernetes.cluster), scene.history)
        scene.miwens.append(first)
        scene.nursery.start_soon(first.run)
        await trio.sleep(1)
        scene.start("b")
        await trio.sleep(10)
        first.leases.cut = True  # type: ignore[attr-defined]
        await trio.sleep(1.3)
        first.scope.cancel()
        await trio.sleep(1.2)
        assert scene.active == ["b"]

    await play(body)


@pytest.mark.parametrize("clock", ["boot", "wall"])
def test_the_faster_of_two_clocks_counts(clock: str) -> None:
    times = [Moment(0.0, 1_000.0)]
    fence = Fence(lambda: times[-1])
    assert fence.left_seconds() == float("inf")
    fence.bound(times[0], 4)
    assert fence.left_seconds() == 4
    times.append(Moment(3.0, 1_001.0) if clock == "boot" else Moment(1.0, 1_003.0))
    assert fence.left_seconds() == 1
    times.append(Moment(5.0, 900.0))
    assert fence.left_seconds() == 0


async def test_a_lease_that_another_only_labelled_is_kept(autojump_clock: MockClock) -> None:
    async def body(scene: Scene) -> None:
        scene.start("a")
        await trio.sleep(6)
        for _ in range(10):
            key = ("coordination.k8s.io/v1", "Lease", *PLACE)
            live = scene.kubernetes.cluster.objects[key]
            labels = {"labels": {"n": str(trio.current_time())}}
            scene.kubernetes.cluster.put({**live, "metadata": {**live["metadata"], **labels}})
            await trio.sleep(3)
        assert scene.active == ["a"]
        assert len(scene.history) == 1

    await play(body)


async def test_a_lease_that_was_taken_away_is_not_written_over(autojump_clock: MockClock) -> None:
    async def body(scene: Scene) -> None:
        scene.start("a")
        await trio.sleep(6)
        key = ("coordination.k8s.io/v1", "Lease", *PLACE)
        live = scene.kubernetes.cluster.objects[key]
        taken = LeaseRecord("somebody", 15, as_text(wall()), as_text(wall()), 7)
        scene.kubernetes.cluster.put({**live, "spec": taken.spec()})
        await trio.sleep(10)
        assert scene.active == []
        assert LeaseRecord.read(scene.kubernetes.cluster.objects[key]) == taken
        await trio.sleep(10)
        assert scene.active == ["a"], "it ran out"
        assert LeaseRecord.read(scene.kubernetes.cluster.objects[key]).transitions == 8

    await play(body)


async def test_work_that_fails_ends_the_process_and_gives_the_lease_up(autojump_clock: MockClock) -> None:
    kubernetes = FakeKubernetes()
    kubernetes.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE[0]}})

    async def work() -> None:
        raise LookupError("mine")

    elector = Elector(FakeLeases(kubernetes.cluster), PLACE, "a", Fence(moment), wall)
    with pytest.raises(ExceptionGroup):
        await elector.lead(work)
    lease = kubernetes.cluster.objects["coordination.k8s.io/v1", "Lease", *PLACE]
    assert LeaseRecord.read(lease).holder == ""


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.none() | st.integers() | st.text() | st.lists(st.integers())
            for name in ("holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaseTransitions")
        },
    )
)
def test_whatever_somebody_writes_into_a_lease_is_read(spec: dict[str, Any]) -> None:
    record = LeaseRecord.read({"spec": spec})
    assert record.duration_seconds >= 0
    assert LeaseRecord.read({"spec": record.spec()}).holder == record.holder


async def test_it_waits_while_the_lease_cant_be_read(autojump_clock: MockClock) -> None:
    class Forbidden(FakeLeases):
        forbidden = True

        async def get(self, namespace: str, name: str) -> Any:
            if self.forbidden:
                raise JiemiError("LeaseForbidden", "no right")
            return await super().get(namespace, name)

    kubernetes = FakeKubernetes()
    kubernetes.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE[0]}})
    leases = Forbidden(kubernetes.cluster)
    miwen = Miwen("a", leases, [])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(miwen.run)
        await trio.sleep(30)
        assert miwen.history == []
        leases.forbidden = False
        await trio.sleep(6)
        assert [what for _, what in miwen.history] == ["+a"]
        nursery.cancel_scope.cancel()
