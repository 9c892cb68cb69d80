"""Several Krapaos as one, where things go wrong together: what is lost twice, taken away, or known by one and not by
another."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from rpc.rpc_helpers import until
from rpc.test_krapaos import NOBODY, SOURCE, Watched, fleet

from jiemi.core.errors import JiemiError
from jiemi.rpc.contract import Head


async def test_what_ends_each_krapao_is_not_carried_to_all_of_them_by_a_watch_that_moves(tmp_path: Path) -> None:
    async with fleet(tmp_path) as it:
        it.commit()
        first, second, third = it.order()
        watched, ended = Watched(), trio.Event()
        for fake in it.fakes:
            fake.gate = trio.Event()

        async def watch() -> None:
            with pytest.raises(JiemiError, match="KrapaoUnavailable: the connection to Krapao ended"):
                await watched.of(it.krapaos)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await until(lambda: it.watching[first] == 1)
            await it.servers[first].stop()
            # It asks what it missed, and that is what the next one does not survive.
            await until(lambda: it.fakes[second].running == 1)
            await it.servers[second].stop()
            await until(lambda: ended.is_set() or it.watching[third] > 0 or it.asked[third] > 0)
            assert (it.watching[third], it.asked[third]) == (0, 0)
            nursery.cancel_scope.cancel()
        assert ended.is_set()


async def test_a_watch_moves_to_the_last_one_that_is_left_when_the_others_are_taken_away(tmp_path: Path) -> None:
    async with fleet(tmp_path, 2) as it, trio.open_nursery() as nursery:
        it.commit()
        first, second = it.order()
        nursery.start_soon(Watched().of, it.krapaos)
        await until(lambda: it.watching[first] == 1)
        it.krapaos.set_peers([it.peers()[second]])
        await until(lambda: it.watching == [int(number == second) for number in range(2)])
        nursery.cancel_scope.cancel()


async def test_a_repository_that_moves_is_not_told_what_the_other_knew_before(tmp_path: Path) -> None:
    async with fleet(tmp_path, 2) as it, it.krapaos.open(SOURCE, NOBODY) as other:
        first, second = it.order()
        older = it.commit()
        # Another Decryptor has it open at the second one, which keeps what it knows for as long.
        it.krapaos.set_peers([attrs.evolve(peer, ready=number != first) for number, peer in enumerate(it.peers())])
        assert await other.head(max_age_seconds=600) == Head(older)
        assert it.asked[second] == 1
        it.krapaos.set_peers(it.peers())
        async with it.krapaos.open(SOURCE, NOBODY) as repository:
            newer = it.commit()
            assert await repository.head(max_age_seconds=600) == Head(newer)
            assert it.asked[first] == 1
            await it.servers[first].stop()
            assert await repository.head(max_age_seconds=600) == Head(newer)
            assert it.asked[second] == 2
