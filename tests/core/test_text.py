"""Lists in messages."""

from __future__ import annotations

import pytest

from jiemi.core.text import first_of


@pytest.mark.parametrize(
    ("texts", "separator", "shown"),
    [
        ([], ", ", ""),
        (["a"], ", ", "a"),
        (["a", "b", "c"], ", ", "a, b, c"),
        (["a", "b", "c", "d"], ", ", "a, b, c and 1 more"),
        (["a", "b", "c", "d", "e"], "; ", "a; b; c; and 2 more"),
    ],
)
def test_the_first_few_are_shown_and_the_others_counted(texts: list[str], separator: str, shown: str) -> None:
    assert first_of(texts, 3, separator) == shown
