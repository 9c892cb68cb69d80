"""Durations are read as Kubernetes users write them, and the CRD's pattern takes what the parser takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jiemi.core.api.durations import DURATION_PATTERN, duration_seconds

# RE2 has no lookaround, and its $ without flags is the end of the text: in Python that is \Z.
RE2 = re.compile(DURATION_PATTERN.removesuffix("$") + r"\Z")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3m", 180),
        ("90s", 90),
        ("1h30m", 5400),
        ("30m1h", 5400),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("1m30s", 90),
        ("1m1ms", 60.001),
        ("0h5s", 5),
        ("007s", 7),
    ],
)
def test_valid_durations_are_read_by_both(text: str, seconds: float) -> None:
    assert duration_seconds(text) == pytest.approx(seconds)
    assert RE2.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "m",
        "3 m",
        "-3m",
        "+3m",
        "3mm",
        "3m!",
        "s3",
        "3m\n",
        "\n3m",
        " 3m",
        "3M",
        ".5s",
        "5.s",
        "1e3s",
        "３m",
        "3d",
    ],
)
def test_invalid_durations_are_refused_by_both(text: str) -> None:
    with pytest.raises(ValueError, match="write 3m, 90s or 1h30m"):
        duration_seconds(text)
    assert not RE2.search(text)


@pytest.mark.parametrize("text", ["0s", "0.0h", "0h0m0s", "9" * 400 + "h"])
def test_zero_and_a_number_too_large_are_refused_by_the_parser_alone(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        duration_seconds(text)
    assert RE2.search(text)


def test_the_pattern_is_of_what_re2_knows() -> None:
    assert DURATION_PATTERN == r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"


@given(st.text("0123.msh \n", max_size=12) | st.from_regex(RE2) | st.text(max_size=5))
@example("1m\n")
def test_pattern_and_parser_agree(text: str) -> None:
    try:
        seconds = duration_seconds(text)
    except ValueError:
        # Only what the pattern can't say: nothing at all, or more than a number holds.
        numbers = [float(number) for number in re.findall(r"[0-9.]+", text)] if RE2.search(text) else []
        assert not numbers or sum(numbers) * 3600 == float("inf") or max(numbers) * 0.001 == 0
    else:
        assert RE2.search(text)
        assert 0 < seconds < float("inf")


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 59), st.integers(1, 999))
def test_parts_are_added(hours: int, minutes: int, seconds: int, thousandths: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s{thousandths}ms"
    assert duration_seconds(text) == pytest.approx(hours * 3600 + minutes * 60 + seconds + thousandths / 1000)


def test_a_long_text_takes_no_longer_than_its_length() -> None:
    with pytest.raises(ValueError, match="is no duration"):
        duration_seconds("1m" * 100_000 + "1" * 100_000)
