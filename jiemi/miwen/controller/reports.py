"""What users and operators see of the ticks of one Decryptor: its Events, lines of the log and counts.

They come from comparing what a tick came to with what the one before it did: a deployment, another failure than the
last one, a recovery. The first tick after a start compares with the status that is stored.
"""

from __future__ import annotations

import structlog

from jiemi.core.api.decryptor import Decryptor, ObjectMeta
from jiemi.core.api.decryptor_status import DecryptorStatus
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.conditions import PLANNED, condition
from jiemi.core.decisions.status import SHORT_REVISION
from jiemi.core.errors import Failure
from jiemi.core.objects.inventory import ref_of
from jiemi.core.reasons import REASONS, Kind
from jiemi.core.text import first_of
from jiemi.miwen.reconcile.tick import Note, ReconcileResult
from jiemi.miwen.report.event_object import EventContent
from jiemi.miwen.report.event_rate import Reserve
from jiemi.miwen.report.events import EventRecorder
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.state.mailbox import Mailbox

_MAX_SHOWN = 10

_log = structlog.get_logger("jiemi.miwen.controller")

_Shown = tuple[str, str]
"""A failure as it was reported: its reason and its text."""


def report_deleted(mailbox: Mailbox, events: EventRecorder) -> None:
    """A Decryptor is deleted: log it, and say in an Event what stays of what it applied."""
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
    events.record(meta, EventContent("Normal", "Deleted", "Delete", text), transition=True, reserve=Reserve.ALL)


class Reports:
    """Reports the ticks of one Decryptor.

    Args:
        events: what users see.
        metrics: what operators see.
        before: the status that an earlier Miwen left; None where there is none.
    """

    def __init__(self, events: EventRecorder, metrics: MiwenMetrics, before: DecryptorStatus | None) -> None:
        self._events = events
        self._metrics = metrics
        self._before = before
        self._shown = _shown_by(before)

    def report(self, decryptor: Decryptor, result: ReconcileResult) -> None:
        """Report what is new since the tick before: a deployment, another failure than the last one, a recovery."""
        meta = decryptor.meta
        for note in result.notes:
            self._report_note(meta, note)
        deploys = _deploys(self._before, result)
        changes = str(result.changes)
        if changes and not deploys:
            # Something is not as it should be yet, or the same revision was applied again.
            self._log(meta).info("changed", message=changes)
            self._events.record(meta, EventContent("Normal", "Changed", "Apply", f"applied {changes}"), transition=True)
        if result.status is None or not result.conclusive:
            return
        if result.failure is not None:
            self._report_failure(meta, result, result.failure)
        else:
            self._report_good_end(meta, result.status, f"; {changes}" if changes else "", deploys=deploys)
        self._before, self._shown = result.status, _as_shown(result.failure)

    def _report_note(self, meta: ObjectMeta, note: Note) -> None:
        self._log(meta).info("event", reason=note.reason, message=note.text)
        if (note.reason, note.action) == ("Drifted", "Correct"):
            self._metrics.corrected(1)
        self._events.record(
            meta,
            EventContent(note.type, note.reason, note.action, note.text, note.related),
            transition=note.transition,
            reserve=Reserve.ALL if note.always else Reserve.NONE,
        )

    def _report_failure(self, meta: ObjectMeta, result: ReconcileResult, failure: Failure) -> None:
        if _as_shown(failure) == self._shown:
            return
        log = self._log(meta)
        level = log.error if failure.kind is Kind.STALLED else log.warning
        level("not_in_sync", reason=failure.reason, message=failure.text)
        # A drift conflict has an Event for each object.
        if all(note.reason != failure.reason for note in result.notes):
            self._events.record(
                meta,
                EventContent("Warning", failure.reason, "Reconcile", failure.text),
                transition=self._shown is None,
                reserve=Reserve.NEW,
            )

    def _report_good_end(self, meta: ObjectMeta, status: DecryptorStatus, changes: str, *, deploys: bool) -> None:
        ready = condition(status, "Ready")
        text = ready.message if ready is not None else ""
        if ready is not None and ready.reason == PLANNED:
            if self._before is None or self._before.plan != status.plan:
                self._log(meta).info("planned", message=text)
                self._events.record(meta, EventContent("Normal", PLANNED, "DryRun", text))
        elif deploys:
            self._report_deployed(meta, status, text + changes)
        if self._shown is not None:
            self._log(meta).info("recovered")
            self._events.record(meta, EventContent("Normal", "Recovered", "Reconcile", text), transition=True)

    def _report_deployed(self, meta: ObjectMeta, status: DecryptorStatus, text: str) -> None:
        """A revision is deployed: a newer one, or one that was deployed before."""
        current, log = status.current, self._log(meta)
        self._metrics.deployed()
        log.info("in_sync", id=current.id, revision=current.revision, file=current.file_to_decrypt)
        abandoned = _rolled_back_from(self._before, status)
        if abandoned is None:
            self._events.record(meta, EventContent("Normal", "Applied", "Apply", text), transition=True)
            return
        log.info("rolled_back", id=current.id, revision=current.revision, from_revision=abandoned)
        back = f"back from revision {abandoned[:SHORT_REVISION]}, as deployment {current.id}: {text}"
        content = EventContent("Normal", "RolledBack", "Apply", back)
        self._events.record(meta, content, transition=True, reserve=Reserve.ALL)

    def _log(self, meta: ObjectMeta) -> structlog.stdlib.BoundLogger:
        found: structlog.stdlib.BoundLogger = _log.bind(namespace=meta.namespace, name=meta.name)
        return found


def _as_shown(failure: Failure | None) -> _Shown | None:
    return None if failure is None else (failure.reason, failure.text)


def _shown_by(status: DecryptorStatus | None) -> _Shown | None:
    """The failure that a status shows."""
    ready = condition(status, "Ready")
    if ready is None or ready.status != "False" or ready.reason not in REASONS:
        return None
    return ready.reason, ready.message


def _deploys(before: DecryptorStatus | None, result: ReconcileResult) -> bool:
    """Whether a tick ends a deployment well."""
    if result.status is None or not result.conclusive or result.failure is not None:
        return False
    ready = condition(result.status, "Ready")
    is_good = ready is not None and ready.status == "True" and ready.reason != PLANNED
    return is_good and _is_new(before, result.status)


def _rolled_back_from(before: DecryptorStatus | None, after: DecryptorStatus) -> str | None:
    """The revision that was abandoned for one that was deployed before it; None where that is not what happened."""
    if before is None or before.current.revision in ("", after.current.revision):
        return None
    earlier = {record.revision for record in before.history}
    return before.current.revision if after.current.revision in earlier else None


def _is_new(before: DecryptorStatus | None, after: DecryptorStatus) -> bool:
    """Whether the status shows another deployment than before, or the same of another spec."""
    if before is None:
        return True
    return (before.current.id, before.observed_generation) != (after.current.id, after.observed_generation)
