"""What was seen of a Decryptor's objects -> which of them are applied again now, and what is said of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.drift import Drift, Observation, drift_of
from jiemi.core.objects.identity import ObjectKey, ObjectRef
from jiemi.core.objects.inventory import ref_of
from jiemi.core.reasons import Kind
from jiemi.core.text import first_of
from jiemi.miwen.kubernetes.port import Objects
from jiemi.miwen.reconcile.tick import ReconcileContext

_MAX_SHOWN = 5

_UNREAD_SECONDS = 5.0
"""How soon Miwen looks again at an object that may differ, after a failure that may pass."""

_log = structlog.get_logger("jiemi.miwen.reconcile")


async def find_drift(context: ReconcileContext, spec: DecryptorSpec, objects: Objects) -> Mapping[ObjectKey, Drift]:
    """The objects that differ and are corrected now. All that differ are remembered, until `report_corrected`.

    Args:
        objects: what reads them, under the account of Miwen, which watches them.
    """
    state, mailbox = context.state, context.mailbox
    seen: dict[ObjectKey, Observation | None] = {**dict.fromkeys(state.drift.drifted), **mailbox.take_seen()}
    found: dict[ObjectKey, Drift] = {}
    state.drift.set_unread(None)
    for key, observation in seen.items():
        entry = mailbox.inventory.get(key)
        if entry is None or not (entry.file or entry.left_file):
            continue  # it is no longer in the repository, and is to be deleted or let go
        try:
            confirmed = await _confirmed(ref_of(entry), observation, objects)
            drift = drift_of(entry, mailbox.with_before(key, confirmed))
        except JiemiError as error:
            if state.drift.unread is None:
                _log.warning("drift_not_read", object=key.label, reason=error.failure.reason)
                state.drift.set_unread(error.failure)
            if observation is not None:
                mailbox.defer(key, observation)
            elif key in state.drift.drifted:
                found[key] = state.drift.drifted[key]
            continue
        if drift is not None:
            _log.debug("drifted", object=key.label, correct=spec.drift_policy == "Correct")
            found[key] = drift
    state.drift.backoff.keep_only(set(mailbox.inventory))
    to_correct = {
        key: drift
        for key, drift in found.items()
        if spec.drift_policy == "Correct" and state.drift.backoff.may_correct(key)
    }
    _report_new(context, spec, {key: drift for key, drift in found.items() if key not in to_correct})
    state.drift.set_drifted(found)
    mailbox.set_differing(found)
    return to_correct


async def _confirmed(ref: ObjectRef, seen: Observation | None, objects: Objects) -> Observation:
    """What was seen. A deletion, and what was seen long ago, counts only once the object was looked at again."""
    if seen is not None and seen.owned is not None:
        return seen
    # It may have lost only its label, or exist again.
    metadata = await objects.get_metadata(ref)
    return Observation.of(metadata) if metadata is not None else Observation("", None)


def _report_new(context: ReconcileContext, spec: DecryptorSpec, kept: Mapping[ObjectKey, Drift]) -> None:
    for key, drift in kept.items():
        if context.state.drift.drifted.get(key) == drift:
            continue
        entry = context.mailbox.inventory[key]
        if spec.drift_policy == "Report":
            context.warn("Drifted", "Report", f"{key.label} {drift}; spec.driftPolicy is Report", ref_of(entry))
        else:
            pause = context.state.drift.backoff.pause_seconds(key) or 0.0
            context.warn(
                "DriftConflict",
                "BackOff",
                f"{key.label} {drift} again and again; it is left alone for {pause:.0f} s",
                ref_of(entry),
            )


def report_corrected(context: ReconcileContext, to_correct: Mapping[ObjectKey, Drift]) -> None:
    """Report in Events what was corrected, and forget it; what was not applied after all stays."""
    for key, drift in to_correct.items():
        if key in context.mailbox.differing or key not in context.state.drift.drifted:
            continue
        context.state.drift.forget_drifted(key)
        if drift.resource_version and drift.resource_version == context.mailbox.version(key):
            continue  # applying it changed nothing: another had applied the same
        context.state.drift.backoff.corrected(key)
        entry = context.mailbox.inventory.get(key)
        if entry is not None:
            context.warn(
                "Drifted",
                "Correct",
                f"{key.label} {drift}; it is applied again",
                ref_of(entry),
                transition=True,
            )


def report_uncorrected(
    context: ReconcileContext, drifted: Mapping[ObjectKey, Drift], failures: Mapping[ObjectKey, Failure]
) -> None:
    """Remember why objects could not be corrected, and report it in Events. A failure that may pass is reported only
    when the same object fails with it again."""
    for key in drifted:
        before, failure = context.state.drift.uncorrected.get(key), failures.get(key)
        entry = context.mailbox.inventory.get(key)
        context.state.drift.set_uncorrected(key, failure if entry is not None else None)
        if failure is None or entry is None:
            continue
        if (before != failure) == (failure.kind is Kind.STALLED):
            text = f"{key.label} {drifted[key]}; it can't be put right: {failure}"
            context.warn("Drifted", "Correct", text, ref_of(entry))


def by_order(
    context: ReconcileContext, drifted: Mapping[ObjectKey, Drift], *, resync: bool
) -> tuple[Mapping[ObjectKey, Drift], Mapping[ObjectKey, Drift]]:
    """The objects that are corrected before the newest revision is looked at, and those that are corrected after it.

    What is of a file that is not deployed whole may be corrected by the newest version of that file; if it is not, it
    is corrected afterwards.
    """
    whole = set() if resync else {file.path for file in context.status.files if file.blob}
    sooner = {key: each for key, each in drifted.items() if context.mailbox.inventory[key].file in whole}
    return sooner, {key: each for key, each in drifted.items() if key not in sooner}


def require_corrected(
    context: ReconcileContext, drifted: Mapping[ObjectKey, Drift], uncorrected: JiemiError | None
) -> None:
    """Objects that could not be corrected, and that nothing else has applied since, are not what git says.

    Args:
        drifted: objects that were to be corrected in this tick.
        uncorrected: why the first one could not be, if one could not.

    Raises:
        JiemiError: that.
    """
    if uncorrected is not None and not set(drifted).isdisjoint(context.mailbox.differing):
        raise uncorrected


def require_no_conflict(context: ReconcileContext, spec: DecryptorSpec) -> None:
    """Objects that are left alone while the correction is paused are not what git says.

    Raises:
        JiemiError: DriftConflict.
    """
    if spec.drift_policy != "Correct":
        return
    backoff = context.state.drift.backoff
    paused = {key: each for key, each in _differing(context).items() if backoff.pause_seconds(key) is not None}
    if paused:
        raise JiemiError(
            "DriftConflict", _listed(f"{key.label} {drift} again and again" for key, drift in paused.items())
        )


def _differing(context: ReconcileContext) -> dict[ObjectKey, Drift]:
    """What is known to differ still: an object that a new revision applied again is right, though nobody meant to
    correct it."""
    mailbox, drifted = context.mailbox, context.state.drift.drifted
    return {key: each for key, each in drifted.items() if key in mailbox.differing and key in mailbox.inventory}


def _listed(texts: Iterable[str]) -> str:
    """The first few, in the order of the alphabet."""
    found = sorted(texts)
    return first_of(found, _MAX_SHOWN, "; ")


def requeue_after_seconds(context: ReconcileContext) -> float | None:
    """When the pause of a correction ends, if there is one; sooner, where an object could not be looked at."""
    pauses = [context.state.drift.backoff.pause_seconds(key) for key in context.state.drift.drifted]
    unread = context.state.drift.unread
    if unread is not None and unread.kind is not Kind.STALLED:
        pauses.append(_UNREAD_SECONDS)
    return min((pause for pause in pauses if pause is not None), default=None)


def show_in_status(context: ReconcileContext, spec: DecryptorSpec, *, watch_failure: Failure | None) -> None:
    """Put the condition into the status that shows drift which is not corrected, or can't be seen.

    Args:
        watch_failure: why changes of some objects are not seen; or None.
    """
    state = context.state
    drifted = _differing(context)
    state.drift.set_drifted(drifted)
    if watch_failure is None and state.drift.unread is not None and state.drift.unread.kind is Kind.STALLED:
        watch_failure = state.drift.unread
    if drifted:
        text = _listed(f"{key.label} {drift}{_why(context, key)}" for key, drift in drifted.items())
        found = ("True", _reason(context, spec, drifted), text)
    elif watch_failure is not None:
        found = ("Unknown", watch_failure.reason, watch_failure.text)
    elif not state.is_compared:
        return  # nothing newer is known than what the status said before the start
    else:
        found = None
    context.draft.drifted(found)


def _reason(context: ReconcileContext, spec: DecryptorSpec, drifted: Mapping[ObjectKey, Drift]) -> str:
    """Why objects stay as they are, in one word: spec.driftPolicy is Report, they can't be corrected, somebody else
    corrects them back, or they are not corrected yet."""
    if spec.drift_policy == "Report":
        return "Reported"
    if not context.state.drift.uncorrected.keys().isdisjoint(drifted):
        return "NotCorrected"
    is_paused = any(context.state.drift.backoff.pause_seconds(key) is not None for key in drifted)
    return "DriftConflict" if is_paused else "NotCorrected"


def _why(context: ReconcileContext, key: ObjectKey) -> str:
    failure = context.state.drift.uncorrected.get(key)
    return f", and can't be put right ({failure})" if failure is not None else ""
