"""Suggestions for a name that was not found: existing names that are similar to it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_MOST_COMPARED = 1_000
"""How many names are compared. Each takes some 50 µs."""

_MOST_CHARACTERS = 100
"""The longest part of a name that is compared; of two texts the time grows with the product of their lengths."""


def near(wanted: str, names: Iterable[str], *, most: int = 3) -> tuple[str, ...]:
    """The names that are similar to the wanted one, the most similar first.

    Args:
        wanted: the name that was not found.
        names: the existing ones; of very many, only the first are compared.
        most: how many are returned.
    """
    compared: dict[str, str] = {}
    for name in names:
        compared.setdefault(_for_comparison(name), name)
        if len(compared) == _MOST_COMPARED:
            break
    found = difflib.get_close_matches(_for_comparison(wanted), compared, n=most, cutoff=0.6)
    return tuple(compared[each] for each in found)


def some_of(wanted: str, names: Sequence[str], *, most: int = 5) -> str:
    """A few of the names, those first that are like the one that is wanted: "main, dev and 3 more"."""
    first = near(wanted, names, most=most)
    rest = [name for name in names if name not in first]
    shown = [*first, *rest][:most]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _for_comparison(name: str) -> str:
    return name[:_MOST_CHARACTERS].lower()
