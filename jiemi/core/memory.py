"""Roughly how much memory parsed JSON takes, and how memory is shared among namespaces.

Miwen holds things whose size a Decryptor's owner controls, for as long as the Decryptor exists: its spec with literal
credentials, its status with the inventory, and the credentials that its repository was opened with. `MemoryBudget`
grants memory by namespace, so that no namespace can take what the others need.

    granted, where  of the namespace + asked <= its share      and  of all + asked <= all that is granted
    or, where       of the namespace + asked <= its guarantee

The guarantee is what the namespaces have left to them when a few hold all that is granted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

MEBIBYTE = 1024 * 1024

DEFAULT_TOTAL_BYTES = 192 * MEBIBYTE
"""All that is granted. With the guarantees it is at most half as much again. Of the 512 MiB of deploy/miwen.yaml, Miwen
itself takes some 90, and what is being decrypted, read and applied the rest."""

SHARE = 3
"""A namespace gets at most one of this many parts of it."""

_NODE_BYTES = 100
"""What a mapping, list or number takes with its place in another, measured on the objects that are made of them."""


def held_bytes(value: Any) -> int:
    """Roughly how many bytes the Python objects of a JSON value take."""
    total = 0
    open_ones = [value]
    while open_ones:
        each = open_ones.pop()
        if isinstance(each, str):
            total += sys.getsizeof(each)
            continue
        total += _NODE_BYTES
        if isinstance(each, Mapping):
            open_ones += each.values()
        elif isinstance(each, list):
            open_ones += each
    return total


class MemoryBudget:
    """Bytes that are granted, by namespace and by what takes them.

    Args:
        total_bytes: all that is granted.
    """

    def __init__(self, total_bytes: int = DEFAULT_TOTAL_BYTES) -> None:
        self.total_bytes = total_bytes
        self.share_bytes = total_bytes // SHARE
        self._taken: dict[Hashable, tuple[str, int]] = {}
        self._of: Counter[str] = Counter()
        self._sum = 0

    def take(self, namespace: str, what: Hashable, size_bytes: int) -> bool:
        """Take bytes for something, in place of those that it took until now. Returns whether they are granted.

        If they are not, it has none. A request that is not larger than before is always granted: first come, first
        served.
        """
        before = self._taken.get(what)
        is_not_larger = before is not None and before[0] == namespace and size_bytes <= before[1]
        self.give_back(what)
        if not is_not_larger and not self.has_room(namespace, size_bytes):
            return False
        self._taken[what] = namespace, size_bytes
        self._of[namespace] += size_bytes
        self._sum += size_bytes
        return True

    def has_room(self, namespace: str, size_bytes: int) -> bool:
        """Whether so many bytes more would be granted."""
        used = self._of.get(namespace, 0)
        if used + size_bytes <= self.guarantee_bytes(namespace):
            return True
        return used + size_bytes <= self.share_bytes and self._sum + size_bytes <= self.total_bytes

    def give_back(self, what: Hashable) -> bool:
        """Give back what something took. Returns whether it had taken anything."""
        namespace, size = self._taken.pop(what, ("", 0))
        if not size:
            return False
        self._sum -= size
        self._of[namespace] -= size
        if not self._of[namespace]:
            del self._of[namespace]
        return True

    def guarantee_bytes(self, namespace: str) -> int:
        """How many bytes a namespace gets, however much the others have taken."""
        namespaces = len(self._of) + (namespace not in self._of)
        return min(self.share_bytes, self.total_bytes // 2 // namespaces)

    def used_bytes(self, namespace: str | None = None) -> int:
        """What a namespace has taken; None: what all have."""
        return self._sum if namespace is None else self._of.get(namespace, 0)
