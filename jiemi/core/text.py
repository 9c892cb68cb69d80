"""Lists in messages."""

from __future__ import annotations

from collections.abc import Sequence


def first_of(texts: Sequence[str], most: int = 5, separator: str = ", ") -> str:
    """The first few texts, and how many more there are: "a, b and 3 more".

    Args:
        texts: in the order in which they are shown.
        most: how many are shown.
        separator: between them; unless it is a comma, it is before the number too ("a; b; and 3 more").
    """
    if len(texts) <= most:
        return separator.join(texts)
    before_the_number = " " if separator == ", " else separator
    return f"{separator.join(texts[:most])}{before_the_number}and {len(texts) - most} more"
