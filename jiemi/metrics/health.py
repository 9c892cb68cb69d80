"""Whether a process lives, and whether it is ready: what `/healthz` and `/readyz` answer.

A process *lives* while each of its loops moves on. A loop has a `Heart`, which beats each time that the loop comes
round, or anything else that has an age. Something that fails and is tried again moves on too: that a git host or the
API server is down is no reason to start the process again, which would mend neither. trio's own loop has no heart,
because a loop that stands still does not answer the question either.

A process is *ready* from the moment that it can be used until it is asked to end, except while something that it needs
of its own machine fails. That it is asked to end comes first of all that happens then (`jiemi.cli.running`).
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator

import attrs


class Readiness(enum.Enum):
    """How far a process is in its life."""

    STARTING = "starting"
    READY = "ready"
    UNUSABLE = "unusable"
    STOPPING = "stopping"


class Heart:
    """Beats each time that a loop moves on. May be used from any thread.

    Args:
        clock: seconds that grow steadily.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_at = clock()

    def beat(self) -> None:
        """The loop has moved on."""
        self._beat_at = self._clock()

    def age_seconds(self) -> float:
        """How long ago it moved on."""
        return self._clock() - self._beat_at


@attrs.frozen
class LoopAge:
    """How long a loop has stood still.

    Attributes:
        name: which loop it is: a word of the program's.
        seconds: for how long.
        limit_seconds: from when on it hangs.
    """

    name: str
    seconds: float
    limit_seconds: float

    @property
    def hangs(self) -> bool:
        return self.seconds > self.limit_seconds


class Health:
    """The state of one process. May be read from any thread."""

    def __init__(self) -> None:
        self._readiness = Readiness.STARTING
        self._usable = True
        self._loops: dict[str, tuple[Callable[[], float], float]] = {}

    def watch(self, name: str, age_seconds: Callable[[], float], *, limit_seconds: float) -> None:
        """Count the process as hung once something has stood still for too long.

        Args:
            name: what it is: a word of the program's, which the metrics show as a label.
            age_seconds: for how long it has stood still, for example `Heart.age_seconds`. Called from any thread.
            limit_seconds: longer than it ever does by itself, on a busy machine too.
        """
        self._loops[name] = (age_seconds, limit_seconds)

    def forget(self, name: str) -> None:
        """What was watched under that name has ended, as it should."""
        self._loops.pop(name, None)

    def loops(self) -> Iterator[LoopAge]:
        """All that is watched."""
        for name, (age_seconds, limit_seconds) in list(self._loops.items()):
            yield LoopAge(name, age_seconds(), limit_seconds)

    @property
    def readiness(self) -> Readiness:
        if self._readiness is Readiness.READY and not self._usable:
            return Readiness.UNUSABLE
        return self._readiness

    def ready(self) -> None:
        """From now on the process can be used, unless it is about to end."""
        if self._readiness is Readiness.STARTING:
            self._readiness = Readiness.READY

    def usable(self, usable: bool) -> None:
        """Whether what the process needs of its own machine works; it does until this says otherwise."""
        self._usable = usable

    def stopping(self) -> None:
        """The process was asked to end."""
        self._readiness = Readiness.STOPPING
