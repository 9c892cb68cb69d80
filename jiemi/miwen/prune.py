"""Objects that a Decryptor has no more: which are deleted, and which stay.

An object is deleted only if its labels say that it is still this Decryptor's, and only the very one that was looked at
(its uid is a precondition). One that is annotated `jiemi.cr/prune: disabled`, or that another has taken over, stays.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from jiemi.core.decryptor_status import InventoryEntry
from jiemi.core.errors import NO_ANSWER, JiemiError
from jiemi.core.inventory import PRUNE_ANNOTATION, ref_of
from jiemi.core.objects import Owner
from jiemi.miwen.apply import Refused
from jiemi.miwen.kubernetes.port import Objects
from jiemi.miwen.protected_objects import ProtectedObjects


@attrs.define
class Pruned:
    """What became of the objects.

    Attributes:
        deleted: those that were deleted now.
        left: those that stay, by their own wish or because they are another's.
        refused: those that could not be deleted.
    """

    deleted: list[InventoryEntry] = attrs.field(factory=list)
    left: list[InventoryEntry] = attrs.field(factory=list)
    refused: list[Refused] = attrs.field(factory=list)


async def prune(
    entries: Iterable[InventoryEntry], objects: Objects, owner: Owner, pruned: Pruned | None = None
) -> Pruned:
    """Delete objects, in this order. One that fails does not keep the others from it.

    Args:
        entries: of objects that are wanted no more.
        objects: as whom.
        owner: whose they must be.
        pruned: where what becomes of each object is put, as soon as it is known: whoever ends this in the middle has
            it there. None: in a new one.

    Returns:
        `pruned`.
    """
    pruned = Pruned() if pruned is None else pruned
    lost: JiemiError | None = None
    for entry in entries:
        try:
            if lost is not None:
                raise lost
            if await _delete(entry, objects, owner):
                pruned.deleted.append(entry)
            else:
                pruned.left.append(entry)
        except JiemiError as error:
            if error.failure.reason in NO_ANSWER:
                lost = error  # the others would wait as long, one after the other
            pruned.refused.append(Refused(ref_of(entry), entry.file, error.failure))
    return pruned


async def is_to_be_deleted(entry: InventoryEntry, objects: Objects, owner: Owner) -> bool:
    """Whether `prune` would delete the object.

    Raises:
        JiemiError: it can't be read; ObjectProtected, it would be refused.
    """
    if await _uid(entry, objects, owner) is None:
        return False
    if isinstance(objects, ProtectedObjects):
        objects.require_deletable(ref_of(entry))
    return True


async def _delete(entry: InventoryEntry, objects: Objects, owner: Owner) -> bool:
    uid = await _uid(entry, objects, owner)
    return uid is not None and await objects.delete(ref_of(entry), uid=uid)


async def _uid(entry: InventoryEntry, objects: Objects, owner: Owner) -> str | None:
    metadata = await objects.get_metadata(ref_of(entry))
    if metadata is None or metadata.get("deletionTimestamp") is not None:
        return None
    annotations = metadata.get("annotations") or {}
    if Owner.in_labels(metadata.get("labels")) != owner or annotations.get(PRUNE_ANNOTATION) == "disabled":
        return None
    return str(metadata.get("uid"))
