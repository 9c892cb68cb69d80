"""Durations in flags."""

from __future__ import annotations

import typer

from jiemi.core.api.durations import duration_seconds


def parse_duration(text: str) -> float:
    """Seconds in a duration: `duration_seconds`, for typer.

    Raises:
        typer.BadParameter: it is not a duration, or it is zero.
    """
    try:
        return duration_seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
