"""How the watches of Miwen fare: which are open, how often each was begun, and why it failed."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator


class WatchCounts:
    """Counts by collection: "decryptors", "secrets", "deployments.apps". Counted in trio's thread, read from any.

    Attributes:
        begun: how often a watch was opened, the first time included.
        failed: how often a list or watch failed, by collection and reason.
        open: of each collection that is followed now, how many watches of it are open.
    """

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.failed: Counter[tuple[str, str]] = Counter()
        self.open: dict[str, int] = {}
        self._followers: Counter[str] = Counter()

    @contextlib.contextmanager
    def following(self, name: str) -> Iterator[None]:
        """While the context lasts, a collection is followed."""
        self._followers[name] += 1
        self.open.setdefault(name, 0)
        try:
            yield
        finally:
            self._followers[name] -= 1
            if not self._followers[name]:
                del self._followers[name]
                del self.open[name]

    @contextlib.contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """While the context lasts, a watch of a collection that is followed is open."""
        self.begun[name] += 1
        self.open[name] += 1
        try:
            yield
        finally:
            self.open[name] -= 1

    def failure(self, name: str, reason: str) -> None:
        """A list or a watch failed."""
        self.failed[name, reason] += 1
