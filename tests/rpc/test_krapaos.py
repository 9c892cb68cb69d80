"""Several Krapaos as one: which is asked, what becomes of a lost one's repositories, and when it gets them back."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio
from fakes.krapao import FakeKrapao
from rpc.rpc_helpers import DEADLINE_SECONDS, Running, until

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.rendezvous import ranking
from jiemi.rpc.address import TcpAddress, UnixAddress
from jiemi.rpc.bridge import Bridge, open_bridge
from jiemi.rpc.client import ClientSettings
from jiemi.rpc.contract import Head, Krapao, Repository
from jiemi.rpc.krapaos import Krapaos, Peer, connect_all, key_of
from jiemi.rpc.server import Limits
from jiemi.rpc.source import GitCredentials, Source

URL = "https://git.example/app.git"
SOURCE = Source(URL)
NOBODY = GitCredentials()
QUICK = ClientSettings(
    wait_for_connection_seconds=DEADLINE_SECONDS, backoff_first_seconds=0.01, backoff_most_seconds=0.05
)
IMPATIENT = attrs.evolve(QUICK, wait_for_connection_seconds=0.3)


async def works(repository: Repository) -> bool:
    with trio.fail_after(DEADLINE_SECONDS):
        return bool((await repository.head(max_age_seconds=0)).revision)


async def once(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it holds, and fail where it does not in time."""
    with trio.fail_after(DEADLINE_SECONDS):
        while not await condition():  # noqa: ASYNC110  each time is a question
            await trio.sleep(0.01)


@attrs.define
class Fleet:
    """Servers with one fake each, which know the same hosts, and a client of all of them."""

    fakes: list[FakeKrapao]
    servers: list[Running]
    krapaos: Krapaos

    def order(self, source: Source = SOURCE) -> list[int]:
        """The numbers of the servers, as they are ranked for a repository."""
        names = [f"repository-{number}" for number in range(len(self.servers))]
        return [names.index(name) for name in ranking(key_of(source), names)]

    def peers(self, count: int | None = None) -> list[Peer]:
        return [Peer(f"repository-{number}", server.address) for number, server in enumerate(self.servers[:count])]

    def commit(self, url: str = URL) -> str:
        return self.fakes[0].add_origin(url).commit({"f.yaml": []})

    @property
    def asked(self) -> list[int]:
        """How many calls each got."""
        return [len(fake.calls) for fake in self.fakes]

    @property
    def watching(self) -> list[int]:
        return [fake.watching for fake in self.fakes]

    @property
    def opened(self) -> list[int]:
        return [fake.opened for fake in self.fakes]


def connected(krapaos: Krapaos) -> dict[str, bool]:
    """Each Krapao, and whether there is a connection to it."""
    return {name: member.client.connection is not None for name, member in krapaos._members.items()}


@contextlib.asynccontextmanager
async def fleet(
    directory: Path,
    count: int = 3,
    *,
    known: int | None = None,
    settings: ClientSettings = QUICK,
    limits: Limits | None = None,
) -> AsyncIterator[Fleet]:
    """A fleet.

    Args:
        count: how many servers run.
        known: how many of them the client knows of at first; all by default.
    """
    fakes = [FakeKrapao()]
    fakes += [FakeKrapao(fakes[0].origins) for _ in range(count - 1)]
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        servers = []
        for number, fake in enumerate(fakes):
            where = UnixAddress(str(directory / f"{number}.sock"))
            servers.append(Running(fake, where, bridge, nursery, limits))
            await servers[-1].start()
        peers = [Peer(f"repository-{number}", server.address) for number, server in enumerate(servers[:known])]
        async with connect_all(peers, bridge=bridge, settings=settings) as krapaos:
            yield Fleet(fakes, servers, krapaos)
        for fake in fakes:
            await until(lambda fake=fake: not (fake.running or fake.watching or fake.opened), "the end of all calls")  # type: ignore[misc]
        nursery.cancel_scope.cancel()


class Watched:
    """What a watch was notified of."""

    def __init__(self) -> None:
        self.heads: list[str] = []

    async def of(self, krapao: Krapao, source: Source = SOURCE) -> None:
        async with krapao.open(source, NOBODY) as repository:
            await repository.watch(lambda head: self.heads.append(head.revision))


async def test_every_decryptor_of_a_repository_asks_the_same_one_however_it_spells_the_url(tmp_path: Path) -> None:
    async with fleet(tmp_path) as it:
        spellings = [
            URL,
            "https://GIT.example/./app.git",
            "https://git.example:443//app.git/",
            "https://git.example./app.git",
        ]
        for url in spellings:
            it.fakes[0].origins[url] = it.fakes[0].add_origin(URL)
        revision = it.commit()
        for url in spellings:
            for tenant in ("a", "b"):
                async with it.krapaos.open(Source(url), NOBODY, tenant) as repository:
                    assert await repository.head(max_age_seconds=0) == Head(revision, "HEAD")
        first = it.order()[0]
        assert it.asked[first] == len(spellings) * 2
        assert sum(it.asked) == it.asked[first]


async def test_repositories_are_spread_over_all(tmp_path: Path) -> None:
    async with fleet(tmp_path) as it:
        for number in range(60):
            url = f"https://git.example/{number}.git"
            it.commit(url)
            async with it.krapaos.open(Source(url), NOBODY) as repository:
                await repository.head(max_age_seconds=0)
        assert sum(it.asked) == 60
        assert all(each > 10 for each in it.asked), it.asked


async def test_what_nothing_can_be_made_of_gets_its_error_from_one_of_them(tmp_path: Path) -> None:
    async with fleet(tmp_path) as it, it.krapaos.open(Source("no url"), NOBODY) as repository:
        with pytest.raises(JiemiError, match="RepositoryNotFound"):
            await repository.head(max_age_seconds=0)


async def test_a_call_under_way_is_answered_by_the_next_one_when_its_krapao_is_lost(tmp_path: Path) -> None:
    async with fleet(tmp_path) as it, it.krapaos.open(SOURCE, NOBODY) as repository:
        revision = it.commit()
        first, second, third = it.order()
        it.fakes[first].gate = trio.Event()
        heads: list[Head] = []

        async def ask() -> None:
            heads.append(await repository.head(max_age_seconds=0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until(lambda: it.fakes[first].running == 1)
            await it.servers[first].stop()
        assert heads == [Head(revision, "HEAD")]
        assert (it.asked[second], it.asked[third]) == (1, 0)


async def test_the_repositories_of_a_lost_one_go_to_the_next_and_no_other_moves(tmp_path: Path) -> None:
    async with fleet(tmp_path) as it, contextlib.AsyncExitStack() as stack:
        sources = [Source(f"https://git.example/{number}.git") for number in range(30)]
        opened = []
        for source in sources:
            it.commit(source.url)
            repository = await stack.enter_async_context(it.krapaos.open(source, NOBODY))
            await repository.head(max_age_seconds=0)
            opened.append(repository)
        before = it.asked
        lost = 1
        await it.servers[lost].stop()
        for repository in opened:
            await repository.head(max_age_seconds=0)
        # Each was asked once more: those of the lost one by the next in their ranking, all others where they were.
        expected = list(before)
        for source in sources:
            order = it.order(source)
            expected[order[0] if order[0] != lost else order[1]] += 1
        assert it.asked == expected
        assert before[lost] > 0


async def test_a_watch_moves_with_the_calls_and_learns_what_happened_meanwhile(tmp_path: Path) -> None:
    async with fleet(tmp_path) as it, trio.open_nursery() as nursery:
        it.commit()
        first, second, _ = it.order()
        watched = Watched()
        nursery.start_soon(watched.of, it.krapaos)
        await until(lambda: it.watching[first] == 1)
        # No Krapao has been asked since, so only the one that the watch moves to can find out.
        revision = it.commit()
        await it.servers[first].stop()
        await until(lambda: it.watching[second] == 1)
        await until(lambda: revision in watched.heads)
        async with it.krapaos.open(SOURCE, NOBODY) as repository:
            newest = it.commit()
            await repository.head(max_age_seconds=0)
            await until(lambda: newest in watched.heads)
        nursery.cancel_scope.cancel()


async def test_one_that_is_back_gets_its_repositories_back_and_the_other_closes_them(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with fleet(tmp_path) as it, trio.open_nursery() as nursery:
            it.commit()
            first, second, _ = it.order()
            watched = Watched()
            nursery.start_soon(watched.of, it.krapaos)
            await until(lambda: it.watching[first] == 1)
            await it.servers[first].stop()
            await until(lambda: it.watching[second] == 1)
            it.fakes[first].forget()
            await it.servers[first].start()
            await until(lambda: it.watching[first] == 1, "the return of the watch")
            await until(lambda: (it.watching[second], it.opened[second]) == (0, 0), "the end of it at the other")
            async with it.krapaos.open(SOURCE, NOBODY) as repository:
                newest = it.commit()
                before = it.asked
                await repository.head(max_age_seconds=0)
                assert it.asked[first] == before[first] + 1
            await until(lambda: newest in watched.heads)
            nursery.cancel_scope.cancel()
    events = [line["event"] for line in logs if line["event"].startswith("krapao_")]
    assert events == ["krapao_lost", "krapao_is_back"]


async def test_a_call_that_ends_each_krapao_which_takes_it_reaches_two_of_them_only(tmp_path: Path) -> None:
    async with fleet(tmp_path) as it, it.krapaos.open(SOURCE, NOBODY) as repository:
        it.commit()
        first, second, third = it.order()
        for fake in it.fakes:
            fake.gate = trio.Event()

        async def poisonous() -> None:
            with pytest.raises(
                JiemiError, match=rf"the connection to Krapao at {it.servers[second].address} ended during"
            ):
                await repository.head(max_age_seconds=0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poisonous)
            for number in (first, second):
                await until(lambda number=number: it.fakes[number].running == 1)  # type: ignore[misc]
                await it.servers[number].stop()
        assert it.asked[third] == 0


async def test_when_all_are_lost_the_message_names_them_and_calls_work_once_one_is_back(tmp_path: Path) -> None:
    async with fleet(tmp_path, settings=IMPATIENT) as it, it.krapaos.open(SOURCE, NOBODY) as repository:
        it.commit()
        assert await works(repository)
        for server in it.servers:
            await server.stop()
        with pytest.raises(JiemiError) as caught:
            await repository.head(max_age_seconds=0)
        assert caught.value.failure.reason == "KrapaoUnavailable"
        for server in it.servers:
            assert f"no connection to Krapao at {server.address}: No such file" in caught.value.failure.text
        last = it.order()[-1]
        await it.servers[last].start()

        async def is_back() -> bool:
            with contextlib.suppress(JiemiError):
                return await works(repository)
            return False

        await once(is_back)


async def test_a_fourth_one_gets_its_share_with_the_watches_and_gives_it_back(tmp_path: Path) -> None:
    async with fleet(tmp_path, 4, known=3) as it, trio.open_nursery() as nursery:
        sources = [Source(f"https://git.example/{number}.git") for number in range(40)]
        for source in sources:
            it.commit(source.url)
            nursery.start_soon(Watched().of, it.krapaos, source)
        await until(lambda: sum(it.watching) == 40)
        before = it.watching
        assert before[3] == 0
        it.krapaos.set_peers(it.peers())
        share = sum(it.order(source)[0] == 3 for source in sources)
        assert 4 <= share <= 16
        await until(lambda: it.watching[3] == share and sum(it.watching) == 40, "the move to the fourth")
        expected = [sum(it.order(source)[0] == number for source in sources) for number in range(4)]
        assert it.watching == expected, "nothing else moved"
        it.krapaos.set_peers(it.peers(3))
        await until(lambda: it.watching == before, "the way back")
        nursery.cancel_scope.cancel()


async def test_one_that_has_another_address_keeps_its_repositories(tmp_path: Path) -> None:
    async with fleet(tmp_path, 3, known=2) as it, it.krapaos.open(SOURCE, NOBODY) as repository:
        it.commit()
        peers = it.peers(2)
        first = ranking(key_of(SOURCE), [peer.name for peer in peers])[0]
        assert await works(repository)
        # Its Pod was made again: the third server is where it is now.
        it.krapaos.set_peers(
            [attrs.evolve(peer, address=it.servers[2].address) if peer.name == first else peer for peer in peers]
        )

        async def is_there() -> bool:
            await works(repository)
            return it.asked[2] > 0

        await once(is_there)


async def test_one_that_is_about_to_end_gets_nothing_new_while_others_are_ready(tmp_path: Path) -> None:
    async with fleet(tmp_path) as it, trio.open_nursery() as nursery:
        it.commit()
        first, second, _ = it.order()
        watched = Watched()
        nursery.start_soon(watched.of, it.krapaos)
        await until(lambda: it.watching[first] == 1)
        leaving = [attrs.evolve(peer, ready=number != first) for number, peer in enumerate(it.peers())]
        it.krapaos.set_peers(leaving)
        await until(lambda: (it.watching[first], it.watching[second]) == (0, 1), "the move of the watch")
        await until(lambda: it.asked[second] == 1, "its question for what it may have missed")
        assert connected(it.krapaos)[f"repository-{first}"], "calls that are under way there go on"
        async with it.krapaos.open(SOURCE, NOBODY) as repository:
            before = it.asked
            assert await works(repository)
            assert (it.asked[first], it.asked[second]) == (before[first], before[second] + 1)
        it.krapaos.set_peers([attrs.evolve(peer, ready=False) for peer in it.peers()])
        async with it.krapaos.open(SOURCE, NOBODY) as repository:
            assert await works(repository), "better one that is not ready than none"
        nursery.cancel_scope.cancel()


async def test_a_first_one_that_is_silent_is_passed_over_after_a_moment(tmp_path: Path) -> None:
    fake = FakeKrapao()
    fake.add_origin(URL).commit({"f.yaml": []})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = TcpAddress("127.0.0.1", silent.getsockname()[1])
        async with open_bridge() as bridge, trio.open_nursery() as nursery:
            server = Running(fake, UnixAddress(str(tmp_path / "there.sock")), bridge, nursery)
            await server.start()
            names = ranking(key_of(SOURCE), ["a", "b"])
            peers = [Peer(names[0], nobody), Peer(names[1], server.address)]
            async with (
                connect_all(peers, bridge=bridge) as krapaos,
                krapaos.open(SOURCE, NOBODY) as repository,
            ):
                with trio.fail_after(DEADLINE_SECONDS):
                    assert await works(repository)
                assert connected(krapaos) == {names[0]: False, names[1]: True}
                assert dict(krapaos.shares()) == {names[0]: 0, names[1]: 1}
            nursery.cancel_scope.cancel()


async def test_one_that_refuses_the_session_is_passed_over_and_all_that_do_are_an_error_at_once(
    tmp_path: Path, bridge: Bridge
) -> None:
    async def refuses() -> Any:
        raise JiemiError("KrapaoAccessDenied", "the secret can't be read")

    where = [UnixAddress(str(tmp_path / f"{number}.sock")) for number in range(2)]
    async with trio.open_nursery() as nursery:
        for each in where:
            await Running(FakeKrapao(), each, bridge, nursery).start()
        peers = [Peer(str(number), each) for number, each in enumerate(where)]
        async with (
            connect_all(peers, bridge=bridge, settings=QUICK, secret=refuses) as krapaos,
            krapaos.open(SOURCE, NOBODY) as repository,
        ):
            with trio.fail_after(DEADLINE_SECONDS / 2), pytest.raises(JiemiError, match="KrapaoAccessDenied"):
                await repository.head(max_age_seconds=0)
        nursery.cancel_scope.cancel()


async def test_calls_wait_until_it_is_known_which_there_are_and_fail_with_what_keeps_it_from_being_known(
    tmp_path: Path, bridge: Bridge
) -> None:
    fake = FakeKrapao()
    fake.add_origin(URL).commit({"f.yaml": []})
    async with trio.open_nursery() as nursery:
        server = Running(fake, UnixAddress(str(tmp_path / "there.sock")), bridge, nursery)
        await server.start()
        async with (
            connect_all(None, bridge=bridge, settings=IMPATIENT) as krapaos,
            krapaos.open(SOURCE, NOBODY) as repository,
        ):
            with pytest.raises(JiemiError, match="KrapaoUnavailable: it is not known yet"):
                await repository.head(max_age_seconds=0)
            krapaos.set_unknown(Failure("KrapaoUnavailable", "listing EndpointSlices: not allowed"))
            with pytest.raises(JiemiError, match="listing EndpointSlices: not allowed"):
                await repository.head(max_age_seconds=0)
            krapaos.set_peers([])
            with pytest.raises(JiemiError, match=r"there is no Krapao: .* the Secret `krapao-tls`"):
                await repository.head(max_age_seconds=0)
            async with trio.open_nursery() as calls:
                calls.start_soon(works, repository)
                await trio.testing.wait_all_tasks_blocked()
                krapaos.set_peers([Peer("repository-0", server.address)])
            krapaos.set_unknown(Failure("KrapaoUnavailable", "the watch ended"))
            assert await works(repository), "those that were known stay"
        nursery.cancel_scope.cancel()


async def test_sessions_in_which_nothing_is_open_end_without_a_loss(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with fleet(tmp_path, 2, limits=Limits(idle_seconds=0.2)) as it:
            it.commit()
            for _ in range(3):
                async with it.krapaos.open(SOURCE, NOBODY) as repository:
                    assert await works(repository)
                await until(lambda: not any(connected(it.krapaos).values()), "the end of the idle session")
            first = it.order()[0]
            assert it.asked[1 - first] == 0
    assert not [line for line in logs if line["event"] == "krapao_lost"]


async def test_cancelled_anywhere_it_leaves_nothing_open(tmp_path: Path) -> None:
    async with fleet(tmp_path) as it:
        it.commit()
        for checkpoints in range(1, 40):
            async with trio.open_nursery() as nursery:

                async def use() -> None:
                    async with it.krapaos.open(SOURCE, NOBODY) as repository:
                        await repository.head(max_age_seconds=0)
                        await repository.watch(lambda _: None)

                nursery.start_soon(use)
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                if checkpoints % 7 == 0:
                    it.krapaos.set_peers(it.peers(1 + checkpoints % 3))
                nursery.cancel_scope.cancel()
        # `fleet` checks that the servers have nothing open.


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with open_bridge() as opened:
        yield opened


def test_the_key_of_a_repository_is_that_of_no_other() -> None:
    urls = [URL, "https://git.example/app", "ssh://git.example/app.git", "git@git.example:app.git", "no url"]
    assert len({key_of(Source(url)) for url in urls}) == len(urls)
    assert key_of(Source(URL, branch="a")) == key_of(Source(URL, tag="b"))
