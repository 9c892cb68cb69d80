"""Which objects a Decryptor has in the cluster, and which of them left its files.

An entry is written before its object is applied, so that an end at any moment forgets none. An entry goes when its
object was deleted, or when it left the repository and is not to be deleted (prune: false).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from jiemi.core.decryptor_status import MAX_INVENTORY, InventoryEntry
from jiemi.core.errors import JiemiError
from jiemi.core.manifests import STAGES
from jiemi.core.objects import ObjectKey, ObjectRef
from jiemi.core.ownership import Ownership

PRUNE_ANNOTATION = "jiemi.cr/prune"
"""On an object: `disabled` keeps it from being deleted."""


def ref_of(entry: InventoryEntry) -> ObjectRef:
    """The object that an entry is about."""
    return ObjectRef(entry.api_version, entry.kind, entry.namespace or "", entry.name)


def entry_of(ref: ObjectRef, file: str) -> InventoryEntry:
    """The entry of an object that is about to be applied."""
    return InventoryEntry(ref.api_version, ref.kind, ref.name, ref.namespace or None, file)


def applied_entry(ref: ObjectRef, file: str, owned: Ownership, before: InventoryEntry | None) -> InventoryEntry:
    """The entry of an object that was applied.

    Args:
        owned: whose its fields are since.
        before: its entry until then. Where it was not ours before, keys of others are kept.
    """
    known = before is not None and before.fields is not None
    keys = before.kept_keys if before is not None and known else tuple(owned.foreign_keys)
    if (ref.api_version, ref.kind) != ("v1", "Secret"):
        keys = ()
    return attrs.evolve(entry_of(ref, file), fields=owned.fields, kept_keys=keys)


def by_key(entries: Iterable[InventoryEntry]) -> dict[ObjectKey, InventoryEntry]:
    """The entries by their objects."""
    return {ref_of(entry).key: entry for entry in entries}


def ordered(entries: Mapping[ObjectKey, InventoryEntry]) -> tuple[InventoryEntry, ...]:
    """The entries in the order of status.inventory.

    Raises:
        JiemiError: LimitExceeded.
    """
    if len(entries) > MAX_INVENTORY:
        raise JiemiError("LimitExceeded", f"{len(entries)} objects: more than {MAX_INVENTORY} in one Decryptor")
    return tuple(entries[key] for key in sorted(entries, key=attrs.astuple))


def left(before: Mapping[ObjectKey, InventoryEntry], wanted: Collection[ObjectKey]) -> tuple[InventoryEntry, ...]:
    """The entries whose objects are wanted no more, in the order in which they are deleted: the last applied first."""
    gone = [entry for key, entry in before.items() if key not in wanted]
    return tuple(sorted(gone, key=_deletion_order))


def _deletion_order(entry: InventoryEntry) -> tuple[int, Sequence[str]]:
    stage = next((index for index, kinds in enumerate(STAGES) if entry.kind in kinds), len(STAGES))
    return -stage, (entry.kind, entry.namespace or "", entry.name)
