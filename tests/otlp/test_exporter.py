"""Spans on their way: they come in the right form, and a collector that does not behave costs nobody anything."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio
from support.network.tls_folders import TestAuthority
from support.processes.threads import own_threads
from support.traces.collector import Collector, answer_bytes, answer_well, answer_with, collector, hang, spans_of

from jiemi.otlp.endpoint import read_endpoint
from jiemi.otlp.exporter import Exporter, ExportSettings
from jiemi.tracing.current import new_trace, span
from jiemi.tracing.spans import Tracer

QUICK = ExportSettings(
    pause_seconds=0.01, timeout_seconds=0.3, tries=2, retry_first_seconds=0.01, retry_most_seconds=0.02, end_seconds=0.5
)
RESOURCE = {"service.name": "jiemi-test"}


@contextlib.asynccontextmanager
async def exporting(url: str, settings: ExportSettings = QUICK) -> AsyncIterator[Exporter]:
    exporter = Exporter(read_endpoint(url), RESOURCE, settings)
    async with exporter.running():
        yield exporter


def make(exporter: Exporter, number: int = 1) -> None:
    tracer = Tracer(exporter.ended)
    for _ in range(number):
        with new_trace(tracer, "tick", shown={}):
            pass


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - of another thread's doing
            await trio.sleep(0.005)


async def test_spans_come_as_otlp_over_http() -> None:
    with collector() as it:
        async with exporting(it.url) as exporter:
            tracer = Tracer(exporter.ended)
            with new_trace(tracer, "tick", shown={}, attributes={"decryptor": "app"}), span("head", path="a.yaml"):
                pass
            await until(lambda: len(it.bodies) == 1)
            await until(lambda: exporter.counts["sent"] == 2)
        [(method, path, headers)] = it.requests
        assert (method, path, headers["Content-Type"]) == ("POST", "/v1/traces", "application/x-protobuf")
        assert not {"Authorization", "Cookie", "Proxy-Authorization"} & set(headers)
        head, tick = it.spans
        assert (head.name, tick.name, head.service) == ("head", "tick", "jiemi-test")
        assert (head.trace_id, head.parent, tick.parent) == (tick.trace_id, tick.span_id, "")
        assert (head.attributes, tick.attributes) == ({"jiemi.path": "a.yaml"}, {"jiemi.decryptor": "app"})
        assert tick.began_ns <= head.began_ns <= head.ended_ns <= tick.ended_ns
        assert abs(time.time_ns() - tick.ended_ns) < 60e9


async def test_over_tls_the_collector_must_have_a_certificate_of_an_authority_that_is_trusted(tmp_path: Path) -> None:
    ours, others = TestAuthority(), TestAuthority()
    folders = {
        "good": ours.write(tmp_path / "good", "krapao", hosts=("localhost",)),
        "other": others.write(tmp_path / "other", "krapao", hosts=("localhost",)),
        "name": ours.write(tmp_path / "name", "krapao", hosts=("elsewhere.example",)),
    }
    for name, folder in folders.items():
        with collector(folder) as it, structlog.testing.capture_logs() as logs:
            endpoint = read_endpoint(it.url, ca_bundle=folders["good"] / "ca.crt")
            exporter = Exporter(endpoint, RESOURCE, QUICK)
            async with exporter.running():
                make(exporter)
                await until(partial(_is_counted, exporter))
            assert exporter.counts["sent"] == len(it.bodies) == (1 if name == "good" else 0)
            said = [each["why"] for each in logs if each["event"] == "spans_not_sent"]
            assert said == ([] if name == "good" else ["TLS: SSLCertVerificationError"])


def _is_counted(exporter: Exporter) -> bool:
    return sum(exporter.counts.values()) == 1


async def test_a_host_that_can_be_none_loses_spans_and_ends_nothing() -> None:
    async with exporting(f"https://{'a' * 70}.example") as exporter:
        make(exporter)
        await until(lambda: exporter.counts["not_sent"] == 1)


async def test_what_is_left_at_the_end_is_sent_even_when_the_process_is_cancelled() -> None:
    with collector() as it:
        with trio.CancelScope() as scope:
            async with exporting(it.url, attrs.evolve(QUICK, pause_seconds=100)) as exporter:
                make(exporter, 3)
                scope.cancel()
                await trio.sleep_forever()
        assert len(it.spans) == 3
        assert exporter.counts == {"sent": 3, "queue_full": 0, "refused": 0, "not_sent": 0}


async def test_no_batch_is_larger_than_its_limit_and_a_full_one_does_not_wait() -> None:
    with collector() as it:
        async with exporting(it.url, attrs.evolve(QUICK, batch_limit=10, pause_seconds=100)) as exporter:
            make(exporter, 25)
            await until(lambda: exporter.counts["sent"] == 25)
        assert max(len(spans_of(body)) for body in it.bodies) == 10


ODD: dict[str, Callable[[Collector], Callable[[Any], None]]] = {
    "nothing": hang,
    "no HTTP": lambda _: answer_bytes(b"\x00\x01garbage\r\n\r\n"),
    "an end at once": lambda _: answer_bytes(b""),
    "headers without an end": lambda _: answer_bytes(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000, again_seconds=0.0),
    "a drip": lambda _: answer_bytes(b"H", again_seconds=0.05),
    "interim answers without an end": lambda _: answer_bytes(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, again_seconds=0.0),
    "unavailable": lambda _: answer_with(503),
    "too many": lambda _: answer_with(429, **{"Retry-After": "1000000"}),
}


@pytest.mark.parametrize("odd", ODD)
async def test_a_collector_that_does_not_take_them_loses_them_in_bounded_time(odd: str) -> None:
    with collector() as it, structlog.testing.capture_logs() as logs:
        it.answer = ODD[odd](it)
        async with exporting(it.url) as exporter:
            make(exporter, 2)
            await until(lambda: exporter.counts["not_sent"] == 2)
            it.answer = answer_well
            make(exporter, 1)
            await until(lambda: exporter.counts["sent"] == 1)
    *failures, last = [(each["event"], each.get("why")) for each in logs if each["log_level"] != "debug"]
    assert {event for event, _ in failures} == {"spans_not_sent"}
    assert last == ("spans_sent_again", None)
    # On a busy machine it may also be the deadline that ends one of the tries.
    assert len(failures) == len(set(failures)) <= 2, "each reason is said once"


async def test_a_collector_that_fails_in_two_ways_by_turns_is_said_to_once_for_each() -> None:
    with collector() as it, structlog.testing.capture_logs() as logs:
        async with exporting(it.url, attrs.evolve(QUICK, timeout_seconds=20)) as exporter:
            for turn in range(6):
                it.answer = answer_with(503) if turn % 2 else answer_bytes(b"")
                make(exporter)
                await until(lambda: exporter.counts["not_sent"] == turn + 1)  # noqa: B023 - waited for here
            it.answer = answer_well
            make(exporter)
            await until(lambda: exporter.counts["sent"] == 1)
            it.answer = answer_with(503)
            make(exporter)
            await until(lambda: exporter.counts["not_sent"] == 7)
    said = [(each["event"], each.get("why")) for each in logs if each["log_level"] != "debug"]
    assert said == [
        ("spans_not_sent", "what it answers is no HTTP"),
        ("spans_not_sent", "it answered 503"),
        ("spans_sent_again", None),
        ("spans_not_sent", "it answered 503"),
    ], "after it took some, a reason is news again"


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 500])
async def test_what_is_refused_is_not_sent_again_nor_elsewhere(status: int) -> None:
    with collector() as it, collector() as other:
        it.answer = answer_with(status, Location=other.url)
        async with exporting(it.url) as exporter:
            make(exporter, 2)
            await until(lambda: exporter.counts["refused"] == 2)
        assert (len(it.bodies), other.bodies) == (1, [])


async def test_a_queue_that_is_full_counts_what_it_loses_and_holds_nobody_up() -> None:
    with collector() as it:
        it.answer = hang(it)
        settings = attrs.evolve(QUICK, queue_limit=100, batch_limit=10, timeout_seconds=60)
        async with exporting(it.url, settings) as exporter:
            make(exporter, 10)
            await until(lambda: len(it.bodies) == 1)
            began = time.perf_counter()
            make(exporter, 1_000)
            assert time.perf_counter() - began < 1, "a tick waits for nothing"
            assert exporter.counts["queue_full"] == 900
            ending = time.perf_counter()
        assert time.perf_counter() - ending < QUICK.end_seconds + 1
        assert sum(exporter.counts.values()) == 1_010


async def test_one_that_is_not_there_is_tried_again_and_the_end_does_not_wait_for_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with structlog.testing.capture_logs() as logs:
            async with exporting(url) as exporter:
                make(exporter)
                await until(lambda: exporter.counts["not_sent"] == 1)
                make(exporter)
                began = time.perf_counter()
            assert time.perf_counter() - began < 0.4
        assert exporter.counts["not_sent"] == 2
        assert logs[0]["event"] == "spans_not_sent"


async def test_it_leaves_no_thread_and_no_socket_behind() -> None:
    threads, sockets = own_threads(), open_files()
    with collector() as it:
        it.answer = hang(it)
        async with exporting(it.url) as exporter:
            make(exporter)
            await until(lambda: len(it.bodies) == 1)
    await until(lambda: open_files() <= sockets)
    assert own_threads() <= threads


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "OTEL_EXPORTER_OTLP_ENDPOINT"])
async def test_the_environment_says_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as it, collector() as other:
        monkeypatch.setenv(name, other.url)
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "canary=canary")
        async with exporting(it.url) as exporter:
            make(exporter)
            await until(lambda: exporter.counts["sent"] == 1)
        assert other.requests == []
        assert "canary" not in str(it.requests)
        assert b"canary" not in it.bodies[0]
