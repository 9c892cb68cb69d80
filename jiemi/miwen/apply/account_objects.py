"""Objects as a ServiceAccount, which say so where there is no such ServiceAccount.

The API server lets Miwen act as a ServiceAccount that does not exist, and then refuses all that it asks for, since
nobody has granted it anything. Who reads "grant it `create`" would look in the wrong place. So where a right is
missing, it is looked whether the account is there: as Miwen, and once for each of these objects.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs

from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import Account, JsonObject, Kubernetes, Objects

_FORBIDDEN = frozenset({"ApplyForbidden", "ReadForbidden", "DeleteForbidden"})


@attrs.define
class AccountObjects:
    """The port `Objects` as a ServiceAccount.

    Attributes:
        objects: access to the cluster's objects as the account.
        as_miwen: access to them as Miwen itself.
        account: the ServiceAccount.
    """

    objects: Objects = attrs.field(repr=False)
    as_miwen: Objects = attrs.field(repr=False)
    account: Account
    _is_there: bool | None = None

    async def resource(self, api_version: str, kind: str, *, fresh: bool = False) -> Resource | None:
        """See the port."""
        return await self.objects.resource(api_version, kind, fresh=fresh)

    async def similar_kinds(self, kind: str) -> Sequence[Resource]:
        """See the port."""
        return await self.objects.similar_kinds(kind)

    async def apply(self, manifest: JsonObject, *, default_namespace: str, take_over: bool = True) -> JsonObject:
        """See the port. Raises also JiemiError: ServiceAccountNotFound."""
        async with self._explained():
            return await self.objects.apply(manifest, default_namespace=default_namespace, take_over=take_over)

    async def dry_run(self, manifest: JsonObject, *, default_namespace: str, take_over: bool = True) -> JsonObject:
        """See the port. Raises also JiemiError: ServiceAccountNotFound."""
        async with self._explained():
            return await self.objects.dry_run(manifest, default_namespace=default_namespace, take_over=take_over)

    async def get(self, ref: ObjectRef) -> JsonObject | None:
        """See the port. Raises also JiemiError: ServiceAccountNotFound."""
        async with self._explained():
            return await self.objects.get(ref)

    async def get_metadata(self, ref: ObjectRef) -> JsonObject | None:
        """See the port. Raises also JiemiError: ServiceAccountNotFound."""
        async with self._explained():
            return await self.objects.get_metadata(ref)

    async def delete(self, ref: ObjectRef, *, uid: str, resource_version: str | None = None) -> bool:
        """See the port. Raises also JiemiError: ServiceAccountNotFound."""
        async with self._explained():
            return await self.objects.delete(ref, uid=uid, resource_version=resource_version)

    async def remove_fields(
        self, ref: ObjectRef, paths: Sequence[tuple[str, ...]], *, resource_version: str
    ) -> JsonObject:
        """See the port. Raises also JiemiError: ServiceAccountNotFound."""
        async with self._explained():
            return await self.objects.remove_fields(ref, paths, resource_version=resource_version)

    async def set_managed_fields(
        self, ref: ObjectRef, managed_fields: Sequence[JsonObject], *, uid: str, resource_version: str
    ) -> JsonObject:
        """See the port. Raises also JiemiError: ServiceAccountNotFound."""
        async with self._explained():
            return await self.objects.set_managed_fields(
                ref, managed_fields, uid=uid, resource_version=resource_version
            )

    @asynccontextmanager
    async def _explained(self) -> AsyncIterator[None]:
        """Report that the account is missing, and not a right of it, where that is so."""
        try:
            yield
        except JiemiError as error:
            if error.failure.reason not in _FORBIDDEN or await self._exists():
                raise
            raise JiemiError(
                "ServiceAccountNotFound",
                f"there is no {self.account}, which spec.serviceAccountName (or --default-service-account) names",
            ) from error

    async def _exists(self) -> bool:
        """Whether the account is there; one that can't be read counts as there."""
        if self._is_there is None:
            ref = ObjectRef("v1", "ServiceAccount", self.account.namespace, self.account.name)
            try:
                self._is_there = await self.as_miwen.get_metadata(ref) is not None
            except JiemiError:
                self._is_there = True
        return self._is_there


def as_account(kubernetes: Kubernetes, account: Account | None) -> Objects:
    """The objects as an account; None is Miwen itself."""
    objects = kubernetes.objects(account)
    return objects if account is None else AccountObjects(objects, kubernetes.objects(None), account)
