"""Failures are safe to show, and carry what is wrong and what to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import (
    MESSAGE_LIMIT_CHARACTERS,
    PATH_LIMIT_CHARACTERS,
    TEXT_LIMIT_CHARACTERS,
    Failure,
    JiemiError,
)
from jiemi.core.reasons import REASONS, Kind


@given(st.text(max_size=3000))
def test_a_message_is_one_printable_line_of_bounded_length(text: str) -> None:
    message = Failure("KeyMissing", text).message
    assert len(message) <= MESSAGE_LIMIT_CHARACTERS
    assert message.isprintable()
    assert message == " ".join(message.split())


def test_a_reason_outside_of_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="reason"):
        Failure("Surprise", "text")


def test_an_exception_and_its_failure_convert_into_each_other() -> None:
    error = JiemiError("MacMismatch", "a.yaml was changed")
    assert str(error) == f"MacMismatch: a.yaml was changed. {REASONS['MacMismatch'].remedy}"
    assert JiemiError.of(error.failure).failure == error.failure
    assert error.failure.kind is Kind.STALLED


def test_the_remedy_of_the_case_goes_before_that_of_the_reason() -> None:
    error = JiemiError("KeyInvalid", "that is not the passphrase", "Correct the passphrase.")
    assert error.failure.text == "that is not the passphrase. Correct the passphrase."
    assert JiemiError.of(error.failure.at("spec.x")).failure.text == f"spec.x: {error.failure.text}"
    assert Failure("KeyInvalid", "no key").text == f"no key. {REASONS['KeyInvalid'].remedy}"


@given(st.text(max_size=3000), st.text(max_size=600), st.integers(1, TEXT_LIMIT_CHARACTERS))
def test_a_text_keeps_the_remedy_where_there_is_room_for_it(message: str, remedy: str, limit: int) -> None:
    failure = Failure("KeyMissing", message, remedy)
    text = failure.text_within(limit)
    assert len(text) <= limit
    assert text.isprintable()
    if len(failure.remedy) + 3 <= limit:
        assert text.endswith(failure.remedy)


def test_every_text_fits_into_an_event_s_note() -> None:
    longest = max((Failure(reason, "x" * 3000) for reason in REASONS), key=lambda each: len(each.text))
    assert len(longest.text.encode()) <= 1024
    assert longest.text.endswith(longest.remedy)


def test_a_failure_carries_the_path_that_is_wrong_and_does_not_show_it() -> None:
    failure = Failure("FileNotFound", "not there").about("app/x.yaml")
    assert JiemiError.of(failure.at("spec.source.files[0]")).failure.path == "app/x.yaml"
    assert "app/x.yaml" not in str(failure)
    assert failure.about("x" * (PATH_LIMIT_CHARACTERS + 1)).path == ""
