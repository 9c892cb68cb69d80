"""Which Events about a Decryptor are written.

Neither a tick each minute nor two managers that fight over a field may fill etcd.

Not written are:

- Repeats: the same type, reason and note about the same Decryptor within an hour. An hour is what the API server keeps
  an Event for (kube-apiserver --event-ttl), so what still holds is written again when the one before it goes. After a
  restart of Miwen, what still holds is written once more.
- What is beyond a Decryptor's rate: 25 at once and one more each 5 minutes, the numbers of client-go's spam filter
  (tools/record/events_cache.go). The note of the next one says how many different Events were left out,
  or could not be written.

Events are an audit, so some are written though that rate is used up: deletions, rollbacks, and a failure that was not
reported within the hour. They have a reserve, 100 at once and one more each 30 seconds: nobody needs more of them, and
a user who commits another broken file each second does not fill etcd either.
"""

from __future__ import annotations

import enum

REPEAT_SECONDS = 3600.0
BURST = 25
REFILL_SECONDS = 300.0
RESERVE_BURST = 100
RESERVE_REFILL_SECONDS = 30.0

_MAX_KEYS = 100
"""How many different Events of a Decryptor that were left out are known from one another; beyond, repeats count too."""


class Reserve(enum.Enum):
    """When an Event is written beyond the rate."""

    NONE = "never"
    NEW = "unless the same was written within the hour"
    ALL = "always"


class Verdict(enum.Enum):
    """What becomes of an Event."""

    WRITE = "write"
    REPEAT = "repeat"
    DROPPED = "left out"


class _TokenBucket:
    """Tokens that come back one by one."""

    def __init__(self, size: int, refill_seconds: float, now: float) -> None:
        self._size = size
        self._refill_seconds = refill_seconds
        self._tokens = float(size)
        self._refilled_at = now

    def take(self, now: float) -> bool:
        """Whether there was one."""
        self._tokens = min(float(self._size), self._tokens + (now - self._refilled_at) / self._refill_seconds)
        self._refilled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class EventRate:
    """The Events that one Decryptor has had, and those it may have. Knows no clock: times are seconds of any one.

    It stays small by itself: within `REPEAT_SECONDS`, no more are written than the two buckets give.
    """

    def __init__(self, now: float) -> None:
        self._usual = _TokenBucket(BURST, REFILL_SECONDS, now)
        self._reserve = _TokenBucket(RESERVE_BURST, RESERVE_REFILL_SECONDS, now)
        self._written_at: dict[bytes, float] = {}  # the oldest first
        self._left_out: set[bytes] = set()
        self._more_left_out = 0

    def take(self, key: bytes, now: float, *, transition: bool, reserve: Reserve = Reserve.NONE) -> Verdict:
        """Whether an Event is to be written; if so, it counts as written from now on."""
        while self._written_at and now - next(iter(self._written_at.values())) >= REPEAT_SECONDS:
            del self._written_at[next(iter(self._written_at))]
        is_repeat = key in self._written_at
        if is_repeat and not transition:
            return Verdict.REPEAT
        may_use_reserve = reserve is Reserve.ALL or (reserve is Reserve.NEW and not is_repeat)
        if not self._usual.take(now) and not (may_use_reserve and self._reserve.take(now)):
            return Verdict.DROPPED if self.leave_out(key) else Verdict.REPEAT
        self._written_at.pop(key, None)
        self._written_at[key] = now
        return Verdict.WRITE

    def leave_out(self, key: bytes, *, others: int = 0) -> bool:
        """An Event is not written after all, nor are others that its note would have counted.

        Returns:
            Whether it is another than those that were left out before.
        """
        self._written_at.pop(key, None)
        self._more_left_out += others
        if key in self._left_out:
            return False
        if len(self._left_out) < _MAX_KEYS:
            self._left_out.add(key)
        else:
            self._more_left_out += 1
        return True

    def take_left_out(self, key: bytes) -> int:
        """How many others than this Event were left out. They are not counted a second time."""
        self._left_out.discard(key)
        number = len(self._left_out) + self._more_left_out
        self._left_out.clear()
        self._more_left_out = 0
        return number
