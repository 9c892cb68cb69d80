"""Pauses that double: the one formula for everything that is tried again."""

from __future__ import annotations

_MOST_DOUBLINGS = 30
"""Beyond that no pause is sensible, and the failures of weeks would overflow a float."""


def doubled_seconds(first_seconds: float, number: int, *, most_seconds: float) -> float:
    """The pause after so many failures in a row: the first one, doubled with each further failure.

    Args:
        number: how many failures there were, 1 for the first.
        most_seconds: no pause is longer.
    """
    return min(most_seconds, first_seconds * 2.0 ** min(max(number - 1, 0), _MOST_DOUBLINGS))
