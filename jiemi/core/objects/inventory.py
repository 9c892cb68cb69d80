"""Which objects a Decryptor has in the cluster, and which of them left its files.

An entry is written before its object is applied, so that an end at any moment forgets none. An entry goes when its
object was deleted, or when it left the repository and is not to be deleted (prune: false).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from jiemi.core.api.decryptor_status import (
    MAX_INVENTORY,
    MAX_OBJECTS,
    MAX_STATUS_BYTES,
    FileStatus,
    InventoryEntry,
)
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.identity import ObjectKey, ObjectRef
from jiemi.core.objects.managed_fields import FieldOwnership
from jiemi.core.objects.manifests import STAGES

PRUNE_ANNOTATION = "jiemi.cr/prune"
"""On an object: `disabled` keeps it from being deleted."""


@attrs.frozen
class Refused:
    """An object that was not applied or deleted, and why."""

    ref: ObjectRef
    file: str
    failure: Failure


def ref_of(entry: InventoryEntry) -> ObjectRef:
    """The object that an entry is about."""
    return ObjectRef(entry.api_version, entry.kind, entry.namespace or "", entry.name)


def entry_of(ref: ObjectRef, file: str) -> InventoryEntry:
    """The entry of an object that is about to be applied."""
    return InventoryEntry(ref.api_version, ref.kind, ref.name, ref.namespace or None, file)


def applied_entry(
    ref: ObjectRef, file: str, owned: FieldOwnership, before: InventoryEntry | None, *, described: Collection[str] = ()
) -> InventoryEntry:
    """The entry of an object that was applied.

    Args:
        owned: the managers of its fields since.
        before: its entry until then. Where it was not ours before, keys of others are kept.
        described: the keys of a Secret that its manifest gives. One that is another's right after it was applied is
            admission's doing, and is left alone.
    """
    known = before is not None and before.fields is not None
    keys = before.kept_keys if before is not None and known else tuple(owned.foreign_keys)
    keys += tuple(key for key in owned.foreign_keys if key in described and key not in keys)
    if (ref.api_version, ref.kind) != ("v1", "Secret"):
        keys = ()
    return attrs.evolve(entry_of(ref, file), fields=owned.fields, kept_keys=keys)


def by_key(entries: Iterable[InventoryEntry]) -> dict[ObjectKey, InventoryEntry]:
    """The entries by their objects."""
    return {ref_of(entry).key: entry for entry in entries}


def certain(entries: Mapping[ObjectKey, InventoryEntry]) -> frozenset[ObjectKey]:
    """The objects that are known to have been applied. Of the others it is only known that they may have been: an
    object that was refused is no reason to keep another Decryptor from it."""
    return frozenset(key for key, entry in entries.items() if entry.fields is not None)


def has_obsolete(entries: Iterable[InventoryEntry], files: Iterable[FileStatus]) -> bool:
    """Whether there are objects that left the files and are not dealt with yet."""
    paths = {file.path for file in files}
    return any(entry.file not in paths for entry in entries)


def ordered(entries: Mapping[ObjectKey, InventoryEntry]) -> tuple[InventoryEntry, ...]:
    """The entries in the order of status.inventory."""
    return tuple(entries[key] for key in sorted(entries, key=attrs.astuple))


def require_room(wanted: int, entries: Mapping[ObjectKey, InventoryEntry], files: Iterable[FileStatus]) -> None:
    """Refuse what no status could hold.

    Args:
        wanted: the number of objects that the files describe.
        entries: those of the inventory, with those that are about to be applied.
        files: the files that are about to be deployed.

    Raises:
        JiemiError: LimitExceeded.
    """
    if wanted > MAX_OBJECTS:
        raise JiemiError("LimitExceeded", f"{wanted} objects: more than {MAX_OBJECTS} in one Decryptor")
    size = sum(
        _ENTRY_BYTES
        + sum(map(_bytes, (each.api_version, each.kind, each.name, each.namespace, each.file)))
        + sum(map(_bytes, each.kept_keys))
        for each in entries.values()
    )
    size += sum(_ENTRY_BYTES + _bytes(each.path) for each in files)
    if len(entries) > MAX_INVENTORY or size > MAX_STATUS_BYTES:
        raise JiemiError(
            "LimitExceeded",
            f"the names of {len(entries)} objects and their files are more than a status can hold: split the Decryptor",
        )


_ENTRY_BYTES = 160
"""What an entry takes beside its texts: the fields' names, hashes, numbers."""


def _bytes(text: str | None) -> int:
    return len(text.encode(errors="replace")) if text is not None else 0


def obsolete(before: Mapping[ObjectKey, InventoryEntry], wanted: Collection[ObjectKey]) -> tuple[InventoryEntry, ...]:
    """The entries whose objects are no longer wanted, in the order in which they are deleted: last applied first."""
    gone = [entry for key, entry in before.items() if key not in wanted]
    return tuple(sorted(gone, key=_deletion_order))


def _deletion_order(entry: InventoryEntry) -> tuple[int, Sequence[str]]:
    stage = next((index for index, kinds in enumerate(STAGES) if entry.kind in kinds), len(STAGES))
    return -stage, (entry.kind, entry.namespace or "", entry.name)
