"""The end of a Decryptor: its finalizer, and the objects that go with it (spec.deletionPolicy)."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import attrs

from jiemi.core.decryptor import FINALIZER, DecryptorSpec
from jiemi.core.errors import JiemiError
from jiemi.core.inventory import by_key, left, ordered, ref_of
from jiemi.core.objects import Owner
from jiemi.miwen.kubernetes.port import Kubernetes, Objects
from jiemi.miwen.prune import prune
from jiemi.miwen.turn import ObjectGone, Turn

CLEANUP_SECONDS = 300.0
"""How long a Decryptor that is being deleted waits for its objects, from when its deletion was asked for. After that
it goes, and what could not be deleted stays: a finalizer that waits for ever would hold a whole namespace."""

_TRIES = 3

_MAX_SHOWN = 5


async def set_finalizer(turn: Turn, kubernetes: Kubernetes, *, wanted: bool) -> None:
    """See that the Decryptor has our finalizer, or has it not.

    Raises:
        JiemiError: ListForbidden; ApplyConflict, where another changes it all the time.
        ObjectGone.
    """
    meta = turn.decryptor.meta
    if (FINALIZER in meta.finalizers) == wanted:
        return
    for tries_left in reversed(range(_TRIES)):
        found = await kubernetes.get_decryptor(meta.namespace, meta.name)
        metadata = found.get("metadata") if found is not None else None
        if metadata is None or metadata.get("uid") != meta.uid:
            raise ObjectGone
        finalizers = [str(each) for each in metadata.get("finalizers") or ()]
        if (FINALIZER in finalizers) == wanted:
            return
        if wanted and metadata.get("deletionTimestamp") is not None:
            return  # none can be added any more
        new = [*finalizers, FINALIZER] if wanted else [each for each in finalizers if each != FINALIZER]
        try:
            await kubernetes.set_finalizers(
                meta.namespace, meta.name, new, uid=meta.uid, resource_version=str(metadata.get("resourceVersion"))
            )
            return
        except JiemiError as error:
            if error.failure.reason != "ApplyConflict" or not tries_left:
                raise


@attrs.frozen
class Cleanup:
    """Deletes what a deleted Decryptor had.

    Attributes:
        kubernetes: the cluster.
        objects: as whom objects are deleted.
        now: the wall clock.
    """

    kubernetes: Kubernetes
    objects: Objects
    now: Callable[[], datetime.datetime]

    async def run(self, turn: Turn, spec: DecryptorSpec | None) -> None:
        """Delete the objects, if that is wanted, and let the Decryptor go.

        Args:
            spec: None where it can't be read. Then nothing is deleted, and nor is it while spec.suspend is set.

        Raises:
            JiemiError: not all objects could be deleted, and there is time to try again.
            ObjectGone.
        """
        if FINALIZER not in turn.decryptor.meta.finalizers:
            return
        if spec is not None and spec.deletion_policy == "Delete" and not spec.suspend:
            await self._delete(turn)
        await set_finalizer(turn, self.kubernetes, wanted=False)

    async def _delete(self, turn: Turn) -> None:
        meta = turn.decryptor.meta
        before = by_key(turn.known.inventory)
        pruned = await prune(left(before, ()), self.objects, Owner.of(meta.namespace, meta.name))
        done = {ref_of(each).key for each in (*pruned.deleted, *pruned.left)}
        rest = {key: entry for key, entry in before.items() if key not in done}
        turn.set_inventory(attrs.evolve(turn.known, inventory=ordered(rest)))
        if not pruned.refused:
            return
        first = pruned.refused[0]
        if not self._is_overdue(meta.deleting_since):
            raise JiemiError(
                first.failure.reason,
                f"deleting this Decryptor: {len(pruned.refused)} objects are not deleted yet, the first: "
                f"{first.failure.message}",
            )
        names = ", ".join(each.ref.label for each in pruned.refused[:_MAX_SHOWN])
        turn.note(
            "Warning",
            "CleanupGivenUp",
            "Delete",
            f"after {CLEANUP_SECONDS:g} s, {len(pruned.refused)} objects stay: {names}; the first can't be deleted: "
            f"{first.failure}",
        )

    def _is_overdue(self, since: str | None) -> bool:
        try:
            began = datetime.datetime.fromisoformat(since or "")
        except ValueError:
            return True
        return self.now() - began > datetime.timedelta(seconds=CLEANUP_SECONDS)
