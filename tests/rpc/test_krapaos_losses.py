"""Several Krapaos as one, where things go wrong together: what is lost twice, taken away, or known by one and not by
another."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import structlog
import trio
from fakes.krapao import FakeKrapao
from rpc.rpc_helpers import QUICK, URL, Running, until
from rpc.test_krapaos import IMPATIENT, NOBODY, SOURCE, Watched, fleet, works

from jiemi.core.errors import JiemiError
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.capability import PeerLostError
from jiemi.rpc.contract import Head
from jiemi.rpc.krapaos import Peer, connect_all


async def test_what_ends_each_krapao_is_not_carried_to_all_of_them_by_a_watch_that_moves(tmp_path: Path) -> None:
    async with fleet(tmp_path) as it:
        it.commit()
        first, second, third = it.order()
        watched, ended = Watched(), trio.Event()
        for fake in it.fakes:
            fake.gate = trio.Event()

        async def watch() -> None:
            with pytest.raises(
                JiemiError, match=r"KrapaoUnavailable: the connection to Krapao at unix:\S+ ended during the call"
            ):
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


async def test_one_that_is_taken_away_is_not_called_lost(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with fleet(tmp_path) as it, it.krapaos.open(SOURCE, NOBODY) as repository:
            it.commit()
            assert await works(repository)
            first = it.order()[0]
            it.krapaos.set_peers([peer for number, peer in enumerate(it.peers()) if number != first])
            await until(lambda: it.opened[first] == 0)
            assert await works(repository)
    assert not [line for line in logs if line["event"] == "krapao_lost"]


async def test_the_end_of_the_client_is_no_loss(tmp_path: Path) -> None:
    fake = FakeKrapao()
    fake.add_origin(URL).commit({"f.yaml": []})
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        server = Running(fake, UnixAddress(str(tmp_path / "there.sock")), bridge, nursery)
        await server.start()
        with structlog.testing.capture_logs() as logs:
            async with trio.open_nursery() as client:

                async def use() -> None:
                    async with (
                        connect_all([Peer("a", server.address)], bridge=bridge, settings=QUICK) as krapaos,
                        krapaos.open(SOURCE, NOBODY) as repository,
                        trio.open_nursery() as watches,
                    ):
                        watches.start_soon(repository.watch, lambda _: None)
                        await works(repository)

                client.start_soon(use)
                await until(lambda: fake.watching == 1)
                client.cancel_scope.cancel()
            await until(lambda: fake.opened == 0)
        assert not [line for line in logs if line["event"] == "krapao_lost"]
        nursery.cancel_scope.cancel()


async def test_the_log_says_why_one_was_lost(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with fleet(tmp_path) as it, trio.open_nursery() as nursery:
            it.commit()
            first = it.order()[0]
            nursery.start_soon(Watched().of, it.krapaos)
            await until(lambda: it.watching[first] == 1)
            await it.servers[first].stop()
            await until(lambda: it.watching[first] == 0 and sum(it.watching) == 1)
            nursery.cancel_scope.cancel()
    [message] = [line["message"] for line in logs if line["event"] == "krapao_lost"]
    assert message.startswith(f"no connection to Krapao at {it.servers[first].address}: the connection ended")


async def test_a_repository_that_moves_is_not_told_what_the_other_knew_before(tmp_path: Path) -> None:
    async with fleet(tmp_path, 2) as it, it.krapaos.open(SOURCE, NOBODY) as other:
        first, second = it.order()
        older = it.commit()
        # Another Decryptor has it open at the second one, which keeps what it knows for as long.
        it.krapaos.set_peers([attrs.evolve(peer, ready=number != first) for number, peer in enumerate(it.peers())])
        assert await other.head(max_age_seconds=600) == Head(older, "HEAD")
        assert it.asked[second] == 1
        it.krapaos.set_peers(it.peers())
        async with it.krapaos.open(SOURCE, NOBODY) as repository:
            newer = it.commit()
            assert await repository.head(max_age_seconds=600) == Head(newer, "HEAD")
            assert it.asked[first] == 1
            await it.servers[first].stop()
            assert await repository.head(max_age_seconds=600) == Head(newer, "HEAD")
            assert it.asked[second] == 2


async def test_when_all_are_lost_the_message_says_once_what_to_do(tmp_path: Path) -> None:
    async with fleet(tmp_path, settings=IMPATIENT) as it, it.krapaos.open(SOURCE, NOBODY) as repository:
        for server in it.servers:
            await server.stop()
        with pytest.raises(JiemiError) as caught:
            await repository.head(max_age_seconds=0)
        text = caught.value.failure.text
        assert all(str(server.address) in text for server in it.servers)
        assert text.count("Miwen reconnects by itself") == 1
        assert ".;" not in text


async def test_the_log_says_why_one_was_lost_also_where_a_call_finds_that_out(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with fleet(tmp_path) as it, it.krapaos.open(SOURCE, NOBODY) as repository:
            it.commit()
            assert await works(repository)
            first = it.order()[0]
            connection = it.krapaos._members[f"repository-{first}"].client.connection
            assert connection is not None
            with pytest.raises(PeerLostError), connection.scope():
                raise PeerLostError
    [message] = [line["message"] for line in logs if line["event"] == "krapao_lost"]
    assert message.startswith(f"no connection to Krapao at {it.servers[first].address}: the connection ended")
