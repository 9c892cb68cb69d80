"""Stream sockets for the RPC: listening, connecting, and the options that notice a peer that is gone.

trio makes the sockets; the bridge takes them over (`detach`), as pycapnp needs them in its own thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import trio

from jiemi.rpc.address import ANY_HOST, Address, TcpAddress, UnixAddress

_LOCK_SECONDS = 5
"""How long to wait for another server that is starting in the same directory. It needs microseconds."""

_BACKLOG = 64

# A peer that is silent for 15 s is asked, three times 5 s apart; data that it does not acknowledge for 30 s ends the
# connection too (tcp(7): keepalive does not run while data is in flight).
_KEEPALIVE_IDLE_SECONDS = 15
_KEEPALIVE_INTERVAL_SECONDS = 5
_KEEPALIVE_PROBES = 3
_USER_TIMEOUT_MILLISECONDS = 30_000

_PEER_CREDENTIALS = struct.Struct("iII")
"""struct ucred: process, user, group (unix(7), SO_PEERCRED)."""


class ListenError(Exception):
    """An address can't be listened on. The text names it and says why."""


@contextlib.asynccontextmanager
async def open_listeners(address: Address) -> AsyncIterator[tuple[list[trio.SocketListener], Address]]:
    """Listen, for as long as the context lasts. Gives the listeners and the address with its real port.

    Raises:
        ListenError: as the class says.
    """
    if isinstance(address, UnixAddress):
        async with _open_unix_listener(address) as listener:
            yield [listener], address
        return
    try:
        listeners = await trio.open_tcp_listeners(
            address.port, host=None if address.host == ANY_HOST else address.host, backlog=_BACKLOG
        )
    except OSError as error:
        raise ListenError(f"can't listen on {address}: {error.strerror or error}") from error
    if address.port == 0:
        for listener in listeners[1:]:  # each would have a port of its own
            await listener.aclose()
        del listeners[1:]
    try:
        yield listeners, TcpAddress(address.host, listeners[0].socket.getsockname()[1])
    finally:
        for listener in listeners:
            listener.socket.close()


@contextlib.asynccontextmanager
async def _open_unix_listener(address: UnixAddress) -> AsyncIterator[trio.SocketListener]:
    path = Path(address.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            async with _directory_lock(path.parent):
                _remove_stale(path)
                # Linux takes the new file's mode from the socket's own (unix(7)), so it is private from the start.
                os.fchmod(sock.fileno(), 0o600)
                sock.bind(address.path)
                sock.listen(_BACKLOG)
                made = _identity(path)
        except OSError as error:
            raise ListenError(f"can't listen on {address}: {error.strerror or error}") from error
        try:
            sock.setblocking(False)
            yield trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        finally:
            _remove(path, made)
    finally:
        sock.close()


@contextlib.asynccontextmanager
async def _directory_lock(directory: Path) -> AsyncIterator[None]:
    """Keep out other servers that start in the directory, so that none removes the socket that another just made."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with trio.move_on_after(_LOCK_SECONDS):
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await trio.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that is dead.

    Raises:
        OSError: EADDRINUSE where one listens, EEXIST where the file is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file of that name that is no socket; remove it or choose another")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # its queue is full, so it lives
    raise OSError(errno.EADDRINUSE, "another server listens on it")


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def _remove(path: Path, made: tuple[int, int]) -> None:
    """Remove the socket, unless another took its place."""
    with contextlib.suppress(OSError):
        if _identity(path) == made:
            path.unlink()


async def open_connection(address: Address) -> trio.SocketStream:
    """Connect. A host with several addresses is tried at each (RFC 8305).

    Raises:
        OSError: nobody answers there. Deadlines are the caller's.
    """
    if isinstance(address, UnixAddress):
        return await trio.open_unix_socket(address.path)
    return await trio.open_tcp_stream(address.host, address.port)


@attrs.frozen
class Peer:
    """Who is at the other end of a connection.

    Attributes:
        host: the address it comes from; of a unix socket "unix".
        is_local: whether that is this machine.
        uid: of its process, of a unix socket; None of TCP.
    """

    host: str
    is_local: bool
    uid: int | None


def peer_of(stream: trio.SocketStream) -> Peer:
    """Who has connected.

    Raises:
        OSError: it has gone already.
    """
    sock = stream.socket
    if sock.family == socket.AF_UNIX:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        return Peer("unix", is_local=True, uid=_PEER_CREDENTIALS.unpack(data)[1])
    address = ipaddress.ip_address(sock.getpeername()[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Peer(str(address), is_local=address.is_loopback, uid=None)


def detach(stream: trio.SocketStream) -> socket.socket:
    """The stream's socket, which is the caller's from now on, set to notice a peer that is gone."""
    sock = socket.socket(fileno=stream.socket.detach())
    notice_a_peer_that_is_gone(sock)
    return sock


def notice_a_peer_that_is_gone(sock: socket.socket | trio.socket.SocketType) -> None:
    """Have the kernel end a TCP connection whose peer no longer says anything at all."""
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_SECONDS),
        (socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_SECONDS),
        (socket.TCP_KEEPCNT, _KEEPALIVE_PROBES),
        (socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MILLISECONDS),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
