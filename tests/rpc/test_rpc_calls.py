"""Calls between a real client and a real server: round trips, errors, cancellation, watches, what they leave behind."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import re
from collections import Counter
from pathlib import Path

import attrs
import capnp
import pytest
import structlog
import trio
from fakes.krapao import RIGHT_KEY, FakeKrapao
from rpc.rpc_helpers import DEADLINE_SECONDS, QUICK, SOURCE, URL, Pair, Proxy, Running, pair, running, until

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.address import Address, TcpAddress, UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import ClientSettings, KrapaoClient, connect
from jiemi.rpc.contract import (
    MAX_DOCUMENTS,
    MAX_FILES,
    MAX_RENDERED_BYTES,
    MEBIBYTE,
    FileEntry,
    Files,
    FilesRequest,
    Head,
    RenderRequest,
    Repository,
)
from jiemi.rpc.keys import AgeKey, PgpKey
from jiemi.rpc.limits import REPOSITORY_BYTES
from jiemi.rpc.server import Limits, serve
from jiemi.rpc.source import GitCredentials, Source

NOBODY = GitCredentials()


def request(revision: str, path: str = "f.yaml") -> RenderRequest:
    return RenderRequest(revision, path, None, (RIGHT_KEY,))


async def test_open_and_head_travel_in_one_round_trip(tmp_path: Path) -> None:
    proxies: list[Proxy] = []

    async def through(server: Running) -> Address:
        assert isinstance(server.address, UnixAddress)
        proxies.append(Proxy(server.address.path))
        path = str(tmp_path / "proxy.sock")
        await server.nursery.start(proxies[0].run, path)
        return UnixAddress(path)

    async with pair(tmp_path, through=through) as it:
        revision = it.origin.commit({"f.yaml": []})
        proxy = proxies[0]
        async with it.client.open(SOURCE, NOBODY) as first:
            await first.head(max_age_seconds=0)  # there is a session now
        proxy.hold()
        heard = proxy.from_server
        async with it.client.open(SOURCE, NOBODY) as repository, trio.open_nursery() as nursery:
            answers: list[Head] = []

            async def head() -> None:
                answers.append(await repository.head(max_age_seconds=0))

            nursery.start_soon(head)
            # The question reaches Krapao although the client has heard nothing about the opening.
            await until(lambda: it.fake.calls.count(("head", URL)) == 2, "the question")
            assert proxy.from_server == heard
            assert not answers
            proxy.let_go()
        assert answers == [Head(revision, "HEAD")]


async def test_credentials_keys_and_paths_arrive_as_they_were_given(tmp_path: Path) -> None:
    texts = ("usér", "t\x00ken", "-----BEGIN\nKEY-----\n", "", *map(str, range(len(attrs.fields(GitCredentials)) - 4)))
    everything = GitCredentials(*map(SensitiveText, texts))
    older = GitCredentials(*map(SensitiveText, texts[:4]))
    async with pair(tmp_path) as it:
        it.origin.keys = (PgpKey(SensitiveText("-----BEGIN PGP-----\nü")),)
        revision = it.origin.commit({"каталог/f.yaml": [{"a": "б"}]})
        async with it.client.open(SOURCE, everything) as repository:
            asked = RenderRequest(revision, "каталог/f.yaml", None, (AgeKey(SensitiveText("x")), *it.origin.keys))
            rendered = await repository.render(asked)
        async with it.client.open(SOURCE, older) as repository:
            assert (await repository.head(max_age_seconds=0)).revision == revision
    assert it.fake.credentials == [everything, older]
    assert [json.loads(document.reveal()) for document in rendered.documents] == [{"a": "б"}]


async def test_patterns_and_the_commit_that_is_pinned_arrive_as_they_were_given(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        revision = it.origin.commit({"каталог/f.yaml": [{"a": "б"}], "каталог/g.yaml": []})
        it.origin.commit({"каталог/f.yaml": []})
        async with it.client.open(Source(URL, commit=revision), NOBODY) as repository:
            assert await repository.head(max_age_seconds=0) == Head(revision)
            asked = FilesRequest(revision, ("каталог/*.yaml", "каталог/f.yaml"), ("g.yaml",))
            files = await repository.files(asked)
    assert it.fake.files_requests == [asked]
    assert files == Files(revision, (it.origin.entry(revision, "каталог/f.yaml"),), direct=True)


async def test_a_krapao_of_an_older_release_is_distinguished_from_a_fault(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "schema" / "krapao.capnp").read_text()
    before, name, after = text.partition("interface Repository {")
    methods, end, rest = after.partition("\n}")
    # Those from `files` on: a number that is left out makes it no schema.
    fewer = re.sub(r"\n  \w+ @(?:[3-9]|\d\d) .*?;\n", "\n", methods, flags=re.DOTALL)
    assert "files @3" not in fewer
    older = before + name + fewer + end + rest
    (tmp_path / "older.capnp").write_text(older)
    fake = FakeKrapao()
    revision = fake.add_origin(URL).commit({"f.yaml": []})
    async with open_bridge() as bridge:
        # A parser of its own: in one, an interface has one form.
        bridge._schema = capnp.SchemaParser().load(str(tmp_path / "older.capnp"))
        async with trio.open_nursery() as nursery:
            address = UnixAddress(str(tmp_path / "older.sock"))
            await nursery.start(lambda **kw: serve(fake, address, bridge=bridge, **kw))
            async with (
                open_bridge() as newer,
                connect(address, bridge=newer) as client,
                client.open(SOURCE, NOBODY) as repository,
            ):
                for _ in range(2):  # the connection outlives it
                    with pytest.raises(JiemiError, match=r"^ProviderNotSupportedYet: Krapao is of an older release"):
                        await repository.files(FilesRequest(revision, ("**",)))
                    with pytest.raises(JiemiError, match=r"^ProviderNotSupportedYet: Krapao is of an older release"):
                        await repository.changes(revision, revision)
                    assert await repository.head(max_age_seconds=0) == Head(revision, "HEAD")
            nursery.cancel_scope.cancel()


class _Faulty(FakeKrapao):
    """Every method fails in a way that it must not."""

    def _head(self, source: Source, max_age_seconds: float) -> Head:
        raise RuntimeError("canary-secret")


@pytest.mark.parametrize("opening", [False, True])
async def test_a_fault_crosses_as_an_internal_error_without_its_text(tmp_path: Path, opening: bool) -> None:
    krapao = _Faulty()
    if opening:
        krapao.open = lambda *_: 1 / 0  # type: ignore[assignment]  # before it is even a context
    with structlog.testing.capture_logs() as logs:
        async with (
            running(tmp_path, krapao) as server,
            connect(server.address, bridge=server.bridge) as client,
            client.open(SOURCE, NOBODY) as repository,
        ):
            for _ in range(3):  # the connection outlives it
                with pytest.raises(JiemiError, match=r"InternalError: .*its log says more beside fault=") as caught:
                    await repository.head(max_age_seconds=0)
    number = caught.value.failure.message.rpartition("=")[2]
    assert any(entry.get("fault") == number for entry in logs)
    # Nothing but the type and the lines of code is told of it, here or in the log.
    everything = repr(caught.value) + repr(logs)
    assert "canary" not in everything
    assert ("ZeroDivisionError at" if opening else "RuntimeError at") in repr(logs)


async def test_errors_keep_their_reason_and_message(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        it.origin.fail = Failure("HostUnreachable", "git.example did not answer within 10 s")
        async with it.client.open(SOURCE, NOBODY) as repository:
            with pytest.raises(JiemiError) as caught:
                await repository.head(max_age_seconds=0)
            assert caught.value.failure == it.origin.fail


async def test_two_hundred_calls_at_once_are_all_answered(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        revision = it.origin.commit({f"{n}.yaml": [{"n": n, "pad": "x" * 20_000}] for n in range(200)})
        answers: dict[int, object] = {}

        async def one(n: int) -> None:
            rendered = await repository.render(request(revision, f"{n}.yaml"))
            answers[n] = json.loads(rendered.documents[0].reveal())["n"]

        it.fake.gate = trio.Event()
        async with it.client.open(SOURCE, NOBODY) as repository, trio.open_nursery() as nursery:
            for n in range(200):
                nursery.start_soon(one, n)
            await until(lambda: it.fake.running == 200, "all of them running at once")
            it.fake.gate.set()
        assert answers == {n: n for n in range(200)}


async def test_cancelling_a_call_ends_its_work_in_krapao_and_no_other(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, it.client.open(SOURCE, NOBODY) as repository:
        revision = it.origin.commit({"f.yaml": []})
        it.fake.gate = trio.Event()
        answers: list[Head] = []

        async def stays() -> None:
            answers.append(await repository.head(max_age_seconds=0))

        async def goes() -> None:
            with scope:
                await repository.head(max_age_seconds=0)

        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stays)
            nursery.start_soon(goes)
            await until(lambda: it.fake.running == 2)
            scope.cancel()
            await until(lambda: it.fake.running == 1, "the end of the work")
            it.fake.gate.set()
        assert answers == [Head(revision, "HEAD")]
        assert scope.cancelled_caught


async def test_cancelling_at_any_moment_leaves_nothing_running(tmp_path: Path) -> None:
    chance = random.Random(1)
    async with pair(tmp_path) as it:
        revision = it.origin.commit({"f.yaml": [{"a": "x" * 5_000}]})

        async def some_calls() -> None:
            with trio.move_on_after(chance.uniform(0, 0.03)):
                async with it.client.open(SOURCE, NOBODY) as repository, trio.open_nursery() as nursery:
                    nursery.start_soon(repository.watch, lambda _: None)
                    for _ in range(3):
                        await repository.head(max_age_seconds=chance.choice([0, 60]))
                        await repository.render(request(revision))
                    nursery.cancel_scope.cancel()

        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(some_calls)
        await until(lambda: it.idle, "the end of all work")
        async with it.client.open(SOURCE, NOBODY) as repository:
            assert (await repository.head(max_age_seconds=0)).revision == revision
        await until(lambda: it.idle)
        # The two ends of the one connection, its bootstrap and its session.
        await until(lambda: len(it.bridge._tasks) == 2 and len(it.bridge.capabilities) <= 2, "the end of the bridge's")


async def test_a_client_that_goes_away_ends_all_its_work(tmp_path: Path) -> None:
    fake = FakeKrapao()
    fake.add_origin(URL).commit({"f.yaml": []})
    fake.gate = trio.Event()
    async with running(tmp_path, fake) as server, trio.open_nursery() as nursery:

        async def client() -> None:
            async with (
                connect(server.address, bridge=server.bridge) as krapao,
                krapao.open(SOURCE, NOBODY) as repository,
                trio.open_nursery() as calls,
            ):
                calls.start_soon(repository.watch, lambda _: None)
                for _ in range(10):
                    calls.start_soon(lambda: repository.head(max_age_seconds=0))

        nursery.start_soon(client)
        await until(lambda: fake.running == 10 and fake.watching == 1 and fake.opened == 1)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await until(lambda: not (fake.running or fake.watching or fake.opened), "the end of its work")


async def test_a_call_that_takes_too_long_is_a_timeout_and_ends_in_krapao(tmp_path: Path) -> None:
    settings = ClientSettings(head_timeout_seconds=0.05, render_timeout_seconds=0.05, files_timeout_seconds=0.05)
    async with pair(tmp_path, settings=settings) as it, it.client.open(SOURCE, NOBODY) as repository:
        it.origin.commit({"f.yaml": []})
        it.fake.gate = trio.Event()
        with pytest.raises(JiemiError, match=r"Timeout: Krapao did not report the newest revision within 0\.05 s"):
            await repository.head(max_age_seconds=0)
        with pytest.raises(JiemiError, match=r"Timeout: Krapao did not decrypt the file within 0\.05 s"):
            await repository.render(request("0" * 40))
        with pytest.raises(JiemiError, match=r"Timeout: Krapao did not say which files match within 0\.05 s"):
            await repository.files(FilesRequest("0" * 40, ("**",)))
        await until(lambda: it.fake.running == 0, "the end of the work")


async def test_a_closed_repository_answers_no_more(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        async with it.client.open(SOURCE, NOBODY) as repository:
            pass
        with pytest.raises(JiemiError, match="after it was closed"):
            await repository.head(max_age_seconds=0)


# Sizes


async def test_a_request_that_is_too_large_is_not_sent_and_hurts_no_one(tmp_path: Path) -> None:
    large = SensitiveText("x" * (5 * MEBIBYTE))
    async with pair(tmp_path) as it, it.client.open(SOURCE, NOBODY) as other:
        revision = it.origin.commit({"f.yaml": []})
        await other.head(max_age_seconds=0)
        connection = it.client.connection
        async with it.client.open(SOURCE, GitCredentials(known_hosts=large)) as repository:
            with pytest.raises(JiemiError, match=r"LimitExceeded: .*openRepository is larger than"):
                await repository.head(max_age_seconds=0)
        with pytest.raises(JiemiError, match=r"LimitExceeded: .*render is larger than"):
            await other.render(RenderRequest(revision, "f.yaml", None, (AgeKey(large),)))
        with pytest.raises(JiemiError, match=r"LimitExceeded: .*files is larger than"):
            await other.files(FilesRequest(revision, (large.reveal(),)))
        assert (await other.head(max_age_seconds=0)).revision == revision
        assert it.client.connection is connection


async def test_the_largest_answer_is_taken_and_a_larger_one_is_a_typed_failure(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, it.client.open(SOURCE, NOBODY) as repository:
        one = "x" * (MAX_RENDERED_BYTES // MAX_DOCUMENTS - 2)  # and two quotes
        revision = it.origin.commit(
            {
                "largest.yaml": [one] * MAX_DOCUMENTS,
                "larger.yaml": ["x" * (9 * MEBIBYTE)],
                "more.yaml": [None] * (MAX_DOCUMENTS + 1),
            }
        )
        rendered = await repository.render(request(revision, "largest.yaml"))
        assert len(rendered.documents) == MAX_DOCUMENTS
        connection = it.client.connection
        for path in ("larger.yaml", "more.yaml"):
            with pytest.raises(JiemiError, match=f"LimitExceeded: {path} decrypts to more than"):
                await repository.render(request(revision, path))
        assert it.client.connection is connection


class _ManyFiles(FakeKrapao):
    """Tells of as many files as it is asked for, each with the longest path."""

    def _files(self, source: Source, request: FilesRequest) -> Files:
        count = int(request.patterns[0])
        path = "x" * 4_090
        return Files(request.revision, tuple(FileEntry(f"{path}{n:05}", "a" * 64, "b" * 64) for n in range(count)))


async def test_the_largest_number_of_files_is_taken_and_a_larger_one_is_a_typed_failure(tmp_path: Path) -> None:
    krapao = _ManyFiles()
    async with (
        running(tmp_path, krapao, limits=Limits(bytes_in_flight=6 * MEBIBYTE)) as server,
        connect(server.address, bridge=server.bridge) as client,
        client.open(SOURCE, NOBODY) as repository,
    ):
        with trio.fail_after(DEADLINE_SECONDS):
            for _ in range(5):  # what was taken counts no more
                files = await repository.files(FilesRequest("a" * 40, (str(MAX_FILES),)))
                assert len(files.entries) == MAX_FILES
            with pytest.raises(JiemiError, match="LimitExceeded: more files match than"):
                await repository.files(FilesRequest("a" * 40, (str(MAX_FILES + 1),)))


async def test_answers_beyond_the_bytes_in_flight_wait_for_their_turn(tmp_path: Path) -> None:
    async with pair(tmp_path, limits=Limits(bytes_in_flight=MEBIBYTE)) as it:
        revision = it.origin.commit({"f.yaml": ["x" * 400_000], "large.yaml": ["x" * (2 * MEBIBYTE)]})
        taken: Counter[str] = Counter()

        async def one(path: str) -> None:
            with trio.fail_after(DEADLINE_SECONDS):
                await repository.render(request(revision, path))
            taken[path] += 1

        async with it.client.open(SOURCE, NOBODY) as repository, trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one, "f.yaml")
            for _ in range(3):
                nursery.start_soon(one, "large.yaml")
        assert taken == {"f.yaml": 20, "large.yaml": 3}


async def test_answers_that_were_taken_count_no_more_though_their_repositories_stay_open(tmp_path: Path) -> None:
    """As with Decryptors: one call each, then nothing for minutes. The last answer of each must not be kept for it."""
    async with pair(tmp_path, limits=Limits(bytes_in_flight=MEBIBYTE)) as it:
        revision = it.origin.commit({"f.yaml": ["x" * 400_000]})
        rendered = 0
        over = trio.Event()

        async def one() -> None:
            nonlocal rendered
            async with it.client.open(SOURCE, NOBODY) as repository:
                await repository.head(max_age_seconds=60)
                with trio.fail_after(DEADLINE_SECONDS):
                    await repository.render(request(revision))
                rendered += 1
                await over.wait()

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(one)
            await until(lambda: rendered == 12, "the last answer")
            over.set()


async def test_requests_beyond_the_bytes_in_flight_are_reported_so(tmp_path: Path) -> None:
    async with pair(tmp_path, limits=Limits(bytes_in_flight=MEBIBYTE)) as it:
        revision = it.origin.commit({"f.yaml": []})
        it.fake.gate = trio.Event()
        reasons: Counter[str] = Counter()

        async def one() -> None:
            try:
                await repository.render(
                    RenderRequest(revision, "f.yaml", None, (PgpKey(SensitiveText("x" * 300_000)),))
                )
            except JiemiError as error:
                reasons[error.failure.reason] += 1

        async with it.client.open(SOURCE, NOBODY) as repository, trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
            await until(lambda: reasons["KrapaoUnavailable"] == 7 and it.fake.running == 3)
            it.fake.gate.set()
            await until(lambda: reasons["KeyMissing"] == 3)
            # What was answered counts no more.
            for _ in range(5):
                await one()
        assert reasons == {"KrapaoUnavailable": 7, "KeyMissing": 8}


async def test_repositories_beyond_the_limit_are_reported_so_until_one_is_released(tmp_path: Path) -> None:
    async with pair(tmp_path, limits=Limits(repositories=2)) as it:
        it.origin.commit({"f.yaml": []})
        async with it.client.open(SOURCE, NOBODY) as a, it.client.open(SOURCE, NOBODY) as c:
            await a.head(max_age_seconds=0)
            async with it.client.open(SOURCE, NOBODY) as b:
                await b.head(max_age_seconds=0)
                with pytest.raises(JiemiError, match="LimitExceeded: the connection has 2 repositories open"):
                    await c.head(max_age_seconds=0)
                with pytest.raises(JiemiError, match="LimitExceeded: the connection has 2 repositories open"):
                    await c.files(FilesRequest("0" * 40, ("**",)))
                with pytest.raises(JiemiError, match="LimitExceeded"):
                    await c.watch(lambda _: None)
            await until(lambda: it.fake.opened == 1)
        async with it.client.open(SOURCE, NOBODY) as d:
            await d.head(max_age_seconds=0)


async def test_the_connections_of_one_host_share_what_it_may_have(tmp_path: Path) -> None:
    limits = Limits(host_bytes=64 * REPOSITORY_BYTES)
    async with pair(tmp_path, limits=limits) as it, connect(it.server.address, bridge=it.bridge, settings=QUICK) as two:
        it.origin.commit({"f.yaml": []})

        async def until_refused(*clients: KrapaoClient) -> int:
            """How many may be open. Those that are go on, and so do their connections, however many more are tried."""
            opened: list[Repository] = []
            refused = 0
            async with contextlib.AsyncExitStack() as stack:
                for turn in range(120):
                    repository = await stack.enter_async_context(clients[turn % len(clients)].open(SOURCE, NOBODY))
                    try:
                        await repository.head(max_age_seconds=0)
                    except JiemiError as error:
                        assert "LimitExceeded: Krapao holds as much for its clients as it may" in str(error)
                        refused += 1
                    else:
                        opened.append(repository)
                for repository in opened:
                    await repository.head(max_age_seconds=0)
                assert it.fake.opened == len(opened) == 120 - refused
            await until(lambda: it.fake.opened == 0)
            return len(opened)

        # An eighth of the 64 is kept for calls; some have calls' own charges beside them.
        for clients in ((it.client,), (it.client, two), (it.client,)):
            assert 48 <= await until_refused(*clients) <= 56


# Watches


async def test_a_watch_hears_the_newest_and_ends_with_its_cancelling(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, it.client.open(SOURCE, NOBODY) as repository:
        it.origin.commit({"f.yaml": []})
        await repository.head(max_age_seconds=0)
        heard: list[Head] = []
        with trio.fail_after(DEADLINE_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(repository.watch, heard.append)
                await until(lambda: it.fake.watching == 1)
                for n in range(50):
                    newest = it.origin.commit({"f.yaml": [n]})
                    await repository.head(max_age_seconds=0)
                await until(lambda: bool(heard) and heard[-1].revision == newest, "the news")
                nursery.cancel_scope.cancel()
        await until(lambda: it.fake.watching == 0, "the end of the watch")
        assert len(heard) <= 50
        # Nothing is told after it.
        told = len(heard)
        it.origin.commit({"f.yaml": []})
        await repository.head(max_age_seconds=0)
        assert len(heard) == told


async def test_what_the_callback_of_a_watch_raises_comes_out_of_the_watch(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, it.client.open(SOURCE, NOBODY) as repository:
        it.origin.commit({"f.yaml": []})
        await repository.head(max_age_seconds=0)

        def fail(_: Head) -> None:
            raise LookupError("mine")

        async def move() -> None:
            await until(lambda: it.fake.watching == 1)
            it.origin.commit({"f.yaml": []})
            await repository.head(max_age_seconds=0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(move)
            with pytest.raises(LookupError, match="mine"), trio.fail_after(DEADLINE_SECONDS):
                await repository.watch(fail)
        await until(lambda: it.fake.watching == 0)


# What is left behind


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _open_and_close(it: Pair, times: int) -> None:
    for _ in range(times):
        async with it.client.open(SOURCE, NOBODY) as repository:
            await repository.head(max_age_seconds=60)
    await until(lambda: it.idle)


async def test_a_thousand_repositories_opened_and_closed_leave_nothing(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        it.origin.commit({"f.yaml": []})

        def resident_kib() -> int:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") // 1024

        await _open_and_close(it, 200)
        # Memory first: it collects what other tests left, and their files with it.
        memory, files = resident_kib(), open_files()
        capabilities, objects = len(it.bridge.capabilities), len(gc.get_objects())
        await _open_and_close(it, 1_000)
        it.fake.calls.clear()
        it.fake.credentials.clear()
        assert len(it.bridge.capabilities) == capabilities
        assert open_files() == files
        assert resident_kib() - memory < 3_000
        assert len(gc.get_objects()) - objects < 1_000


async def test_no_object_of_capnps_waits_for_the_garbage_collector(tmp_path: Path) -> None:
    # The collector runs in any thread, and they may be dropped in the bridge's only.
    gc.collect()
    gc.disable()
    try:
        async with pair(tmp_path) as it:
            revision = it.origin.commit({"f.yaml": []})
            for _ in range(20):
                async with it.client.open(SOURCE, NOBODY) as repository, trio.open_nursery() as nursery:
                    nursery.start_soon(repository.watch, lambda _: None)
                    await repository.render(request(revision))
                    await repository.files(FilesRequest(revision, ("**",)))
                    with pytest.raises(JiemiError):
                        await repository.render(request(revision, "gone.yaml"))
                    it.fake.gate = trio.Event()
                    with trio.move_on_after(0.005):
                        await repository.head(max_age_seconds=0)
                    it.fake.gate.set()
                    nursery.cancel_scope.cancel()
            # A connection that ends in the middle of calls, too.
            async with it.client.open(SOURCE, NOBODY) as repository:
                it.fake.gate = trio.Event()
                async with trio.open_nursery() as nursery:

                    async def fails() -> None:
                        with pytest.raises(JiemiError):
                            await repository.head(max_age_seconds=0)

                    nursery.start_soon(fails)
                    await until(lambda: it.fake.running == 1)
                    await it.server.stop()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        garbage = Counter(f"{type(each).__module__}.{type(each).__name__}" for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not [name for name in garbage if name.startswith(("capnp", "jiemi.rpc.bridge.Served"))], garbage


async def test_what_the_body_raises_leaves_the_contexts_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with open_bridge() as bridge, connect(UnixAddress("/nowhere"), bridge=bridge):
            raise LookupError("mine")


async def test_an_address_to_listen_on_is_none_to_connect_to() -> None:
    async with open_bridge() as bridge:
        for address in (TcpAddress("*"), TcpAddress("localhost", 0)):
            with pytest.raises(ValueError, match="listen on"):
                async with connect(address, bridge=bridge):
                    pass
