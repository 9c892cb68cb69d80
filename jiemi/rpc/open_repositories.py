"""The trio side of a repository that a client has open, and the bytes that its answers may have in flight.

A `RepositoryTask` is a task that keeps the repository entered and starts what comes to its inbox, until the inbox is
closed. Its calls end before the repository does, because their nursery is inside of it.
"""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import attrs
import structlog
import trio

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.trace_context import TraceContext
from jiemi.rpc.bridge import Bridge
from jiemi.rpc.capability import where
from jiemi.rpc.contract import Changes, Files, FilesRequest, Head, Rendered, RenderRequest, Repository
from jiemi.rpc.limits import Account
from jiemi.rpc.verification import Verified
from jiemi.tracing.current import in_trace

T = TypeVar("T")

_ANSWER_BYTES = 4 * 1024
"""What an answer that was not taken costs, beside what is in it."""

_log = structlog.get_logger("jiemi.rpc")


class RepositoryTask:
    """Keeps one repository open and runs its calls. On the trio side; only made in the loop's thread."""

    def __init__(self, start_soon: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
        self._start_self = start_soon
        self._inbox: trio.MemorySendChannel[Callable[[], Awaitable[None]]] | None = None
        self.repository: Repository

    def begin(self, open_repository: Callable[[], AbstractAsyncContextManager[Repository]]) -> None:
        self._inbox, inbox = trio.open_memory_channel[Callable[[], Awaitable[None]]](math.inf)
        with contextlib.suppress(RuntimeError):  # the connection has just ended
            self._start_self(lambda: self._hold(open_repository, inbox))

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        if self._inbox is None:
            raise trio.ClosedResourceError
        self._inbox.send_nowait(function)

    def close(self) -> None:
        if self._inbox is not None:
            self._inbox.close()

    async def _hold(
        self,
        open_repository: Callable[[], AbstractAsyncContextManager[Repository]],
        inbox: trio.MemoryReceiveChannel[Callable[[], Awaitable[None]]],
    ) -> None:
        with inbox:
            try:
                async with open_repository() as self.repository:
                    await _run_all(inbox)
                return
            except Exception as error:  # noqa: BLE001  a repository that fails must not end its connection
                failure = internal_error(error)
            self.repository = Refused(failure)
            await _run_all(inbox)


async def _run_all(inbox: trio.MemoryReceiveChannel[Callable[[], Awaitable[None]]]) -> None:
    """Run what comes until the other end closes; then cancel what still runs."""
    async with trio.open_nursery() as nursery:
        async for function in inbox:
            nursery.start_soon(function)
            # What it comes to, an answer with its permit, would otherwise last until the repository's next call.
            del function
        nursery.cancel_scope.cancel()


@attrs.frozen
class Refused:
    """A repository that can't be had: every method raises the reason."""

    failure: Failure

    async def head(self, *, max_age_seconds: float) -> Head:
        raise JiemiError.of(self.failure)

    async def verify(self, request: FilesRequest) -> Verified:
        raise JiemiError.of(self.failure)

    async def files(self, request: FilesRequest) -> Files:
        raise JiemiError.of(self.failure)

    async def changes(self, before: str, after: str) -> Changes:
        raise JiemiError.of(self.failure)

    async def render(self, request: RenderRequest) -> Rendered:
        raise JiemiError.of(self.failure)

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        raise JiemiError.of(self.failure)


class Permit:
    """Bytes of a `Budget`. They are given back when it is dropped, on whichever side and for whatever reason."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back = give_back

    def __del__(self) -> None:
        self._give_back()


class Budget:
    """Bytes that may be in flight. On the trio side.

    Args:
        account: charged too, for as long as they are, and while they wait to be.
    """

    def __init__(self, limit_bytes: int, bridge: Bridge, account: Account) -> None:
        self._limit = limit_bytes
        self._bridge = bridge
        self._account = account
        self._used = 0
        self._turn = trio.Lock()
        self._given_back = trio.Event()

    async def acquire(self, size: int) -> Permit:
        """Wait, first come first served, until there is room; one that is larger than all of it goes alone.

        Raises:
            JiemiError: KrapaoUnavailable where the account has no room.
        """
        size += _ANSWER_BYTES
        # What waits is held all the same, and as many may wait as there are calls.
        if not self._account.charge(size):
            raise JiemiError("KrapaoUnavailable", "Krapao holds as much for its clients as it may")
        try:
            async with self._turn:
                while self._used and self._used + size > self._limit:
                    self._given_back = trio.Event()
                    await self._given_back.wait()
                self._used += size
        except BaseException:
            self._account.give_back(size)
            raise
        return Permit(lambda: self._bridge.to_trio(self._give_back, size))

    def _give_back(self, size: int) -> None:
        self._used -= size
        self._account.give_back(size)
        self._given_back.set()


def internal_error(error: Exception) -> Failure:
    number = secrets.token_hex(4)
    _log.error("own_fault", fault=number, error=where(error))
    return Failure("InternalError", f"Krapao met a fault of its own; its log says more beside fault={number}")


async def value_or_failure(work: Callable[[], Awaitable[T]], trace: TraceContext | None = None) -> T | Failure:
    """What work comes to, in the trace that it is for; or why it failed. It raises nothing but trio's own Cancelled."""
    with in_trace(trace):
        try:
            return await work()
        except JiemiError as error:
            return error.failure
        except Exception as error:  # noqa: BLE001  the client learns that it is a fault, and the log what
            return internal_error(error)
