"""Cycles of things that wait for one another.

Each thing asks for itself, whenever it is about to wait: am I in a cycle? So exactly its members report a
cycle. One that merely waits for a member waits on, as it would for any other that is not ready.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from jiemi.core.names import NamespacedName

_MAX_SHOWN = 6
"""How many names of a cycle a message shows before the one that closes it."""

_NAME_LIMIT_CHARACTERS = 100
"""Of "namespace/name" in a message. Both together can be 317 long."""


def find_cycle(
    start: NamespacedName, depends_on: Callable[[NamespacedName], Iterable[NamespacedName]]
) -> tuple[NamespacedName, ...] | None:
    """The shortest cycle that something is itself a part of.

    It is looked for breadth first: the time is in proportion to the dependencies that can be reached, and they may be
    of any depth.

    Args:
        start: where the cycle begins and ends.
        depends_on: what a key waits for; empty for a key that does not exist. Called at most once for each key.

    Returns:
        `start`, …, `start`, or None. Among cycles of one length, the one whose keys come first in what `depends_on`
        gives.
    """
    came_from: dict[NamespacedName, NamespacedName | None] = {start: None}
    queue = deque([start])
    while queue:
        key = queue.popleft()
        for other in depends_on(key):
            if other == start:
                return (*_way(key, came_from), start)
            if other not in came_from:
                came_from[other] = key
                queue.append(other)
    return None


def describe_cycle(cycle: Sequence[NamespacedName]) -> str:
    """A cycle for messages: "a/x -> a/y -> a/x". Of a long one its beginning, how many are left out, and its end."""
    names = [_name(key) for key in cycle[:_MAX_SHOWN]]
    left_out = len(cycle) - _MAX_SHOWN - 1
    if left_out > 0:
        names.append(f"({left_out} more)")
    return " -> ".join([*names, *(_name(key) for key in cycle[_MAX_SHOWN:][-1:])])


def _way(
    key: NamespacedName | None, came_from: dict[NamespacedName, NamespacedName | None]
) -> tuple[NamespacedName, ...]:
    """How the search came to a key, from the start."""
    backwards = []
    while key is not None:
        backwards.append(key)
        key = came_from[key]
    return tuple(reversed(backwards))


def _name(key: NamespacedName) -> str:
    text = "/".join(key)
    return text if len(text) <= _NAME_LIMIT_CHARACTERS else text[: _NAME_LIMIT_CHARACTERS - 1] + "…"
