"""What a tick learns on its way, put into the status at once: objects, files, Secrets, requests.

None of these says how the tick ends (`jiemi.core.decisions.status` does), so none of them touches a condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import attrs

from jiemi.core.api.decryptor_status import (
    DecryptorStatus,
    EncryptionStatus,
    FileStatus,
    InventoryEntry,
    PlanStatus,
    SecretVersion,
)
from jiemi.core.objects.identity import ObjectKey
from jiemi.core.objects.inventory import ordered

_MAX_RECIPIENTS = 64
"""How many recipients the status shows of all files together."""


@attrs.frozen
class Facts:
    """What was learnt from a file when it was deployed.

    Attributes:
        encryption: how it is encrypted.
        vault_address: the Vault server that is trusted because nothing names one, or None.
    """

    encryption: EncryptionStatus
    vault_address: str | None = None


def joined_encryption(known: Sequence[EncryptionStatus]) -> EncryptionStatus:
    """How several files are encrypted, as one.

    Args:
        known: how each is, in the order in which they were read.
    """

    def texts(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text for each in known for text in getattr(each, name)))[:_MAX_RECIPIENTS]

    def times(name: str) -> list[str]:
        return [getattr(each, name) for each in known if getattr(each, name) is not None]

    return EncryptionStatus(
        texts("recipients"),
        max(times("last_modified"), default=None),
        known[-1].sops_version if known else None,
        texts("stale_recipients"),
        min(times("key_expires_at"), default=None),
    )


def with_facts(before: DecryptorStatus, facts: Facts | None) -> DecryptorStatus:
    """The status with what was learnt from the files."""
    if facts is None:
        return before
    return attrs.evolve(before, encryption=facts.encryption, vault_address=facts.vault_address)


def without_failures(before: DecryptorStatus) -> DecryptorStatus:
    """The status without files and objects that failed."""
    return attrs.evolve(before, failed_objects=(), more_failed_objects=None, failed_files=(), more_failed_files=None)


def with_inventory(before: DecryptorStatus, inventory: Mapping[ObjectKey, InventoryEntry]) -> DecryptorStatus:
    """The status with these objects and no others."""
    return attrs.evolve(before, inventory=ordered(inventory))


def without_other_namespaces(before: DecryptorStatus, namespace: str) -> DecryptorStatus:
    """The status without the objects that are not in that namespace."""
    return attrs.evolve(before, inventory=tuple(each for each in before.inventory if each.namespace == namespace))


def with_files(before: DecryptorStatus, files: tuple[FileStatus, ...], *, generation: int | None) -> DecryptorStatus:
    """The status with the files as they are deployed.

    Args:
        generation: the one of the spec by which they are deployed; None where that is not certain.
    """
    return attrs.evolve(before, files=files, deployed_generation=generation)


def with_unsure_files(before: DecryptorStatus, paths: AbstractSet[str]) -> DecryptorStatus:
    """The status while these files are being applied: what is deployed of them is neither the old nor the new."""
    files = tuple(attrs.evolve(file, blob="") if file.path in paths else file for file in before.files)
    return attrs.evolve(before, files=files)


def to_resync(before: DecryptorStatus) -> DecryptorStatus:
    """The status once everything is to be applied again. It stays so until that is done, however often it fails."""
    return attrs.evolve(before, deployed_generation=None)


def with_observed_secrets(before: DecryptorStatus, observed: tuple[SecretVersion, ...]) -> DecryptorStatus:
    """The status with the Secrets as they were read."""
    return attrs.evolve(before, observed_secrets=observed)


def with_handled_request(before: DecryptorStatus, reconcile_at: str | None) -> DecryptorStatus:
    """The status once the request of that annotation was acted upon; the same where there is none."""
    return before if reconcile_at is None else attrs.evolve(before, last_handled_reconcile_at=reconcile_at)


_MAX_REF = 1024


def with_ref(before: DecryptorStatus, name: str | None) -> DecryptorStatus:
    """The status with the ref that is followed, by its full name; None where the spec names a commit."""
    return attrs.evolve(before, ref=name[:_MAX_REF] if name is not None else None)


def with_plan(before: DecryptorStatus, plan: PlanStatus) -> DecryptorStatus:
    """The status with what an apply would do (spec.mode: DryRun)."""
    return attrs.evolve(before, plan=plan)
