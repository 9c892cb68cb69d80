"""What is said of a Decryptor after a tick: a pure function of what was said before and what happened.

`current` is the deployment that is in the cluster. A failure leaves its id, revision and time alone and only turns its
status to NotSync, because the last good objects stay. A new revision (or file) that was applied makes a new record with
the next id, and the one before it goes to the history.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping

import attrs

from jiemi.core.decryptor_status import HISTORY_LIMIT, Condition, DecryptorStatus, EncryptionStatus, StatusRecord
from jiemi.core.errors import Failure

SYNCED = "Synced"
"""Reason of the Ready condition while the cluster follows the repository."""

SHORT_REVISION = 12
"""Characters of a revision in a message; git's own abbreviation for large repositories."""


def rfc3339(moment: datetime.datetime) -> str:
    """A moment in UTC as RFC 3339 text with seconds: "2026-11-24T03:00:00Z"."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_current(status: DecryptorStatus | None, *, generation: int, revision: str) -> bool:
    """Whether that revision, under that spec, is what the status says is deployed and well."""
    return (
        status is not None
        and status.observed_generation == generation
        and status.current.status == "Sync"
        and status.current.revision == revision
    )


VAULT_ADDRESS_TRUSTED = "VaultAddressTrusted"
"""The condition that tells of a Vault server that gets a token though nothing but a file ever named it."""

KEY_EXPIRES_SOON = datetime.timedelta(days=30)
"""How long before a key expires there is a warning."""

_MAX_SHOWN = 5


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
    before: DecryptorStatus | None,
    *,
    generation: int,
    revision: str,
    file: str,
    now: datetime.datetime,
    facts: Facts | None = None,
) -> DecryptorStatus:
    """The status once a revision of a file is applied.

    Args:
        facts: of the file; None keeps what was known.
    """
    history = before.history if before is not None else ()
    old = before.current if before is not None else None
    if old is not None and old.id > 0 and (old.revision, old.file_to_decrypt) == (revision, file):
        current = _good(old)
    else:
        number = old.id + 1 if old is not None else 1
        current = StatusRecord(number, revision, file, rfc3339(now), "Sync")
        if old is not None and old.id > 0:
            history = (*history, _good(old))[-HISTORY_LIMIT:]
    message = f"{file} of revision {revision[:SHORT_REVISION]} is applied"
    ready = Condition("Ready", "True", SYNCED, message, rfc3339(now), generation)
    if facts is None and before is not None and before.encryption is not None:
        facts = Facts(before.encryption, before.vault_address)
    encryption, address = (facts.encryption, facts.vault_address) if facts is not None else (None, None)
    after = DecryptorStatus(current, history, _with(before, ready), generation, revision, encryption, address)
    return with_warnings(after, generation=generation, now=now)


def with_warnings(status: DecryptorStatus, *, generation: int, now: datetime.datetime) -> DecryptorStatus:
    """The status with the warnings that its facts call for now; an equal one where nothing changes.

    Warnings are conditions that are True while there is something to mend, and absent otherwise.
    """
    kept = tuple(each for each in status.conditions if each.type not in _WARNINGS)
    before = {each.type: each for each in status.conditions}
    warnings = []
    for kind, make in _WARNINGS.items():
        found = make(status, now)
        if found is not None:
            since = before[kind].last_transition_time if kind in before else rfc3339(now)
            warnings.append(Condition(kind, "True", found[0], found[1], since, generation))
    return attrs.evolve(status, conditions=(*kept, *warnings))


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
    more = f" and {len(stale) - _MAX_SHOWN} more" if len(stale) > _MAX_SHOWN else ""
    return "NotInSopsConfig", (
        f"the file is still encrypted for {', '.join(stale[:_MAX_SHOWN])}{more}, which the repository's .sops.yaml "
        "does not name: run `sops updatekeys` on it, and change its values if the key was lost"
    )


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
    "StaleRecipients": _stale_recipients,
    "KeyExpiring": _key_expiring,
}
"""Type of condition, and what gives its reason and message; None where there is nothing to warn of."""


def after_failure(
    before: DecryptorStatus | None,
    *,
    generation: int,
    file: str,
    failure: Failure,
    attempted_revision: str | None,
    now: datetime.datetime,
    vault_address: str | None = None,
) -> DecryptorStatus:
    """The status after a tick that failed.

    Args:
        file: of the spec, or "" where the spec can't be read; shown until there is a deployment.
        attempted_revision: the one that was tried, or None when it is not even known.
        vault_address: the Vault server that is trusted since the file was decrypted, though what came after failed.
    """
    old = before.current if before is not None else None
    if old is None or old.id == 0:
        old = StatusRecord(0, "", file, None, "NotSync")
    current = attrs.evolve(old, status="NotSync", error_message=str(failure))
    ready = Condition("Ready", "False", failure.reason, failure.message, rfc3339(now), generation)
    attempted = attempted_revision or (before.last_attempted_revision if before is not None else None)
    history = before.history if before is not None else ()
    encryption = before.encryption if before is not None else None
    address = vault_address or (before.vault_address if before is not None else None)
    after = DecryptorStatus(current, history, _with(before, ready), generation, attempted, encryption, address)
    return with_warnings(after, generation=generation, now=now)


def _good(record: StatusRecord) -> StatusRecord:
    """A deployment as it was when it was made."""
    return attrs.evolve(record, status="Sync", error_message=None)


def _with(before: DecryptorStatus | None, condition: Condition) -> tuple[Condition, ...]:
    """The conditions with this one in its place; its time is kept while its status stays."""
    others: list[Condition] = []
    for old in before.conditions if before is not None else ():
        if old.type != condition.type:
            others.append(old)
        elif old.status == condition.status:
            condition = attrs.evolve(condition, last_transition_time=old.last_transition_time)
    return (*others, condition)
