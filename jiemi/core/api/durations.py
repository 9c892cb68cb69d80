"""Durations as Kubernetes users write them: 3m, 90s, 1h30m."""

from __future__ import annotations

import math
import re

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
"""For a field of the CustomResourceDefinition, in RE2, as the API server checks it; the parser below reads by the same.
What it can't say is that zero, and a number that no float holds, are no durations either."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_WHOLE = re.compile(DURATION_PATTERN)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")


def duration_seconds(text: str) -> float:
    """Seconds in a duration like Go's time.ParseDuration reads: "3m", "1m30s", "500ms".

    Raises:
        ValueError: it is none, or it is zero, or too long for a number.
    """
    # fullmatch, because Python's $ is also before a newline at the end, and RE2's is not.
    if _WHOLE.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        if 0 < seconds < math.inf:
            return seconds
    raise ValueError(f"{text!r} is no duration: write 3m, 90s or 1h30m")
