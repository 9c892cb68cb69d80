"""The end of a Decryptor: its finalizer, and the objects that go with it (spec.deletionPolicy).

    deletion asked for -> try, and again where objects stay -> time is up: the finalizer is taken off all the same

An object that is dealt with leaves the inventory at once, so that each try begins where the one before it ended. The
time counts from when the deletion was asked for, however the tries end, and its end also ends the try that is under
way. It has nothing to do with spec.timeout, which is for decrypting and applying.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

import attrs
import structlog
import trio

from jiemi.core.api.decryptor import FINALIZER
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.identity import Owner
from jiemi.core.objects.inventory import by_key, obsolete, ref_of
from jiemi.miwen.apply.protected_objects import objects_of
from jiemi.miwen.apply.prune import Pruned, prune
from jiemi.miwen.kubernetes.port import Kubernetes, Objects
from jiemi.miwen.reconcile.tenancy import Tenancy
from jiemi.miwen.reconcile.tick import ObjectGone, ReconcileContext

CLEANUP_SECONDS = 300.0
"""How long a Decryptor that is being deleted waits for its objects, from when its deletion was asked for. After that
it goes, and the objects that could not be deleted stay: a finalizer that waits for ever would hold a whole
namespace."""

LATE_SECONDS = 60.0
"""How long a try may take that begins when the time is nearly over, because Miwen was away meanwhile."""

_log = structlog.get_logger("jiemi.miwen.reconcile")

_TRIES = 3

_MAX_SHOWN = 5


async def set_finalizer(context: ReconcileContext, kubernetes: Kubernetes, *, wanted: bool) -> None:
    """Make sure that the Decryptor has our finalizer, or that it has not.

    Raises:
        JiemiError: ListForbidden; ApplyConflict, where somebody else changes it all the time.
        ObjectGone.
    """
    meta = context.decryptor.meta
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
            return  # no finalizer can be added any longer
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
    """Deletes the objects of a deleted Decryptor.

    Attributes:
        kubernetes: the cluster.
        tenancy: what the operator allows, and under which account objects are deleted.
        now: the wall clock.
    """

    kubernetes: Kubernetes
    tenancy: Tenancy
    now: Callable[[], datetime.datetime]

    async def run(self, context: ReconcileContext) -> None:
        """Delete the objects, if that is wanted, and let the Decryptor go.

        Nothing is deleted where the spec can't be read, while spec.suspend is set, and by a dry run.

        Raises:
            JiemiError: not all objects could be deleted, and there is time to try again.
            ObjectGone.
        """
        if FINALIZER not in context.decryptor.meta.finalizers:
            return
        spec = context.decryptor.spec
        if isinstance(spec, DecryptorSpec) and _deletes_objects(spec):
            await self._delete(context, self._objects(context, spec))
        await set_finalizer(context, self.kubernetes, wanted=False)

    def _objects(self, context: ReconcileContext, spec: DecryptorSpec) -> Objects:
        decryptor = context.decryptor
        account = self.tenancy.account(decryptor, spec)
        return objects_of(self.kubernetes, account, self.tenancy.protection, namespace=decryptor.meta.namespace)

    async def _delete(self, context: ReconcileContext, objects: Objects) -> None:
        since = context.decryptor.meta.deleting_since
        failure = await self._try(context, objects)
        stay = obsolete(by_key(context.status.inventory), ())
        if not stay:
            return
        if self._seconds_left(since) > 0 and failure is not None:
            raise JiemiError.of(failure.at(f"deleting this Decryptor: {_are_not_deleted(len(stay))}"))
        names = ", ".join(ref_of(each).label for each in stay[:_MAX_SHOWN])
        why = f"the first can't be deleted: {failure}" if failure is not None else "it took too long"
        context.warn(
            "CleanupGivenUp",
            "Delete",
            f"after {CLEANUP_SECONDS:g} s, {len(stay)} objects stay: {names}; {why}",
            always=True,
        )

    async def _try(self, context: ReconcileContext, objects: Objects) -> Failure | None:
        """Delete what can be deleted; what stays is in the inventory. Returns why the first object stays: None where
        none does, or where the time is up."""
        meta, before, pruned = context.decryptor.meta, by_key(context.status.inventory), Pruned()
        seconds = min(max(self._seconds_left(meta.deleting_since), LATE_SECONDS), CLEANUP_SECONDS)
        try:
            with trio.move_on_after(seconds):
                await prune(obsolete(before, ()), objects, Owner.of(meta.namespace, meta.name), pruned)
        except Exception:
            if self._seconds_left(meta.deleting_since) > 0:
                raise
            _log.exception("cleanup_crashed", namespace=meta.namespace, name=meta.name)
            return Failure("InternalError", "Miwen's log has the details at this time")
        finally:
            done = {ref_of(each).key for each in (*pruned.deleted, *pruned.kept)}
            rest = {key: entry for key, entry in before.items() if key not in done}
            context.draft.has_objects(rest)
        return pruned.refused[0].failure if pruned.refused else None

    def _seconds_left(self, since: str | None) -> float:
        """Until the time is up; a moment that can't be read is long ago."""
        try:
            return CLEANUP_SECONDS - (self.now() - datetime.datetime.fromisoformat(since or "")).total_seconds()
        except (ValueError, TypeError):
            return 0.0


def _deletes_objects(spec: DecryptorSpec) -> bool:
    return spec.mode == "Apply" and spec.deletion_policy == "Delete" and not spec.suspend


def _are_not_deleted(number: int) -> str:
    return "an object is not deleted yet" if number == 1 else f"{number} objects are not deleted yet, the first"
