"""Patterns of names: ARNs, resource ids, addresses, paths, namespaces.

`*` matches any characters except `:` and `/`, so that it never reaches into the next part of a name. `**` matches any
characters at all, and every other character matches itself. A pattern must match the whole name.

The name may be hostile, and the pattern another tenant's. So this is not a regular expression, which would try all ways
in which stars can share a name. It keeps the places that are reached after each part of the pattern, and its time is in
proportion to the name's length times the number of stars.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence

_STARS = re.compile(r"(\*\*|\*)")
_NOT_BY_ONE_STAR = frozenset(":/")


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern matches a name."""
    first, *rest = _STARS.split(pattern)
    if not rest:
        return name == pattern
    if not name.startswith(first):
        return False
    reached: Sequence[int] = [len(first)]
    borders = _last_border_before(name)
    for star, literal in zip(rest[::2], rest[1::2], strict=True):
        reached = [
            place + len(literal)
            for place in _occurrences(name, literal)
            if _is_reached(place, reached, borders if star == "*" else None)
        ]
        if not reached:
            return False
    return reached[-1] == len(name)


def _is_reached(place: int, starts: Sequence[int], borders: Sequence[int] | None) -> bool:
    """Whether a star reaches from one of the places before to this one. The nearest decides: it crosses the least."""
    index = bisect.bisect_right(starts, place) - 1
    return index >= 0 and (borders is None or borders[place] < starts[index])


def _last_border_before(name: str) -> list[int]:
    """For each place in a name, where the last character before it is that one star does not cross; -1 for none."""
    found, last = [], -1
    for place, char in enumerate(name):
        found.append(last)
        if char in _NOT_BY_ONE_STAR:
            last = place
    return [*found, last]


def _occurrences(name: str, literal: str) -> Iterator[int]:
    place = name.find(literal)
    while place >= 0:
        yield place
        place = name.find(literal, place + 1)
