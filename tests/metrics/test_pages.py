"""The pages: what they show, and that a clumsy or hostile client harms nobody."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing
from support.metrics_pages import ask, get, samples, total

from jiemi import __version__
from jiemi.concurrency.fair_limiter import FairLimiter
from jiemi.core.errors import Failure
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.metrics.pages import serve_pages
from jiemi.miwen.kubernetes.counts import RequestCounter
from jiemi.miwen.report.events import EventCounts
from jiemi.miwen.report.followed import Followed
from jiemi.miwen.report.metrics import MiwenMetrics


@pytest.fixture
def metrics() -> KrapaoMetrics:
    return KrapaoMetrics()


@pytest.fixture
async def port(metrics: KrapaoMetrics, nursery: trio.Nursery) -> int:
    listening: int = await nursery.start(partial(serve_pages, metrics, "127.0.0.1", 0))
    return listening


async def shown(port: int) -> str:
    """The metrics, without the answer's head."""
    return (await ask(port, get("/metrics"))).partition(b"\r\n\r\n")[2].decode()


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


async def test_healthz_names_the_loop_that_hangs_and_is_well_again_when_it_moves_on(
    metrics: KrapaoMetrics, port: int
) -> None:
    age = 5.0
    metrics.health.watch("rpc", lambda: age, limit_seconds=120)
    answer = await ask(port, get("/healthz"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nok\n")
    age = 121.0
    answer = await ask(port, get("/healthz"))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"\r\n\r\nrpc has not moved on for 121 s\n")
    assert b'jiemi_loop_age_seconds{loop="rpc"} 121.0\n' in await ask(port, get("/metrics"))
    age = 0.0
    assert b" 200 " in await ask(port, get("/healthz"))


async def test_readyz_says_how_far_the_process_is_in_its_life(metrics: KrapaoMetrics, port: int) -> None:
    async def ready() -> tuple[bytes, bytes]:
        answer = await ask(port, get("/readyz"))
        return answer.split(b" ")[1], answer.rpartition(b"\r\n")[2]

    assert await ready() == (b"503", b"starting\n")
    metrics.health.ready()
    assert await ready() == (b"200", b"ready\n")
    metrics.health.stopping()
    assert await ready() == (b"503", b"stopping\n")
    assert b" 200 " in await ask(port, get("/healthz")), "what ends lives"


async def test_a_crowd_of_connections_that_say_nothing_keeps_no_prober_out(port: int, nursery: trio.Nursery) -> None:
    crowd = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(100)]
    for _ in range(5):
        with trio.fail_after(2):
            assert b" 200 " in await ask(port, get("/healthz"))
    # The oldest were dropped, and the newest are waited for.
    with trio.fail_after(2):
        assert await crowd[0].receive_some() == b""
    with trio.move_on_after(0.2) as scope:
        await crowd[-1].receive_some()
    assert scope.cancelled_caught
    for stream in crowd:
        await stream.aclose()


async def test_the_page_says_how_slots_are_used_and_what_the_process_is(
    metrics: KrapaoMetrics, port: int, nursery: trio.Nursery
) -> None:
    limiter = FairLimiter(1)
    metrics.watch_slots("fetches", limiter)
    go_on = trio.Event()

    async def work() -> None:
        async with limiter.slot("tenant"):
            await go_on.wait()

    for _ in range(3):
        nursery.start_soon(work)
    await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(0.05)
    page = await shown(port)
    assert 'jiemi_slots_used{slots="fetches"} 1.0\n' in page
    assert 'jiemi_slots_waiting{slots="fetches"} 2.0\n' in page
    [(_, waited)] = samples(page, "jiemi_slots_oldest_wait_seconds", slots="fetches")
    assert 0.05 <= waited < 5
    assert f'jiemi_build_info{{component="krapao",version="{__version__}"}} 1.0\n' in page
    assert total(page, "process_resident_memory_bytes") > 10_000_000
    assert "_created" not in page
    go_on.set()
    await trio.testing.wait_all_tasks_blocked()
    page = await shown(port)
    assert 'jiemi_slots_oldest_wait_seconds{slots="fetches"} 0.0\n' in page


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
    port = await nursery.start(partial(serve_pages, metrics, "127.0.0.1", 0))
    counter.add("apply", "secrets")
    metrics.tick(None, 0.2)
    metrics.tick(Failure("MacMismatch", "the file was changed"), 0.2)
    metrics.deployed()
    metrics.corrected(2)
    metrics.follow(("shop", "app"), Followed("a" * 40, "b" * 40, ready=True, objects=3, drifted=1))
    metrics.follow(("shop", "old"), Followed("", "", ready=False, objects=0, drifted=0))
    metrics.follow(("shop", "old"), None)
    page = (await ask(port, get("/metrics"))).decode()
    named = 'name="app",namespace="shop"'
    for line in (
        'jiemi_reconcile_total{kind="stalled",outcome="MacMismatch"} 1.0',
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
    assert 'name="old"' not in page
    # A revision that is another leaves no sample of the one before.
    metrics.follow(("shop", "app"), Followed("b" * 40, "b" * 40, ready=True, objects=3, drifted=0))
    assert "a" * 40 not in (await ask(port, get("/metrics"))).decode()
