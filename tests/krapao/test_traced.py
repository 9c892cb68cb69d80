"""Krapao's side of a trace: each call is a span of its caller's trace, and what it starts is a part of that."""

from __future__ import annotations

from typing import Self

import pytest
import trio
from fakes.krapao import FakeKrapao

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.single_flight import SingleFlight
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.trace_context import TraceContext
from jiemi.krapao.traced import TracedKrapao
from jiemi.rpc.contract import FilesRequest, Head
from jiemi.rpc.source import GitCredentials, Source
from jiemi.tracing.current import current, in_trace, span
from jiemi.tracing.spans import Kind, Span, Tracer

URL = "https://git.example/app.git"
SAMPLED = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
OTHER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)


async def test_a_call_is_a_span_of_its_callers_trace_with_the_reason_of_a_failure() -> None:
    fake, spans = FakeKrapao(), list[Span]()
    origin = fake.add_origin(URL)
    revision = origin.commit({"a.yaml": []})
    traced = TracedKrapao(fake, Tracer(spans.append))
    async with traced.open(Source(URL), GitCredentials()) as repository:
        with in_trace(SAMPLED):
            await repository.head(max_age_seconds=0)
            await repository.files(FilesRequest(revision, ("a.yaml",)))
            origin.fail = Failure("HostUnreachable", "canary")
            with pytest.raises(JiemiError):
                await repository.head(max_age_seconds=0)
    assert [(each.name, each.reason, each.attributes) for each in spans] == [
        ("krapao.head", None, {"revision": revision}),
        ("krapao.files", None, {"revision": revision, "files": 1}),
        ("krapao.head", "HostUnreachable", {}),
    ]
    assert {(each.context.trace_id, each.parent, each.kind) for each in spans} == {
        (SAMPLED.trace_id, SAMPLED.span_id, Kind.SERVER)
    }


@pytest.mark.parametrize(
    ("context", "ratio"),
    [(None, 1.0), (TraceContext(SAMPLED.trace_id, SAMPLED.span_id), 1.0), (SAMPLED, 0.0)],
    ids=["of no trace", "of one that its caller does not collect", "of one beyond the ratio here"],
)
async def test_a_call_makes_no_span(context: TraceContext | None, ratio: float) -> None:
    fake, spans = FakeKrapao(), list[Span]()
    fake.add_origin(URL).commit({"a.yaml": []})
    async with TracedKrapao(fake, Tracer(spans.append, ratio)).open(Source(URL), GitCredentials()) as repository:
        with in_trace(context):
            await repository.head(max_age_seconds=0)
    assert spans == []


async def test_a_run_that_is_shared_is_a_part_of_the_trace_that_started_it_and_the_other_names_that(
    autojump_clock: trio.testing.MockClock,
) -> None:
    spans, seen = list[Span](), list[TraceContext | None]()
    tracer = Tracer(spans.append)

    async def fly(_: object) -> str:
        seen.append(current())
        with span("listing"):
            await trio.sleep(10)
        return "found"

    async with trio.open_nursery() as nursery:
        flights = SingleFlight(nursery)

        async def ask(context: TraceContext) -> None:
            with in_trace(context):
                traced = TracedKrapao(_Asking(flights, fly), tracer)  # type: ignore[arg-type]
                async with traced.open(Source(URL), GitCredentials()) as repository:
                    await repository.head(max_age_seconds=0)

        async with trio.open_nursery() as asking:
            asking.start_soon(ask, SAMPLED)
            await trio.sleep(1)
            asking.start_soon(ask, OTHER)
    assert [each.trace_id for each in seen if each is not None] == [SAMPLED.trace_id]
    by_trace = {(each.context.trace_id, each.name): each for each in spans}
    listing, first, second = (
        by_trace[SAMPLED.trace_id, "listing"],
        by_trace[SAMPLED.trace_id, "krapao.head"],
        by_trace[OTHER.trace_id, "krapao.head"],
    )
    assert listing.parent == first.context.span_id
    assert first.links == []
    assert [each.trace_id for each in second.links] == [SAMPLED.trace_id]


class _Asking:
    """A Krapao whose head is one flight."""

    def __init__(self, flights: SingleFlight, fly: object) -> None:
        self._flights, self._fly = flights, fly

    def open(self, *_: object) -> _Asking:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def head(self, *, max_age_seconds: float) -> object:
        await self._flights.do("head", self._fly, Askers())  # type: ignore[arg-type]
        return Head("a" * 40)
