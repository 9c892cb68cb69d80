"""What was seen of a Decryptor's objects -> which are to be applied again now, and what to say of the others."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping

import structlog

from jiemi.core.api.decryptor import DecryptorSpec
from jiemi.core.decisions.status import with_drift
from jiemi.core.errors import Failure, JiemiError, Kind
from jiemi.core.objects.drift import Drift, Observation, drift_of
from jiemi.core.objects.identity import ObjectKey, ObjectRef
from jiemi.core.objects.inventory import ref_of
from jiemi.miwen.kubernetes.port import Objects
from jiemi.miwen.reconcile.tick import Turn

_MAX_SHOWN = 5

_UNREAD_SECONDS = 5.0
"""How soon an object that may differ is looked at again, where that failed for a reason that may pass."""

_log = structlog.get_logger("jiemi.miwen")


async def find_drift(turn: Turn, spec: DecryptorSpec, objects: Objects) -> Mapping[ObjectKey, Drift]:
    """The objects that differ and are to be corrected now. All that differ are kept in the progress, until
    `tell_corrected`.

    Args:
        objects: read as Miwen itself, which watches them.
    """
    progress, slot = turn.progress, turn.slot
    seen: dict[ObjectKey, Observation | None] = {**dict.fromkeys(progress.drifted), **slot.take_seen()}
    found: dict[ObjectKey, Drift] = {}
    progress.unread = None
    for key, observation in seen.items():
        entry = slot.inventory.get(key)
        if entry is None or not (entry.file or entry.left_file):
            continue  # it left the repository, and is to be deleted or let go
        try:
            confirmed = await _confirmed(ref_of(entry), observation, objects)
            drift = drift_of(entry, slot.with_before(key, confirmed))
        except JiemiError as error:
            if progress.unread is None:
                _log.warning("drift-not-read", object=key.label, reason=error.failure.reason)
                progress.unread = error.failure
            if observation is not None:
                slot.put_back(key, observation)
            elif key in progress.drifted:
                found[key] = progress.drifted[key]
            continue
        if drift is not None:
            found[key] = drift
    progress.backoff.keep_only(set(slot.inventory))
    to_correct = {
        key: drift
        for key, drift in found.items()
        if spec.drift_policy == "Correct" and progress.backoff.may_correct(key)
    }
    _tell_new(turn, spec, {key: drift for key, drift in found.items() if key not in to_correct})
    progress.drifted = found
    slot.differing = set(found)
    return to_correct


async def _confirmed(ref: ObjectRef, seen: Observation | None, objects: Objects) -> Observation:
    """What was seen; a deletion, or what was seen long ago, only once it was looked at again."""
    if seen is not None and seen.owned is not None:
        return seen
    # It may have lost its label only, or be back.
    metadata = await objects.get_metadata(ref)
    return Observation.of(metadata) if metadata is not None else Observation("", None)


def _tell_new(turn: Turn, spec: DecryptorSpec, kept: Mapping[ObjectKey, Drift]) -> None:
    for key, drift in kept.items():
        if turn.progress.drifted.get(key) == drift:
            continue
        entry = turn.slot.inventory[key]
        if spec.drift_policy == "Report":
            turn.note("Warning", "Drifted", "Report", f"{key.label} {drift}; spec.driftPolicy is Report", ref_of(entry))
        else:
            pause = turn.progress.backoff.pause_seconds(key) or 0.0
            turn.note(
                "Warning",
                "DriftConflict",
                "BackOff",
                f"{key.label} {drift} again and again; it is left alone for {pause:.0f} s",
                ref_of(entry),
            )


def tell_corrected(turn: Turn, to_correct: Mapping[ObjectKey, Drift]) -> None:
    """Tell in Events what was put right, and forget it; what was not applied after all stays."""
    for key, drift in to_correct.items():
        if key in turn.slot.differing or key not in turn.progress.drifted:
            continue
        turn.progress.drifted.pop(key, None)
        if drift.resource_version and drift.resource_version == turn.slot.version(key):
            continue  # applying it changed nothing: another had applied the same
        turn.progress.backoff.corrected(key)
        entry = turn.slot.inventory.get(key)
        if entry is not None:
            turn.note(
                "Warning",
                "Drifted",
                "Correct",
                f"{key.label} {drift}; it is applied again",
                ref_of(entry),
                transition=True,
            )


def tell_uncorrected(turn: Turn, drifted: Mapping[ObjectKey, Drift], failures: Mapping[ObjectKey, Failure]) -> None:
    """Keep why objects could not be put right, and tell it in Events: what may pass at once, once it has not."""
    for key in drifted:
        before, failure = turn.progress.uncorrected.pop(key, None), failures.get(key)
        entry = turn.slot.inventory.get(key)
        if failure is None or entry is None:
            continue
        turn.progress.uncorrected[key] = failure
        if (before != failure) == (failure.kind is Kind.STALLED):
            text = f"{key.label} {drifted[key]}; it can't be put right: {failure}"
            turn.note("Warning", "Drifted", "Correct", text, ref_of(entry))


def require_no_conflict(turn: Turn, spec: DecryptorSpec) -> None:
    """What is left alone while a fight's pause is on is not what git says.

    Raises:
        JiemiError: DriftConflict.
    """
    if spec.drift_policy != "Correct":
        return
    backoff = turn.progress.backoff
    fought = {key: each for key, each in _differing(turn).items() if backoff.pause_seconds(key) is not None}
    if fought:
        raise JiemiError(
            "DriftConflict", _listed(f"{key.label} {drift} again and again" for key, drift in fought.items())
        )


def _differing(turn: Turn) -> dict[ObjectKey, Drift]:
    """What is known to differ still: what a new revision applied anew is right, though nobody meant to correct it."""
    slot, drifted = turn.slot, turn.progress.drifted
    return {key: each for key, each in drifted.items() if key in slot.differing and key in slot.inventory}


def _listed(texts: Iterable[str]) -> str:
    """The first few, in the order of the alphabet."""
    found = sorted(texts)
    more = f"; and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else ""
    return "; ".join(found[:_MAX_SHOWN]) + more


def again_seconds(turn: Turn) -> float | None:
    """When a fight's pause ends, if one is on; sooner, where an object could not be looked at."""
    pauses = [turn.progress.backoff.pause_seconds(key) for key in turn.progress.drifted]
    unread = turn.progress.unread
    if unread is not None and unread.kind is not Kind.STALLED:
        pauses.append(_UNREAD_SECONDS)
    return min((pause for pause in pauses if pause is not None), default=None)


def tell_in_status(turn: Turn, spec: DecryptorSpec, now: datetime.datetime, *, watch_failure: Failure | None) -> None:
    """Put the condition into the status that tells of drift which is not corrected, or can't be seen.

    Args:
        watch_failure: why changes of some objects are not seen; or None.
    """
    progress = turn.progress
    progress.drifted = drifted = _differing(turn)
    if watch_failure is None and progress.unread is not None and progress.unread.kind is Kind.STALLED:
        watch_failure = progress.unread
    if drifted:
        text = _listed(f"{key.label} {drift}{_why(turn, key)}" for key, drift in drifted.items())
        found = ("True", _reason(turn, spec, drifted), text)
    elif watch_failure is not None:
        found = ("Unknown", watch_failure.reason, watch_failure.text)
    elif not progress.watched:
        return  # nothing newer is known than what was said before the start
    else:
        found = None
    turn.known = with_drift(turn.known, found, generation=turn.generation, now=now)


def _reason(turn: Turn, spec: DecryptorSpec, drifted: Mapping[ObjectKey, Drift]) -> str:
    """Why objects stay as they are, in one word: nobody wants them corrected, they can't be, two fight, or not yet."""
    if spec.drift_policy == "Report":
        return "Reported"
    if not turn.progress.uncorrected.keys().isdisjoint(drifted):
        return "NotCorrected"
    is_paused = any(turn.progress.backoff.pause_seconds(key) is not None for key in drifted)
    return "DriftConflict" if is_paused else "NotCorrected"


def _why(turn: Turn, key: ObjectKey) -> str:
    failure = turn.progress.uncorrected.get(key)
    return f", and can't be put right ({failure})" if failure is not None else ""
