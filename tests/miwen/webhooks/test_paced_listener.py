"""Connections are accepted at a pace, and those of unwanted sources closed as fast as they come."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from jiemi.miwen.webhooks.limits import Pace
from jiemi.miwen.webhooks.paced_listener import PacedListener

UNWANTED = "127.0.5.1"


@asynccontextmanager
async def listening(
    *, a_second: float = 1_000, burst: float = 1_000, is_unwanted: Callable[[str], bool] = UNWANTED.__eq__
) -> AsyncIterator[PacedListener]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
    paced = PacedListener(listener, Pace(a_second, burst), is_unwanted)
    async with paced:
        yield paced


def connect(paced: PacedListener, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", paced.port), timeout=5, source_address=(source, 0))


async def test_one_that_is_wanted_gets_through_behind_hundreds_that_are_not() -> None:
    async with listening(burst=30) as paced:
        unwanted = [connect(paced, UNWANTED) for _ in range(400)]
        wanted = connect(paced)
        with trio.fail_after(5):
            async with await paced.accept() as stream:
                assert stream.socket.getpeername() == wanted.getsockname()
                await stream.send_all(b"hello")
                assert wanted.recv(5) == b"hello"
        for each in unwanted:
            assert each.recv(1) == b""
            each.close()
        wanted.close()


async def test_wanted_ones_come_at_the_pace(autojump_clock: trio.testing.MockClock) -> None:
    async with listening(a_second=2, burst=3) as paced:
        clients = [connect(paced) for _ in range(7)]
        took = []
        for _ in clients:
            async with await paced.accept():
                took.append(trio.current_time())
        assert [round(each - took[0], 1) for each in took] == [0, 0, 0, 0.5, 1, 1.5, 2]
        for each in clients:
            each.close()


async def test_others_get_their_turn_while_many_are_closed() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with listening(is_unwanted=lambda _: True) as paced, trio.open_nursery() as nursery:
        clients = [connect(paced) for _ in range(320)]
        nursery.start_soon(count)
        with trio.move_on_after(0.5):
            await paced.accept()
        assert turns >= 5
        assert all(each.recv(1) == b"" for each in clients)
        for each in clients:
            each.close()
        nursery.cancel_scope.cancel()


async def test_waiting_for_one_can_be_cancelled_and_ends_when_it_is_closed() -> None:
    async with listening() as paced:
        with trio.move_on_after(0.01) as scope:
            await paced.accept()
        assert scope.cancelled_caught
        with pytest.RaisesGroup(trio.ClosedResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(paced.accept)
                await trio.testing.wait_all_tasks_blocked()
                await paced.aclose()


@pytest.mark.parametrize("fault", [errno.ECONNABORTED, errno.EPROTO, errno.EMFILE, errno.EBADF])
async def test_a_fault_of_one_connection_is_passed_over_and_one_of_the_machine_is_raised(fault: int) -> None:
    async with listening() as paced:
        real = paced._socket
        faults = [OSError(fault, "")]

        class Faulty:
            def accept(self) -> object:
                if faults:
                    raise faults.pop()
                return real.accept()

        client = connect(paced)
        paced._socket = Faulty()  # type: ignore[assignment]
        try:
            if fault in (errno.EMFILE, errno.EBADF):
                with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is looked at
                    await paced.accept()
                assert caught.value.errno == fault
            else:
                await (await paced.accept()).aclose()
        finally:
            paced._socket = real
            client.close()
