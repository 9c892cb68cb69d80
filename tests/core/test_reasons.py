"""Each reason is explained by the table."""

import pytest

from jiemi.core.reasons import REASONS


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_camel_case_and_says_what_it_means_and_what_to_do(reason: str) -> None:
    info = REASONS[reason]
    assert reason[0].isupper()
    assert reason.isalnum()
    assert info.meaning.endswith(".")
    assert info.remedy.endswith(".")
