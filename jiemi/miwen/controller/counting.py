"""What the ticks of one Decryptor add to the metrics, from tick to tick."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import attrs
import trio

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.decryptor_status import DecryptorStatus
from jiemi.core.errors import Failure
from jiemi.miwen.reconcile.phases import PhaseTimes
from jiemi.miwen.report.followed import Followed, Times
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.state.loop_state import LoopState


class Counting:
    """Counts the ticks of one Decryptor.

    Args:
        metrics: where they are counted.
        now: the wall clock.
        interval_of: how often a Decryptor is looked at, in seconds.
    """

    def __init__(
        self,
        metrics: MiwenMetrics,
        now: Callable[[], datetime.datetime],
        interval_of: Callable[[Decryptor], float],
    ) -> None:
        self._metrics = metrics
        self._now = now
        self._interval_of = interval_of
        self._began = 0.0
        self._times = Times()

    def begin_tick(self) -> None:
        self._began = trio.current_time()

    def end_tick(
        self,
        decryptor: Decryptor,
        state: LoopState,
        status: DecryptorStatus,
        failure: Failure | None,
        *,
        conclusive: bool,
        phases: PhaseTimes,
    ) -> None:
        """Count a tick.

        Args:
            decryptor: as it is now.
            status: what the tick came to.
            failure: what went wrong; None: nothing.
            conclusive: whether it says in which state the Decryptor is.
            phases: how long the parts of the tick took.
        """
        now = self._now().timestamp()
        self._times = attrs.evolve(
            self._times,
            look=now,
            success=now if failure is None and conclusive else self._times.success,
            repository_seen=now if state.head_revision is not None else self._times.repository_seen,
        )
        followed = Followed.of(
            status,
            decryptor.meta.generation,
            state.head_revision,
            interval_seconds=self._interval_of(decryptor),
            times=self._times,
        )
        key = decryptor.meta.key
        self._metrics.follow(key, attrs.evolve(followed, drifted=len(state.drift.drifted)))
        self._metrics.tick(failure, trio.current_time() - self._began)
        self._metrics.phases((phase.value, seconds) for phase, seconds in phases.seconds)
