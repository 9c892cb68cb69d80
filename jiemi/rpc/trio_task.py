"""A trio task that the bridge's other thread asked for, with what cancels it. Needs neither asyncio nor pycapnp."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

StartTask = Callable[[Callable[[], Awaitable[None]]], None]
"""How a trio task is started, for example a nursery's `start_soon`. May raise what a closed nursery or channel does."""


class TrioTask:
    """A trio task that the loop's thread asked for. Its methods run in trio's thread."""

    def __init__(
        self, start: StartTask, function: Callable[[], Awaitable[None]], refused: Callable[[], None] | None = None
    ) -> None:
        self._start = start
        self._function = function
        self._refused = refused
        self._scope: trio.CancelScope | None = None

    def begin(self) -> None:
        self._scope = trio.CancelScope()
        try:
            self._start(self._run)
        except (RuntimeError, trio.BrokenResourceError, trio.ClosedResourceError):
            if self._refused is not None:
                self._refused()

    async def _run(self) -> None:
        assert self._scope is not None  # noqa: S101  begin made it
        with self._scope:
            await self._function()

    def cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
