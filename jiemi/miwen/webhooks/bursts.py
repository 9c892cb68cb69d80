"""A burst of pushes is one sync: the first wakes at once, and all that follow shortly wake once more, together.

Hosts send several webhooks for one push (a branch and its tag, a merge and what it closes), and a script pushes ten
times a second. Whoever was woken is not woken again before `QUIET_SECONDS` have passed; then once, if anything came
meanwhile. So the last push of a burst is never missed, and a sender makes a Decryptor look twice a second at most.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

import trio

from jiemi.core.trace_context import TraceContext
from jiemi.tracing.current import current, in_trace

QUIET_SECONDS = 0.5

T = TypeVar("T", bound=Hashable)


class Bursts(Generic[T]):
    """Wakes those that are to look: Decryptors, or the sources that they follow.

    Args:
        wake: wakes some, in the trace of the push; must not block.
    """

    def __init__(self, wake: Callable[[Iterable[T]], None]) -> None:
        self._wake = wake
        self._recent: set[T] = set()
        self._again: dict[T, TraceContext | None] = {}
        self._news = trio.Event()

    def push(self, keys: Iterable[T]) -> None:
        """These are to look."""
        asked = set(keys)
        if not asked:
            return
        first = asked - self._recent
        self._again |= dict.fromkeys(asked & self._recent, current())
        self._recent |= first
        self._wake(first)
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            await trio.sleep(QUIET_SECONDS)
            again, self._again = self._again, {}
            self._recent = set(again)
            by_trace: dict[TraceContext | None, set[T]] = {}  # that of the last push of each
            for key, trace in again.items():
                by_trace.setdefault(trace, set()).add(key)
            for trace, keys in by_trace.items():
                with in_trace(trace):
                    self._wake(keys)
            if not again:
                self._news = trio.Event()
