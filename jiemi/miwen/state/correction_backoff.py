"""Backs off where Miwen and somebody else would correct an object back and forth for ever.

That is noticed by how often an object is corrected.
"""

from __future__ import annotations

from collections import deque

import trio

from jiemi.core.backoff import doubled_seconds
from jiemi.core.objects.identity import ObjectKey

CORRECTIONS = 3
"""How often an object may be corrected within `WINDOW_SECONDS`; one more is a conflict."""

WINDOW_SECONDS = 60.0

FIRST_PAUSE_SECONDS = 60.0
"""How long an object in conflict is left alone the first time; it doubles with each round, up to
`MAX_PAUSE_SECONDS`."""

MAX_PAUSE_SECONDS = 900.0

FORGET_SECONDS = 3600.0
"""A conflict that rested for so long is over, and the next one begins with the first pause."""


class CorrectionBackoff:
    """The corrections of one Decryptor's objects."""

    def __init__(self) -> None:
        self._corrected: dict[ObjectKey, deque[float]] = {}
        self._paused_until: dict[ObjectKey, float] = {}
        self._rounds: dict[ObjectKey, int] = {}

    def may_correct(self, key: ObjectKey) -> bool:
        """Whether an object that differs is corrected now; where it is not, a pause begins or goes on."""
        now = trio.current_time()
        until = self._paused_until.get(key)
        if until is not None and now < until:
            return False
        if until is not None and now >= until + FORGET_SECONDS:
            del self._paused_until[key], self._rounds[key]
        times = self._corrected.setdefault(key, deque())
        while times and times[0] <= now - WINDOW_SECONDS:
            times.popleft()
        # After a pause, one correction shows whether the other side still changes it.
        if len(times) < (1 if key in self._rounds else CORRECTIONS):
            return True
        rounds = self._rounds[key] = self._rounds.get(key, 0) + 1
        self._paused_until[key] = now + doubled_seconds(FIRST_PAUSE_SECONDS, rounds, most_seconds=MAX_PAUSE_SECONDS)
        times.clear()
        return False

    def corrected(self, key: ObjectKey) -> None:
        """An object was corrected now."""
        self._corrected.setdefault(key, deque()).append(trio.current_time())

    def pause_seconds(self, key: ObjectKey) -> float | None:
        """How long an object is still left alone; None where it is not."""
        left = self._paused_until.get(key, 0.0) - trio.current_time()
        return left if left > 0 else None

    def keep_only(self, keys: set[ObjectKey]) -> None:
        """Forget other objects."""
        for table in (self._corrected, self._paused_until, self._rounds):
            for key in table.keys() - keys:
                del table[key]
