"""Accepts connections no faster than a pace, and closes those of unwanted sources at once.

A flood comes from few sources as a rule, and once these have had their share refused, closing their connections must
cost next to nothing: then it is done as fast as they come, and the queue in the kernel has room for everybody else. So
they are accepted and closed by the kernel's own calls, many in a row, and none becomes a stream.
"""

from __future__ import annotations

import errno
import functools
import socket
from collections.abc import Callable

import trio

from jiemi.miwen.webhooks.limits import UNREAD_COST, Pace, source_of

_AT_ONCE = 64
"""How many are closed in a row before others get their turn: a millisecond or two."""

_FAULTS_OF_A_CONNECTION = frozenset(
    {
        *(errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN),
        *(errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH),
    }
)
"""What accept(2) reports of the connection, not of the listener; all but the first two under Linux only."""

_source_of = functools.lru_cache(maxsize=4_096)(source_of)


class PacedListener(trio.abc.Listener[trio.SocketStream]):
    """See the module.

    Args:
        listener: it is taken over.
        pace: shared by all listeners of a port.
        is_unwanted: whether a connection from a source is closed unread.
    """

    def __init__(self, listener: trio.SocketListener, pace: Pace, is_unwanted: Callable[[str], bool]) -> None:
        self._socket = socket.socket(fileno=listener.socket.detach())
        self._socket.setblocking(False)
        self._pace = pace
        self._is_unwanted = is_unwanted

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._socket.getsockname()[1]
        return port

    async def accept(self) -> trio.SocketStream:
        """The next connection that is wanted.

        Raises:
            OSError: there are too many open files, or too little memory (`trio.serve_listeners` waits a moment then);
                or the listener can't be used.
        """
        while True:
            await trio.lowlevel.checkpoint()
            now = trio.current_time()
            if (seconds := self._pace.wait_seconds(now)) > 0:
                await trio.sleep(seconds)
                continue
            try:
                wanted = self._next(now)
            except (BlockingIOError, InterruptedError):
                await trio.lowlevel.wait_readable(self._socket)  # without a deadline: until someone comes
                continue
            if wanted is not None:
                return trio.SocketStream(trio.socket.from_stdlib_socket(wanted))

    def _next(self, now: float) -> socket.socket | None:
        """The next one that is wanted, of the next few; None where there is none among them.

        Raises:
            BlockingIOError: nobody waits.
            OSError: as `accept`.
        """
        for _ in range(_AT_ONCE):
            try:
                connection, address = self._socket.accept()
            except OSError as error:
                if error.errno in _FAULTS_OF_A_CONNECTION:
                    continue
                raise
            if not self._is_unwanted(_source_of(str(address[0]))):
                self._pace.take(now)
                return connection
            connection.close()
            self._pace.take(now, UNREAD_COST)
            if self._pace.wait_seconds(now) > 0:
                break
        return None

    async def aclose(self) -> None:
        """Listen no longer."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        await trio.lowlevel.checkpoint()
