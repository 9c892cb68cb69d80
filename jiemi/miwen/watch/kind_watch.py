"""The watch of the objects of one kind, in one namespace or in all: what is read, and what is reported of it.

For each object a few texts are kept: which it is (uid), in which state (resourceVersion), and whose. By them a list
that is read again (410 Gone, a broken connection) reports only what is new: no state is reported twice, and an
object that vanished meanwhile is reported as deleted.

A failure to read never means that something is gone. What is known stays as it is, and `failure` says that it may be
old.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs
import structlog
import trio

from jiemi.core.decisions.schedule import watch_retry_seconds
from jiemi.core.errors import Failure
from jiemi.core.objects.identity import NAME_LABEL, NAMESPACE_LABEL
from jiemi.core.reasons import Kind
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes, Page
from jiemi.miwen.kubernetes.watch_counts import WatchCounts
from jiemi.miwen.watch.reflector import reflect

SECRETS = Resource("v1", "Secret", "secrets", namespaced=True)

SECRETS_FIELD_SELECTOR = "type!=helm.sh/release.v1"
"""Helm keeps each release of each chart as a Secret of up to 1 MiB, which is neither a credential nor applied by us."""

SLOWNESS = 10
"""How much longer the waits are (10 s, doubling up to 5 minutes) where only a human helps: a right or a CRD is
missing."""
_log = structlog.get_logger("jiemi.miwen.watch")

KindKey = tuple[str, str]
"""Group and kind. The objects are the same by whatever version of the group they are read."""

_ObjectKey = tuple[str, str]
"""Namespace ("" for kinds that have none) and name."""


class OnChange(Protocol):
    """What is notified of each change. It must not block or raise: it wakes a task."""

    def __call__(self, resource: Resource, metadata: JsonObject, *, deleted: bool) -> None:
        """An object is in another state than was reported before.

        Args:
            resource: its kind.
            metadata: all of its metadata; `name`, `uid`, `resourceVersion` and, where the kind has them, `namespace`
                are there and texts, `labels` is a mapping where it is there.
            deleted: it is gone, or has lost the label by which it was watched: read it again before believing it.
                Where it vanished while nothing watched, the metadata are those few that are kept: those above, as they
                were last, with the labels that name the Decryptor and no others.
        """
        ...


@attrs.frozen
class _Known:
    """What is kept of an object; some hundred bytes, because a cluster may have ten thousand Secrets.

    Attributes:
        owner_name, owner_namespace: the labels' values.
    """

    uid: str
    version: str
    owner_name: str | None
    owner_namespace: str | None


class KindWatch:
    """The watch of one kind: a collection and a sink for the reflector.

    Args:
        before: the watch whose place it takes; what that one knew is known.

    Attributes:
        resource: the kind.
        namespace: the one whose objects are watched; None: all.
        objects: what was reported last of each object that is there.
        synced: see `ObjectWatches.known`.
        failure: see `ObjectWatches.failure`.
        news: set when one of the last two changed; then another takes its place.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        resource: Resource,
        namespace: str | None,
        on_change: OnChange,
        random: Callable[[], float],
        *,
        before: KindWatch | None = None,
    ) -> None:
        self.resource = resource
        self.namespace = namespace
        self.objects: dict[_ObjectKey, _Known] = {} if before is None else before.objects
        self.synced: bool = before is not None and before.synced
        self.failure: Failure | None = None
        self.news = trio.Event()
        self._kubernetes = kubernetes
        self._on_change = on_change
        self._random = random
        self._scope = trio.CancelScope()
        self._ended = False
        self._told: str | None = None
        self._lasting = 0
        self._label_selector, self._field_selector = _selectors(resource)

    @property
    def is_of_unknown_kind(self) -> bool:
        return self.failure is not None and self.failure.reason == "KindUnknown"

    async def run(self, counts: WatchCounts) -> None:
        """Watch until `end`."""
        name = self.resource.plural + (f".{self.resource.group}" if self.resource.group else "")
        with self._scope:
            await reflect(self, self, name=name, retry_seconds=self._retry_seconds, counts=counts)

    def end(self) -> None:
        """End the task; from now on nothing is reported, whatever is on its way."""
        self._ended = True
        self._scope.cancel()
        self._tell_news()

    # --- what is read

    async def list(self, *, limit: int, continue_token: str | None) -> Page:
        return await self._kubernetes.list_metadata(
            self.resource,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            limit=limit,
            continue_token=continue_token,
            namespace=self.namespace,
        )

    def watch(self, *, resource_version: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._kubernetes.watch_metadata(
            self.resource,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            resource_version=resource_version,
            namespace=self.namespace,
        )

    # --- what is reported

    def put(self, obj: JsonObject) -> _ObjectKey | None:
        metadata = self._read(obj)
        if metadata is None:
            return None
        key, now = self._object_key(metadata), _known(metadata)
        before = self.objects.get(key)
        new = before is None or (before.uid, before.version) != (now.uid, now.version)
        if new and not self._ended:
            self.objects[key] = now
            _log.debug("object_changed", object="/".join(key), **self._kind_for_log())
            self._on_change(self.resource, metadata, deleted=False)
        return key

    def remove(self, obj: JsonObject) -> None:
        metadata = self._read(obj)
        if metadata is not None and not self._ended:
            self.objects.pop(self._object_key(metadata), None)
            self._on_change(self.resource, metadata, deleted=True)

    def keep_only(self, keys: AbstractSet[_ObjectKey]) -> None:
        for key in self.objects.keys() - keys:
            if not self._ended:  # also by what is notified
                self._on_change(self.resource, _metadata(key, self.objects.pop(key)), deleted=True)

    def watching(self) -> None:
        if self._told is not None:
            _log.info("object_watch_resumed", **self._kind_for_log())
        self._told = None
        self._lasting = 0
        self.failure = None
        self.synced = True
        self._tell_news()

    def interrupted(self, failure: Failure, failures_in_a_row: int) -> None:
        lasting = failure.kind is not Kind.TRANSIENT
        self._lasting = self._lasting + 1 if lasting else 0
        if lasting or failures_in_a_row > 1:
            self.failure = failure
            self._tell_news()
        if failure.reason != self._told:
            self._told = failure.reason
            _log.warning(
                "object_watch_interrupted", reason=failure.reason, message=failure.text, **self._kind_for_log()
            )

    # ---

    def _retry_seconds(self, failures_in_a_row: int) -> float:
        usual = watch_retry_seconds(self._lasting or failures_in_a_row, random=self._random())
        return usual * SLOWNESS if self._lasting else usual

    def _read(self, obj: JsonObject) -> JsonObject | None:
        """The metadata, if they are as `OnChange` says."""
        metadata = obj.get("metadata")
        if isinstance(metadata, Mapping):
            needed = ("name", "uid", "resourceVersion", *(("namespace",) if self.resource.namespaced else ()))
            texts = [metadata.get(field) for field in needed]
            if all(isinstance(text, str) and text for text in texts):
                labels = metadata.get("labels")
                if isinstance(labels, Mapping):
                    return metadata
                if labels is None:
                    return {field: value for field, value in metadata.items() if field != "labels"}
        _log.warning("object_metadata_unreadable", **self._kind_for_log())
        return None

    def _object_key(self, metadata: JsonObject) -> _ObjectKey:
        # A namespace has many objects: one text for all of them.
        return sys.intern(metadata["namespace"]) if self.resource.namespaced else "", metadata["name"]

    def _tell_news(self) -> None:
        self.news.set()
        self.news = trio.Event()

    def _kind_for_log(self) -> dict[str, str]:
        where = {} if self.namespace is None else {"namespace": self.namespace}
        return {"api_version": self.resource.api_version, "kind": self.resource.kind, **where}


def kind_key(resource: Resource) -> KindKey:
    """What its watches are kept by."""
    return resource.group, resource.kind


def _selectors(resource: Resource) -> tuple[str, str]:
    """Which objects of the kind are watched: label selector, field selector."""
    return ("", SECRETS_FIELD_SELECTOR) if kind_key(resource) == kind_key(SECRETS) else (NAME_LABEL, "")


def _known(metadata: JsonObject) -> _Known:
    labels = metadata.get("labels") or {}
    name, namespace = (_interned(labels.get(label)) for label in (NAME_LABEL, NAMESPACE_LABEL))
    return _Known(metadata["uid"], metadata["resourceVersion"], name, namespace)


def _interned(value: Any) -> str | None:
    """A label's value; a Decryptor has many objects, which share the text."""
    return sys.intern(value) if isinstance(value, str) else None


def _metadata(key: _ObjectKey, known: _Known) -> JsonObject:
    """What is known of an object, as it has it in its metadata."""
    namespace, name = key
    owner = {NAME_LABEL: known.owner_name, NAMESPACE_LABEL: known.owner_namespace}
    return {
        "name": name,
        **({"namespace": namespace} if namespace else {}),
        "uid": known.uid,
        "resourceVersion": known.version,
        "labels": {label: value for label, value in owner.items() if value is not None},
    }
