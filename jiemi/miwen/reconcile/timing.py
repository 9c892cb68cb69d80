"""How often a Decryptor is looked at, and how long its work may take: as its spec says, or the operator."""

from __future__ import annotations

import attrs

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.durations import duration_seconds

MAX_WORK_SECONDS = 900.0
"""The most of spec.timeout that is granted for decrypting and applying, because others wait for the slot meanwhile.
Waiting for objects (spec.wait) holds no slot, and may take as long as the spec says."""


@attrs.frozen
class Timing:
    """How often and how long, for Decryptors whose spec sets neither.

    Attributes:
        interval_seconds: how often the repository is looked at.
        deploy_timeout_seconds: the longest time that reading keys, decrypting and applying may take together.
    """

    interval_seconds: float
    deploy_timeout_seconds: float

    def interval_of(self, decryptor: Decryptor) -> float:
        """How often a Decryptor's repository is looked at, in seconds."""
        return _seconds(decryptor, "interval") or self.interval_seconds

    def timeout_of(self, decryptor: Decryptor) -> float:
        """How long its objects may take to be ready, in seconds."""
        return _seconds(decryptor, "timeout") or self.deploy_timeout_seconds

    def work_timeout_of(self, decryptor: Decryptor) -> float:
        """How long a Decryptor may hold its slot, in seconds."""
        return min(self.timeout_of(decryptor), max(self.deploy_timeout_seconds, MAX_WORK_SECONDS))


def _seconds(decryptor: Decryptor, field: str) -> float | None:
    text = getattr(decryptor.spec, field, None)
    return duration_seconds(text) if isinstance(text, str) else None
