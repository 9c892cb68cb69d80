"""What Miwen asks of Kubernetes: a port of few, narrow methods.

It has two forms with one contract suite (tests/contract): `jiemi.miwen.kubernetes.real`, and the fake of the tests.
Both raise `JiemiError` and nothing else (except trio's own Cancelled, which ends the request), with the reasons named
at each method; every method may raise ClusterUnavailable, and each request has a deadline.

Objects are plain JSON values (`Mapping[str, Any]`) as the API server sends them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from jiemi.core.objects.identity import ObjectRef
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port_parts import Account, EndpointSlices, JsonObject, Leases, Page

__all__ = ["Account", "EndpointSlices", "JsonObject", "Kubernetes", "Leases", "Objects", "Page"]


class Objects(Protocol):
    """Objects of any kind, read and written as one user.

    Each method but `resource` may also raise ImpersonationForbidden: Miwen may not act as that account. Where a right
    is missing, the message names what needs it (the account, or Miwen) and what to grant.
    """

    async def resource(self, api_version: str, kind: str, *, fresh: bool = False) -> Resource | None:
        """Where the objects of a kind are, or None when the cluster does not serve it.

        What is known is kept; a kind that is not known is asked for again, but at most once in some seconds.

        Args:
            fresh: ask now, whatever is known; for a kind that a CustomResourceDefinition has just made.
        """
        ...

    async def similar_kinds(self, kind: str) -> Sequence[Resource]:
        """What the cluster serves that may be meant by a kind that it does not serve: for a message.

        The kind of that name under another apiVersion, or one whose name differs in capitals or is its plural. It is
        empty where the API server does not say. What is known is kept for a while.
        """
        ...

    async def apply(self, manifest: JsonObject, *, default_namespace: str, take_over: bool = True) -> JsonObject:
        """Server-side apply of one object.

        Args:
            manifest: a whole object (apiVersion, kind, metadata.name).
            default_namespace: for a namespaced kind whose manifest names none.
            take_over: take over fields that others own with another value; False refuses instead.

        Returns:
            The object's metadata after it, managedFields included (no data: it may be a Secret).

        Raises:
            JiemiError: KindUnknown, NamespaceNotFound, ApplyForbidden, AdmissionDenied, QuotaExceeded, ApplyRejected,
                FieldImmutable, FieldConflict (names the fields and the managers that own them), ApplyConflict. Their
                messages name the object and, for a rejection, the fields, but quote no value: the API server's own
                text may hold one.
        """
        ...

    async def dry_run(self, manifest: JsonObject, *, default_namespace: str, take_over: bool = True) -> JsonObject:
        """What `apply` would do, without doing it: the whole object as it would be.

        Raises:
            JiemiError: as `apply`.
        """
        ...

    async def get(self, ref: ObjectRef) -> JsonObject | None:
        """The whole object, or None where there is none (or the cluster does not serve its kind, which it was asked
        just now).

        Raises:
            JiemiError: ReadForbidden.
        """
        ...

    async def get_metadata(self, ref: ObjectRef) -> JsonObject | None:
        """The object's metadata, or None as `get`.

        Raises:
            JiemiError: ReadForbidden.
        """
        ...

    async def delete(self, ref: ObjectRef, *, uid: str, resource_version: str | None = None) -> bool:
        """Delete an object, what it owns with it (in the background).

        Args:
            uid: the uid of the object that is meant; another of that name stays.
            resource_version: the resourceVersion of the state that is meant; None: whatever state it is in.

        Returns:
            Whether the object that is meant was there.

        Raises:
            JiemiError: DeleteForbidden; AdmissionDenied; ApplyConflict, it is in another state; ReadForbidden, it may
                be, which is not known without reading it.
        """
        ...

    async def remove_fields(
        self, ref: ObjectRef, paths: Sequence[tuple[str, ...]], *, resource_version: str
    ) -> JsonObject:
        """Remove fields that others added, each given as its path: ("data", "password").

        Args:
            resource_version: the resourceVersion of the state in which they were seen.

        Returns:
            The object's metadata after it.

        Raises:
            JiemiError: ApplyForbidden, AdmissionDenied, ApplyRejected (also where one of the fields is not there: then
                all stay), FieldImmutable; ApplyConflict, it is in another state or gone; ReadForbidden, as `delete`.
        """
        ...

    async def set_managed_fields(
        self, ref: ObjectRef, managed_fields: Sequence[Any], *, uid: str, resource_version: str
    ) -> JsonObject:
        """Replace whose the fields of an object are (metadata.managedFields); nothing else of it changes.

        Args:
            uid, resource_version: those of the object and its state that are meant.

        Returns:
            The object's metadata after it.

        Raises:
            JiemiError: ApplyForbidden, AdmissionDenied, ApplyRejected; ApplyConflict, it is in another state or gone;
                ReadForbidden, as `delete`.
        """
        ...


class Kubernetes(Protocol):
    """The Kubernetes API, as far as Miwen needs it."""

    @property
    def leases(self) -> Leases:
        """The Leases."""
        ...

    @property
    def endpoint_slices(self) -> EndpointSlices:
        """The EndpointSlices."""
        ...

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """The namespaces that Miwen looks at: each is listed and watched by itself. `(None,)`: all of them at once."""
        ...

    async def list_decryptors(self, *, limit: int, continue_token: str | None, namespace: str | None = None) -> Page:
        """One page of the Decryptors of a namespace that Miwen looks at.

        Args:
            limit: the most objects; there may be fewer, though more follow.
            continue_token: the page before's; None for the first.
            namespace: one of `scopes`; None: all, or the one that there is.

        Raises:
            JiemiError: WatchExpired when the token is too old (list from the start again); ListForbidden.
        """
        ...

    def watch_decryptors(
        self, *, resource_version: str, namespace: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of one watch from that version on, in chunks as they arrive, bookmarks included.

        The server is asked to end it after some minutes; the iterator then ends. A connection on which nothing arrives
        for longer than that (half-open) ends with ClusterUnavailable. Leaving the context ends the request at once. A
        wait for a chunk that is cancelled ends the watch.

        Raises:
            JiemiError: WatchExpired when the version is too old (list again); ListForbidden.
        """
        ...

    async def list_metadata(
        self,
        resource: Resource,
        *,
        label_selector: str,
        field_selector: str,
        limit: int,
        continue_token: str | None,
        namespace: str | None = None,
    ) -> Page:
        """One page of the metadata of a kind's objects, in a namespace that Miwen looks at (for a kind that has
        none: of all). The items are PartialObjectMetadata: apiVersion, kind and metadata, no data.

        Args:
            resource: the kind.
            label_selector, field_selector: a selection of objects; "" for all.
            limit, continue_token, namespace: the same as of `list_decryptors`.

        Raises:
            JiemiError: WatchExpired as `list_decryptors`; WatchForbidden when a right is missing; KindUnknown when the
                cluster no longer serves the kind.
        """
        ...

    def watch_metadata(
        self,
        resource: Resource,
        *,
        label_selector: str,
        field_selector: str,
        resource_version: str,
        namespace: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of one watch of what `list_metadata` lists; as `watch_decryptors` else.

        An object that no longer has the label is reported as DELETED.

        Raises:
            JiemiError: WatchExpired, WatchForbidden, KindUnknown.
        """
        ...

    def objects(self, account: Account | None) -> Objects:
        """Objects of any kind as that ServiceAccount, or as Miwen itself for None. Costs nothing."""
        ...

    async def get_secret(self, namespace: str, name: str) -> JsonObject:
        """One Secret, with its base64 `data`.

        Raises:
            JiemiError: SecretNotFound, SecretForbidden.
        """
        ...

    async def create_secret(
        self,
        namespace: str,
        name: str,
        data: Mapping[str, SensitiveText],
        *,
        of_type: str = "Opaque",
        labels: Mapping[str, str] | None = None,
    ) -> bool:
        """Make a Secret, where there is none of that name. One that is there is never changed.

        Args:
            data: its texts by key.

        Returns:
            Whether it was made.

        Raises:
            JiemiError: SecretForbidden, NamespaceNotFound, ApplyRejected, ClusterUnavailable.
        """
        ...

    async def replace_secret(self, secret: JsonObject, data: Mapping[str, SensitiveText]) -> bool:
        """Give a Secret other data, if nobody has changed or deleted it since it was read.

        Args:
            secret: as `get_secret` gave it.
            data: its texts by key; keys that are not given go.

        Returns:
            Whether it was written.

        Raises:
            JiemiError: SecretForbidden, ApplyRejected, AdmissionDenied, ClusterUnavailable.
        """
        ...

    async def patch_status(
        self, namespace: str, name: str, status: JsonObject, *, uid: str, keep_rest: bool = False
    ) -> JsonObject | None:
        """Replace the status of a Decryptor, if it is still the object of that uid.

        Args:
            keep_rest: whether fields that are not given stay as they are stored. There must be a status then.

        Returns:
            The object after it, or None when it is gone (or another of that name took its place).

        Raises:
            JiemiError: ListForbidden when the right to `patch decryptors/status` is missing; AdmissionDenied;
                ApplyRejected when the CRD that is installed does not allow the status, or the object becomes larger
                than the API server takes; ApplyConflict.
        """
        ...

    async def set_finalizers(
        self, namespace: str, name: str, finalizers: Sequence[str], *, uid: str, resource_version: str
    ) -> JsonObject | None:
        """Replace the finalizers of a Decryptor, if it is still the object of that uid in that state.

        Returns:
            The object after it, or None when it is gone: also when its last finalizer was taken off and it was being
            deleted.

        Raises:
            JiemiError: ListForbidden when the right to `patch decryptors` is missing; AdmissionDenied; ApplyRejected,
                what is given can be no finalizers; ApplyConflict, it is in another state: read it again.
        """
        ...

    async def get_decryptor(self, namespace: str, name: str) -> JsonObject | None:
        """One Decryptor as it is now, or None.

        Raises:
            JiemiError: ListForbidden.
        """
        ...

    async def create_event(self, namespace: str, event: JsonObject) -> None:
        """Create an Event (events.k8s.io/v1) in a namespace; one of that name that is there already will do.

        Raises:
            JiemiError: EventForbidden; AdmissionDenied; QuotaExceeded; NamespaceNotFound, the namespace is gone or is
                being deleted; ApplyRejected.
        """
        ...
