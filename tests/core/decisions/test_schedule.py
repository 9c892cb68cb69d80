"""Delays, by the numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.decisions.schedule import head_max_age_seconds, next_delay_seconds, watch_retry_seconds
from jiemi.core.reasons import Kind

MIDDLE = 0.5  # no jitter


@pytest.mark.parametrize(
    ("kind", "failures", "expected"),
    [
        (None, 0, 180),
        (Kind.STALLED, 1, 180),
        (Kind.STALLED, 9, 180),
        (Kind.TRANSIENT, 1, 2),
        (Kind.TRANSIENT, 2, 4),
        (Kind.TRANSIENT, 5, 32),
        (Kind.TRANSIENT, 50, 180),
        (Kind.WAITING, 1, 3),
        (Kind.WAITING, 3, 12),
        (Kind.WAITING, 5000, 180),
    ],
)
def test_failures_back_off_by_kind_up_to_the_interval(kind: Kind | None, failures: int, expected: float) -> None:
    assert next_delay_seconds(180, failed=kind, failures_in_a_row=failures, random=MIDDLE) == expected


@pytest.mark.parametrize(
    ("kind", "failures", "expected"),
    [
        (None, 0, 180),
        (Kind.STALLED, 1, 180),
        (Kind.TRANSIENT, 1, 45),
        (Kind.TRANSIENT, 50, 45),
        (Kind.WAITING, 1, 45),
        (Kind.WAITING, 5000, 45),
    ],
)
def test_with_a_retry_interval_what_may_pass_is_tried_again_that_often_without_growing_pauses(
    kind: Kind | None, failures: int, expected: float
) -> None:
    delay = next_delay_seconds(180, failed=kind, failures_in_a_row=failures, random=MIDDLE, retry_seconds=45)
    assert delay == expected


def test_a_retry_interval_may_be_longer_than_the_interval_and_has_jitter_too() -> None:
    def delay(random: float) -> float:
        return next_delay_seconds(60, failed=Kind.WAITING, failures_in_a_row=1, random=random, retry_seconds=100)

    assert (delay(0), delay(MIDDLE)) == (90, 100)
    assert 109 < delay(0.9999) < 110


@given(st.floats(0.01, 1e6), st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_a_tenth(interval: float, random: float) -> None:
    delay = next_delay_seconds(interval, failed=None, failures_in_a_row=0, random=random)
    assert 0.899 * interval <= delay <= 1.101 * interval


@pytest.mark.parametrize(("failures", "expected"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 30), (1000, 30)])
def test_the_watch_is_opened_again_within_half_a_minute(failures: int, expected: float) -> None:
    assert watch_retry_seconds(failures, random=MIDDLE) == expected


def test_an_answer_about_the_head_may_be_half_an_interval_old() -> None:
    assert head_max_age_seconds(180) == 90
