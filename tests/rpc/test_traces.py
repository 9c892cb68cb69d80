"""The trace of a call goes with it: to the task that answers it, and back with news of a watch."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from fakes.krapao import RIGHT_KEY, FakeKrapao
from rpc.rpc_helpers import DEADLINE_SECONDS, QUICK, SOURCE, URL, running, until
from support.paths import ROOT

from jiemi.core.trace_context import TraceContext
from jiemi.rpc import codec
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import KrapaoClient, connect
from jiemi.rpc.contract import Changes, Files, FilesRequest, Head, Rendered, RenderRequest, Repository
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.verification import Verified
from jiemi.tracing.current import current, in_trace

NOBODY = GitCredentials()
OURS = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
OTHERS = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


@attrs.define
class Noting:
    """Another Krapao's repositories, with the trace in which each method was called."""

    krapao: FakeKrapao
    seen: list[tuple[str, TraceContext | None]] = attrs.field(factory=list)

    @contextlib.asynccontextmanager
    async def open(self, source: Source, credentials: GitCredentials, tenant: str = "") -> AsyncIterator[Repository]:
        self.seen.append(("open", current()))
        async with self.krapao.open(source, credentials, tenant) as repository:
            yield _NotingRepository(repository, self.seen)


@attrs.define
class _NotingRepository:
    repository: Repository
    seen: list[tuple[str, TraceContext | None]]

    async def head(self, *, max_age_seconds: float) -> Head:
        self.seen.append(("head", current()))
        return await self.repository.head(max_age_seconds=max_age_seconds)

    async def verify(self, request: FilesRequest) -> Verified:
        self.seen.append(("verify", current()))
        return await self.repository.verify(request)

    async def files(self, request: FilesRequest) -> Files:
        self.seen.append(("files", current()))
        return await self.repository.files(request)

    async def changes(self, before: str, after: str) -> Changes:
        self.seen.append(("changes", current()))
        return await self.repository.changes(before, after)

    async def render(self, request: RenderRequest) -> Rendered:
        self.seen.append(("render", current()))
        return await self.repository.render(request)

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        self.seen.append(("watch", current()))
        await self.repository.watch(on_moved)


@contextlib.asynccontextmanager
async def noting_pair(folder: Path) -> AsyncIterator[tuple[Noting, KrapaoClient]]:
    noting = Noting(FakeKrapao())
    noting.krapao.add_origin(URL).commit({"f.yaml": []})
    async with (
        running(folder, noting) as server,
        connect(server.address, bridge=server.bridge, settings=QUICK) as client,
    ):
        yield noting, client


async def test_each_call_is_answered_in_the_trace_of_its_caller_and_in_no_other(tmp_path: Path) -> None:
    async with noting_pair(tmp_path) as (noting, client), client.open(SOURCE, NOBODY) as repository:
        with in_trace(OURS):
            head = await repository.head(max_age_seconds=0)
        with in_trace(OTHERS):
            await repository.files(FilesRequest(head.revision, ("f.yaml",)))
        await repository.head(max_age_seconds=60)
        with in_trace(OURS):
            await repository.render(RenderRequest(head.revision, "f.yaml", None, (RIGHT_KEY,)))
        assert noting.seen == [
            # It is open for longer than the call lasts that it travels with.
            ("open", None),
            ("head", OURS),
            ("files", OTHERS),
            ("head", None),
            ("render", OURS),
        ]


async def test_news_of_a_watch_come_in_the_trace_of_the_call_that_saw_the_ref_move(tmp_path: Path) -> None:
    heard: list[tuple[Head, TraceContext | None]] = []
    async with (
        noting_pair(tmp_path) as (noting, client),
        client.open(SOURCE, NOBODY) as mine,
        client.open(SOURCE, NOBODY) as others,
        trio.open_nursery() as nursery,
    ):
        await mine.head(max_age_seconds=0)
        with in_trace(OTHERS):
            nursery.start_soon(mine.watch, lambda head: heard.append((head, current())))
        await until(lambda: noting.krapao.watching == 1)
        noting.krapao.add_origin(URL).commit({"f.yaml": [{}]})
        with in_trace(OURS):
            moved = await others.head(max_age_seconds=0)
        await until(lambda: bool(heard))
        nursery.cancel_scope.cancel()
    assert heard == [(moved, OURS)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 500_000,
        "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
        f'{OURS.traceparent}\n{{"event": "of a stranger"}}',
        "\x1b[2J",
        OURS.traceparent.upper(),
    ],
)
async def test_garbage_in_place_of_a_trace_counts_as_none_and_the_call_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def write(builder: Any, _: object) -> None:
        builder.traceparent = text

    monkeypatch.setattr(codec, "write_trace", write)
    async with noting_pair(tmp_path) as (noting, client), client.open(SOURCE, NOBODY) as repository:
        with in_trace(OURS):
            await repository.head(max_age_seconds=0)
    assert noting.seen[-1] == ("head", None)


def test_a_text_that_is_no_unicode_counts_as_none() -> None:
    class Reader:
        def _has(self, _: str) -> bool:
            return True

        @property
        def traceparent(self) -> str:
            return b"\xff".decode()

    assert codec.read_trace(Reader()) is None


@contextlib.contextmanager
def older_peer(folder: Path, role: str, socket: Path) -> Iterator[subprocess.Popen[str]]:
    script = Path(__file__).with_name("older_peer.py")
    process = subprocess.Popen(
        [sys.executable, script, role, socket, folder],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": ""},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def test_a_krapao_that_knows_no_traces_answers_a_client_that_sends_them(tmp_path: Path) -> None:
    socket = tmp_path / "krapao.sock"
    with older_peer(tmp_path, "serve", socket) as process:
        assert process.stdout is not None
        with trio.fail_after(DEADLINE_SECONDS):
            assert await trio.to_thread.run_sync(process.stdout.readline) == "serving\n"
        async with (
            open_bridge() as bridge,
            connect(UnixAddress(str(socket)), bridge=bridge, settings=QUICK) as client,
            client.open(SOURCE, NOBODY) as repository,
        ):
            with in_trace(OURS):
                head = await repository.head(max_age_seconds=0)
                files = await repository.files(FilesRequest(head.revision, ("a.yaml",)))
            assert [each.path for each in files.entries] == ["a.yaml"]


async def test_a_client_that_sends_no_traces_is_answered(tmp_path: Path) -> None:
    noting = Noting(FakeKrapao())
    revision = noting.krapao.add_origin(URL).commit({"a.yaml": []})
    socket = tmp_path / "krapao.sock"
    async with running(tmp_path, noting, address=UnixAddress(str(socket))):
        with older_peer(tmp_path, "ask", socket) as process:
            assert process.stdout is not None
            with trio.fail_after(DEADLINE_SECONDS):
                assert await trio.to_thread.run_sync(process.stdout.readline) == f"{revision} a.yaml\n"
    assert noting.seen == [("open", None), ("head", None), ("files", None)]
