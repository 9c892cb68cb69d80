"""Objects that are deleted to be made anew, for a field of theirs can't be changed (spec.force).

    refused (FieldImmutable) -> ours to delete? -> could it be made? -> deleted -> gone -> (the caller makes it)

Between the two the object is not there, and if it can't be made again it never is. So the API server is asked first,
by a dry run under another name: admission, quotas and rights are those of a new object there.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import attrs

from jiemi.core.decryptor_status import InventoryEntry
from jiemi.core.errors import JiemiError
from jiemi.core.inventory import PRUNE_ANNOTATION
from jiemi.core.manifests import Manifest
from jiemi.core.objects import ObjectRef, Owner
from jiemi.core.ownership import ownership
from jiemi.miwen.kubernetes.port import JsonObject, Objects
from jiemi.miwen.patience import Patience

_NEVER_REPLACED = frozenset({"Namespace", "CustomResourceDefinition", "PersistentVolume", "PersistentVolumeClaim"})
"""Kinds that are not deleted to be made anew: everything in them would go with them."""

_SUFFIX_CHARACTERS = 9

_ANY_KIND_CHARACTERS = 52
"""What the name of an object of any kind may have; a CronJob's may not have more. One that has more itself shows that
its kind's may."""


@attrs.frozen
class Remaker:
    """Takes objects out of the way.

    Attributes:
        objects: as whom.
        namespace: for a namespaced kind whose manifest names none.
        owner: whose the objects must be.
        gone: how long those that are deleted are waited for, all together.
    """

    objects: Objects
    namespace: str
    owner: Owner
    gone: Patience

    async def clear(self, manifest: Manifest, ref: ObjectRef, before: InventoryEntry | None, why: JiemiError) -> bool:
        """Delete the object, if what the manifest says can be made anew, and wait until it is gone.

        Args:
            before: its entry of the inventory, where it has one.
            why: what the API server said to the change.

        Returns:
            Whether it was there.

        Raises:
            JiemiError: it is not deleted, and why; or it is, and something holds it (FieldImmutable).
            Whatever `gone` raises.
        """
        metadata = await self.objects.get_metadata(ref)
        if metadata is None:
            return False
        self._require_ours(metadata, ref, before, why)
        uid = str(metadata.get("uid"))
        if metadata.get("deletionTimestamp") is None:
            await self._rehearse(manifest, ref)
            await self.objects.delete(ref, uid=uid)

        async def is_gone() -> bool:
            found = await self.objects.get_metadata(ref)
            return found is None or found.get("uid") != uid

        # Looked at once also where no time is left: most are gone at once.
        if not (await is_gone() or await self.gone.until(is_gone)):
            raise JiemiError(
                "FieldImmutable",
                f"{ref.label} is deleted to be made anew, but not gone: finalizers hold it",
                "Look at what its metadata.finalizers wait for; it is made as soon as it is gone.",
            ) from why
        return True

    def _require_ours(
        self, metadata: JsonObject, ref: ObjectRef, before: InventoryEntry | None, why: JiemiError
    ) -> None:
        """Raises JiemiError: FieldImmutable, the object is none that may be deleted."""
        annotations = metadata.get("annotations") or {}
        if ref.kind in _NEVER_REPLACED or annotations.get(PRUNE_ANNOTATION) == "disabled":
            what = f"a {ref.kind}" if ref.kind in _NEVER_REPLACED else "what keeps itself from it"
            raise JiemiError(
                "FieldImmutable",
                f"{why.failure.message}; spec.force does not delete {what}",
                "Put the old values back in git, or delete the object yourself once what is in it may go.",
            ) from why
        owner = Owner.in_labels(metadata.get("labels"))
        # An entry without fields is of an object that was only tried. One with fields may be forged in a status, so the
        # object itself must say that we applied it.
        is_known = before is not None and before.fields is not None
        is_applied = owner is None and is_known and ownership(metadata).fields > 0
        if owner != self.owner and not is_applied:
            whose = f"is Decryptor {owner}'s by its labels" if owner is not None else "was never applied by Jiemi"
            raise JiemiError(
                "FieldImmutable",
                f"{why.failure.message}. It {whose}, so spec.force does not delete it",
                "Delete it yourself, or describe it in git with these fields as they are.",
            ) from why

    async def _rehearse(self, manifest: Manifest, ref: ObjectRef) -> None:
        """Raises JiemiError: why the object could not be made."""
        name = _another_name(ref.name)
        try:
            await self.objects.dry_run(_named(manifest.body, name), default_namespace=self.namespace)
        except JiemiError as error:
            said = error.failure.message.replace(name, ref.name)
            raise JiemiError(
                error.failure.reason,
                f"spec.force does not delete {ref.label}, for it could not be made anew: {said}",
                error.failure.own_remedy,
            ) from error


def not_made(ref: ObjectRef, why: JiemiError) -> JiemiError:
    """For an object that was deleted and can't be made all the same."""
    return JiemiError(
        why.failure.reason,
        f"{ref.label} was deleted to be made anew (spec.force), and now is not there: {why.failure.message}",
        why.failure.own_remedy,
    )


def _another_name(name: str) -> str:
    """A name that no object has, which can be one of its kind where the name itself can."""
    suffix = f"-{uuid.uuid4().hex[: _SUFFIX_CHARACTERS - 1]}"
    return name[: max(len(name), _ANY_KIND_CHARACTERS) - _SUFFIX_CHARACTERS].rstrip("-._:") + suffix


def _named(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object under another name, without what the one that is there holds until it is deleted."""
    named = {**body, "metadata": {**body["metadata"], "name": name}}
    spec = body.get("spec")
    ports = spec.get("ports") if isinstance(spec, Mapping) else None
    if (
        (body["apiVersion"], body["kind"]) == ("v1", "Service")
        and isinstance(spec, Mapping)
        and isinstance(ports, list)
    ):
        free = [
            {field: value for field, value in port.items() if field != "nodePort"}
            if isinstance(port, Mapping)
            else port
            for port in ports
        ]
        named["spec"] = {**spec, "ports": free}
    return named
