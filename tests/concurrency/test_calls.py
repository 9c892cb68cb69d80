"""Cancelling a blocking call ends it and leaves no thread, whatever it waits for."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
import trio
import urllib3

from jiemi.concurrency.calls import Interrupter, connect_tcp, current, run_blocking, stuck_seconds
from jiemi.concurrency.http import make_interruptible


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []
        stop = threading.Event()
        server.settimeout(0.05)

        def accept() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    accepted.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            thread.join()
            for sock in accepted:
                sock.close()


async def test_the_result_and_the_error_of_the_function_come_back() -> None:
    limiter = trio.CapacityLimiter(1)
    assert await run_blocking(lambda _: 7, limiter=limiter) == 7

    def fail(_: Interrupter) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await run_blocking(fail, limiter=limiter)
    assert limiter.borrowed_tokens == 0


async def test_cancelling_ends_the_wait_and_joins_the_thread(silent_server: int) -> None:
    ended, waiting, token = threading.Event(), trio.Event(), trio.lowlevel.current_trio_token()

    def read(interrupter: Interrupter) -> bytes:
        with connect_tcp(interrupter, "127.0.0.1", silent_server, timeout_seconds=60) as sock:
            interrupter.use(lambda: sock.shutdown(socket.SHUT_RDWR))
            token.run_sync_soon(waiting.set)
            try:
                return sock.recv(1)
            finally:
                ended.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: run_blocking(read, limiter=trio.CapacityLimiter(1)))
            await waiting.wait()  # a loaded machine may take a while to have the thread connected
            nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    assert ended.is_set()


async def test_waiting_for_a_place_can_be_cancelled() -> None:
    limiter = trio.CapacityLimiter(1)
    async with limiter:
        with trio.move_on_after(0.01) as scope:
            await trio.lowlevel.checkpoint()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: run_blocking(lambda _: None, limiter=limiter))
    assert scope.cancelled_caught


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_pooled_request_ends_when_its_call_is_cancelled(scheme: str, silent_server: int) -> None:
    with make_interruptible(urllib3.PoolManager(retries=False, timeout=60)) as pool:

        def get(_: Interrupter) -> object:
            return pool.request("GET", f"{scheme}://127.0.0.1:{silent_server}/")

        with trio.fail_after(10):
            with trio.move_on_after(0.1) as scope:
                await run_blocking(get, limiter=trio.CapacityLimiter(1))
        assert scope.cancelled_caught


async def test_an_interrupted_call_begins_no_further_wait() -> None:
    interrupter = Interrupter()
    interrupter.interrupt()
    with pytest.raises(OSError, match="cancelled"):
        connect_tcp(interrupter, "127.0.0.1", 1, timeout_seconds=1)


def test_outside_of_a_call_nobody_interrupts() -> None:
    assert current().interrupted is False


async def test_a_body_that_ends_with_the_connection_can_be_interrupted_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answered = threading.Event()
        over = threading.Event()

        def answer() -> None:
            sock, _ = server.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfirst")
                answered.set()
                over.wait(30)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with make_interruptible(urllib3.PoolManager(retries=False, timeout=60)) as pool:

                def read(_: Interrupter) -> bytes:
                    address = f"http://127.0.0.1:{server.getsockname()[1]}/"
                    response = pool.request("GET", address, preload_content=False)
                    return bytes(response.read())

                with trio.fail_after(10):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(lambda: run_blocking(read, limiter=trio.CapacityLimiter(1)))
                        while not answered.is_set():  # noqa: ASYNC110 - another thread sets it
                            await trio.sleep(0.01)
                        await trio.sleep(0.1)
                        nursery.cancel_scope.cancel()
        finally:
            over.set()
            thread.join()


async def test_a_call_that_ended_by_itself_is_not_interrupted_afterwards() -> None:
    ended: list[str] = []

    def leave_a_wait_behind(interrupter: Interrupter) -> None:
        interrupter.use(lambda: ended.append("a connection that is in a pool by now"))

    await run_blocking(leave_a_wait_behind, limiter=trio.CapacityLimiter(1))
    assert ended == []


async def test_a_thread_that_goes_on_though_it_was_interrupted_is_seen_and_no_other_is() -> None:
    go_on, begun = threading.Event(), threading.Event()

    def deaf(_: Interrupter) -> None:
        begun.set()
        go_on.wait(20)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: run_blocking(deaf, limiter=trio.CapacityLimiter(1)))
        assert await trio.to_thread.run_sync(begun.wait, 5)
        assert stuck_seconds() == 0, "it works, and nobody has asked it to end"
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.1)
            assert 0.05 < stuck_seconds() < 5
            go_on.set()
    assert stuck_seconds() == 0
    await run_blocking(lambda _: None, limiter=trio.CapacityLimiter(1))
    assert stuck_seconds() == 0
