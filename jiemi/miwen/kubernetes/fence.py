"""Until when this process may write to the API server.

Of several Miwens one is active, as long as it holds a Lease. Somebody else may take the Lease over when it has run out,
so every write ends before that, whatever the process or the network does meanwhile: it is not sent any more, its answer
is not waited for any longer, and the API server is asked to give it up at the same time (`timeout`,
https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.31/#timeout).

Time is measured by two clocks, of which the faster one counts: one that goes on while the machine sleeps
(CLOCK_BOOTTIME, clock_gettime(2)), and the wall clock, which is set again when a virtual machine goes on after a pause.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs


@attrs.frozen
class Moment:
    """A point in time, by both clocks, in seconds."""

    since_boot: float
    wall: float

    def until(self, later: Moment) -> float:
        """How many seconds have passed, at the most: for what must not last too long."""
        return max(later.since_boot - self.since_boot, later.wall - self.wall)

    def surely_until(self, later: Moment) -> float:
        """How many seconds have passed surely: for what must not end too soon. The wall clock may have been set."""
        return later.since_boot - self.since_boot


def moment() -> Moment:
    """Now."""
    return Moment(time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


class Fence:
    """Lets writes through. It is open without end until somebody bounds it.

    Args:
        now: gives the time.
    """

    def __init__(self, now: Callable[[], Moment] = moment) -> None:
        self.now = now
        self._bound: tuple[Moment, float] | None = None

    def bound(self, since: Moment, seconds: float) -> None:
        """Let writes through for so long, counted from a moment that may be past; 0 lets none through."""
        self._bound = since, seconds

    def left_seconds(self) -> float:
        """How long writes may still take; 0 where none may be sent any more."""
        if self._bound is None:
            return float("inf")
        since, seconds = self._bound
        return max(seconds - since.until(self.now()), 0.0)
