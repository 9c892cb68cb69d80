"""The warnings of a status: conditions that are True while there is something to mend, and absent otherwise.

What they warn of is in the status already (`encryption`, `vaultAddress`, `warnings`), so they follow from it and from
the time.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence

import attrs

from jiemi.core.api.conditions import (
    CARRIAGE_RETURNS,
    KEY_EXPIRING,
    MAC_ONLY_ENCRYPTED,
    STALE_RECIPIENTS,
    VAULT_ADDRESS_TRUSTED,
)
from jiemi.core.api.decryptor_status import MAX_WARNINGS, Condition, DecryptorStatus, FileWarning
from jiemi.core.decisions.conditions import rfc3339, with_condition, without_condition
from jiemi.core.text import first_of

KEY_EXPIRES_SOON = datetime.timedelta(days=30)
"""How long before a key expires there is a warning."""

_MAX_SHOWN = 5


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
    """The status with the warnings that its facts call for now; an equal one where nothing changes."""
    for kind, make in _WARNINGS.items():
        found = make(status, now)
        if found is not None:
            warning = Condition(kind, "True", found[0], found[1], rfc3339(now), generation)
            conditions = with_condition(status, warning)
        else:
            conditions = without_condition(status, kind)
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
    shown = []
    for each in warnings[:_MAX_SHOWN]:
        more = f" and {each.more} more" if each.more else ""
        shown.append(f"{each.file} ({', '.join(each.names)}{more})" if each.names else each.file)
    rest = len(warnings) - _MAX_SHOWN
    return ", ".join(shown) + (f" and {rest} more files" if rest > 0 else "")


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
