"""A Krapao that is connected and does not answer is left, and one that only takes its time is not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio
from fakes.krapao import FakeKrapao
from rpc.rpc_helpers import SOURCE, URL, Proxy, Running, until
from rpc.test_krapaos import NOBODY, QUICK, Watched
from trio.testing import MockClock

from jiemi.core.errors import JiemiError
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.capability import PeerLostError, PeerTooOldError
from jiemi.rpc.client_connection import Connection
from jiemi.rpc.client_pulse import Pulse, end_when_silent
from jiemi.rpc.krapaos import Krapaos, Peer, connect_all

PULSE = Pulse(every_seconds=0.05, wait_seconds=0.05, waits=5)
SETTINGS = attrs.evolve(QUICK, pulse=PULSE, connect_timeout_seconds=0.3, wait_for_connection_seconds=2)


@attrs.define
class Silenced:
    """Krapaos that are reached through proxies, which may go silent."""

    fakes: list[FakeKrapao]
    proxies: list[Proxy]
    krapaos: Krapaos

    def serving(self) -> int:
        """The number of the one at which a repository is open."""
        [found] = [number for number, fake in enumerate(self.fakes) if fake.opened]
        return found


@contextlib.asynccontextmanager
async def silenced(directory: Path, count: int = 2) -> AsyncIterator[Silenced]:
    fakes = [FakeKrapao()]
    fakes += [FakeKrapao(fakes[0].origins) for _ in range(count - 1)]
    fakes[0].add_origin(URL).commit({"f.yaml": []})
    proxies, peers = [], []
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        for number, fake in enumerate(fakes):
            target, path = (str(directory / f"{number}{end}") for end in ("", "p"))
            await Running(fake, UnixAddress(target), bridge, nursery).start()
            proxies.append(Proxy(target))
            await nursery.start(proxies[-1].run, path)
            peers.append(Peer(f"repository-{number}", UnixAddress(path)))
        async with connect_all(peers, bridge=bridge, settings=SETTINGS) as krapaos:
            yield Silenced(fakes, proxies, krapaos)
        nursery.cancel_scope.cancel()


async def test_calls_and_watches_leave_one_that_is_silent_for_the_next(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with silenced(tmp_path) as it, it.krapaos.open(SOURCE, NOBODY) as repository:
            await repository.head(max_age_seconds=0)
            hung = it.serving()
            other = 1 - hung
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Watched().of, it.krapaos)
                await until(lambda: it.fakes[hung].watching == 1)
                it.proxies[hung].hold()
                with trio.fail_after(5):  # far below the deadline of the call, which is a minute
                    await repository.head(max_age_seconds=0)
                await until(lambda: it.fakes[other].watching == 1)
                assert it.krapaos.shares() == {f"repository-{hung}": None, f"repository-{other}": 2}
                it.proxies[hung].let_go()
                await until(lambda: it.fakes[hung].watching == 1 and it.fakes[other].watching == 0, "going back")
                nursery.cancel_scope.cancel()
    [message] = [line["message"] for line in logs if line["event"] == "krapao_lost"]
    assert "it did not answer for 0.25 s" in message
    assert [line["krapao"] for line in logs if line["event"] == "krapao_is_back"] == [f"repository-{hung}"]


async def test_where_there_is_no_other_the_call_says_that_it_did_not_answer(tmp_path: Path) -> None:
    async with silenced(tmp_path, 1) as it, it.krapaos.open(SOURCE, NOBODY) as repository:
        await repository.head(max_age_seconds=0)
        it.proxies[0].hold()
        with trio.fail_after(5), pytest.raises(JiemiError, match=r"^KrapaoUnavailable: .*it did not answer for 0.25 s"):
            await repository.head(max_age_seconds=0)
        it.proxies[0].let_go()
        await repository.head(max_age_seconds=0)


async def test_a_call_that_takes_long_stays_where_it_is(tmp_path: Path) -> None:
    async with silenced(tmp_path) as it, it.krapaos.open(SOURCE, NOBODY) as repository:
        await repository.head(max_age_seconds=0)
        at = it.serving()
        gate = it.fakes[at].gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: repository.head(max_age_seconds=0))
            await until(lambda: it.fakes[at].running == 1)
            await trio.sleep(4 * PULSE.silence_seconds)
            assert it.fakes[at].running == 1, "it has been asked whether it is there meanwhile, and has answered"
            gate.set()


@attrs.define
class Session:
    """A session whose answers to the question whether it is there are what a test wants."""

    asked: list[float] = attrs.field(factory=list)
    answer: Exception | None = None
    silent: bool = False

    async def call(self, method: str, *_: Any) -> None:
        assert method == "ping"
        self.asked.append(trio.current_time())
        if self.silent:
            await trio.sleep_forever()
        if self.answer is not None:
            raise self.answer


def connection(session: Session) -> Connection:
    made = Connection(session, object(), UnixAddress("/somewhere"), lambda _: None)  # type: ignore[arg-type]
    made.repositories = 1
    return made


async def run_for(seconds: float, made: Connection, *, heard: Any = lambda: 0) -> None:
    with trio.move_on_after(seconds):
        await end_when_silent(made, heard, Pulse())


@pytest.mark.parametrize("answer", [None, PeerTooOldError("the peer does not know the method")])
async def test_an_answer_of_any_kind_keeps_it(autojump_clock: MockClock, answer: Exception | None) -> None:
    session = Session(answer=answer)
    made = connection(session)
    await run_for(61, made)
    assert not made.ended
    assert len(session.asked) == 12


async def test_one_that_is_silent_is_left_after_ten_seconds(autojump_clock: MockClock) -> None:
    made = connection(Session(silent=True))
    began = trio.current_time()
    await run_for(61, made)
    assert made.ended
    assert trio.current_time() - began == 15
    with pytest.raises(PeerLostError, match="ended during the call: it did not answer for 10 s"), made.scope():
        await trio.sleep(1)


async def test_where_nothing_is_open_nothing_is_asked(autojump_clock: MockClock) -> None:
    session = Session(silent=True)
    made = connection(session)
    made.repositories = 0
    await run_for(61, made)
    assert (made.ended, session.asked) == (False, [])


async def test_an_answer_behind_others_that_come_slowly_is_waited_for(autojump_clock: MockClock) -> None:
    made = connection(Session(silent=True))
    began = trio.current_time()
    await run_for(600, made, heard=lambda: int(min(trio.current_time() - began, 300)))
    assert made.ended
    assert 310 <= trio.current_time() - began <= 315


async def test_a_process_that_stood_still_itself_takes_nobody_for_silent(autojump_clock: MockClock) -> None:
    class Slow(Session):
        async def call(self, method: str, *_: Any) -> None:
            await super().call(method)
            await trio.sleep(3)  # what has come is read when this process goes on

    session = Slow()
    made = connection(session)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, 200, made)
        await until(lambda: len(session.asked) == 1)
        autojump_clock.jump(100)
        await trio.sleep(1)
        assert not made.ended
        nursery.cancel_scope.cancel()
