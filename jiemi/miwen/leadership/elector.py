"""Does the work of Miwen for as long as this process holds the Lease, and waits as long as another does.

    look ─> somebody renews it: wait ─> it has run out, or was given up: take it ─> work, renewing it
      ^                                                                              │ lost, or can't be renewed
      └──────────────────────────────────────────────────────────────────────────────┘

A lease that is not renewed runs out. Writes stop before that (`jiemi.miwen.kubernetes.fence`), with a margin for those
that are on their way; then the work is cancelled, which leaves nothing behind, and this process waits like the others.
When it is asked to end, it first cancels the work and then gives the Lease up, so that another one takes it at once.

Anyone with the right may delete or change a Lease, and its holder learns of that only when it renews it. So one that is
not there, or has no holder, is taken only after a holder that there may be must have noticed, unless it was given up.
That holder makes it again. One that nobody renews is waited for a minute at most, whatever duration is written in it.
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable

import attrs
import structlog
import trio

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.fence import Fence, Moment
from jiemi.miwen.kubernetes.port import JsonObject, Leases
from jiemi.miwen.leadership.lease import GIVEN_UP_SECONDS, LeaseRecord, as_text

_GIVE_UP_SECONDS = 2.0
"""How long giving the Lease up may take; otherwise it runs out."""

_MOST_SECONDS = 60.0
"""How long at most one that nobody renews is waited for. No release holds it as long."""

_log = structlog.get_logger("jiemi.miwen.leadership")


@attrs.frozen
class LeaseTiming:
    """How a Lease is used.

    Attributes:
        duration_seconds: how long it holds after it was renewed; whole seconds.
        renew_seconds: how often it is renewed.
        look_seconds: how often those that wait look at it.
        margin_seconds: how long before it runs out writes stop.
    """

    duration_seconds: int = 5
    renew_seconds: float = 1.2
    look_seconds: float = 0.5
    margin_seconds: float = 1.5

    @property
    def write_seconds(self) -> float:
        """How long after a renewal has begun writes may be under way."""
        return self.duration_seconds - self.margin_seconds


class Elector:
    """One of those that want the Lease.

    Args:
        leases: where it is.
        namespace, name: its.
        identity: of this process; no two are equal, and no process has one twice.
        fence: what lets this process write.
        wall: the wall clock, for what the Lease shows.

    Attributes:
        leading: whether this process is the active one.
        holder: the identity of the one that is, as it was seen last; "" where nobody is.
    """

    def __init__(
        self,
        leases: Leases,
        place: tuple[str, str],
        identity: str,
        fence: Fence,
        wall: Callable[[], datetime.datetime],
        timing: LeaseTiming | None = None,
    ) -> None:
        self.leading = False
        self.holder = ""
        self._leases = leases
        self._namespace, self._name = place
        self._identity = identity
        self._fence = fence
        self._wall = wall
        self._timing = timing or LeaseTiming()
        self._lease: JsonObject | None = None
        self._record = LeaseRecord()
        self._trouble = ""

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work whenever the Lease is held, until cancelled."""
        self._fence.bound(self._fence.now(), 0)
        while True:
            await self._acquire()
            await self._work(work)

    async def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        log = _log.bind(lease=f"{self._namespace}/{self._name}", identity=self._identity)
        log.info("lease_acquired", transitions=self._record.transitions)
        self.leading = True
        lost = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                await self._keep()
                lost = True
                nursery.cancel_scope.cancel()
        finally:
            self.leading = False
            self._fence.bound(self._fence.now(), 0)
            if not lost:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _GIVE_UP_SECONDS):
                    await self._give_up()
        log.warning("lease_lost", why=self._trouble or "another has it")

    async def _acquire(self) -> None:
        """Wait until the Lease can be had, and take it. Without a deadline: another may hold it for weeks."""
        seen: tuple[LeaseRecord | None, Moment] | None = None
        while True:
            began = self._fence.now()
            try:
                lease = await self._leases.get(self._namespace, self._name)
                record = LeaseRecord.read(lease) if lease is not None else None
                self.holder = record.holder if record is not None else ""
                if seen is None or seen[0] != record:
                    # Counted from the answer: it may have been renewed at any time until then.
                    seen = record, self._fence.now()
                waited = seen[1].surely_until(began)
                if waited >= self._patience(record) and await self._take(lease, record):
                    return
                self._trouble = ""
            except JiemiError as error:
                self._warn(error)
            await trio.sleep(self._timing.look_seconds)

    def _patience(self, record: LeaseRecord | None) -> float:
        """How long a Lease that does not change is left alone. Its holder writes for no longer.

        Args:
            record: what it says; None: there is none. Somebody may have deleted it a moment ago.
        """
        if record is None:
            return self._timing.duration_seconds
        if record.given_up:
            return 0
        return min(max(record.duration_seconds, self._timing.duration_seconds), _MOST_SECONDS)

    async def _take(self, lease: JsonObject | None, record: LeaseRecord | None) -> bool:
        now = as_text(self._wall())
        transitions = record.transitions + 1 if record is not None else 0
        wanted = LeaseRecord(self._identity, self._timing.duration_seconds, now, now, transitions)
        return await self._write(lease, wanted)

    async def _keep(self) -> None:
        """Renew it until it is lost."""
        while True:
            await trio.sleep(min(self._timing.renew_seconds, self._fence.left_seconds()))
            left = self._fence.left_seconds()
            if left <= 0:
                return
            try:
                with trio.move_on_after(left):
                    if not await self._renew():
                        return
                    self._trouble = ""
            except JiemiError as error:
                self._warn(error)

    async def _renew(self) -> bool:
        """Whether it is still this process's."""
        wanted = attrs.evolve(self._record, renewed=as_text(self._wall()))
        if await self._write(self._lease, wanted):
            return True
        # Somebody else wrote it: another took it, or only put a label on it, or somebody deleted or emptied it.
        lease = await self._leases.get(self._namespace, self._name)
        holder = LeaseRecord.read(lease).holder if lease is not None else ""
        if holder not in ("", self._identity):
            self._trouble = f"{holder} has it"
            return False
        if not holder:
            _log.warning(
                "lease_made_again",
                lease=f"{self._namespace}/{self._name}",
                why="somebody deleted it" if lease is None else "somebody removed its holder",
            )
        return await self._write(lease, wanted)

    async def _write(self, lease: JsonObject | None, wanted: LeaseRecord) -> bool:
        began = self._fence.now()
        written = await self._leases.write(self._namespace, self._name, lease, wanted.spec())
        if written is None:
            return False
        self._lease, self._record = written, wanted
        self._fence.bound(began, self._timing.write_seconds)
        _log.debug("lease_written", lease=f"{self._namespace}/{self._name}", holder=wanted.holder)
        return True

    async def _give_up(self) -> None:
        wanted = attrs.evolve(self._record, holder="", duration_seconds=GIVEN_UP_SECONDS, renewed=as_text(self._wall()))
        try:
            if await self._leases.write(self._namespace, self._name, self._lease, wanted.spec()) is None:
                # A renewal that was under way when the work was cancelled may have been written.
                lease = await self._leases.get(self._namespace, self._name)
                if lease is not None and LeaseRecord.read(lease).holder == self._identity:
                    await self._leases.write(self._namespace, self._name, lease, wanted.spec())
        except JiemiError as error:
            self._warn(error)

    def _warn(self, error: JiemiError) -> None:
        text = str(error)
        if text != self._trouble:
            self._trouble = text
            _log.warning("lease_not_reached", reason=error.failure.reason, message=error.failure.text)
