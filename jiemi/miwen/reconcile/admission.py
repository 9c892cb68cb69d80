"""Which objects of the files a Decryptor may apply: those that no other has, and that the operator allows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from jiemi.core.api.decryptor import ObjectMeta
from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.policy import PolicyRule, require_namespace
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.identity import ObjectKey, Owner
from jiemi.core.objects.inventory import Refused
from jiemi.core.objects.protected import Protection
from jiemi.core.reasons import NO_ANSWER
from jiemi.miwen.apply.applier import Resolved
from jiemi.miwen.apply.protected_objects import acts_as_itself, objects_of, protected
from jiemi.miwen.kubernetes.missing_rights import RightMissing
from jiemi.miwen.kubernetes.port import Account, Kubernetes, Objects
from jiemi.miwen.state.registry import Registry


@attrs.frozen
class Bounds:
    """What the operator allows one Decryptor.

    Attributes:
        rules: the policy's rule for each file, by path; None where there is no policy.
        own_namespace_only: whether objects of other namespaces, and those without one, are refused.
        merged_managers: the field managers whose fields become ours alone where we apply them too.
        namespaces: those whose Decryptors Miwen sees; empty: all. Where it does not see all, the labels of an object
            decide which Decryptor has it.
        protection: what Miwen does not write under its own account.
        full_mac: whether files are refused whose MAC covers their encrypted values only.
    """

    rules: Mapping[str, PolicyRule] | None
    own_namespace_only: bool
    namespaces: frozenset[str]
    merged_managers: frozenset[str]
    protection: Protection
    full_mac: bool = False


@attrs.frozen
class Admission:
    """Judges the objects of one deployment.

    Attributes:
        kubernetes: where labels are looked at.
        registry: which Decryptor has an object.
        account: the account under which objects are written; None is that of Miwen.
        bounds: what is allowed.
        meta: the metadata of the Decryptor.
        spec: the spec of the Decryptor.
        kept_files: paths of the files that stay deployed as they are.
    """

    kubernetes: Kubernetes
    registry: Registry
    account: Account | None
    bounds: Bounds
    meta: ObjectMeta
    spec: DecryptorSpec
    kept_files: Collection[str]

    def require_allowed(self, resolved: Iterable[Resolved]) -> None:
        """Refuse all objects where the operator's policy does not allow one.

        Raises:
            JiemiError: PolicyDenied.
        """
        if self.bounds.rules is None:
            return
        for each in resolved:
            for path in each.manifest.sources:
                require_namespace(self.bounds.rules[path], each.ref, namespace=self.meta.namespace)

    async def admit(
        self, resolved: Sequence[Resolved], before: Mapping[ObjectKey, InventoryEntry]
    ) -> tuple[list[Resolved], list[Refused]]:
        """The objects that are ours to apply, and the others."""
        admitted: list[Resolved] = []
        refused: list[Refused] = []
        files = {key: entry.file for key, entry in before.items() if entry.file in self.kept_files}
        # Of two files that describe an object, the one that did first does, whichever is rendered now.
        described = {(each.key, each.manifest.file) for each in resolved}
        first = {key: entry.file for key, entry in before.items() if (key, entry.file) in described}
        for each in resolved:
            rightful = first.get(each.key, each.manifest.file)
            other_file = files.get(each.key) or (rightful if rightful != each.manifest.file else None)
            failure = await self._objection(each, other_file)
            if failure is None:
                admitted.append(each)
                files[each.key] = each.manifest.file
            else:
                refused.append(Refused(each.ref, each.manifest.file, failure))
        return admitted, refused

    async def _objection(self, each: Resolved, other_file: str | None) -> Failure | None:
        label = each.ref.label
        denied = self._denial(each)
        if denied is not None:
            return denied
        if other_file == each.manifest.file:
            return Failure(
                "DuplicateObject", f"{other_file} describes {label} twice", "Take one of the two documents out."
            )
        if other_file is not None:
            return Failure("DuplicateObject", f"{other_file} and {each.manifest.file} both describe {label}")
        return await self._claim(each)

    def _denial(self, each: Resolved) -> Failure | None:
        """Why the object is not one that this Decryptor may have, whoever has it now."""
        meta = self.meta
        if acts_as_itself(self.account, self.bounds.protection):
            why = self.bounds.protection.objection(each.ref, each.manifest.body, namespace=meta.namespace)
            if why is not None:
                return protected(each.ref, why).failure
        if self.bounds.own_namespace_only and each.ref.namespace != meta.namespace:
            where = f"in namespace {each.ref.namespace}" if each.ref.namespace else "in no namespace"
            return Failure(
                "CrossNamespaceDenied",
                f"{each.ref.label} is {where}: Miwen runs with --no-cross-namespace",
                f"Give it namespace {meta.namespace}, or ask the operator."
                if each.ref.namespace
                else "Take it out of git, or ask the operator to apply it.",
            )
        return None

    async def _claim(self, each: Resolved) -> Failure | None:
        """Take the object for this Decryptor. Returns why another one has it."""
        meta, label = self.meta, each.ref.label
        # What a status says counts as far as the object itself says the same.
        if self.registry.is_unproven(each.key):
            await self._prove(each)
        if self.spec.mode == "DryRun":
            holder = self.registry.holder(each.key)
            holder = None if holder == meta.key else holder
        else:
            holder = self.registry.claim(meta.key, each.key)
        if holder is not None:
            return Failure(
                "ObjectClaimed",
                f"{label} belongs to Decryptor {holder[0]}/{holder[1]}",
                f"Let one of the two describe it; to hand it over, take it out of the files of {holder[0]}/{holder[1]} "
                "first (with `prune: false`).",
            )
        if not self.bounds.namespaces or self.registry.is_borne_out(meta.key, each.key) or each.resource is None:
            return None
        failure = await self._objection_of_labels(each)
        if failure is None and self.spec.mode == "Apply":
            self.registry.bear_out(meta.key, each.key)
        return failure

    async def _prove(self, each: Resolved) -> None:
        """Let the labels of the object decide which of the Decryptors has it whose statuses claim it."""
        if each.resource is None:
            return
        try:
            metadata = await self.kubernetes.objects(None).get_metadata(each.ref)
        except JiemiError as error:
            if error.failure.reason in NO_ANSWER:
                raise
            return  # the claims stay as they are: the first Decryptor has the object
        self.registry.prove(each.key, Owner.in_labels(metadata.get("labels")) if metadata is not None else None)

    async def _objection_of_labels(self, each: Resolved) -> Failure | None:
        """Why an object that none of the Decryptors has that Miwen sees may be another's."""
        try:
            metadata = await self._objects().get_metadata(each.ref)
        except JiemiError as error:
            if error.failure.reason in NO_ANSWER:
                raise
            # It is to be applied next, so whoever grants the right to read it should not meet the next one missing.
            return (error.with_verbs("create", "patch") if isinstance(error, RightMissing) else error).failure
        owner = Owner.in_labels(metadata.get("labels")) if metadata is not None else None
        # Labels stay on an object that its Decryptor has dropped. Of those that Miwen sees the registry knows better.
        if owner is None or owner.namespace in self.bounds.namespaces - self.registry.unseen:
            return None
        return Failure(
            "ObjectClaimed", f"{each.ref.label} belongs to Decryptor {owner}, as its labels jiemi.cr/decryptor-* say"
        )

    def _objects(self) -> Objects:
        return objects_of(self.kubernetes, self.account, self.bounds.protection, namespace=self.meta.namespace)
