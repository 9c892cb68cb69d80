"""How long something that another has to do is waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator

import attrs
import trio

POLL_SECONDS = 0.2
"""How often it is looked whether it is done."""


@attrs.define
class WaitBudget:
    """Bounds several waits together; those that are under way at once count once.

    Attributes:
        seconds: what is left of it.
        check: called at each look; what it raises ends the wait.
    """

    seconds: float
    check: Callable[[], None]
    _waiting: int = attrs.field(default=0, init=False)
    _since: float = attrs.field(default=0.0, init=False)

    async def poll_until(self, is_done: Callable[[], Awaitable[bool]]) -> bool:
        """Look until it is done, or there is no patience left; with none at all, not even once. Returns whether it is.

        Raises:
            Whatever `check` or `is_done` raises.
        """
        done = False
        with self._counted():
            while not (done := await is_done()):
                self.check()
                await trio.sleep(POLL_SECONDS)
        return done

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if not self._waiting:
            self._since = trio.current_time()
        self._waiting += 1
        try:
            with trio.move_on_at(self._since + self.seconds):
                yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.seconds -= trio.current_time() - self._since
