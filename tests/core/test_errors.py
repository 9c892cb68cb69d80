"""Failures are safe to show, and each has a reason that the table explains."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import MESSAGE_LIMIT_CHARACTERS, REASONS, Failure, JiemiError, Kind


@given(st.text(max_size=3000))
def test_a_message_is_one_printable_line_of_bounded_length(text: str) -> None:
    message = Failure("KeyMissing", text).message
    assert len(message) <= MESSAGE_LIMIT_CHARACTERS
    assert message.isprintable()
    assert message == " ".join(message.split())


def test_a_reason_outside_of_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="reason"):
        Failure("Surprise", "text")


def test_the_exception_carries_the_failure_there_and_back() -> None:
    error = JiemiError("MacMismatch", "a.yaml was changed")
    assert str(error) == "MacMismatch: a.yaml was changed"
    assert JiemiError.of(error.failure).failure == error.failure
    assert error.failure.kind is Kind.STALLED


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_camel_case_and_says_what_it_means_and_what_to_do(reason: str) -> None:
    info = REASONS[reason]
    assert reason[0].isupper()
    assert reason.isalnum()
    assert info.meaning.endswith(".")
    assert info.remedy.endswith(".")
