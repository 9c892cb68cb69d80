"""Lists and watches of the real form of the port: pages, and bytes as they arrive.

A list with a page token, or a watch, that the API server can't go on with is expired: whoever asked lists from the
start again. What else a refusal means differs by what is listed, so each collection tells it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import attrs

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.errors import Refusal
from jiemi.miwen.kubernetes.http import JSON, Answer, KubernetesHttp, Request
from jiemi.miwen.kubernetes.port import Page

# No fallback to whole objects: they may be Secrets. An API that can't give metadata alone answers 406.
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA_WATCH = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@attrs.frozen
class Collection:
    """Objects of one kind that are listed and watched.

    Attributes:
        resource: the kind.
        namespace: None for all, or for a kind that has none.
        called: for messages: "the Decryptors".
        failure: what a refusal means, given what was done, and by which verb ("list", "watch").
        label_selector, field_selector: which of them; "" for all.
        metadata_only: whether their metadata is enough.
    """

    resource: Resource
    namespace: str | None
    called: str
    failure: Callable[[Refusal, str, str], JiemiError]
    label_selector: str = ""
    field_selector: str = ""
    metadata_only: bool = False

    @property
    def path(self) -> str:
        return self.resource.collection_path(self.namespace)

    @property
    def query(self) -> dict[str, str]:
        """The part of the query that says which of them."""
        selectors = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {name: selector for name, selector in selectors.items() if selector}


class Lists:
    """Lists and watches.

    Args:
        http: the way to the API server.
        watch_timeout_seconds: after this the API server is asked to end a watch.
    """

    def __init__(self, http: KubernetesHttp, *, watch_timeout_seconds: float) -> None:
        self._http = http
        self._watch_timeout_seconds = watch_timeout_seconds

    async def page(self, of: Collection, *, limit: int, continue_token: str | None) -> Page:
        """One page.

        Raises:
            JiemiError: WatchExpired, the token is of no use; ClusterUnavailable; what the collection makes of a
                refusal.
        """
        doing = f"listing {of.called}"
        query = of.query | {"limit": str(limit)} | ({"continue": continue_token} if continue_token else {})
        accept = _METADATA_LIST if of.metadata_only else JSON
        answer = await self._http.send(Request("list", of.resource.plural, doing, "GET", of.path, query, accept=accept))
        if not answer.good:
            raise _failure(of, answer.refusal, doing, "list", goes_on=continue_token is not None)
        listed = self._http.object_in(answer, doing)
        metadata, items = listed.get("metadata"), listed.get("items") or []
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if not isinstance(metadata, dict) or not isinstance(version, str) or not isinstance(items, list):
            raise self._http.no_kubernetes(doing)
        objects: list[dict[str, Any]] = [item for item in items if isinstance(item, dict)]
        return Page(tuple(objects), version, metadata.get("continue") or None)

    @asynccontextmanager
    async def watch(self, of: Collection, *, resource_version: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of one watch.

        Raises:
            JiemiError: WatchExpired, the version is of no use; ClusterUnavailable, also while chunks are read; what the
                collection makes of a refusal.
        """
        query = of.query | {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, int(self._watch_timeout_seconds))),
        }
        doing = f"watching {of.called}"
        accept = _METADATA_WATCH if of.metadata_only else JSON
        request = Request("watch", of.resource.plural, doing, "GET", of.path, query, accept=accept)
        async with self._http.stream(request) as opened:
            if isinstance(opened, Answer):
                raise _failure(of, opened.refusal, doing, "watch", goes_on=True)
            yield opened


def _failure(of: Collection, refusal: Refusal, doing: str, verb: str, *, goes_on: bool) -> JiemiError:
    """Why a list or watch is refused.

    Args:
        goes_on: whether it begins where another ended.
    """
    newer = any(cause.reason == "ResourceVersionTooLarge" for cause in refusal.causes)
    # A token or version that the server can't read, or that is ahead of it (its data was put back to a backup), is as
    # useless as one that is too old.
    useless = goes_on and (newer or refusal.code == HTTPStatus.BAD_REQUEST)
    if refusal.code == HTTPStatus.GONE or useless:
        return JiemiError("WatchExpired", f"{doing}: the API server no longer has the changes since then")
    return of.failure(refusal, doing, verb)
