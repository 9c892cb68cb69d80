"""Durations in flags."""

from __future__ import annotations

import click

from jiemi.core.api.durations import duration_seconds


def parse_duration(text: str) -> float:
    """Seconds in a duration: `duration_seconds`, for click.

    Raises:
        click.BadParameter: it is not a duration, or it is zero.
    """
    try:
        return duration_seconds(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
