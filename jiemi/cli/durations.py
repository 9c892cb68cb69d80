"""Durations as Kubernetes users write them: 3m, 90s, 1h30m."""

from __future__ import annotations

import re

import typer

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


def parse_duration(text: str) -> float:
    """Seconds in a duration like Go's time.ParseDuration reads: "3m", "1m30s", "500ms".

    Raises:
        typer.BadParameter: it is none, or it is zero.
    """
    seconds = 0.0
    position = 0
    for part in _PART.finditer(text):
        if part.start() != position:
            break
        seconds += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if position != len(text) or seconds <= 0:
        raise typer.BadParameter(f"{text!r} is no duration: write 3m, 90s or 1h30m")
    return seconds
