"""The bookkeeping of a deployment: what is deployed once objects were applied, and what to say of the others.

A file counts as deployed when all of it is. One that is not, or not whole, has no blob in the status: it is done again
until it is, and if it leaves the repository before, its objects are known to have left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import attrs

from jiemi.core.api.decryptor_status import (
    MAX_FAILED_FILES,
    MAX_FAILED_OBJECTS,
    DecryptorStatus,
    FileFailure,
    FileStatus,
    InventoryEntry,
    ObjectFailure,
)
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.identity import ObjectKey
from jiemi.core.objects.inventory import Refused
from jiemi.core.reasons import Kind

_MAX_MESSAGE_CHARACTERS = 500
"""Of one failure: there may be many."""


@attrs.frozen
class Attempted:
    """What a deployment was about.

    Attributes:
        revision: full commit hash.
        files: all that are wanted.
        rendered: paths of those that were looked into this time.
        wanted: keys of the objects that they describe, as far as that is known.
        broken: paths of those that can't be read or decrypted, and why.
        refused: objects that were not applied, and why.
        is_all_known: whether it is known of all files which objects they describe.
        is_held_back: whether nothing was applied because something is wrong (applyPolicy: Atomic).
        is_resync: whether all files were looked into, whatever was deployed.
    """

    revision: str
    files: Sequence[FileStatus]
    rendered: frozenset[str]
    wanted: AbstractSet[ObjectKey]
    broken: Mapping[str, Failure]
    refused: Sequence[Refused]
    is_all_known: bool = True
    is_held_back: bool = False
    is_resync: bool = False


@attrs.frozen
class Outcome:
    """What is deployed now.

    Attributes:
        inventory: entries by their keys.
        files: as they are deployed.
        is_certain: whether that is what the files and this generation of the spec describe.
        may_prune: whether everything is in order, so that what the files no longer describe may be deleted.
    """

    inventory: Mapping[ObjectKey, InventoryEntry]
    files: tuple[FileStatus, ...]
    is_certain: bool
    may_prune: bool


def after_apply(
    attempted: Attempted,
    applied: Mapping[ObjectKey, InventoryEntry],
    inventory: Mapping[ObjectKey, InventoryEntry],
    files: tuple[FileStatus, ...],
) -> Outcome:
    """What follows from what was applied.

    Args:
        applied: entries of the objects that were.
        inventory: what is known to be applied. What was refused stays in it: it may have been made all the same, where
            the answer did not come.
        files: as they were deployed before.
    """
    news = {key: attrs.evolve(entry, revision=attempted.revision) for key, entry in applied.items()}
    known = {**inventory, **news}
    if attempted.is_held_back:
        return Outcome(known, files, is_certain=not attempted.is_resync, may_prune=False)
    wrong = {*attempted.broken, *(each.file for each in attempted.refused)}
    deployed = tuple(FileStatus(file.path, "") if file.path in wrong else file for file in attempted.files)
    may_be_elsewhere = not attempted.is_all_known
    known = {
        key: entry if key in attempted.wanted else _obsolete(entry, deployed, may_be_elsewhere=may_be_elsewhere)
        for key, entry in known.items()
    }
    may_prune = not (attempted.broken or attempted.refused) and all(file.blob for file in attempted.files)
    return Outcome(known, deployed, is_certain=True, may_prune=may_prune)


def _obsolete(entry: InventoryEntry, files: Iterable[FileStatus], *, may_be_elsewhere: bool) -> InventoryEntry:
    """The entry of an object that was not found in the files. One that left a file is of no file, so that it is pruned
    as soon as all are in order; until it is certain that no other file has it, it is known where it was."""
    whole = {file.path for file in files if file.blob}
    if not may_be_elsewhere:
        is_gone = entry.file in whole or entry.file not in {file.path for file in files}
        return attrs.evolve(entry, file="", left_file=None) if is_gone else entry
    return attrs.evolve(entry, file="", left_file=entry.file) if entry.file in whole else entry


def after_correction(
    inventory: Mapping[ObjectKey, InventoryEntry], applied: Mapping[ObjectKey, InventoryEntry]
) -> dict[ObjectKey, InventoryEntry]:
    """The inventory once objects that drifted were applied again, as they are deployed.

    Args:
        inventory: the one before; each of the objects is in it.
        applied: entries of the objects. They stay objects of the file and the revision that they were of.
    """
    again = {
        key: attrs.evolve(entry, file=was.file, left_file=was.left_file, revision=was.revision)
        for key, entry in applied.items()
        for was in (inventory[key],)
    }
    return {**inventory, **again}


def objection(attempted: Attempted, inventory: Mapping[ObjectKey, InventoryEntry]) -> JiemiError | None:
    """What to say of what was not deployed; None where all was.

    Args:
        inventory: as `Outcome.inventory`.
    """
    broken, refused = attempted.broken, attempted.refused
    failures = [*broken.values(), *(each.failure for each in refused)]
    if not failures:
        return None
    what_not = "refused, so none is applied (applyPolicy: Atomic)" if attempted.is_held_back else "not applied"
    if broken and not refused and len(attempted.files) > 1:
        return first_of_failures(failures, len(attempted.files), what_not, what="files")
    # Those too that were not looked at this time: a refusal that lasts is reported in the same words each time.
    passed_over = {"", *broken, *attempted.rendered}
    others = {key for key, entry in inventory.items() if entry.file not in passed_over}
    named = attempted.wanted | others | {each.ref.key for each in refused}
    twice = sum(each.failure.reason == "DuplicateObject" for each in refused)
    return first_of_failures(failures, len(named) + twice + len(broken), what_not)


def first_of_failures(failures: Sequence[Failure], of: int, what_not: str, *, what: str = "objects") -> JiemiError:
    """The failure that decides when it is tried again: what may pass soon goes before what is stalled.

    Args:
        failures: at least one.
        of: how many there are of `what`, those that did not fail included.
        what_not: what they are not: "not applied".
    """
    first = min(failures, key=lambda failure: failure.kind is Kind.STALLED)
    were = "was" if len(failures) == 1 else "were"
    counted = f"{len(failures)} of {of} {what} {were} {what_not}, the first: " if of > 1 else ""
    return JiemiError(first.reason, counted + first.message, first.own_remedy)


def with_failed(status: DecryptorStatus, refused: Sequence[Refused], broken: Mapping[str, Failure]) -> DecryptorStatus:
    """The status with all that failed, as far as there is room, and how much more there is."""
    objects = tuple(
        ObjectFailure(
            each.ref.kind,
            each.ref.name,
            each.failure.reason,
            each.failure.text_within(_MAX_MESSAGE_CHARACTERS),
            each.ref.namespace or None,
            each.file,
        )
        for each in refused[:MAX_FAILED_OBJECTS]
    )
    files = tuple(
        FileFailure(path, failure.reason, failure.text_within(_MAX_MESSAGE_CHARACTERS))
        for path, failure in sorted(broken.items())[:MAX_FAILED_FILES]
    )
    return attrs.evolve(
        status,
        failed_objects=objects,
        more_failed_objects=len(refused) - len(objects) or None,
        failed_files=files,
        more_failed_files=len(broken) - len(files) or None,
    )
