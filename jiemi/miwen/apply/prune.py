"""Objects that a Decryptor no longer has: which are deleted, and which stay.

An object is deleted only if its labels say that it is still this Decryptor's, and only the very one that was looked at
(its uid is a precondition). One that is annotated `jiemi.cr/prune: disabled`, or that another has taken over, stays.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import Owner
from jiemi.core.objects.inventory import PRUNE_ANNOTATION, Refused, ref_of
from jiemi.core.reasons import NO_ANSWER
from jiemi.miwen.apply.protected_objects import ProtectedObjects
from jiemi.miwen.kubernetes.port import Objects


@attrs.define
class Pruned:
    """What became of the objects.

    Attributes:
        deleted: those that were deleted now.
        kept: those that need not be deleted: they are gone already, or stay.
        stay: of these, the ones that are there, by their own wish or because they are another's.
        refused: those that could not be deleted.
    """

    deleted: list[InventoryEntry] = attrs.field(factory=list)
    kept: list[InventoryEntry] = attrs.field(factory=list)
    stay: list[InventoryEntry] = attrs.field(factory=list)
    refused: list[Refused] = attrs.field(factory=list)


async def prune(
    entries: Iterable[InventoryEntry], objects: Objects, owner: Owner, pruned: Pruned | None = None
) -> Pruned:
    """Delete objects, in this order. One that fails does not keep the others from it.

    Args:
        entries: the entries of objects that are no longer wanted.
        objects: access to the cluster's objects, as Miwen or as an account.
        owner: the Decryptor that they must belong to.
        pruned: takes what becomes of each object, as soon as it is known: whatever ends this in the middle has
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
            found = await _looked_at(entry, objects, owner)
            if found.uid is not None and await objects.delete(ref_of(entry), uid=found.uid):
                pruned.deleted.append(entry)
                continue
            pruned.kept.append(entry)
            if found.stays:
                pruned.stay.append(entry)
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
    if (await _looked_at(entry, objects, owner)).uid is None:
        return False
    if isinstance(objects, ProtectedObjects):
        objects.require_deletable(ref_of(entry))
    return True


@attrs.frozen
class _Found:
    """An object as it was looked at.

    Attributes:
        uid: the uid of one that is to be deleted.
        stays: whether it is there, and is not to be deleted.
    """

    uid: str | None = None
    stays: bool = False


async def _looked_at(entry: InventoryEntry, objects: Objects, owner: Owner) -> _Found:
    metadata = await objects.get_metadata(ref_of(entry))
    if metadata is None or metadata.get("deletionTimestamp") is not None:
        return _Found()
    annotations = metadata.get("annotations") or {}
    if Owner.in_labels(metadata.get("labels")) != owner or annotations.get(PRUNE_ANNOTATION) == "disabled":
        return _Found(stays=True)
    return _Found(uid=str(metadata.get("uid")))
