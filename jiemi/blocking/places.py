"""Places for work that takes time or memory, shared so that no one can take them all.

There are so many in all, and at most half of them for one key (a namespace, a host): what hangs for one key, however
often, leaves the other half to the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Places:
    """Bounds how much is done at once.

    Args:
        total: places in all, at least 1.
    """

    def __init__(self, total: int) -> None:
        self._all = trio.CapacityLimiter(total)
        self._of_one = max(1, total // 2)
        self._by_key: dict[str, trio.CapacityLimiter] = {}

    @asynccontextmanager
    async def place(self, key: str) -> AsyncIterator[None]:
        """A place while the context lasts. It is waited for without a deadline: those before it have theirs."""
        own = self._by_key.setdefault(key, trio.CapacityLimiter(self._of_one))
        try:
            async with own, self._all:
                yield
        finally:
            if own.borrowed_tokens == 0 and own.statistics().tasks_waiting == 0:
                self._by_key.pop(key, None)
