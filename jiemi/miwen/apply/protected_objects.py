"""Objects as Miwen itself, without those that a repository's writer must not reach (`jiemi.core.objects.protected`).

Every write that Miwen makes as itself for a Decryptor goes through here: an apply, the dry run before it, a deletion,
what corrects drift. Deployments ask beforehand, so that an object is refused before others are applied; this is what
holds where one forgets to. Roles and bindings are first tried, since what others have set of one counts too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.core.objects.protected import Objection, Protection, is_judged_as_a_whole
from jiemi.miwen.apply.account_objects import as_account
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import Account, JsonObject, Kubernetes, Objects


@attrs.frozen
class ProtectedObjects:
    """The port `Objects`, less what is protected.

    Attributes:
        objects: access to the cluster's objects as Miwen itself.
        protection: what is protected.
        namespace: the Decryptor's.
    """

    objects: Objects = attrs.field(repr=False)
    protection: Protection
    namespace: str

    async def resource(self, api_version: str, kind: str, *, fresh: bool = False) -> Resource | None:
        """See the port."""
        return await self.objects.resource(api_version, kind, fresh=fresh)

    async def similar_kinds(self, kind: str) -> Sequence[Resource]:
        """See the port."""
        return await self.objects.similar_kinds(kind)

    async def apply(self, manifest: JsonObject, *, default_namespace: str, take_over: bool = True) -> JsonObject:
        """See the port. Raises also JiemiError: ObjectProtected."""
        ref = await self._require_unprotected(manifest, default_namespace)
        if is_judged_as_a_whole(ref):
            whole = await self.objects.dry_run(manifest, default_namespace=default_namespace, take_over=take_over)
            self._require_whole(ref, whole)
        return await self.objects.apply(manifest, default_namespace=default_namespace, take_over=take_over)

    async def dry_run(self, manifest: JsonObject, *, default_namespace: str, take_over: bool = True) -> JsonObject:
        """See the port. Raises also JiemiError: ObjectProtected."""
        ref = await self._require_unprotected(manifest, default_namespace)
        whole = await self.objects.dry_run(manifest, default_namespace=default_namespace, take_over=take_over)
        if is_judged_as_a_whole(ref):
            self._require_whole(ref, whole)
        return whole

    async def get(self, ref: ObjectRef) -> JsonObject | None:
        """See the port."""
        return await self.objects.get(ref)

    async def get_metadata(self, ref: ObjectRef) -> JsonObject | None:
        """See the port."""
        return await self.objects.get_metadata(ref)

    async def delete(self, ref: ObjectRef, *, uid: str, resource_version: str | None = None) -> bool:
        """See the port. Raises also JiemiError: ObjectProtected."""
        self.require_deletable(ref)
        return await self.objects.delete(ref, uid=uid, resource_version=resource_version)

    async def remove_fields(
        self, ref: ObjectRef, paths: Sequence[tuple[str, ...]], *, resource_version: str
    ) -> JsonObject:
        """See the port. Raises also JiemiError: ObjectProtected."""
        self._require(ref, None)
        return await self.objects.remove_fields(ref, paths, resource_version=resource_version)

    async def set_managed_fields(
        self, ref: ObjectRef, managed_fields: Sequence[JsonObject], *, uid: str, resource_version: str
    ) -> JsonObject:
        """See the port. Raises also JiemiError: ObjectProtected."""
        self._require(ref, None)
        return await self.objects.set_managed_fields(ref, managed_fields, uid=uid, resource_version=resource_version)

    def require_deletable(self, ref: ObjectRef) -> None:
        """Raises JiemiError: ObjectProtected: the object is not to be deleted."""
        self._require(ref, None)

    async def _require_unprotected(self, manifest: JsonObject, default_namespace: str) -> ObjectRef:
        metadata: Mapping[str, Any] = manifest["metadata"]
        api_version, kind = str(manifest["apiVersion"]), str(manifest["kind"])
        resource = await self.objects.resource(api_version, kind)
        namespaced = resource is None or resource.namespaced
        namespace = str(metadata.get("namespace") or default_namespace) if namespaced else ""
        ref = ObjectRef(api_version, kind, namespace, str(metadata["name"]))
        self._require(ref, manifest)
        return ref

    def _require(self, ref: ObjectRef, body: JsonObject | None) -> None:
        why = self.protection.objection(ref, body, namespace=self.namespace)
        if why is not None:
            raise protected(ref, why)

    def _require_whole(self, ref: ObjectRef, whole: JsonObject) -> None:
        why = self.protection.objection_to(ref, whole, namespace=self.namespace)
        if why is not None:
            raise protected(ref, why)


def protected(ref: ObjectRef, objection: Objection) -> JiemiError:
    """For an object that is not written or deleted."""
    return JiemiError("ObjectProtected", f"{ref.label} is protected: {objection.why}", objection.remedy)


def acts_as_itself(account: Account | None, protection: Protection) -> bool:
    """Whether an account is Miwen, or one of those that live beside it."""
    return account is None or account.namespace == protection.own_namespace


def objects_of(kubernetes: Kubernetes, account: Account | None, protection: Protection, *, namespace: str) -> Objects:
    """The objects that a Decryptor's loop works with.

    Args:
        account: the account whose rights are used; None is Miwen itself.
        protection: what is refused as Miwen itself.
        namespace: the Decryptor's.
    """
    objects = as_account(kubernetes, account)
    return ProtectedObjects(objects, protection, namespace) if acts_as_itself(account, protection) else objects
