"""Objects that others made before: what we apply of them becomes ours alone (`jiemi.core.objects.take_over`).

    before an apply  where others share fields with us, so that what the apply drops is removed
    after it         what they share since
    refused          what they hold at the fields that the API server refuses

That costs a request only where there is something to take: an apply answers with whose the fields are. What keeps it
from being done, keeps no object from being applied, and it is tried again with the next apply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import structlog
import trio

from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.core.objects.take_over import alone
from jiemi.core.objects.unblocking import Unblocking, unblockings
from jiemi.miwen.kubernetes.port import JsonObject, Objects
from jiemi.miwen.kubernetes.rejected_fields import FieldsRejected

_log = structlog.get_logger("jiemi.miwen.apply")

_BACK_SECONDS = 5.0
"""How long giving back may keep a task that is cancelled."""

_TRIES = 3
"""How often an object is tried that others write meanwhile."""


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
        """
        if not self.managers or (held is not None and not held & self.managers):
            return
        metadata = await self._metadata(ref)
        if metadata is not None:
            await self.after(ref, metadata)

    async def after(self, ref: ObjectRef, metadata: JsonObject) -> JsonObject:
        """Be the only one to hold what we hold. Returns the object's metadata since."""
        for _ in range(_TRIES):
            wanted = alone(metadata, self.managers)
            if wanted is None:
                return metadata
            uid, version = str(metadata.get("uid")), str(metadata.get("resourceVersion"))
            try:
                return await self.objects.set_managed_fields(ref, wanted, uid=uid, resource_version=version)
            except JiemiError as error:
                if error.failure.reason != "ApplyConflict":
                    _log.warning("not_taken_over", object=ref.label, reason=error.failure.reason)
                    return metadata
            metadata = await self._metadata(ref) or metadata
        return metadata

    async def unblocked(
        self, ref: ObjectRef, body: JsonObject, apply: Callable[[], Awaitable[JsonObject]]
    ) -> JsonObject:
        """Apply; where the API server refuses fields, again without what others hold there and git does not give. Where
        that is refused too, they get back what they held."""
        try:
            return await apply()
        except FieldsRejected as error:
            metadata, ways = await self._ways(ref, body, error)
            for way in ways:
                before = metadata.get("managedFields")
                changed = await self._set(ref, metadata, way.managed_fields)
                if changed is None:
                    raise
                try:
                    return await apply()
                except BaseException as failed:
                    back = None
                    # Where this is cancelled too: the next apply would remove what is only guessed to be in the way.
                    with trio.move_on_after(_BACK_SECONDS, shield=True):
                        back = await self._set(ref, changed, before)
                    if back is None or not isinstance(failed, FieldsRejected):
                        raise
                    metadata = {**back, "managedFields": before}
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

    async def _set(self, ref: ObjectRef, metadata: JsonObject, managed_fields: Any) -> JsonObject | None:
        """Set whose the fields are; None where that is refused."""
        uid, version = str(metadata.get("uid")), str(metadata.get("resourceVersion"))
        try:
            return await self.objects.set_managed_fields(ref, managed_fields, uid=uid, resource_version=version)
        except JiemiError:
            return None

    async def _metadata(self, ref: ObjectRef) -> JsonObject | None:
        try:
            return await self.objects.get_metadata(ref)
        except JiemiError:
            return None
