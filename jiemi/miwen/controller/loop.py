"""The loop of one Decryptor.

It ticks when it starts, when the spec or a Secret that it names changes, when its repository moves, when one of its
objects drifts, and every interval. What it is to follow is in a mailbox that holds the latest value only: ten changes
during one tick cause one more tick, with the last of them.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import structlog
import trio

from jiemi.core.api.decryptor import Decryptor, ObjectMeta
from jiemi.core.api.decryptor_status import DecryptorStatus
from jiemi.core.api.durations import duration_seconds
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.api.status_bounds import status_json
from jiemi.core.decisions.conditions import PLANNED, condition, is_ready
from jiemi.core.decisions.schedule import next_delay_seconds
from jiemi.core.decisions.status import SHORT_REVISION, after_failure, blank
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.drift import Observation, is_newer
from jiemi.core.objects.inventory import by_key, ref_of
from jiemi.core.reasons import REASONS, Kind
from jiemi.core.text import first_of
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile.reconciler import Reconciler
from jiemi.miwen.reconcile.tick import ObjectGone, ReconcileContext, ReconcileResult
from jiemi.miwen.report.events import EventRecorder, Reserve
from jiemi.miwen.report.metrics import Followed, MiwenMetrics
from jiemi.miwen.report.summary import summarized
from jiemi.miwen.state.loop_state import LoopState
from jiemi.miwen.state.mailbox import Mailbox
from jiemi.miwen.state.open_repository import OpenRepository, tenant_of
from jiemi.miwen.watch.object_watches import NotSynced
from jiemi.rpc.contract import Head, Krapao

REWATCH_SECONDS = 30.0
"""How often a kind that can't be watched is asked about again."""

_MAX_SHOWN = 10

_log = structlog.get_logger("jiemi.miwen")


@attrs.frozen
class DecryptorLoop:
    """Runs the loops.

    Attributes:
        kubernetes: where status is written.
        krapao: where repositories are opened.
        reconciler: what a tick does.
        events: what tells users.
        metrics: what tells operators.
        random: gives a number in [0, 1), for jitter.
    """

    kubernetes: Kubernetes
    krapao: Krapao
    reconciler: Reconciler
    events: EventRecorder
    metrics: MiwenMetrics
    random: Callable[[], float]

    async def run(self, mailbox: Mailbox) -> None:
        """Follow one Decryptor until cancelled."""
        registry = self.reconciler.registry
        await registry.complete.wait()
        try:
            with registry.following(mailbox):
                async with trio.open_nursery() as nursery:
                    await self._run(mailbox, nursery)
        finally:
            self.reconciler.watch(mailbox.latest.meta.key, frozenset())
            self.metrics.follow(mailbox.latest.meta.key, None)
            self.reconciler.give_back(mailbox.latest.meta.key)

    def tell_deleted(self, mailbox: Mailbox) -> None:
        """The Decryptor is deleted: log it and tell in an Event what stays of what it applied."""
        meta, spec = mailbox.latest.meta, mailbox.latest.spec
        status = mailbox.latest.status
        entries = mailbox.inventory.values() or (status.inventory if status is not None else ())
        stay = sorted(ref_of(entry).label for entry in entries if entry.fields is not None)
        policy = spec.deletion_policy if isinstance(spec, DecryptorSpec) else "Orphan"
        if not stay:
            text = "the Decryptor is deleted, and nothing that it applied stays"
        else:
            objects = "1 object" if len(stay) == 1 else f"{len(stay)} objects"
            text = (
                f"the Decryptor is deleted (deletionPolicy: {policy}); {objects} that it applied stay in the cluster, "
                f"and nobody follows them: {first_of(stay, _MAX_SHOWN)}"
            )
        _log.info("decryptor_deleted", namespace=meta.namespace, name=meta.name, objects=len(stay), message=text)
        self.events.record(
            meta, type="Normal", reason="Deleted", action="Delete", note=text, transition=True, reserve=Reserve.ALL
        )

    async def _run(self, mailbox: Mailbox, nursery: trio.Nursery) -> None:
        written, version = mailbox.take_status(), mailbox.latest.meta.resource_version
        state = _loop_state(written)
        believed = self.reconciler.tenancy.believed(written, mailbox.latest.meta.namespace)
        status = believed or blank(_file(mailbox.latest))
        mailbox.set_inventory(by_key(status.inventory))
        news = _News()

        def on_moved(head: Head) -> None:
            # Our own question may be what makes Krapao see the movement: the tick that asked has the news itself.
            news.revision = head.revision
            if not news.ticking and head.revision != state.head_revision:
                mailbox.wake()

        tenant = tenant_of(mailbox.latest.meta.namespace)
        repositories = OpenRepository(self.krapao, tenant, nursery, on_moved=on_moved, random=self.random)
        compared: set[Resource] = set()
        told_refusal: Failure | None = None
        failures = _Failures()
        told, said = written, _said(written)

        def settle() -> None:
            mailbox.end_tick()
            if news.end_tick() not in (None, state.head_revision):
                mailbox.wake()

        while True:
            decryptor = mailbox.begin_tick()
            news.begin_tick()
            writer = _Writer(self.kubernetes, decryptor, written, version)
            tick = await self.reconciler.tick(
                ReconcileContext(decryptor, status, repositories, state, mailbox, writer.write, settle)
            )
            settle()
            self._tell(decryptor, tick, before=told, said=said)
            if tick.conclusive and tick.status is not None:
                told, said = tick.status, _told(tick.failure)
            status = tick.status or status
            unwritten = await self._write(writer, tick.status, told_refusal)
            told_refusal = unwritten
            written, version = writer.written, writer.version
            self.reconciler.files.count_held(decryptor.meta.key, state, status)
            failure = unwritten or tick.failure
            self._count(mailbox, state, status, failure)
            failures.count(failure, decryptor, state.head_revision)
            for resource in state.watching - compared:
                nursery.start_soon(self._compare, mailbox, state, resource)
            compared = set(state.watching)
            await mailbox.wait(self._delay(decryptor, tick, failure, failures.in_a_row))

    def _count(self, mailbox: Mailbox, state: LoopState, status: DecryptorStatus, failure: Failure | None) -> None:
        meta = mailbox.latest.meta
        followed = Followed(
            deployed=status.current.revision,
            seen=state.head_revision or (status.last_attempted_revision or ""),
            ready=is_ready(status, meta.generation),
            objects=len(status.inventory),
            drifted=len(state.drift.drifted),
        )
        self.metrics.follow(meta.key, followed)
        self.metrics.tick(failure.reason if failure is not None else "ok")

    def _delay(self, decryptor: Decryptor, tick: ReconcileResult, failure: Failure | None, failures: int) -> float:
        retry = decryptor.spec.retry_interval if isinstance(decryptor.spec, DecryptorSpec) else None
        delay = next_delay_seconds(
            self.reconciler.timing.interval_of(decryptor),
            failed=failure.kind if failure is not None else None,
            failures_in_a_row=failures,
            random=self.random(),
            retry_seconds=duration_seconds(retry) if retry is not None else None,
        )
        return delay if tick.requeue_after_seconds is None else min(delay, tick.requeue_after_seconds)

    async def _compare(self, mailbox: Mailbox, state: LoopState, resource: Resource) -> None:
        """Once a kind is watched, look for objects that were deleted while nobody watched."""
        if not await self.reconciler.watches.synced(resource):
            mailbox.wake()  # the status tells why
            while not self.reconciler.watches.known(resource):
                await trio.sleep(REWATCH_SECONDS)
                if resource not in state.watching:
                    return  # nobody asks any more
            mailbox.wake()
        for key in mailbox.inventory:
            if (key.group, key.kind) != (resource.group, resource.kind):
                continue
            try:
                version = self.reconciler.watches.version_of(key.group, key.kind, key.namespace, key.name)
            except NotSynced:
                return
            if version is None:
                mailbox.see(key, Observation("", None))
        state.is_compared = True

    async def _write(
        self, writer: _Writer, status: DecryptorStatus | None, before: Failure | None = None
    ) -> Failure | None:
        """Write the status if it changed. Returns why it could not be.

        Args:
            before: why the last one could not be.
        """
        meta = writer.decryptor.meta
        try:
            if status is not None:
                await writer.write(status)
        except JiemiError as error:
            _log.warning("status_not_written", namespace=meta.namespace, name=meta.name, failure=str(error))
            if error.failure.kind is Kind.STALLED and error.failure != before and status is not None:
                await self._tell_refusal(writer, status, error.failure)
            return error.failure
        except ObjectGone:
            # The watch ends this loop if that is so; until it does, it goes on.
            _log.info("object_gone", namespace=meta.namespace, name=meta.name)
        except Exception:  # noqa: BLE001 - the boundary of this Decryptor, as in the tick
            _log.exception("status_crashed", namespace=meta.namespace, name=meta.name)
            return Failure("InternalError", "Miwen's log tells more at this time")
        return None

    async def _tell_refusal(self, writer: _Writer, status: DecryptorStatus, failure: Failure) -> None:
        """The API server refuses the status for good, and what is stored tells an old state: say so in an Event, and in
        those two fields of the status that users look at, with the rest as it is stored."""
        meta = writer.decryptor.meta
        self.events.record(
            meta, type="Warning", reason=failure.reason, action="WriteStatus", note=failure.text, transition=True
        )
        told = after_failure(
            blank(status.current.file_to_decrypt) if writer.written is None else status,
            generation=meta.generation,
            failure=failure,
            attempted_revision=None,
            now=self.reconciler.now(),
        )
        try:
            await writer.write_readiness(told)
        except JiemiError as error:
            _log.error("refusal_not_written", namespace=meta.namespace, name=meta.name, failure=str(error))

    def _tell(
        self, decryptor: Decryptor, tick: ReconcileResult, *, before: DecryptorStatus | None, said: _Told | None
    ) -> None:
        """Log and tell in Events what is new: a deployment, another failure than the last, a recovery."""
        meta = decryptor.meta
        log = _log.bind(namespace=meta.namespace, name=meta.name)
        for note in tick.notes:
            log.info("event", reason=note.reason, message=note.text)
            if (note.reason, note.action) == ("Drifted", "Correct"):
                self.metrics.corrected(1)
            self.events.record(
                meta,
                type=note.type,
                reason=note.reason,
                action=note.action,
                note=note.text,
                related=note.related,
                transition=note.transition,
                reserve=Reserve.ALL if note.always else Reserve.NONE,
            )
        deploys = _deploys(before, tick)
        changes = str(tick.changes)
        if changes and not deploys:
            # Something is not as it should be yet, or the same revision was applied again.
            log.info("changed", message=changes)
            self.events.record(
                meta, type="Normal", reason="Changed", action="Apply", note=f"applied {changes}", transition=True
            )
        if tick.status is None or not tick.conclusive:
            return
        if tick.failure is not None:
            is_new = _told(tick.failure) != said
            if is_new:
                level = log.error if tick.failure.kind is Kind.STALLED else log.warning
                level("not_in_sync", reason=tick.failure.reason, message=tick.failure.text)
            # A fight is told of each object.
            if is_new and all(note.reason != tick.failure.reason for note in tick.notes):
                self.events.record(
                    meta,
                    type="Warning",
                    reason=tick.failure.reason,
                    action="Reconcile",
                    note=tick.failure.text,
                    transition=said is None,
                    reserve=Reserve.NEW,
                )
            return
        ready = condition(tick.status, "Ready")
        text = ready.message if ready is not None else ""
        if ready is not None and ready.reason == PLANNED:
            if before is None or before.plan != tick.status.plan:
                log.info("planned", message=text)
                self.events.record(meta, type="Normal", reason=PLANNED, action="DryRun", note=text)
        elif deploys:
            self._tell_deployed(meta, tick.status, before, f"{text}; {changes}" if changes else text)
        if said is not None:
            log.info("recovered")
            self.events.record(meta, type="Normal", reason="Recovered", action="Reconcile", note=text, transition=True)

    def _tell_deployed(
        self, meta: ObjectMeta, status: DecryptorStatus, before: DecryptorStatus | None, text: str
    ) -> None:
        """A revision is deployed: a newer one, or one that was deployed before."""
        current = status.current
        log = _log.bind(namespace=meta.namespace, name=meta.name)
        self.metrics.deployed()
        log.info("in_sync", id=current.id, revision=current.revision, file=current.file_to_decrypt)
        left = _rolled_back_from(before, status)
        if left is None:
            self.events.record(meta, type="Normal", reason="Applied", action="Apply", note=text, transition=True)
            return
        log.info("rolled_back", id=current.id, revision=current.revision, from_revision=left)
        self.events.record(
            meta,
            type="Normal",
            reason="RolledBack",
            action="Apply",
            note=f"back from revision {left[:SHORT_REVISION]}, as deployment {current.id}: {text}",
            transition=True,
            reserve=Reserve.ALL,
        )


def _loop_state(status: DecryptorStatus | None) -> LoopState:
    """What the status of an earlier Miwen tells."""
    state = LoopState()
    if status is None:
        return state
    state.secrets.read = {each.name: each.resource_version for each in status.observed_secrets}
    return state


_Told = tuple[str, str]
"""A failure as it is told: its reason and its text."""


def _told(failure: Failure | None) -> _Told | None:
    return None if failure is None else (failure.reason, failure.text)


def _said(status: DecryptorStatus | None) -> _Told | None:
    """The failure that a status tells."""
    ready = condition(status, "Ready")
    if ready is None or ready.status != "False" or ready.reason not in REASONS:
        return None
    return ready.reason, ready.message


def _deploys(before: DecryptorStatus | None, tick: ReconcileResult) -> bool:
    """Whether a tick ends a deployment well."""
    if tick.status is None or not tick.conclusive or tick.failure is not None:
        return False
    ready = condition(tick.status, "Ready")
    is_good = ready is not None and ready.status == "True" and ready.reason != PLANNED
    return is_good and _is_new(before, tick.status)


def _rolled_back_from(before: DecryptorStatus | None, after: DecryptorStatus) -> str | None:
    """The revision that was left for one that was deployed before it; None where that is not what happened."""
    if before is None or before.current.revision in ("", after.current.revision):
        return None
    earlier = {record.revision for record in before.history}
    return before.current.revision if after.current.revision in earlier else None


def _is_new(before: DecryptorStatus | None, after: DecryptorStatus) -> bool:
    """Whether another deployment, or the same of another spec, is told."""
    if before is None:
        return True
    return (before.current.id, before.observed_generation) != (after.current.id, after.observed_generation)


def _file(decryptor: Decryptor) -> str:
    return decryptor.spec.source.described if isinstance(decryptor.spec, DecryptorSpec) else ""


class _Writer:
    """Writes the status of a Decryptor where it changed.

    Attributes:
        decryptor: whose.
        written: what was written last, by whomever.
        version: the resourceVersion of that.
    """

    def __init__(
        self, kubernetes: Kubernetes, decryptor: Decryptor, written: DecryptorStatus | None, version: str
    ) -> None:
        self.decryptor = decryptor
        self.written = written
        self.version = version
        self._kubernetes = kubernetes

    @property
    def is_overwritten(self) -> bool:
        """Whether another wrote the object since: its status perhaps, which nobody kept. Writing ours again costs a
        request, and changes nothing where it is still there."""
        return is_newer(self.decryptor.meta.resource_version, than=self.version)

    async def write(self, status: DecryptorStatus) -> None:
        """Raises JiemiError, ObjectGone."""
        status = summarized(status, self.decryptor)
        if status == self.written and not self.is_overwritten:
            return
        meta = self.decryptor.meta
        found = await self._kubernetes.patch_status(meta.namespace, meta.name, status_json(status), uid=meta.uid)
        if found is None:
            raise ObjectGone
        self.written = status
        self.version = str(found["metadata"]["resourceVersion"])

    async def write_readiness(self, status: DecryptorStatus) -> None:
        """Write `current` and `conditions` alone. Raises JiemiError."""
        meta, value = self.decryptor.meta, status_json(status)
        parts = {name: value[name] for name in ("current", "conditions") if name in value}
        keep = self.written is not None
        await self._kubernetes.patch_status(meta.namespace, meta.name, parts, uid=meta.uid, keep_rest=keep)


class _Failures:
    """How many ticks failed in a row, since somebody last did something that may have mended it.

    Whoever changes the spec, asks for a look or pushes does not wait for the long pauses that failures before it made.
    """

    def __init__(self) -> None:
        self.in_a_row = 0
        self._revision: str | None = None
        self._asked: tuple[int, str | None] | None = None

    def count(self, failure: Failure | None, decryptor: Decryptor, revision: str | None) -> None:
        """A tick has ended.

        Args:
            decryptor: as the tick had it.
            revision: the one that it found, or None where it found none.
        """
        asked = (decryptor.meta.generation, decryptor.meta.reconcile_at)
        is_new = asked != self._asked or revision not in (None, self._revision)
        self._asked, self._revision = asked, revision or self._revision
        if failure is None:
            self.in_a_row = 0
        else:
            self.in_a_row = 1 if is_new else self.in_a_row + 1


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
