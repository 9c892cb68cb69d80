"""Pauses that double."""

from __future__ import annotations

import pytest

from jiemi.core.backoff import doubled_seconds


@pytest.mark.parametrize(("number", "seconds"), [(0, 2), (1, 2), (2, 4), (3, 8), (6, 64), (7, 100), (10**9, 100)])
def test_a_pause_doubles_up_to_the_longest(number: int, seconds: float) -> None:
    assert doubled_seconds(2.0, number, most_seconds=100.0) == seconds
