"""Durations are read as Kubernetes users write them."""

import click
import pytest

from jiemi.cli.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("3m", 180), ("90s", 90), ("1h30m", 5400), ("500ms", 0.5), ("1.5s", 1.5), ("1m30s", 90)]
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "3", "m", "3 m", "-3m", "3mm", "0s", "3m!", "s3"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 3m"):
        parse_duration(text)
