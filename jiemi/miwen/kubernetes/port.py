"""What Miwen asks of Kubernetes: a port of few, narrow methods.

It has two forms with one contract suite (tests/contract): `jiemi.miwen.kubernetes.real`, the only module that imports
the kubernetes client, and the fake of the tests. Both raise `JiemiError` and nothing else (but trio's own Cancelled,
which ends the request), with the reasons named at each method; every method may raise ClusterUnavailable, and each
request has a deadline.

Objects are plain JSON values (`Mapping[str, Any]`) as the API server sends them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs

JsonObject = Mapping[str, Any]

FIELD_MANAGER = "jiemi"
"""Who owns the fields that Miwen applies (managedFields)."""


@attrs.frozen
class Page:
    """Some of the Decryptors.

    Attributes:
        items: the objects.
        resource_version: the collection's; a watch that starts from the last page's misses nothing.
        continue_token: asks for the next page; None at the last one.
    """

    items: tuple[JsonObject, ...]
    resource_version: str
    continue_token: str | None


class Kubernetes(Protocol):
    """The Kubernetes API, as far as Miwen needs it."""

    async def list_decryptors(self, *, limit: int, continue_token: str | None) -> Page:
        """One page of the Decryptors of the namespaces that Miwen looks at.

        Raises:
            JiemiError: WatchExpired when the token is too old (list from the start again); ListForbidden.
        """
        ...

    def watch_decryptors(self, *, resource_version: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of one watch from that version on, in chunks as they arrive, bookmarks included.

        The server is asked to end it after some minutes; the iterator then ends. A connection on which nothing arrives
        for longer than that (half-open) ends with ClusterUnavailable. Leaving the context ends the request at once. A
        wait for a chunk that is cancelled ends the watch.

        Raises:
            JiemiError: WatchExpired when the version is too old (list again); ListForbidden.
        """
        ...

    async def get_secret(self, namespace: str, name: str) -> JsonObject:
        """One Secret, with its base64 `data`.

        Raises:
            JiemiError: SecretNotFound, SecretForbidden.
        """
        ...

    async def apply(self, manifest: JsonObject, *, default_namespace: str) -> JsonObject:
        """Server-side apply of one object, taking over fields that others own.

        Args:
            manifest: a whole object (apiVersion, kind, metadata.name).
            default_namespace: for a namespaced kind whose manifest names none.

        Returns:
            The object's metadata after it (no data: it may be a Secret): name, namespace, uid, resourceVersion.

        Raises:
            JiemiError: KindUnknown, NamespaceNotFound, ApplyForbidden, ApplyRejected, ApplyConflict. Their messages
                name the object and, for a rejection, the fields, but quote no value: the API server's own text may
                hold one.
        """
        ...

    async def patch_status(self, namespace: str, name: str, status: JsonObject, *, uid: str) -> JsonObject | None:
        """Replace the status of a Decryptor, if it is still the object of that uid.

        Returns:
            The object after it, or None when it is gone (or another of that name took its place).

        Raises:
            JiemiError: ListForbidden when the right to `patch decryptors/status` is missing; ApplyRejected when the
                CRD that is installed does not allow the status; ApplyConflict.
        """
        ...
