"""What an apply would do (spec.mode: DryRun): computed by the API server's own dry run, shown by names alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from jiemi.concurrency.for_each import for_each
from jiemi.core.api.decryptor_status import MAX_PLANNED, InventoryEntry, PlannedObject, PlanStatus
from jiemi.core.errors import JiemiError
from jiemi.core.objects.difference import Difference, difference
from jiemi.core.objects.identity import ObjectKey
from jiemi.core.objects.inventory import Refused, ref_of
from jiemi.core.reasons import NO_ANSWER
from jiemi.miwen.apply.applier import Applier, Resolved
from jiemi.miwen.apply.prune import is_to_be_deleted

RECREATE = "Recreate"

_AT_ONCE = 4

_MAX_MESSAGE_CHARACTERS = 500


async def plan(
    applier: Applier,
    wanted: Sequence[Resolved],
    refused: Sequence[Refused],
    obsolete: Sequence[InventoryEntry],
    *,
    before: Mapping[ObjectKey, InventoryEntry],
    revision: str,
) -> tuple[PlanStatus, list[Refused]]:
    """Ask the API server what would become of each object. Nothing is written.

    Args:
        wanted: the objects that are described.
        refused: those of which is known already that they could not be applied.
        obsolete: entries of objects that are no longer described, where they would be deleted.
        before: the inventory until now.
        revision: the revision that describes these objects.

    Returns:
        The plan, and the objects that could not be applied.

    Raises:
        JiemiError: ClusterUnavailable.
    """
    found: dict[int, PlannedObject | Refused | None] = {}

    async def one(numbered: tuple[int, Resolved]) -> None:
        number, each = numbered
        found[number] = await _planned(applier, each, wanted, before)

    await for_each(list(enumerate(wanted)), one, at_once=_AT_ONCE)
    results = [found[number] for number in range(len(wanted))]
    all_refused = [*refused, *(each for each in results if isinstance(each, Refused))]
    pruned: list[PlannedObject] = []
    for entry in obsolete:
        try:
            if await is_to_be_deleted(entry, applier.objects, applier.owner):
                pruned.append(_pruned(entry))
        except JiemiError as error:
            if error.failure.reason != "ObjectProtected":
                raise
            all_refused.append(Refused(ref_of(entry), entry.file, error.failure))
    changes = [each for each in results if isinstance(each, PlannedObject)]
    objects = [*(_refused(each) for each in all_refused), *changes, *pruned]
    return (
        PlanStatus(
            revision,
            created=sum(each.action == "Create" for each in changes),
            changed=sum(each.action in {"Change", RECREATE} for each in changes),
            pruned=len(pruned),
            unchanged=sum(each is None for each in results),
            objects=tuple(objects[:MAX_PLANNED]),
            more=len(objects) - MAX_PLANNED if len(objects) > MAX_PLANNED else None,
        ),
        all_refused,
    )


async def _planned(
    applier: Applier, each: Resolved, wanted: Sequence[Resolved], before: Mapping[ObjectKey, InventoryEntry]
) -> PlannedObject | Refused | None:
    """What would become of one object; None where nothing would."""
    try:
        live = await applier.objects.get(each.ref)
        would_be = await applier.would_be(each, wanted, before)
    except JiemiError as error:
        if error.failure.reason in NO_ANSWER:
            raise
        return Refused(each.ref, each.manifest.file, error.failure)
    found = difference(live, would_be.body if would_be.body is not None else each.manifest.body)
    if would_be.is_recreated:
        return attrs.evolve(_changed(each, found), action=RECREATE)
    return None if found.action == "Unchanged" else _changed(each, found)


def _changed(each: Resolved, found: Difference) -> PlannedObject:
    ref = each.ref
    return PlannedObject(
        found.action,
        ref.kind,
        ref.name,
        ref.namespace or None,
        each.manifest.file,
        found.added,
        found.changed,
        found.removed,
        found.more or None,
    )


def _pruned(entry: InventoryEntry) -> PlannedObject:
    return PlannedObject("Prune", entry.kind, entry.name, entry.namespace, entry.file)


def _refused(each: Refused) -> PlannedObject:
    message = f"{each.failure.reason}: {each.failure.text_within(_MAX_MESSAGE_CHARACTERS)}"
    return attrs.evolve(
        PlannedObject("Refused", each.ref.kind, each.ref.name, each.ref.namespace or None, each.file), message=message
    )
