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
        closed: of each, how many are not. There is one for each namespace that Miwen looks at, or one for all.
    """

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.failed: Counter[tuple[str, str]] = Counter()
        self.open: dict[str, int] = {}
        self.closed: dict[str, int] = {}

    @contextlib.contextmanager
    def following(self, name: str) -> Iterator[None]:
        """While the context lasts, a collection is followed."""
        self.open.setdefault(name, 0)
        self.closed[name] = self.closed.get(name, 0) + 1
        try:
            yield
        finally:
            self.closed[name] -= 1
            if not self.closed[name] and not self.open[name]:
                del self.closed[name]
                del self.open[name]

    @contextlib.contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """While the context lasts, a watch of a collection that is followed is open."""
        self.begun[name] += 1
        self.open[name] += 1
        self.closed[name] -= 1
        try:
            yield
        finally:
            self.open[name] -= 1
            self.closed[name] += 1

    def failure(self, name: str, reason: str) -> None:
        """A list or a watch failed."""
        self.failed[name, reason] += 1
