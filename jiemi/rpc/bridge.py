"""The one module that touches asyncio and Cap'n Proto.

`trio.run` is the main program. pycapnp needs asyncio, so one thread owns an asyncio loop with kj's loop inside, for the
whole process and for both directions. Its rules:

- capnp objects are created, used and dropped in that thread only. The trio side holds `Remote`s, which are keys into a
  table of the thread; dropping a Remote posts the dropping of its capability. Only bytes and frozen values cross.
- trio -> loop: `Bridge.run(function)` makes an asyncio task and waits. A trio cancellation cancels that task, and the
  call raises Cancelled when the task has ended, not before.
- loop -> trio: `Bridge.in_trio(start, function)` makes a trio task by way of `TrioToken.run_sync_soon`, the one thing
  of trio's that the thread touches. When capnp drops the call (cancelled, or the peer has gone) the task's scope is
  cancelled; the giver of `start` owns the nursery that waits for it.
- Exceptions do not cross either. Their tracebacks hold frames, and those hold capnp objects, which would then be
  dropped in the wrong thread; and pycapnp would send the traceback to the peer. What crosses is rebuilt, without
  remote text.

What the loop's thread runs beside this module are the callbacks that are given to it; each says so where it is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.resources
import logging
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import capnp
import outcome
import trio

from jiemi.core.errors import JiemiError
from jiemi.rpc.capability import (
    WORD_BYTES,
    BridgeError,
    PeerFaultError,
    PeerLostError,
    PeerTooOldError,
    Remote,
    Target,
    served_class,
    where,
)
from jiemi.rpc.rare_log import rare_log
from jiemi.rpc.trio_task import StartTask, TrioTask

T = TypeVar("T")

_rare_log = rare_log("jiemi.rpc")


class Bridge:
    """The loop's thread, as the trio side sees it. Made by `open_bridge`."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._started = trio.Event()
        self._ended = trio.Event()
        self._failure: BaseException | None = None
        # Of the trio side: the calls that wait for the thread, so that none waits for ever should it die.
        self._waiting: dict[trio.lowlevel.Task, object] = {}
        # Of the loop's thread:
        self.capabilities: dict[object, Any] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._schema: Any = None
        self._thread = threading.Thread(target=self._run_thread, name="jiemi-rpc", daemon=True)

    # The thread

    def _run_thread(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001  raised by open_bridge, in the thread that can act on it
            self._failure = RuntimeError(f"the RPC thread ended: {where(error)}")
        finally:
            self.to_trio(self._thread_ended)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_log_loop_error)
        # It warns of each write to a peer that has gone, so a peer could fill the log.
        logging.getLogger("asyncio").setLevel(logging.ERROR)
        self._stop = asyncio.Event()
        async with capnp.kj_loop():
            self._schema = _load_schema()
            self.to_trio(self._started.set)
            await self._stop.wait()
            # Everything of capnp's goes before kj's loop does.
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            self.capabilities.clear()

    def _thread_ended(self) -> None:
        for task in list(self._waiting):
            self._finish(task, outcome.Error(PeerLostError("the RPC thread has ended")))
        self._started.set()
        self._ended.set()

    async def start(self) -> None:
        """Start the thread and wait until it can be used."""
        self._thread.start()
        with trio.CancelScope(shield=True):  # a few milliseconds, and without it there is nothing to stop
            await self._started.wait()

    async def close(self) -> None:
        """End the thread: cancel what still runs in it, drop every connection at once, and join it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        with trio.CancelScope(shield=True):  # bounded: nothing in the thread waits for a peer while it ends
            await self._ended.wait()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    # trio -> loop

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Call a function in the loop's thread, soon. From any thread.

        Raises:
            PeerLostError: the thread has ended.
        """
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except (RuntimeError, AttributeError):
            raise PeerLostError("the RPC thread has ended") from None

    async def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await `function()` in the loop's thread.

        When cancelled it cancels the asyncio task and waits for its end; a result that comes all the same is given.

        Raises:
            BridgeError, or the JiemiError that `function` raises.
        """
        waiter = trio.lowlevel.current_task()
        task: asyncio.Task[outcome.Outcome[T]] | None = None  # of the loop's thread
        raise_cancel: Callable[[], Any] | None = None

        async def attempt() -> outcome.Outcome[T]:
            try:
                return outcome.Value(await function())
            except Exception as error:  # noqa: BLE001  rebuilt, see the module's rules
                return outcome.Error(_rebuilt(error))

        def done(done_task: asyncio.Task[outcome.Outcome[T]]) -> None:
            self._tasks.discard(done_task)
            cancelled = done_task.cancelled()
            result = outcome.Error(PeerLostError("the call was cancelled")) if cancelled else done_task.result()
            self.to_trio(self._finish, waiter, result)

        def begin() -> None:
            nonlocal task
            task = self._loop.create_task(attempt())
            self._tasks.add(task)
            task.add_done_callback(done)

        def cancel() -> None:
            if task is not None:
                task.cancel()

        def abort(raise_cancelled: Callable[[], Any]) -> trio.lowlevel.Abort:
            nonlocal raise_cancel
            raise_cancel = raise_cancelled
            with contextlib.suppress(PeerLostError):
                self.post(cancel)
            return trio.lowlevel.Abort.FAILED

        await trio.lowlevel.checkpoint_if_cancelled()
        self.post(begin)
        self._waiting[waiter] = None
        try:
            result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        except PeerLostError:
            if raise_cancel is not None:
                raise_cancel()
            raise
        return result

    def _finish(self, waiter: trio.lowlevel.Task, result: outcome.Outcome[Any]) -> None:
        if waiter in self._waiting:
            del self._waiting[waiter]
            trio.lowlevel.reschedule(waiter, result)

    # loop -> trio

    def to_trio(self, function: Callable[..., object], *args: object) -> None:
        """Call a function in trio's thread, soon; it must not raise. From any thread."""
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function, *args)

    def spawn(self, start: StartTask, function: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Start a trio task, from the loop's thread. Returns what cancels it, for any thread."""
        task = TrioTask(start, function)
        self.to_trio(task.begin)
        return lambda: self.to_trio(task.cancel)

    async def in_trio(self, start: StartTask, function: Callable[[], Awaitable[T]]) -> T:
        """Run `function()` as a trio task and wait for it, in the loop's thread; cancelled when this is.

        Raises:
            PeerLostError: the task could not be started, or its nursery was cancelled.
            Whatever `function` raises; let that be no exception of a library.
        """
        future: asyncio.Future[outcome.Outcome[T]] = self._loop.create_future()

        def answer(result: outcome.Outcome[T]) -> None:
            if not future.done():
                future.set_result(result)

        async def task() -> None:
            result: outcome.Outcome[T] = outcome.Error(PeerLostError("the work was cancelled"))
            try:
                result = await outcome.acapture(function)
                # trio's own exception has to go on its way.
                if isinstance(result, outcome.Error) and not isinstance(result.error, Exception):
                    error, result = result.error, outcome.Error(PeerLostError("the work was cancelled"))
                    raise error
            finally:
                with contextlib.suppress(PeerLostError):
                    self.post(answer, result)

        def refused() -> None:
            with contextlib.suppress(PeerLostError):
                self.post(answer, outcome.Error(PeerLostError("no more work is taken")))

        trio_task = TrioTask(start, task, refused)
        self.to_trio(trio_task.begin)
        try:
            result = await future
        except asyncio.CancelledError:
            self.to_trio(trio_task.cancel)
            raise
        return result.unwrap()

    # Connections

    async def connect(
        self, sock: socket.socket, interface: str, *, receive_bytes: int, ready: Callable[[Remote], None]
    ) -> None:
        """Be the client of a connected stream socket, which this owns from now on, until the connection ends.

        Args:
            interface: the name of the bootstrap capability's.
            receive_bytes: a message of the server's that is larger ends the connection (surely from twice this on).
            ready: called in trio's thread with the bootstrap capability.
        """

        def make_client(stream: Any) -> Any:
            client = capnp.TwoPartyClient(stream, traversal_limit_in_words=_words(receive_bytes))
            self.to_trio(ready, self.hold(client.bootstrap().cast_as(getattr(self._schema, interface))))
            return client

        await self._talk(sock, make_client)

    async def answer(self, sock: socket.socket, interface: str, target: Target, *, receive_bytes: int) -> None:
        """Be the server of a connected stream socket, which this owns from now on, until the connection ends.

        Args:
            interface, target: the bootstrap capability's.
            receive_bytes: a message of the client's that is larger ends the connection (surely from twice this on).
        """

        def make_server(stream: Any) -> Any:
            bootstrap = self.serve(interface, target)
            return capnp.TwoPartyServer(stream, bootstrap=bootstrap, traversal_limit_in_words=_words(receive_bytes))

        await self._talk(sock, make_server)

    async def _talk(self, sock: socket.socket, make_end: Callable[[Any], Any]) -> None:
        async def talk() -> None:
            owned = _OwnedSocket(sock)
            stream = end = None
            try:
                stream = await capnp.AsyncIoStream.create_connection(sock=owned)
                end = make_end(stream)
                with contextlib.suppress(capnp.KjException):
                    await end.on_disconnect()
            finally:
                if end is not None:
                    end.close()
                if stream is not None:
                    stream.close()
                await owned.end(at_once=stream is None)

        try:
            with contextlib.suppress(PeerLostError):
                await self.run(talk)
        finally:
            sock.close()  # where the thread did not come to take it

    def hold(self, capability: Any) -> Remote:
        """A Remote for a capability that came in a message. In the loop's thread only."""
        remote = Remote(self, lambda: None)
        self.capabilities[remote._key] = capability
        return remote

    def serve(self, interface: str, target: Target) -> Any:
        """A capability to put into a message, which stands for the target. In the loop's thread only."""
        return served_class(getattr(self._schema, interface), asyncio.CancelledError)(target)


@contextlib.asynccontextmanager
async def open_bridge() -> AsyncIterator[Bridge]:
    """The process's one bridge, for as long as the context lasts.

    Leaving it drops the connections that are left and joins the thread; peers that hang do not hold it up.
    """
    bridge = Bridge()
    await bridge.start()
    try:
        yield bridge
    finally:
        await bridge.close()


@functools.cache
def _load_schema() -> Any:
    package = importlib.resources.files("jiemi")
    path = Path(str(package)) / "schema" / "krapao.capnp"
    if not path.is_file():  # a checkout, where the schema is beside the package
        path = Path(str(package)).parent / "schema" / "krapao.capnp"
    return capnp.load(str(path))


class _OwnedSocket(socket.socket):
    """A connection's socket in the loop's thread, of which one can await the closing.

    A transport that is closed first sends what it still holds, for ever where the peer reads nothing, and pycapnp gives
    no way to abort it. Shutting the socket down does: the transport's next write fails, and then it closes the socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        super().__init__(fileno=sock.detach())
        self.setblocking(False)
        self._closed_event = asyncio.Event()

    def close(self) -> None:
        super().close()
        self._closed_event.set()

    async def end(self, *, at_once: bool) -> None:
        """Have it closed and wait for that; `at_once` where no transport has it."""
        if at_once:
            self.close()
            return
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)
        while not self._closed_event.is_set():
            with contextlib.suppress(asyncio.CancelledError):  # once more: the loop itself may be ending
                await self._closed_event.wait()


def _words(size_bytes: int) -> int:
    """A limit for messages of that size. It is one for their size and for what reading them traverses, so some more."""
    return 2 * (size_bytes // WORD_BYTES) + 8_192


def _rebuilt(error: Exception) -> Exception:
    """An exception to raise on the trio side for one of the loop's thread: without its traceback or remote text."""
    if isinstance(error, JiemiError):
        return JiemiError.of(error.failure)
    if isinstance(error, BridgeError):
        return type(error)(*error.args)
    if isinstance(error, capnp.KjException) and error.type == "DISCONNECTED":
        return PeerLostError("the connection ended")
    if isinstance(error, capnp.KjException) and error.type == "UNIMPLEMENTED":
        return PeerTooOldError("the peer does not know the method")
    # A peer can cause it, by a capability that is none for example.
    place = where(error)
    _rare_log.error("rpc_call_failed", kind=place, error=place)
    return PeerFaultError(f"the call failed ({type(error).__name__})")


def _log_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    place = "" if error is None else where(error)
    _rare_log.error("rpc_loop_failed", kind=place, error=place or None)
