"""Objects that others made before: what we apply of them becomes ours alone (`jiemi.core.objects.take_over`).

    before an apply  where others share fields with us, so that what the apply drops is removed
    after it         what they share since
    refused          what they hold at the fields that the API server refuses

That costs a request only where there is something to take: an apply answers with whose the fields are. What keeps it
from being done after an apply is tried again before the next one. That waits for it: what it drops would stay in the
cluster.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import structlog
import trio

from jiemi.core.errors import JiemiError
from jiemi.core.objects.field_sets import carried_over
from jiemi.core.objects.identity import ObjectRef
from jiemi.core.objects.take_over import alone
from jiemi.core.objects.unblocking import Unblocking, unblockings
from jiemi.miwen.kubernetes.port import JsonObject, Objects
from jiemi.miwen.kubernetes.rejected_fields import FieldsRejected

_log = structlog.get_logger("jiemi.miwen.apply")

_BACK_SECONDS = 5.0
"""How long giving back may keep a task that is cancelled."""

_PAUSES = (0.02, 0.1, 0.3, 1.0, 3.0)
"""Seconds before each further try where others write the object meanwhile, as controllers do, several times, into the
status of one that has just changed."""

_Wanted = Callable[[JsonObject], list[Any] | None]
"""Gives managedFields as they should be, for an object's metadata at that time; None where they are so."""


@attrs.frozen
class TakeOver:
    """Takes fields over.

    Attributes:
        objects: access to the cluster's objects, as Miwen or as an account.
        managers: the managers whose fields are taken; none where conflictPolicy is Refuse.
    """

    objects: Objects
    managers: frozenset[str]

    async def before(self, ref: ObjectRef, held: frozenset[str] | None) -> None:
        """Be the only one to hold what we hold, before an apply drops some of it.

        Args:
            held: the managers that shared fields with us when the object was seen last; None where that is not known.

        Raises:
            JiemiError: they still share: what the apply drops would stay, and nothing would ever say so. Without the
                right to read the object it is not known.
        """
        if not self.managers or (held is not None and not held & self.managers):
            return
        try:
            metadata = await self.objects.get_metadata(ref)
        except JiemiError as error:
            if error.failure.reason == "ReadForbidden":
                return
            raise
        if metadata is not None:
            await self._set(ref, metadata, self._alone)

    async def after(self, ref: ObjectRef, metadata: JsonObject) -> JsonObject:
        """Be the only one to hold what we hold. Returns the object's metadata since."""
        try:
            return await self._set(ref, metadata, self._alone)
        except JiemiError as error:
            _log.warning("not_taken_over", object=ref.label, reason=error.failure.reason)
            return metadata

    def _alone(self, metadata: JsonObject) -> list[Any] | None:
        return alone(metadata, self.managers)

    async def unblocked(
        self, ref: ObjectRef, body: JsonObject, apply: Callable[[], Awaitable[JsonObject]]
    ) -> JsonObject:
        """Apply; where the API server refuses fields, again without what others hold there and git does not give. Where
        that is refused too, they get back what they held."""
        try:
            return await apply()
        except FieldsRejected as error:
            metadata, ways = await self._ways(ref, body, error)
            theirs = metadata.get("managedFields") or ()
            for way in ways:
                taken = None
                try:
                    taken = await self._carried(ref, metadata, theirs, way.managed_fields)
                    if taken is None:
                        raise error
                    return await apply()
                except BaseException as failed:
                    back = None
                    # Where this is cancelled too: the next apply would remove what is only guessed to be in the way.
                    with trio.move_on_after(_BACK_SECONDS, shield=True):
                        back = await self._given_back(ref, way.managed_fields, theirs)
                    if taken is None or back is None or not isinstance(failed, FieldsRejected):
                        raise
                    metadata = back
            raise

    async def could_unblock(self, ref: ObjectRef, body: JsonObject, why: JiemiError) -> bool:
        """Whether `unblocked` would try again after that refusal, for a field that it names."""
        if not isinstance(why, FieldsRejected):
            return False
        _, ways = await self._ways(ref, body, why)
        return not all(way.is_guess for way in ways)

    async def _ways(self, ref: ObjectRef, body: JsonObject, why: FieldsRejected) -> tuple[JsonObject, list[Unblocking]]:
        metadata = await self._metadata(ref) if self.managers and why.refused.paths else None
        if metadata is None:
            return {}, []
        try:
            live = await self.objects.get(ref) if why.refused.duplicates else None
        except JiemiError:
            live = None
        ways = unblockings(metadata, self.managers, body, why.refused, live)
        return metadata, ways

    async def _given_back(self, ref: ObjectRef, taken: Sequence[Any], theirs: Sequence[Any]) -> JsonObject | None:
        """Give back what was taken, where it was: what took it may have been cut short, or its answer lost."""
        metadata = await self._metadata(ref)
        return metadata and await self._carried(ref, metadata, taken, theirs)

    async def _carried(
        self, ref: ObjectRef, metadata: JsonObject, before: Sequence[Any], after: Sequence[Any]
    ) -> JsonObject | None:
        """As `_set`, what changed of managedFields from one to the other; None where that is refused."""
        try:
            return await self._set(
                ref, metadata, lambda now: carried_over(before, after, now.get("managedFields") or ())
            )
        except JiemiError:
            return None

    async def _set(self, ref: ObjectRef, metadata: JsonObject, wanted: _Wanted) -> JsonObject:
        """Set whose the fields are. Returns the object's metadata since.

        Raises:
            JiemiError: as `Objects.set_managed_fields`; ApplyConflict, others write it all the time; as
                `Objects.get_metadata`.
        """
        pauses = iter(_PAUSES)
        while (listed := wanted(metadata)) is not None:
            uid, version = str(metadata.get("uid")), str(metadata.get("resourceVersion"))
            try:
                return await self.objects.set_managed_fields(ref, listed, uid=uid, resource_version=version)
            except JiemiError as error:
                pause = next(pauses, None) if error.failure.reason == "ApplyConflict" else None
                if pause is None:
                    raise
                await trio.sleep(pause)
                found = await self.objects.get_metadata(ref)
                if found is None or str(found.get("uid")) != uid:
                    raise
                metadata = found
        return metadata

    async def _metadata(self, ref: ObjectRef) -> JsonObject | None:
        try:
            return await self.objects.get_metadata(ref)
        except JiemiError:
            return None
