"""Lists and watches of the real form of the port: pages, and bytes as they arrive.

A list with a page token, or a watch, that the API server can't go on with is expired: whoever asked lists from the
start again. What else a refusal means differs by what is listed, so each collection says it.

A page must fit into memory though any tenant may write objects of 1 MiB. So only so many bytes of one are read; a page
that is longer is asked for again with half as many objects, and those after it grow slowly. The next try of one that
did not come in time asks for half as many, too: it is the size that takes an API server its time. An object that is too
long by itself is left out of its page, which says so: the list's own metadata, which come first, say where the others
begin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

import attrs
import structlog

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.http import JSON, Answer, AnswerTooLarge, AnswerTooLate, KubernetesHttp, Request
from jiemi.miwen.kubernetes.pages import page_without_items, read_page
from jiemi.miwen.kubernetes.port import Page
from jiemi.miwen.kubernetes.refusal import Refusal

MAX_PAGE_BYTES = 4 * 1024 * 1024
"""The longest page that is read; it takes some 50 MiB at most while it is. No object of an API server's own is longer
by itself: it is at most 1.5 MiB in etcd, and of metadata only annotations, 256 KiB together, grow in JSON, sixfold."""

PAGES_UNTIL_MORE = 4
"""After so many pages that fitted in a row, twice as many objects are asked for again."""

# No fallback to whole objects: they may be Secrets. An API that can't give metadata alone answers 406.
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA_WATCH = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


_log = structlog.get_logger("jiemi.miwen.kubernetes")


@attrs.frozen
class Collection:
    """Objects of one kind that are listed and watched.

    Attributes:
        resource: the kind.
        namespace: None for all, or for a kind that has none.
        called: for messages: "the Decryptors".
        failure: what a refusal means, given what was done, and by which verb ("list", "watch").
        label_selector, field_selector: a selection of them; "" for all.
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


class _Fitting:
    """How many objects of a collection fit into a page, where fewer do than are wanted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._fitted = 0

    def is_outgrown(self, limit: int) -> bool:
        """A page fitted. Returns whether as many may be asked for as are wanted."""
        self._fitted += 1
        if self._fitted == PAGES_UNTIL_MORE:
            self._fitted = 0
            self.limit *= 2
        return self.limit >= limit


class Lists:
    """Lists and watches.

    Args:
        http: the way to the API server.
        watch_timeout_seconds: after this the API server is asked to end a watch.
    """

    def __init__(self, http: KubernetesHttp, *, watch_timeout_seconds: float) -> None:
        self._http = http
        self._watch_timeout_seconds = watch_timeout_seconds
        self._fitting: dict[tuple[str, str, str], _Fitting] = {}

    async def page(self, of: Collection, *, limit: int, continue_token: str | None) -> Page:
        """One page.

        Raises:
            JiemiError: WatchExpired, the token is of no use; ClusterUnavailable; what the collection makes of a
                refusal.
        """
        which = (of.path, of.label_selector, of.field_selector)
        fitting = self._fitting.get(which)
        asked = limit if fitting is None else min(limit, fitting.limit)
        while True:
            try:
                page = await self._page(of, asked, continue_token)
            except AnswerTooLarge as error:
                if asked > 1:
                    asked //= 2
                    fitting = self._fitting[which] = _Fitting(asked)
                    continue
                page = await self._page_without_items(of, error, continue_token)
                _log.warning("object_too_large", of=of.resource.plural, max_bytes=MAX_PAGE_BYTES)
                return page
            except AnswerTooLate:
                # Not again at once: whoever asked learns that the API server does not answer.
                self._fitting[which] = _Fitting(max(1, asked // 2))
                raise
            if fitting is not None and fitting.is_outgrown(limit):
                self._fitting.pop(which, None)
            return page

    async def _page_without_items(self, of: Collection, error: AnswerTooLarge, continue_token: str | None) -> Page:
        """The page of one object that is too large, without it."""
        if not of.metadata_only:
            # A list of custom resources has its items first (its keys are sorted); one of metadata has not.
            try:
                page = await self._page(attrs.evolve(of, metadata_only=True), 1, continue_token)
                return attrs.evolve(page, items=(), left_out=1)
            except AnswerTooLarge as again:
                error = again
        without = page_without_items(error.beginning)
        if without is None:
            raise error
        return without

    async def _page(self, of: Collection, limit: int, continue_token: str | None) -> Page:
        doing = f"listing {of.called}"
        query = of.query | {"limit": str(limit)} | ({"continue": continue_token} if continue_token else {})
        accept = _METADATA_LIST if of.metadata_only else JSON
        answer = await self._http.send(
            Request("list", of.resource.plural, doing, "GET", of.path, query, accept=accept, max_bytes=MAX_PAGE_BYTES)
        )
        if not answer.good:
            raise _failure(of, answer.refusal, doing, "list", goes_on=continue_token is not None)
        page = read_page(answer.body)
        if page is None:
            raise self._http.no_kubernetes(doing)
        return page

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
