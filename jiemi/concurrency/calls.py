"""Run a blocking function on a worker thread so that cancelling it ends it.

trio can't stop a thread. `abandon_on_cancel` only stops waiting for it, and then it holds its socket, its lock and its
half-done work for as long as the far end likes. So the function gets an `Interrupter` and notes with it, before each
wait, how to end that wait (shut the socket down, kill the process). A cancellation calls that, and then waits for the
thread, which now ends by itself with an error that nobody sees.

The function finds its interrupter in its argument; code that a library calls back finds it with `current()`.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import outcome
import trio

T = TypeVar("T")


class Interrupted(OSError):
    """The call was interrupted before the next wait began. Seen inside the worker thread only."""


class Interrupter:
    """How to end the wait that a worker thread is in. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end_wait: Callable[[], None] | None = None
        self._interrupted = False

    @property
    def interrupted(self) -> bool:
        """Whether the call was cancelled."""
        return self._interrupted

    def use(self, end_wait: Callable[[], None] | None) -> None:
        """Note how to end the wait that comes next, in place of what was noted before.

        Args:
            end_wait: called at most once, from another thread; must not block. None where no wait can be ended.

        Raises:
            Interrupted: the call is already cancelled; do not begin the wait.
        """
        with self._lock:
            if self._interrupted:
                raise Interrupted("the call was cancelled")
            self._end_wait = end_wait

    def interrupt(self) -> None:
        """End the wait that the thread is in, and every later one before it begins."""
        with self._lock:
            self._interrupted = True
            end_wait, self._end_wait = self._end_wait, None
            if end_wait is not None:
                with contextlib.suppress(OSError):
                    end_wait()


_current = threading.local()


def current() -> Interrupter:
    """The interrupter of the call that this thread runs, or one that nobody interrupts."""
    interrupter = getattr(_current, "interrupter", None)
    return interrupter if isinstance(interrupter, Interrupter) else Interrupter()


_interrupted_at: dict[Interrupter, float] = {}
"""The calls of this process that were interrupted and whose threads have not ended."""


def stuck_seconds() -> float:
    """How long ago the call was interrupted whose thread has gone on the longest since; 0 where there is none.

    A thread usually ends within a millisecond. It may go on for as long as the resolver takes to look up a name, which
    nothing can interrupt; for much longer it does only where it hangs, and holds what it has for ever. From any thread.
    """
    since = min(list(_interrupted_at.values()), default=None)
    return time.monotonic() - since if since is not None else 0.0


async def run_blocking(function: Callable[[Interrupter], T], *, limiter: trio.CapacityLimiter) -> T:
    """Call `function(interrupter)` on a worker thread; when cancelled, interrupt it and wait for its end.

    Args:
        function: the blocking work. Its waits need deadlines of their own where it can't say how to end them.
        limiter: bounds how many such calls run at once; waiting for a place can be cancelled.

    Raises:
        Whatever the function raises.
    """
    interrupter = Interrupter()

    def call() -> T:
        _current.interrupter = interrupter
        try:
            return function(interrupter)
        finally:
            _current.interrupter = None
            # It no longer waits for anything. Its connection may be in a pool, and is not to be shut down below.
            with contextlib.suppress(Interrupted):
                interrupter.use(None)

    async def interrupt_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            _interrupted_at[interrupter] = time.monotonic()
            interrupter.interrupt()

    async with limiter:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(interrupt_when_cancelled)
                with trio.CancelScope(shield=True):
                    # A limiter of its own: the place was taken above, where waiting for it could be cancelled.
                    result = await trio.to_thread.run_sync(outcome.capture, call, limiter=trio.CapacityLimiter(1))
                nursery.cancel_scope.cancel()
        finally:
            # Also after a call that ended by itself: the other task notes that too.
            _interrupted_at.pop(interrupter, None)
        if isinstance(result, outcome.Error):
            # What an interruption made the function raise is not the caller's to see: the caller was cancelled.
            await trio.lowlevel.checkpoint_if_cancelled()
        return result.unwrap()


@contextlib.contextmanager
def interruptible_socket(interrupter: Interrupter, sock: socket.socket) -> Iterator[None]:
    """While the context lasts, an interruption shuts the socket down."""
    interrupter.use(lambda: sock.shutdown(socket.SHUT_RDWR))
    try:
        yield
    finally:
        with contextlib.suppress(Interrupted):
            interrupter.use(None)


def connect_tcp(
    interrupter: Interrupter,
    host: str,
    port: int,
    *,
    timeout_seconds: float | None,
    permit: Callable[[str, Sequence[str]], None] | None = None,
) -> socket.socket:
    """A TCP connection, whose making can be interrupted (all but the name lookup, which the resolver bounds).

    The name is looked up once: what `permit` saw is what is connected to.

    Args:
        timeout_seconds: for each address of the host; it stays set on the socket as its read timeout.
        permit: called with the host and all its addresses before one is connected to; what it raises is passed on.

    Raises:
        OSError: as `socket.create_connection`; TimeoutError where no answer came in time.
    """
    error: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as failed:  # a label of more than 63 characters, which the codec refuses before it is looked up
        raise socket.gaierror(socket.EAI_NONAME, "the name is no name of a host") from failed
    if permit is not None:
        permit(host, [str(each[4][0]) for each in found])
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout_seconds)
            with interruptible_socket(interrupter, sock):
                sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as caught:
            sock.close()
            error = caught
            if interrupter.interrupted:
                raise
        else:
            return sock
    raise error if error is not None else OSError("the name has no address")


def counted(stream: io.BufferedReader, received: Callable[[int], None]) -> io.BufferedReader:
    """A socket's stream, in place of the one given, that reports how much comes as it comes.

    Args:
        stream: as `socket.makefile("rb")` gives it; it is no longer to be used.
        received: called with the number of bytes; what it raises goes to the reader.
    """
    return io.BufferedReader(_Counted(stream.detach(), received))


class _Counted(io.RawIOBase):
    def __init__(self, stream: io.RawIOBase, received: Callable[[int], None]) -> None:
        self._stream = stream
        self._received = received

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._stream.readinto(buffer)
        if count:
            self._received(count)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()
