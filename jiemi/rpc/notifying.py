"""A client's watcher is notified of what it watches. On the trio side."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import trio

from jiemi.core.errors import Failure
from jiemi.core.trace_context import TraceContext
from jiemi.rpc import codec
from jiemi.rpc.capability import BridgeError, Remote
from jiemi.rpc.contract import Head, Repository
from jiemi.rpc.open_repositories import value_or_failure
from jiemi.tracing.current import current

_NOTIFY_END_SECONDS = 5
"""How long a watcher is given to hear that there will be no more news."""


async def notify_of_moves(repository: Repository, watcher: Remote) -> None:
    """Notify the watcher, one call at a time and always the newest, until cancelled or the watch fails."""
    newest: tuple[Head, TraceContext | None] | None = None
    moved = trio.Event()

    def on_moved(head: Head) -> None:
        nonlocal newest
        newest = head, current()  # called by whoever sees it move
        moved.set()

    async def notify() -> None:
        nonlocal moved
        with contextlib.suppress(BridgeError):
            while True:
                await moved.wait()
                moved = trio.Event()
                assert newest is not None  # noqa: S101  on_moved sets it first
                await watcher.call("moved", functools.partial(_write_moved, *newest), _nothing)
        nursery.cancel_scope.cancel()

    failure: Failure | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notify)
        ended = await value_or_failure(lambda: repository.watch(on_moved))
        failure = ended or Failure("InternalError", "Krapao's watch ended by itself")
        nursery.cancel_scope.cancel()
    if failure is not None:
        await notify_end(watcher, failure)


async def notify_end(watcher: Remote, failure: Failure) -> None:
    """Notify the watcher that there will be no more news, and why."""
    with trio.move_on_after(_NOTIFY_END_SECONDS), contextlib.suppress(BridgeError):
        await watcher.call("ended", functools.partial(_write_ended, failure=failure), _nothing)


def _write_ended(call: Any, *, failure: Failure) -> None:
    codec.write_failure(call.failure, failure)


def _write_moved(head: Head, trace: TraceContext | None, call: Any) -> None:
    codec.write_head(call.head, head)
    codec.write_trace(call, trace)


def _nothing(_: Any) -> None:
    """What is read of an answer that holds nothing."""
