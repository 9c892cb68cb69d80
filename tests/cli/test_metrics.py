"""The loops that both services have watched: a thread that hangs fails /healthz, in a process that otherwise works."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import trio
from support.metrics_pages import ask, get

from jiemi.cli import metrics as cli_metrics
from jiemi.cli.errors import CommandError
from jiemi.cli.metrics import pages_of, watch_loops
from jiemi.concurrency.calls import Interrupter, run_blocking
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.metrics.pages import serve_pages
from jiemi.rpc import pulse
from jiemi.rpc.bridge import open_bridge


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tenths of a second in place of minutes."""
    monkeypatch.setattr(pulse.keep_pulse, "__kwdefaults__", {"every_seconds": 0.01})
    monkeypatch.setattr(cli_metrics, "_RPC_LIMIT_SECONDS", 0.3)
    monkeypatch.setattr(cli_metrics, "_THREADS_LIMIT_SECONDS", 0.3)


@pytest.mark.usefixtures("soon")
async def test_healthz_fails_while_the_rpc_thread_or_a_worker_hangs_and_says_which() -> None:
    metrics = KrapaoMetrics()
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        port: int = await nursery.start(partial(serve_pages, metrics, "127.0.0.1", 0))
        nursery.start_soon(watch_loops, metrics.health, bridge)

        async def until(answer: bytes) -> None:
            with trio.fail_after(10):
                while answer not in await ask(port, get("/healthz")):  # noqa: ASYNC110 - it is asked over a port
                    await trio.sleep(0.02)

        await until(b"\r\nok\n")
        go_on = threading.Event()
        bridge.post(go_on.wait, 20)
        await until(b"\r\nrpc has not moved on for 0 s\n")
        go_on.set()
        await until(b"\r\nok\n")

        begun, go_on = threading.Event(), threading.Event()

        def deaf(_: Interrupter) -> None:
            begun.set()
            go_on.wait(20)

        async with trio.open_nursery() as calls:
            calls.start_soon(partial(run_blocking, deaf, limiter=trio.CapacityLimiter(1)))
            assert await trio.to_thread.run_sync(begun.wait, 5)
            await trio.sleep(0.4)
            assert b"\r\nok\n" in await ask(port, get("/healthz")), "it works, and nobody has asked it to end"
            calls.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await until(b"\r\nthreads has not moved on for 0 s\n")
                go_on.set()
        await until(b"\r\nok\n")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("flag", ["unix:/x", "127.0.0.1:99999", "127.0.0.1:port"])
def test_what_is_no_address_of_a_port_is_refused_before_anything_starts(flag: str) -> None:
    with pytest.raises(CommandError, match="--metrics-listen"):
        pages_of(flag, KrapaoMetrics(), service="krapao")
