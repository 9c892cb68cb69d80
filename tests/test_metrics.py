"""The page of counters: what it shows, and that a clumsy or hostile scraper harms nobody."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.metrics import serve_metrics
from jiemi.miwen.kubernetes.counts import RequestCounter
from jiemi.miwen.report.events import EventCounts
from jiemi.miwen.report.metrics import Followed, MiwenMetrics


@pytest.fixture
def metrics() -> KrapaoMetrics:
    return KrapaoMetrics()


@pytest.fixture
async def port(metrics: KrapaoMetrics, nursery: trio.Nursery) -> int:
    listening: int = await nursery.start(partial(serve_metrics, metrics.registry, "127.0.0.1", 0))
    return listening


async def ask(port: int, request: bytes) -> bytes:
    with trio.fail_after(10):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request)
            answer = b""
            while data := await stream.receive_some():
                answer += data
            return answer


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_the_page_shows_what_was_counted(metrics: KrapaoMetrics, port: int) -> None:
    metrics.key_request("aws", "denied")
    metrics.key_request("aws", "denied")
    metrics.decryption("ok")
    metrics.watch_holders(lambda: 3)
    page = (await ask(port, get("/metrics"))).decode()
    assert page.startswith("HTTP/1.1 200 ")
    for line in (
        'jiemi_key_requests_total{outcome="denied",provider="aws"} 2.0',
        'jiemi_decryptions_total{outcome="ok"} 1.0',
        "jiemi_key_holders 3.0",
    ):
        assert line in page


async def test_other_pages_and_methods_are_refused_and_head_has_no_body(port: int) -> None:
    assert (await ask(port, get("/"))).startswith(b"HTTP/1.1 404 ")
    assert (await ask(port, get("/metrics", "POST"))).startswith(b"HTTP/1.1 405 ")
    head = await ask(port, get("/metrics", "HEAD"))
    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9_000, b""])
async def test_garbage_ends_its_own_connection_only(port: int, garbage: bytes) -> None:
    with trio.fail_after(10):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with trio.move_on_after(0.2):
                try:
                    await stream.send_all(garbage)
                    await stream.receive_some()
                except trio.BrokenResourceError:
                    pass
    assert b"200" in await ask(port, get("/metrics"))


async def test_miwens_page_shows_each_decryptor_and_forgets_one_that_is_gone(nursery: trio.Nursery) -> None:
    counter = RequestCounter()
    metrics = MiwenMetrics(requests=counter.snapshot, events=lambda: EventCounts(written=2))
    port = await nursery.start(partial(serve_metrics, metrics.registry, "127.0.0.1", 0))
    counter.add("apply", "secrets")
    metrics.tick("ok")
    metrics.tick("MacMismatch")
    metrics.deployed()
    metrics.corrected(2)
    metrics.follow(("shop", "app"), Followed("a" * 40, "b" * 40, ready=True, objects=3, drifted=1))
    metrics.follow(("shop", "old"), Followed("", "", ready=False, objects=0, drifted=0))
    metrics.follow(("shop", "old"), None)
    page = (await ask(port, get("/metrics"))).decode()
    named = 'name="app",namespace="shop"'
    for line in (
        'jiemi_reconcile_total{outcome="MacMismatch"} 1.0',
        "jiemi_deployments_total 1.0",
        "jiemi_drift_corrections_total 2.0",
        f"jiemi_decryptor_ready{{{named}}} 1.0",
        f"jiemi_decryptor_objects{{{named}}} 3.0",
        f"jiemi_decryptor_drifted_objects{{{named}}} 1.0",
        f'jiemi_decryptor_revision_info{{deployed="{"a" * 40}",{named},seen="{"b" * 40}"}} 1.0',
        'jiemi_kubernetes_requests_total{resource="secrets",verb="apply"} 1.0',
        'jiemi_events_total{outcome="written"} 2.0',
    ):
        assert line in page
    assert "old" not in page
    # A revision that is another leaves no sample of the one before.
    metrics.follow(("shop", "app"), Followed("b" * 40, "b" * 40, ready=True, objects=3, drifted=0))
    assert "a" * 40 not in (await ask(port, get("/metrics"))).decode()
