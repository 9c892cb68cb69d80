"""The loop of one Decryptor.

It ticks when it starts, when the spec changes, when its repository moves, and every interval. What it is to follow is
in a slot that holds the latest value only: ten changes during one tick cause one more tick, with the last of them.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import structlog
import trio

from jiemi.core.decryptor import Decryptor
from jiemi.core.decryptor_status import DecryptorStatus
from jiemi.core.errors import Failure, JiemiError, Kind
from jiemi.core.fields import unstructure
from jiemi.core.schedule import next_delay_seconds
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.open_repository import OpenRepository
from jiemi.miwen.reconcile import Progress, Reconciler, Tick
from jiemi.rpc.contract import Head, Krapao

_log = structlog.get_logger("jiemi.miwen")


class Slot:
    """The latest state of one Decryptor, and a wake-up for its loop."""

    def __init__(self, decryptor: Decryptor) -> None:
        self._latest = decryptor
        self._woken = trio.Event()

    @property
    def latest(self) -> Decryptor:
        return self._latest

    def put(self, decryptor: Decryptor) -> None:
        """Take the newer state. Only a change of the spec wakes the loop: its own status writes come back here too."""
        if decryptor.meta.generation < self._latest.meta.generation:
            return  # an older state that was told again
        changed = decryptor.meta.generation != self._latest.meta.generation
        self._latest = decryptor
        if changed:
            self.wake()

    def wake(self) -> None:
        """Let the loop tick now, or once more after the tick that runs."""
        self._woken.set()

    def begin_tick(self) -> Decryptor:
        """The state to tick with; wake-ups from here on are for the next tick."""
        self._woken = trio.Event()
        return self._latest

    async def wait(self, seconds: float) -> None:
        """Until woken, at most so long."""
        with trio.move_on_after(seconds):
            await self._woken.wait()


@attrs.frozen
class DecryptorLoop:
    """Runs the loops.

    Attributes:
        kubernetes: where status is written.
        krapao: where repositories are opened.
        reconciler: what a tick does.
        random: gives a number in [0, 1), for jitter.
    """

    kubernetes: Kubernetes
    krapao: Krapao
    reconciler: Reconciler
    random: Callable[[], float]

    async def run(self, slot: Slot) -> None:
        """Follow one Decryptor until cancelled."""
        status = slot.latest.status
        progress = Progress()
        news = _News()

        def on_moved(head: Head) -> None:
            # Our own question may be what makes Krapao see the movement: the tick that asked has the news itself.
            news.revision = head.revision
            if not news.ticking and head.revision != progress.looked:
                slot.wake()

        async with trio.open_nursery() as nursery:
            repositories = OpenRepository(self.krapao, nursery, on_moved=on_moved, random=self.random)
            failures = 0
            said: Failure | None = None
            while True:
                decryptor = slot.begin_tick()
                news.begin_tick()
                tick = await self.reconciler.tick(decryptor, status, repositories, progress)
                if news.end_tick() not in (None, progress.looked):
                    slot.wake()
                said = _tell(decryptor, tick, before=status, said=said)
                written = await self._write(decryptor, tick.status, status)
                failure = written if isinstance(written, Failure) else tick.failure
                if written is None:
                    status = tick.status
                failures = failures + 1 if failure is not None else 0
                await slot.wait(
                    next_delay_seconds(
                        self.reconciler.interval_seconds,
                        failed=failure.kind if failure is not None else None,
                        failures_in_a_row=failures,
                        random=self.random(),
                    )
                )

    async def _write(
        self, decryptor: Decryptor, after: DecryptorStatus | None, before: DecryptorStatus | None
    ) -> _Gone | Failure | None:
        """Write the status if it changed."""
        if after is None or after == before:
            return None
        meta = decryptor.meta
        try:
            found = await self.kubernetes.patch_status(meta.namespace, meta.name, unstructure(after), uid=meta.uid)
        except JiemiError as error:
            _log.warning("status-not-written", namespace=meta.namespace, name=meta.name, failure=str(error))
            return error.failure
        except Exception:  # noqa: BLE001 - the boundary of this Decryptor, as in the tick
            _log.exception("status-crashed", namespace=meta.namespace, name=meta.name)
            return Failure("InternalError", "Miwen's log tells more at this time")
        if found is None:
            # The watch ends this loop if that is so; until it does, it goes on.
            _log.info("object-gone", namespace=meta.namespace, name=meta.name)
            return _GONE
        return None


class _News:
    """What came of a movement since the last tick began."""

    revision: str | None = None
    ticking = False

    def begin_tick(self) -> None:
        self.revision, self.ticking = None, True

    def end_tick(self) -> str | None:
        """The newest revision that was told during the tick, or None."""
        self.ticking = False
        return self.revision


class _Gone:
    pass


_GONE = _Gone()


def _tell(decryptor: Decryptor, tick: Tick, *, before: DecryptorStatus | None, said: Failure | None) -> Failure | None:
    """Log what is new: a deployment, a failure that is another than the last, a recovery. Returns the failure."""
    log = _log.bind(namespace=decryptor.meta.namespace, name=decryptor.meta.name)
    if tick.failure is not None:
        if tick.failure != said:
            level = log.error if tick.failure.kind is Kind.STALLED else log.warning
            level("not-in-sync", reason=tick.failure.reason, message=tick.failure.message)
    elif tick.status != before and tick.status is not None:
        current = tick.status.current
        log.info("in-sync", id=current.id, revision=current.revision, file=current.file_to_decrypt)
    elif said is not None:
        log.info("recovered")
    return tick.failure
