"""From what woke a tick to its status: each line that it logs has one id, which travels with its calls to Krapao."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import attrs
import pytest
import structlog
import trio
from fakes.krapao import FakeKrapao
from support.miwen.world import FILE, INTERVAL, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.errors import Failure
from jiemi.core.trace_context import TraceContext
from jiemi.rpc.contract import Changes, Files, FilesRequest, Head, Rendered, RenderRequest, Repository
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.verification import Verified
from jiemi.tracing.current import add_trace, current, in_trace

Lines = list[Any]


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs(processors=[add_trace]) as logs:
        yield logs


def ids(lines: Sequence[Any], *events: str) -> set[str | None]:
    return {line.get("trace_id") for line in lines if line["event"] in events}


async def test_all_lines_of_a_tick_have_its_id_and_the_next_tick_has_another(
    world: World, lines: Lines, autojump_clock: MockClock
) -> None:
    async with miwen(world):
        world.add()
        await settle()
        [first] = ids(lines, "tick_began")
        deployed = [line["event"] for line in lines if line.get("trace_id") == first]
        assert deployed[0] == "tick_began"
        assert {"in_sync", "status_written_ahead", "status_written"} <= set(deployed)
        assert deployed[-1] == "tick_ended"
        assert all(
            (line["namespace"], line["name"]) == ("default", "app") for line in lines if line.get("trace_id") == first
        )
        lines.clear()
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL + 1)
        [second] = ids(lines, "tick_began", "in_sync", "status_written", "tick_ended")
        assert second not in (first, None)


async def test_what_woke_the_tick_is_named_with_the_status_that_it_writes(
    world: World, lines: Lines, autojump_clock: MockClock
) -> None:
    def woken_by() -> list[str]:
        found = [line["woken_by"] for line in lines if line["event"] == "status_written"]
        lines.clear()
        return found

    world.add_secret("key", value="no key")
    world.add(provider={"age": {"privateKey": {"secretName": "key", "key": "value"}}})
    async with miwen(world):
        await settle()
        assert woken_by() == ["start"]
        world.add_secret("key", value="AGE-SECRET-KEY-FAKE-RIGHT")
        await settle()
        assert woken_by() == ["secret"]
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL + 1)
        assert woken_by() == ["interval"]
        world.add(provider={"age": {"privateKey": {"literal": "AGE-SECRET-KEY-FAKE-RIGHT"}}})
        await settle()
        assert woken_by() == ["spec"]
        found = world.cluster.get("Secret", "default", "app")
        assert found is not None
        world.cluster.put({**found, "data": {}}, manager="somebody")
        await settle()
        assert [line["woken_by"] for line in lines if line["event"] == "tick_began"] == ["drift"]
        lines.clear()
        world.origin.fail = Failure("HostUnreachable", "no route")
        await trio.sleep(INTERVAL + 1)
        assert woken_by() == ["interval"]
        world.origin.fail = None
        await trio.sleep(INTERVAL + 1)
        assert woken_by()[-1] == "retry"


class _Noting(FakeKrapao):
    """Notes the trace id of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[str, str | None]] = []

    @contextlib.asynccontextmanager
    async def open(self, source: Source, credentials: GitCredentials, tenant: str = "") -> AsyncIterator[Repository]:
        async with super().open(source, credentials, tenant) as repository:
            yield _NotingRepository(repository, self.noted)


@attrs.define
class _NotingRepository:
    repository: Repository
    calls: list[tuple[str, str | None]]

    def _note(self, method: str) -> None:
        trace = current()
        self.calls.append((method, None if trace is None else trace.trace_id))

    async def head(self, *, max_age_seconds: float) -> Head:
        self._note("head")
        return await self.repository.head(max_age_seconds=max_age_seconds)

    async def verify(self, request: FilesRequest) -> Verified:
        self._note("verify")
        return await self.repository.verify(request)

    async def files(self, request: FilesRequest) -> Files:
        self._note("files")
        return await self.repository.files(request)

    async def changes(self, before: str, after: str) -> Changes:
        self._note("changes")
        return await self.repository.changes(before, after)

    async def render(self, request: RenderRequest) -> Rendered:
        self._note("render")
        return await self.repository.render(request)

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        self._note("watch")
        await self.repository.watch(on_moved)


async def test_the_calls_of_a_tick_have_its_id_and_what_outlives_it_has_none(
    world: World, lines: Lines, autojump_clock: MockClock
) -> None:
    noting = _Noting()
    noting.add_origin(URL).commit({FILE: [secret(greeting="one")]})
    world = attrs.evolve(world, krapao=noting)
    async with miwen(world):
        world.add()
        await settle()
        [tick] = ids(lines, "tick_began")
        assert sorted(noting.noted, key=str) == sorted(
            [("head", tick), ("files", tick), ("render", tick), ("watch", None)], key=str
        )
    # The watches of Secrets were begun by this tick, and go on for all.
    assert ids(lines, "listed", "watching") <= {None}


async def test_a_tick_that_another_ones_question_woke_names_the_trace_of_it(
    world: World, lines: Lines, autojump_clock: MockClock
) -> None:
    async with miwen(world):
        world.add()
        await settle()
        lines.clear()
        revision = world.origin.commit({FILE: [secret(greeting="two")]})
        theirs = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
        async with world.krapao.open(Source(URL), GitCredentials()) as repository:
            with in_trace(theirs):
                assert (await repository.head(max_age_seconds=0)).revision == revision
            await settle()
        began = next(line for line in lines if line["event"] == "tick_began")
        assert (began["woken_by"], began["seen_by"]) == ("repository", theirs.trace_id)
        assert began["trace_id"] != theirs.trace_id
        await trio.sleep(INTERVAL + 1)
        assert "seen_by" not in [line for line in lines if line["event"] == "tick_began"][-1]


async def test_a_failure_is_logged_with_the_id_and_the_id_is_not_in_the_status(
    world: World, lines: Lines, autojump_clock: MockClock
) -> None:
    world.origin.fail = Failure("HostUnreachable", "no route")
    async with miwen(world):
        world.add()
        await settle()
        [tick] = ids(lines, "tick_began", "not_in_sync", "status_written")
        assert tick is not None
        assert tick not in str(world.status())


async def test_without_a_tracer_a_tick_makes_no_span(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a span was made")

    monkeypatch.setattr("jiemi.tracing.spans.Span.__init__", refuse)
    async with miwen(world):
        world.add()
        await settle()
        assert world.reason() == "Synced"
