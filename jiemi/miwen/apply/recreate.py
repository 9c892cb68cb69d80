"""Objects that stand in the way of what git describes: deleted to be recreated with spec.force, reported without it.

    refused -> is it the live object? -> ours to delete? -> could it be made? -> deleted -> gone -> (the caller makes)

The API server says in many words that an object can't become another. Those that say so and nothing else are
FieldImmutable from the beginning; any other refusal of fields (422) may be of an object that is wrong by itself. So the
API server is asked, by a dry run of the object under another name: one that it takes there is valid, and it is the live
object that stands in the way.

Between deleting and making the object is not there, and if it can't be made it never is. The same dry run shows that
beforehand: admission, quotas and rights are those of a new object there. Where it can't (a rule that allows one
name only, a webhook that takes no dry runs), nothing is deleted. A refusal by a policy or a webhook never counts, even
where it is of the change alone: whoever wrote it wants the object as it is, not recreated.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef, Owner
from jiemi.core.objects.inventory import PRUNE_ANNOTATION
from jiemi.core.objects.managed_fields import field_ownership
from jiemi.core.objects.manifests import Manifest
from jiemi.miwen.apply.wait_budget import WaitBudget
from jiemi.miwen.kubernetes.port import JsonObject, Objects
from jiemi.miwen.kubernetes.rejected_fields import FieldsRejected

_NEVER_REPLACED = frozenset({"Namespace", "CustomResourceDefinition", "PersistentVolume", "PersistentVolumeClaim"})
"""Kinds that are not deleted to be recreated: everything in them would go with them."""

_ADDRESS = ("networking.k8s.io/v1", "IPAddress")

_SUFFIX_CHARACTERS = 9

_ANY_KIND_CHARACTERS = 52
"""What the name of an object of any kind may have; a CronJob's may not have more. One that has more itself shows that
its kind's may."""


_NAMED_BY_CONTENT = frozenset({"CustomResourceDefinition", "APIService"})
"""Kinds whose names follow from what is in them, so that a dry run under another name shows nothing."""


def may_be_in_the_way(why: JiemiError) -> bool:
    """Whether the live object may be why the API server refuses a manifest."""
    return why.failure.reason == "FieldImmutable" or (isinstance(why, FieldsRejected) and why.is_invalid)


@attrs.frozen
class Recreator:
    """Takes objects out of the way.

    Attributes:
        objects: access to the cluster's objects, as Miwen or as an account.
        namespace: for a namespaced kind whose manifest names none.
        owner: the Decryptor that the objects must belong to.
        is_forced: whether they may be deleted (spec.force).
        gone: the time for which those that are deleted are waited for, all together.
        on_deleted: called with each that was deleted.
    """

    objects: Objects
    namespace: str
    owner: Owner
    is_forced: bool
    gone: WaitBudget
    on_deleted: Callable[[ObjectRef], None] = lambda _: None

    async def clear(self, manifest: Manifest, ref: ObjectRef, before: InventoryEntry | None, why: JiemiError) -> bool:
        """Delete the object, if what the manifest says can be recreated, and wait until it is gone.

        Args:
            before: its entry of the inventory, where it has one.
            why: what the API server said to the change; one that `may_be_in_the_way`.

        Returns:
            Whether it was there.

        Raises:
            JiemiError: as `judge`; or it is deleted, and something holds it (FieldImmutable).
            Whatever `gone` raises.
        """
        metadata = await self.judge(manifest, ref, before, why)
        if metadata is None:
            return False
        uid = str(metadata.get("uid"))
        if metadata.get("deletionTimestamp") is None and await self.objects.delete(ref, uid=uid):
            self.on_deleted(ref)

        async def is_gone() -> bool:
            found = await self.objects.get_metadata(ref)
            return found is None or found.get("uid") != uid

        # Looked at once also where no time is left: most are gone at once.
        if not (await is_gone() or await self.gone.poll_until(is_gone)):
            raise JiemiError(
                "FieldImmutable",
                f"{ref.label} is deleted to be recreated, but not gone: finalizers hold it",
                "Look at what its metadata.finalizers wait for; it is made as soon as it is gone.",
            ) from why
        return True

    async def judge(
        self, manifest: Manifest, ref: ObjectRef, before: InventoryEntry | None, why: JiemiError
    ) -> JsonObject | None:
        """Find out whether the live object stands in the way, and whether it may be deleted. Changes nothing.

        Args:
            As `clear`.

        Returns:
            The metadata of the object, if it is to be deleted; None where there is none.

        Raises:
            JiemiError: `why`, the object is not in the way, or that is not known; FieldImmutable, it is and stays,
                with what would help; where it is to be deleted but could not be recreated, the reason for that.
        """
        metadata = await self._live(ref, why)
        if metadata is None:
            return None
        if metadata.get("deletionTimestamp") is not None:
            self._require_ours(metadata, ref, before, _in_the_way(why))
            if self.is_forced:
                return metadata
            raise JiemiError(
                "FieldImmutable",
                f"{why.failure.message}. The live object is being deleted and its finalizers hold it; once it is gone, "
                "the new one is made",
            ) from why
        refusal = await self._rehearse(manifest, ref)
        if not _is_sure(why):
            if ref.kind in _NAMED_BY_CONTENT or _is_of_fields(refusal):
                raise why
            if refusal is not None:
                raise _unknown(why, refusal) from refusal
        self._require_ours(metadata, ref, before, _in_the_way(why))
        self._require_forced(ref, why, refusal)
        return metadata

    async def _live(self, ref: ObjectRef, why: JiemiError) -> JsonObject | None:
        """The metadata of the object that is there; None where there no longer is one.

        Raises:
            JiemiError: as `judge`, where there is none that could be in the way, or it can't be read.
        """
        try:
            metadata = await self.objects.get_metadata(ref)
        except JiemiError as error:
            if not _is_sure(why):
                raise _unknown(why, error) from error
            if self.is_forced:
                raise
            said = f"whether spec.force would help is not known: {error.failure.message}"
            raise JiemiError("FieldImmutable", f"{_in_the_way(why)}; {said}") from error
        if metadata is None and not _is_sure(why):
            raise why
        return metadata

    def _require_forced(self, ref: ObjectRef, why: JiemiError, refusal: JiemiError | None) -> None:
        """
        Args:
            refusal: why the object could not be recreated; None where it could.

        Raises:
            JiemiError: the object is not deleted, and what would help.
        """
        if self.is_forced and refusal is not None:
            text = (
                f"spec.force does not delete {ref.label}, because it could not be recreated: {refusal.failure.message}"
            )
            raise JiemiError(refusal.failure.reason, text, refusal.failure.own_remedy) from refusal
        if refusal is not None:
            said = refusal.failure.message
            text = f"{_in_the_way(why)}; spec.force would not help, because it could not be recreated: {said}"
            raise JiemiError("FieldImmutable", text, "Put the old value back.") from why
        if not self.is_forced:
            raise JiemiError(
                "FieldImmutable",
                _in_the_way(why),
                "Put the old value back, or set spec.force to have the object deleted and recreated.",
            ) from why

    def _require_ours(self, metadata: JsonObject, ref: ObjectRef, before: InventoryEntry | None, problem: str) -> None:
        """Raises JiemiError: FieldImmutable, the object is none that may be deleted."""
        if ref.kind in _NEVER_REPLACED:
            raise JiemiError(
                "FieldImmutable",
                f"{problem}, and spec.force does not delete a {ref.kind}",
                "Put the old value back, or describe one of another name.",
            )
        if (metadata.get("annotations") or {}).get(PRUNE_ANNOTATION) == "disabled":
            raise JiemiError(
                "FieldImmutable",
                f"{problem}, and spec.force does not delete what is annotated {PRUNE_ANNOTATION}: disabled",
                "Put the old value back, or delete the object yourself.",
            )
        owner = Owner.in_labels(metadata.get("labels"))
        # An entry without fields is of an object that was only tried. One with fields may be forged in a status, so the
        # object itself must say that we applied it.
        is_known = before is not None and before.fields is not None
        is_applied = owner is None and is_known and field_ownership(metadata).fields > 0
        if owner != self.owner and not is_applied:
            whose = f"is Decryptor {owner}'s by its labels" if owner is not None else "was never applied by Jiemi"
            raise JiemiError(
                "FieldImmutable",
                f"{problem}. It {whose}, so spec.force does not delete it",
                "Delete it yourself, or describe it in git with these fields as they are.",
            )

    async def _rehearse(self, manifest: Manifest, ref: ObjectRef) -> JiemiError | None:
        """Why the object could not be made; None where it could."""
        name = _another_name(ref.name)
        try:
            held = await self._held(ref)
            await self._require_free(ref, manifest.body.get("spec"), held)
            await self.objects.dry_run(_named(manifest.body, name, held), default_namespace=self.namespace)
        except JiemiError as error:
            return _renamed(error, name, ref.name)
        return None

    async def _held(self, ref: ObjectRef) -> JsonObject:
        """What of its spec a Service holds, so that no other could have it until it is deleted."""
        if (ref.api_version, ref.kind) != ("v1", "Service"):
            return {}
        spec = (await self.objects.get(ref) or {}).get("spec")
        return spec if isinstance(spec, Mapping) else {}

    async def _require_free(self, ref: ObjectRef, spec: Any, held: JsonObject) -> None:
        """A dry run takes any address of a Service: whether another has it, is found by the IPAddress of that name.

        https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-objects

        Raises:
            JiemiError: another has an address that the Service is to have, or that is not known.
        """
        if not held or not isinstance(spec, Mapping):
            return
        listed = spec.get("clusterIPs")
        wanted = [spec.get("clusterIP"), *(listed if isinstance(listed, list) else [])]
        for address in dict.fromkeys(each for each in wanted if isinstance(each, str) and each not in {"", "None"}):
            if _has(address, _addresses(held)):
                continue
            problem = f"{ref.label} is to have a cluster IP of its own choice, and "
            if await self.objects.resource(*_ADDRESS) is None:
                raise JiemiError(
                    "FieldImmutable",
                    f"{problem}the cluster does not say whether it is free",
                    "Delete the Service yourself.",
                )
            if await self.objects.get_metadata(ObjectRef(*_ADDRESS, "", address)) is not None:
                raise JiemiError("ApplyRejected", f"{problem}another has it (spec.clusterIP)")


def _is_sure(why: JiemiError) -> bool:
    """Whether what was said is enough to know that it is the live object. What is refused of an object's status, which
    no manifest sets, is so too: the versions that a CustomResourceDefinition has stored, for example."""
    return why.failure.reason == "FieldImmutable" or (
        isinstance(why, FieldsRejected)
        and bool(why.refused.paths)
        and all(re.match(r"status\b", path) for path in why.refused.paths)
    )


def _in_the_way(why: JiemiError) -> str:
    stands = "The live object" if _is_sure(why) else "The manifest is valid by itself, so the live object"
    return f"{why.failure.message}. {stands} stands in the way"


def _is_of_fields(refusal: JiemiError | None) -> bool:
    """Whether an object can't be made for what its manifest says."""
    if refusal is None or refusal.failure.reason not in {"ApplyRejected", "FieldImmutable"}:
        return False
    return not isinstance(refusal, FieldsRejected) or refusal.is_invalid


def _unknown(why: JiemiError, cause: JiemiError) -> JiemiError:
    """For a refusal of which is not known whether the live object is why."""
    said = cause.failure.message
    return JiemiError(
        why.failure.reason,
        f"{why.failure.message}. Whether the live object stands in the way is not known: {said}",
        why.failure.own_remedy,
    )


def _renamed(error: JiemiError, name: str, as_: str) -> JiemiError:
    """What was said of the object under another name, of the object itself."""
    message = error.failure.message.replace(name, as_)
    if isinstance(error, FieldsRejected):
        return error.saying(message)
    return JiemiError(error.failure.reason, message, error.failure.own_remedy)


def recreate_failed(ref: ObjectRef, why: JiemiError) -> JiemiError:
    """For an object that was deleted and then can't be made."""
    return JiemiError(
        why.failure.reason,
        f"{ref.label} was deleted to be recreated (spec.force), and now is not there: {why.failure.message}",
        why.failure.own_remedy,
    )


def _another_name(name: str) -> str:
    """A name that no object has, which can be one of its kind where the name itself can."""
    suffix = f"-{uuid.uuid4().hex[: _SUFFIX_CHARACTERS - 1]}"
    return name[: max(len(name), _ANY_KIND_CHARACTERS) - _SUFFIX_CHARACTERS].rstrip("-._:") + suffix


def _named(body: Mapping[str, Any], name: str, held: Mapping[str, Any]) -> dict[str, Any]:
    """The object under another name, without the ports that the one that is there holds until it is deleted. (Of its
    addresses a dry run does not ask whether they are free.)

    Args:
        held: the spec of the Service that is there; {} for other kinds. What another Service holds is left in: with it
            the object could not be made.
    """
    named = {**body, "metadata": {**body["metadata"], "name": name}}
    spec = body.get("spec")
    if not held or not isinstance(spec, Mapping):
        return named
    free = {field: value for field, value in spec.items() if field not in _HELD or value != held.get(field)}
    ports, held_ports = free.get("ports"), _node_ports(held.get("ports"))
    if isinstance(ports, list):
        free["ports"] = [
            {field: value for field, value in port.items() if field != "nodePort" or value not in held_ports}
            if isinstance(port, Mapping)
            else port
            for port in ports
        ]
    named["spec"] = free
    return named


_HELD = frozenset({"healthCheckNodePort"})


def _addresses(held: Mapping[str, Any]) -> list[Any]:
    return [held.get("clusterIP"), *(held.get("clusterIPs") or [])]


def _has(value: Any, addresses: Sequence[Any]) -> bool:
    return any(each in addresses for each in (value if isinstance(value, list) else [value]))


def _node_ports(ports: Any) -> list[Any]:
    return [port.get("nodePort") for port in ports if isinstance(port, Mapping)] if isinstance(ports, list) else []
