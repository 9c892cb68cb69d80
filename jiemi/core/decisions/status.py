"""What is said of a Decryptor after a tick: a pure function of what was said before and what happened.

`current` is the deployment that is in the cluster. A failure leaves its id, revision and time alone and only turns its
status to NotSync, because the last good objects stay. A new revision (or file) that was applied makes a new record with
the next id, and the one before it goes to the history.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence

import attrs

from jiemi.core.api.conditions import (
    CARRIAGE_RETURNS,
    DRIFTED,
    KEY_EXPIRING,
    MAC_ONLY_ENCRYPTED,
    RECONCILING,
    STALE_RECIPIENTS,
    STALLED,
    SUSPENDED,
    VAULT_ADDRESS_TRUSTED,
)
from jiemi.core.api.decryptor_status import (
    HISTORY_LIMIT,
    MAX_WARNINGS,
    Condition,
    DecryptorStatus,
    EncryptionStatus,
    FileWarning,
    PlanStatus,
    StatusRecord,
)
from jiemi.core.errors import Failure
from jiemi.core.reasons import Kind
from jiemi.core.text import first_of

SYNCED = "Synced"
"""Reason of the Ready condition while the cluster follows the repository."""

PLANNED = "Planned"
"""Reason of the Ready condition while mode: DryRun has its plan."""

SHORT_REVISION = 12
"""Characters of a revision in a message; git's own abbreviation for large repositories."""


def rfc3339(moment: datetime.datetime) -> str:
    """A moment in UTC as RFC 3339 text with seconds: "2026-11-24T03:00:00Z"."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def blank(file: str) -> DecryptorStatus:
    """The status of a Decryptor of which nothing is known yet."""
    return DecryptorStatus(StatusRecord(0, "", file, None, "NotSync"))


def condition(status: DecryptorStatus | None, kind: str) -> Condition | None:
    """The condition of that type."""
    conditions = status.conditions if status is not None else ()
    return next((each for each in conditions if each.type == kind), None)


def is_ready(status: DecryptorStatus | None, generation: int) -> bool:
    """Whether the status says that this generation of the spec is ready (kstatus: and observed)."""
    ready = condition(status, "Ready")
    return (
        status is not None and status.observed_generation == generation and ready is not None and ready.status == "True"
    )


KEY_EXPIRES_SOON = datetime.timedelta(days=30)
"""How long before a key expires there is a warning."""

_MAX_SHOWN = 5

_MAX_MESSAGE = 1_000
"""Characters of a condition's message."""


@attrs.frozen
class Facts:
    """What was learnt from a file when it was deployed.

    Attributes:
        encryption: how it is encrypted.
        vault_address: the Vault server that is trusted because nothing names one, or None.
    """

    encryption: EncryptionStatus
    vault_address: str | None = None


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
        conditions=_with(before, ready, without=(RECONCILING, STALLED, SUSPENDED)),
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
        conditions=_with(before, ready, without=(RECONCILING, STALLED, SUSPENDED, DRIFTED)),
        observed_generation=generation,
        last_attempted_revision=plan.revision,
        plan=plan,
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
    first = attrs.evolve(before, conditions=_with(before, ready, without=(STALLED, SUSPENDED)))
    return attrs.evolve(first, conditions=_with(first, under_way))


def while_waiting(before: DecryptorStatus, message: str, *, generation: int, now: datetime.datetime) -> DecryptorStatus:
    """The status when all is applied, and the objects are not ready yet (spec.wait)."""
    ready = Condition("Ready", "Unknown", "ObjectsNotReady", message, rfc3339(now), generation)
    under_way = Condition(RECONCILING, "True", "WaitingForObjects", message, rfc3339(now), generation)
    first = attrs.evolve(before, conditions=_with(before, ready, without=(STALLED, SUSPENDED)))
    return attrs.evolve(first, conditions=_with(first, under_way))


def while_suspended(before: DecryptorStatus, *, generation: int, now: datetime.datetime) -> DecryptorStatus:
    """The status while spec.suspend is set: what was said, and that nothing is done.

    `observed_generation` stays: this spec has not been acted upon.
    """
    ready = condition(before, "Ready") or Condition(
        "Ready", "Unknown", SUSPENDED, "nothing was deployed yet, and spec.suspend is true", rfc3339(now), generation
    )
    message = "nothing is looked at or applied until spec.suspend is taken away"
    suspended = Condition(SUSPENDED, "True", "SpecSuspend", message, rfc3339(now), generation)
    first = attrs.evolve(before, conditions=_with(before, ready, without=(RECONCILING, STALLED)))
    return attrs.evolve(first, conditions=_with(first, suspended))


def with_drift(
    before: DecryptorStatus, found: tuple[str, str, str] | None, *, generation: int, now: datetime.datetime
) -> DecryptorStatus:
    """The status with its Drifted condition: its status, reason and message; absent for None."""
    if found is None:
        return attrs.evolve(before, conditions=tuple(each for each in before.conditions if each.type != DRIFTED))
    status, reason, message = found
    drifted = Condition(DRIFTED, status, reason, message[:_MAX_MESSAGE], rfc3339(now), generation)
    return attrs.evolve(before, conditions=_with(before, drifted))


def without_failures(before: DecryptorStatus) -> DecryptorStatus:
    """The status without files and objects that failed."""
    return attrs.evolve(before, failed_objects=(), more_failed_objects=None, failed_files=(), more_failed_files=None)


def with_facts(before: DecryptorStatus, facts: Facts | None) -> DecryptorStatus:
    """The status with what was learnt from the files."""
    if facts is None:
        return before
    return attrs.evolve(before, encryption=facts.encryption, vault_address=facts.vault_address)


def with_file_warnings(
    before: DecryptorStatus, found: Sequence[FileWarning], *, read: Collection[str], files: Collection[str]
) -> DecryptorStatus:
    """The status with the warnings of files.

    Args:
        found: what there is to warn of in those that were read.
        read: paths of those.
        files: paths of all that the Decryptor has; what is known of another is forgotten.
    """
    kept = (each for each in before.warnings if each.file in files and each.file not in read)
    warnings = sorted((*kept, *found), key=lambda each: (each.file, each.type))
    return attrs.evolve(before, warnings=tuple(warnings[:MAX_WARNINGS]))


def with_warnings(status: DecryptorStatus, *, generation: int, now: datetime.datetime) -> DecryptorStatus:
    """The status with the warnings that its facts call for now; an equal one where nothing changes.

    Warnings are conditions that are True while there is something to mend, and absent otherwise.
    """
    for kind, make in _WARNINGS.items():
        found = make(status, now)
        if found is not None:
            warning = Condition(kind, "True", found[0], found[1], rfc3339(now), generation)
            conditions = _with(status, warning)
        else:
            conditions = tuple(each for each in status.conditions if each.type != kind)
        status = attrs.evolve(status, conditions=conditions)
    return status


def _vault_address_trusted(status: DecryptorStatus, _: datetime.datetime) -> tuple[str, str] | None:
    if status.vault_address is None:
        return None
    return "FirstUse", (
        f"the token is sent to {status.vault_address}, as the first file that was decrypted named it, and to no other: "
        "set spec.provider.vault.address to name it yourself"
    )


def _stale_recipients(status: DecryptorStatus, _: datetime.datetime) -> tuple[str, str] | None:
    stale = status.encryption.stale_recipients if status.encryption is not None else ()
    if not stale:
        return None
    return "NotInSopsConfig", (
        f"the file is still encrypted for {first_of(stale, _MAX_SHOWN)}, which the repository's .sops.yaml "
        "does not name: run `sops updatekeys` on it, and change its values if the key was lost"
    )


def _mac_only_encrypted(status: DecryptorStatus, _: datetime.datetime) -> tuple[str, str] | None:
    found = [each for each in status.warnings if each.type == MAC_ONLY_ENCRYPTED]
    if not found:
        return None
    return "MacNotOfEverything", (
        f"{_files(found)}: with mac_only_encrypted, whoever may push can change all that is not encrypted (names, "
        "namespaces, kinds, further documents) and the MAC does not show it: take it out of the .sops.yaml, decrypt "
        "the file and encrypt it again"
    )


def _carriage_returns(status: DecryptorStatus, _: datetime.datetime) -> tuple[str, str] | None:
    found = [each for each in status.warnings if each.type == CARRIAGE_RETURNS]
    if not found:
        return None
    return "InValues", (
        f"values hold a carriage return, which sops keeps as a part of them: {_files(found)}: if that is not meant, "
        "decrypt the file, give it line ends of Unix and encrypt it again"
    )


def _files(warnings: Sequence[FileWarning]) -> str:
    """Files with the names in them: "a.env (A, B and 3 more) and 2 more files"."""
    told = []
    for each in warnings[:_MAX_SHOWN]:
        more = f" and {each.more} more" if each.more else ""
        told.append(f"{each.file} ({', '.join(each.names)}{more})" if each.names else each.file)
    rest = len(warnings) - _MAX_SHOWN
    return ", ".join(told) + (f" and {rest} more files" if rest > 0 else "")


def _key_expiring(status: DecryptorStatus, now: datetime.datetime) -> tuple[str, str] | None:
    expires = status.encryption.key_expires_at if status.encryption is not None else None
    if expires is None or rfc3339(now + KEY_EXPIRES_SOON) < expires:
        return None
    if expires <= rfc3339(now):
        return (
            "Expired",
            f"the pgp key expired at {expires}: nothing more can be encrypted for it; extend or replace it",
        )
    return "Expiring", f"the pgp key expires at {expires}: extend or replace it before then"


_WARNINGS: Mapping[str, Callable[[DecryptorStatus, datetime.datetime], tuple[str, str] | None]] = {
    VAULT_ADDRESS_TRUSTED: _vault_address_trusted,
    STALE_RECIPIENTS: _stale_recipients,
    KEY_EXPIRING: _key_expiring,
    MAC_ONLY_ENCRYPTED: _mac_only_encrypted,
    CARRIAGE_RETURNS: _carriage_returns,
}
"""Type of condition, and what gives its reason and message; None where there is nothing to warn of."""


_WAITING = frozenset({"DependencyNotReady", "ObjectsNotReady"})
"""Reasons of the Ready condition while nothing is wrong but that something is not there yet."""


def with_summary(status: DecryptorStatus, *, deleting: bool, dry_run: bool, pinned: bool) -> DecryptorStatus:
    """The status with what `kubectl get` shows in a line. Columns can't cut a text, or tell of several fields.

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
    first = attrs.evolve(before, conditions=_with(before, ready, without=others))
    after = attrs.evolve(
        first,
        current=current,
        conditions=_with(first, more),
        observed_generation=generation,
        last_attempted_revision=attempted_revision or before.last_attempted_revision,
    )
    return with_warnings(after, generation=generation, now=now)


def _good(record: StatusRecord) -> StatusRecord:
    """A deployment as it was when it was made."""
    return attrs.evolve(record, status="Sync", error_message=None)


def _with(before: DecryptorStatus, new: Condition, *, without: Collection[str] = ()) -> tuple[Condition, ...]:
    """The conditions with this one in its place; its time is kept while its status stays."""
    conditions: list[Condition] = []
    found = False
    for old in before.conditions:
        if old.type in without:
            continue
        if old.type != new.type:
            conditions.append(old)
            continue
        found = True
        since = old.last_transition_time if old.status == new.status else new.last_transition_time
        conditions.append(attrs.evolve(new, last_transition_time=since))
    return tuple(conditions) if found else (*conditions, new)
