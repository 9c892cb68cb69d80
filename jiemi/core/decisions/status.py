"""What is said of a Decryptor after a tick: a pure function of what was said before and what happened.

`current` is the deployment that is in the cluster. A failure leaves its id, revision and time alone and only turns its
status to NotSync, because the last good objects stay. A new revision (or file) that was applied makes a new record with
the next id, and the one before it goes to the history.

Here are the outcomes: how a tick ended, or what it waits for. What a tick learns on its way is put into the status by
`status_facts`.
"""

from __future__ import annotations

import datetime

import attrs

from jiemi.core.api.conditions import DRIFTED, RECONCILING, STALLED, SUSPENDED
from jiemi.core.api.decryptor_status import HISTORY_LIMIT, Condition, DecryptorStatus, PlanStatus, StatusRecord
from jiemi.core.decisions.conditions import PLANNED, SYNCED, condition, rfc3339, with_condition, without_condition
from jiemi.core.decisions.status_facts import without_failures
from jiemi.core.decisions.status_warnings import with_warnings
from jiemi.core.errors import Failure
from jiemi.core.reasons import Kind

SHORT_REVISION = 12
"""Characters of a revision in a message; git's own abbreviation for large repositories."""

_MAX_MESSAGE = 1_000
"""Characters of a condition's message."""


def blank(file: str) -> DecryptorStatus:
    """The status of a Decryptor of which nothing is known yet."""
    return DecryptorStatus(StatusRecord(0, "", file, None, "NotSync"))


def after_sync(
    before: DecryptorStatus,
    *,
    generation: int,
    revision: str,
    file: str,
    now: datetime.datetime,
) -> DecryptorStatus:
    """The status once a revision is applied.

    Args:
        before: with what the deployment learnt in it (`with_facts`, files, inventory).
        file: the file, or what describes the files.
    """
    history = before.history
    old = before.current
    if old.id > 0 and (old.revision, old.file_to_decrypt) == (revision, file):
        current = _good(old)
    else:
        current = StatusRecord(old.id + 1, revision, file, rfc3339(now), "Sync")
        if old.id > 0:
            history = (*history, _good(old))[-HISTORY_LIMIT:]
    message = f"{_what(before, file)} of revision {revision[:SHORT_REVISION]} {_verb(before)} applied"
    ready = Condition("Ready", "True", SYNCED, message, rfc3339(now), generation)
    after = attrs.evolve(
        without_failures(before),
        current=current,
        history=history,
        conditions=with_condition(before, ready, without=(RECONCILING, STALLED, SUSPENDED)),
        observed_generation=generation,
        last_attempted_revision=revision,
        inventory=tuple(attrs.evolve(each, revision=None) if each.revision else each for each in before.inventory),
        plan=None,
    )
    return with_warnings(after, generation=generation, now=now)


def still_synced(before: DecryptorStatus, *, generation: int, now: datetime.datetime) -> DecryptorStatus:
    """The status once it is known that what it says is applied is applied still."""
    current = before.current
    return after_sync(before, generation=generation, revision=current.revision, file=current.file_to_decrypt, now=now)


def _what(status: DecryptorStatus, file: str) -> str:
    """What is applied. Globs in the spec say nothing new; how much they came to does."""
    if not status.files:
        return file
    objects = "1 object" if len(status.inventory) == 1 else f"{len(status.inventory)} objects"
    if len(status.files) > 1:
        return f"{len(status.files)} files ({objects})"
    path = status.files[0].path
    return path if len(status.inventory) == 1 else f"{path} ({objects})"


def _verb(status: DecryptorStatus) -> str:
    return "is" if len(status.files) <= 1 else "are"


def after_plan(
    before: DecryptorStatus, plan: PlanStatus, *, generation: int, now: datetime.datetime
) -> DecryptorStatus:
    """The status once mode: DryRun has computed what an apply would do; what is deployed stays as it was."""
    counts = ", ".join(
        f"{number} {what}"
        for number, what in (
            (plan.created, "to create"),
            (plan.changed, "to change"),
            (plan.pruned, "to delete"),
            (plan.unchanged, "unchanged"),
        )
    )
    message = f"dry run of revision {plan.revision[:SHORT_REVISION]}: {counts}; nothing is applied (spec.mode)"
    ready = Condition("Ready", "True", PLANNED, message, rfc3339(now), generation)
    after = attrs.evolve(
        without_failures(before),
        current=attrs.evolve(before.current, error_message=None),
        conditions=with_condition(before, ready, without=(RECONCILING, STALLED, SUSPENDED, DRIFTED)),
        observed_generation=generation,
        last_attempted_revision=plan.revision,
        plan=plan,
    )
    return with_warnings(after, generation=generation, now=now)


def after_failure(
    before: DecryptorStatus,
    *,
    generation: int,
    failure: Failure,
    attempted_revision: str | None,
    now: datetime.datetime,
) -> DecryptorStatus:
    """The status after a tick that failed.

    Args:
        before: with what is known all the same: the objects that were applied, those that failed.
        attempted_revision: the one that was tried, or None when it is not even known.
    """
    current = attrs.evolve(before.current, status="NotSync", error_message=str(failure))
    ready = Condition("Ready", "False", failure.reason, failure.text, rfc3339(now), generation)
    # kstatus calls an object failed that is Stalled, and in progress while it is Reconciling. What can pass by itself
    # is tried again, so it is the latter.
    if failure.kind is Kind.STALLED:
        more = Condition(STALLED, "True", failure.reason, failure.text, rfc3339(now), generation)
    else:
        more = Condition(RECONCILING, "True", "ProgressingWithRetry", failure.text, rfc3339(now), generation)
    others = tuple(kind for kind in (RECONCILING, STALLED, SUSPENDED) if kind != more.type)
    first = attrs.evolve(before, conditions=with_condition(before, ready, without=others))
    after = attrs.evolve(
        first,
        current=current,
        conditions=with_condition(first, more),
        observed_generation=generation,
        last_attempted_revision=attempted_revision or before.last_attempted_revision,
    )
    return with_warnings(after, generation=generation, now=now)


def while_reconciling(
    before: DecryptorStatus, message: str, *, generation: int, now: datetime.datetime
) -> DecryptorStatus:
    """The status in the middle of a deployment. `observed_generation` is not yet that of the new spec: what was said
    of the old one still stands."""
    ready = condition(before, "Ready") or Condition(
        "Ready", "Unknown", RECONCILING, "the first deployment is under way", rfc3339(now), generation
    )
    under_way = Condition(RECONCILING, "True", "Deploying", message, rfc3339(now), generation)
    first = attrs.evolve(before, conditions=with_condition(before, ready, without=(STALLED, SUSPENDED)))
    return attrs.evolve(first, conditions=with_condition(first, under_way))


def while_waiting(before: DecryptorStatus, message: str, *, generation: int, now: datetime.datetime) -> DecryptorStatus:
    """The status when all is applied, and the objects are not ready yet (spec.wait)."""
    ready = Condition("Ready", "Unknown", "ObjectsNotReady", message, rfc3339(now), generation)
    under_way = Condition(RECONCILING, "True", "WaitingForObjects", message, rfc3339(now), generation)
    first = attrs.evolve(before, conditions=with_condition(before, ready, without=(STALLED, SUSPENDED)))
    return attrs.evolve(first, conditions=with_condition(first, under_way))


def while_suspended(before: DecryptorStatus, *, generation: int, now: datetime.datetime) -> DecryptorStatus:
    """The status while spec.suspend is set: what was said, and that nothing is done.

    `observed_generation` stays: this spec has not been acted upon.
    """
    ready = condition(before, "Ready") or Condition(
        "Ready", "Unknown", SUSPENDED, "nothing was deployed yet, and spec.suspend is true", rfc3339(now), generation
    )
    message = "nothing is looked at or applied until spec.suspend is taken away"
    suspended = Condition(SUSPENDED, "True", "SpecSuspend", message, rfc3339(now), generation)
    first = attrs.evolve(before, conditions=with_condition(before, ready, without=(RECONCILING, STALLED)))
    return attrs.evolve(first, conditions=with_condition(first, suspended))


def with_drift(
    before: DecryptorStatus, found: tuple[str, str, str] | None, *, generation: int, now: datetime.datetime
) -> DecryptorStatus:
    """The status with its Drifted condition: its status, reason and message; absent for None."""
    if found is None:
        return attrs.evolve(before, conditions=without_condition(before, DRIFTED))
    status, reason, message = found
    drifted = Condition(DRIFTED, status, reason, message[:_MAX_MESSAGE], rfc3339(now), generation)
    return attrs.evolve(before, conditions=with_condition(before, drifted))


_WAITING = frozenset({"DependencyNotReady", "ObjectsNotReady"})
"""Reasons of the Ready condition while nothing is wrong, except that something is not there yet."""


def with_summary(status: DecryptorStatus, *, deleting: bool, dry_run: bool, pinned: bool) -> DecryptorStatus:
    """The status with what `kubectl get` shows in a line. Columns can't cut a text, or show several fields.

    Args:
        deleting: whether the Decryptor is being deleted.
        dry_run: whether spec.mode is DryRun.
        pinned: whether it follows one commit, so that it will not move.
    """
    ready, drifted = condition(status, "Ready"), condition(status, DRIFTED)
    flags = {
        "Deleting": deleting,
        "Suspended": condition(status, SUSPENDED) is not None,
        "DryRun": dry_run,
        "Pinned": pinned,
        "Waiting": ready is not None and ready.reason in _WAITING,
        "Drifted": drifted is not None and drifted.status == "True",
    }
    shown = ",".join(name for name, is_set in flags.items() if is_set)
    revision = status.current.revision[:SHORT_REVISION]
    return attrs.evolve(status, short_revision=revision or None, flags=shown or None)


def _good(record: StatusRecord) -> StatusRecord:
    """A deployment as it was when it was made."""
    return attrs.evolve(record, status="Sync", error_message=None)
