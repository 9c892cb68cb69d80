"""Parts of the port (`jiemi.miwen.kubernetes.port`, which has them all): its values, and its two smallest ports."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs

JsonObject = Mapping[str, Any]

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_ACCOUNT = re.compile(r"[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?")


@attrs.frozen
class Page:
    """Some of the objects of a collection.

    Attributes:
        items: the objects. Each may be read from its JSON when it is asked for, so that one is in memory at a time.
        resource_version: the collection's; a watch that starts from the last page's misses nothing.
        continue_token: asks for the next page; None at the last one.
        left_out: how many objects were too large to be read.
    """

    items: Sequence[JsonObject]
    resource_version: str
    continue_token: str | None
    left_out: int = 0


@attrs.frozen
class Account:
    """A ServiceAccount that requests are made as (impersonation).

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
    """

    namespace: str
    name: str

    @property
    def user(self) -> str:
        """Its user name; the API server adds the groups of ServiceAccounts by itself."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def is_possible(self) -> bool:
        """Whether a ServiceAccount can have these names, so that they are of one and of no other user."""
        return _NAMESPACE.fullmatch(self.namespace) is not None and _ACCOUNT.fullmatch(self.name) is not None

    def __str__(self) -> str:
        return f"ServiceAccount {self.namespace}/{self.name}"


class Leases(Protocol):
    """Leases (coordination.k8s.io/v1), by which one of several processes is the active one."""

    async def get(self, namespace: str, name: str) -> JsonObject | None:
        """One Lease; None where there is none.

        Raises:
            JiemiError: LeaseForbidden; ClusterUnavailable.
        """
        ...

    async def write(self, namespace: str, name: str, lease: JsonObject | None, spec: JsonObject) -> JsonObject | None:
        """Write a Lease, if nobody has written it since it was read.

        Args:
            lease: as it was read; None where there was none.
            spec: what it gets.

        Returns:
            It as it is then; None where somebody else was first.

        Raises:
            JiemiError: LeaseForbidden; NamespaceNotFound; ClusterUnavailable.
        """
        ...


class EndpointSlices(Protocol):
    """The EndpointSlices (discovery.k8s.io/v1) of a Service, by which the Pods behind it are known."""

    async def list(self, namespace: str, service: str, *, limit: int, continue_token: str | None) -> Page:
        """One page of those of a Service, as `Kubernetes.list_decryptors`.

        Raises:
            JiemiError: WatchExpired; KrapaoUnavailable when a right is missing; ClusterUnavailable.
        """
        ...

    def watch(
        self, namespace: str, service: str, *, resource_version: str
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of one watch of them, as `Kubernetes.watch_decryptors`.

        Raises:
            JiemiError: as `list`.
        """
        ...
