# ruff: noqa: ASYNC240  a look at a local file blocks no one here
"""Listening: what is made, what is replaced, what is left alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from pathlib import Path

import pytest
import trio
import trio.testing

from jiemi.rpc.address import TcpAddress, UnixAddress
from jiemi.rpc.sockets import ListenError, open_connection, open_listeners


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "krapao.sock"


async def test_a_unix_socket_is_private_and_removed_at_the_end(path: Path) -> None:
    async with open_listeners(UnixAddress(str(path))) as (_, bound):
        assert bound == UnixAddress(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await (await open_connection(bound)).aclose()
    assert not path.exists()


async def test_the_socket_of_a_dead_server_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    async with open_listeners(UnixAddress(str(path))) as (_, bound):
        await (await open_connection(bound)).aclose()


async def test_the_socket_of_a_live_server_is_left_alone(path: Path) -> None:
    address = UnixAddress(str(path))
    async with open_listeners(address):
        with pytest.raises(ListenError, match=r"can't listen on unix:/.*: another server listens on it"):
            async with open_listeners(address):
                pass
        await (await open_connection(address)).aclose()


async def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(ListenError, match="no socket; remove it"):
        async with open_listeners(UnixAddress(str(path))):
            pass
    assert path.read_text() == "mine"


async def test_a_directory_that_is_missing_is_reported(path: Path) -> None:
    with pytest.raises(ListenError, match="No such file or directory"):
        async with open_listeners(UnixAddress(f"{path}/more")):
            pass


async def test_the_socket_of_one_that_took_its_place_is_not_removed(path: Path) -> None:
    async with open_listeners(UnixAddress(str(path))):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


async def test_of_servers_that_start_at_once_one_gets_the_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    got: list[bool] = []
    everyone = trio.Event()

    async def start() -> None:
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(open_listeners(UnixAddress(str(path))))
            except ListenError:
                got.append(False)
            else:
                got.append(True)
            if len(got) == 5:
                everyone.set()
            await everyone.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(start)
    assert sorted(got) == [False] * 4 + [True]


async def test_a_server_waits_for_another_that_is_just_starting(path: Path) -> None:
    listening = trio.Event()

    async def listen() -> None:
        async with open_listeners(UnixAddress(str(path))):
            listening.set()
            await trio.sleep_forever()

    directory = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            assert not path.exists()
            fcntl.flock(directory, fcntl.LOCK_UN)
            with trio.fail_after(30):
                await listening.wait()
            nursery.cancel_scope.cancel()
    finally:
        os.close(directory)


async def test_a_tcp_port_of_zero_becomes_a_real_one() -> None:
    async with open_listeners(TcpAddress("localhost", 0)) as (listeners, bound):
        assert len(listeners) == 1
        assert isinstance(bound, TcpAddress)
        assert bound.port > 0
        await (await open_connection(bound)).aclose()


async def test_a_tcp_port_that_is_taken_is_reported() -> None:
    async with open_listeners(TcpAddress("127.0.0.1", 0)) as (_, bound):
        with pytest.raises(ListenError, match=r"can't listen on tcp:127\.0\.0\.1:\d+: .*in use"):
            async with open_listeners(bound):
                pass
