"""A burst of pushes is one sync: the first wakes at once, and all that follow shortly wake once more, together.

Hosts send several webhooks for one push (a branch and its tag, a merge and what it closes), and a script pushes ten
times a second. Whoever was woken is not woken again before `QUIET_SECONDS` have passed; then once, if anything came
meanwhile. So the last push of a burst is never missed, and a sender makes a Decryptor look twice a second at most.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

import trio

QUIET_SECONDS = 0.5

T = TypeVar("T", bound=Hashable)


class Bursts(Generic[T]):
    """Wakes those that are to look: Decryptors, or the sources that they follow.

    Args:
        wake: wakes some; must not block.
    """

    def __init__(self, wake: Callable[[Iterable[T]], None]) -> None:
        self._wake = wake
        self._recent: set[T] = set()
        self._again: set[T] = set()
        self._news = trio.Event()

    def push(self, keys: Iterable[T]) -> None:
        """These are to look."""
        asked = set(keys)
        if not asked:
            return
        first = asked - self._recent
        self._again |= asked & self._recent
        self._recent |= first
        self._wake(first)
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            await trio.sleep(QUIET_SECONDS)
            again, self._again = self._again, set()
            self._recent = set(again)
            if again:
                self._wake(again)
            else:
                self._news = trio.Event()
