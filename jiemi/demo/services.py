"""Krapao and Miwen as children, with their log lines under a prefix."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import trio

from jiemi.controlplane import children

GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL. Both services end within a second where nothing hangs."""


class ServiceEnded(Exception):
    """A service ended by itself; the text says which and how."""


@asynccontextmanager
async def running_service(
    name: str, arguments: Sequence[str], *, environment: Mapping[str, str], on_line: Callable[[str, str], None]
) -> AsyncIterator[None]:
    """Run `jiemi ARGUMENTS` for as long as the context lasts.

    Args:
        name: of the service, for its lines and errors.
        arguments: of the `jiemi` command.
        environment: all of the child's environment.
        on_line: called with the name and each line that it writes.

    Raises:
        ServiceEnded: it ended by itself; the context's body is cancelled then.
    """
    reading, writing = os.pipe()
    try:
        command = [sys.executable, "-m", "jiemi", *arguments]
        child = children.spawn(command, environment=environment, output=writing)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    ended: int | None = None
    asked = False
    async with trio.lowlevel.FdStream(reading) as stream, trio.open_nursery() as nursery:

        async def relay() -> None:
            await children.read_lines(stream, lambda line: on_line(name, line))

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal ended
            status = await child.wait()
            if not asked:
                ended = status
                scope.cancel()

        nursery.start_soon(relay)
        try:
            with trio.CancelScope() as scope:
                nursery.start_soon(watch, scope)
                yield
        finally:
            asked = True
            await child.end(grace_seconds=GRACE_SECONDS)
            # Its last lines are in the pipe; what inherited the pipe and lives on would keep it open.
            nursery.cancel_scope.deadline = trio.current_time() + 0.5
    if ended is not None:
        raise ServiceEnded(f"{name} ended by itself with status {ended}; its last lines are above")
