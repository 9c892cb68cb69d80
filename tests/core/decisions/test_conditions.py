"""The conditions of a status, one of each type, and their times."""

from __future__ import annotations

import datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.api.decryptor_status import Condition
from jiemi.core.decisions.conditions import rfc3339, with_condition, without_condition
from jiemi.core.decisions.status import blank


def ready(status: str = "True", time: str = "t1", reason: str = "Synced") -> Condition:
    return Condition("Ready", status, reason, "message", time, 1)


STALLED = Condition("Stalled", "True", "X", "message", "t0", 1)


@pytest.mark.parametrize(
    ("before", "new", "without", "after"),
    [
        ((), ready(), (), (ready(),)),
        ((STALLED,), ready(), (), (STALLED, ready())),
        ((STALLED,), ready(), ("Stalled",), (ready(),)),
        ((ready(), STALLED), ready("False", "t2"), (), (ready("False", "t2"), STALLED)),
        # The time is that of the status, and not that of the reason.
        ((ready(), STALLED), ready("True", "t2", "Other"), (), (ready("True", "t1", "Other"), STALLED)),
        # One that was left out and is back begins again.
        ((ready(),), ready("True", "t2"), ("Ready",), (ready("True", "t2"),)),
    ],
)
def test_a_condition_takes_the_place_of_the_one_of_its_type(
    before: tuple[Condition, ...], new: Condition, without: tuple[str, ...], after: tuple[Condition, ...]
) -> None:
    status = attrs.evolve(blank("f.yaml"), conditions=before)
    assert with_condition(status, new, without=without) == after


def test_a_condition_is_left_out_by_its_type() -> None:
    status = attrs.evolve(blank("f.yaml"), conditions=(ready(), STALLED))
    assert without_condition(status, "Stalled") == (ready(),)
    assert without_condition(status, "Drifted") == (ready(), STALLED)


# Hypothesis wants bounds without a time zone.
_FIRST, _LAST = datetime.datetime(1970, 1, 2), datetime.datetime(2999, 1, 1)  # noqa: DTZ001 - see above


@given(
    st.datetimes(_FIRST, _LAST, timezones=st.timezones()),
)
def test_times_are_in_utc_with_seconds(moment: datetime.datetime) -> None:
    text = rfc3339(moment)
    read = datetime.datetime.fromisoformat(text)
    assert text.endswith("Z")
    assert read.utcoffset() == datetime.timedelta(0)
    assert datetime.timedelta(0) <= moment - read < datetime.timedelta(seconds=1)
