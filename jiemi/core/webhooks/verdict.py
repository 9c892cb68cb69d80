"""What a request is, as far as its signature says."""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """What a request is. The values are words of the metrics and of the log."""

    GENUINE = "genuine"
    UNSIGNED = "unsigned"
    """It lacks a header that its host sends, or has it twice."""
    FORGED = "forged"
    """No secret fits."""
    STALE = "stale"
    """It is genuine, and its time is too far from ours."""
    UNDECIDED = "undecided"
    """The key that would show it can't be had at present."""
