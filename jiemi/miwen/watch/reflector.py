"""List a collection in pages, watch it from there on, resume where the watch ended; and report to a sink what there is.

client-go calls this a Reflector, what it reads a ListerWatcher, and what it reports to a Store:
https://pkg.go.dev/k8s.io/client-go/tools/cache#Reflector

Three concerns, one function each: `reflect` decides between listing and watching, `_list` reads pages, `_watch` reads
one watch. A watch that ends is opened again at the last version seen; 410 Gone means list again; so does a watch that
makes no sense, and a kind that was not served for a while. Nothing is removed except by a DELETED event or a list that
was read whole: each of its pages, and each object on them.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Hashable
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from typing import Generic, Protocol, TypeVar

import attrs
import structlog
import trio

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.watch_events import (
    Bookmark,
    Change,
    ChangeType,
    Expired,
    LineSplitter,
    MalformedWatch,
    WatchFailed,
    parse_event,
)
from jiemi.miwen.kubernetes.port import JsonObject, Page
from jiemi.miwen.kubernetes.watch_counts import WatchCounts

PAGE_LIMIT = 100
"""Objects a page. Each usually takes some kilobytes; where they take more, the port gives fewer."""

STEADY_SECONDS = 30.0
"""A watch that was open for so long, the longest of the usual waits, ended the row of failures before it."""

_LIST_AGAIN = frozenset({"WatchExpired", "KindUnknown"})
"""After these the version that was seen is of no use. A kind that is served again may have begun again."""

_log = structlog.get_logger("jiemi.miwen.watch")

K = TypeVar("K", bound=Hashable)


class ListWatch(Protocol):
    """What is read: one collection. Both methods are as those of the port, and raise what those raise."""

    async def list(self, *, limit: int, continue_token: str | None) -> Page:
        """One page of it."""
        ...

    def watch(self, *, resource_version: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of one watch of it from that version on."""
        ...


class Sink(Protocol[K]):
    """What is notified. `K` is the key of an object. No method may block or raise, whatever the object."""

    def put(self, obj: JsonObject) -> K | None:
        """An object is there, new, changed, or as it was. Returns its key; None: it can't be read."""
        ...

    def remove(self, obj: JsonObject) -> None:
        """An object is gone; it is given as it was last."""
        ...

    def keep_only(self, keys: AbstractSet[K]) -> None:
        """A whole list was read, and all that is on it was put: what else there was is gone."""
        ...

    def watching(self) -> None:
        """A watch is open: from here on changes are reported as they happen."""
        ...

    def interrupted(self, failure: Failure, failures_in_a_row: int) -> None:
        """The list or watch failed, and is tried again after a while."""
        ...


async def reflect(
    collection: ListWatch,
    sink: Sink[K],
    *,
    name: str,
    retry_seconds: Callable[[int], float],
    counts: WatchCounts | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Report to the sink what the collection holds, until cancelled. Started once the first list was read.

    Args:
        collection: the collection that is read.
        sink: the sink that is notified.
        name: the collection's name, for the log and the counts: "decryptors".
        retry_seconds: how long to wait, given how many tries in a row came to nothing; asked after `interrupted`.
        counts: how it fares.
    """
    counts = counts if counts is not None else WatchCounts()
    with counts.following(name):
        await _reflect(_Followed(collection, sink, name, counts), retry_seconds, task_status)


@attrs.frozen
class _Followed(Generic[K]):
    """A collection, with what its reading is reported to."""

    collection: ListWatch
    sink: Sink[K]
    name: str
    counts: WatchCounts


async def _reflect(
    followed: _Followed[K], retry_seconds: Callable[[int], float], task_status: trio.TaskStatus[None]
) -> None:
    at = _Position()
    listed = -math.inf
    failures = 0
    while True:
        try:
            if at.version is None:
                at.version = await _list(followed.collection, followed.sink, followed.name)
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                listed = trio.current_time()
            began = trio.current_time()
            await _watch(followed, at, at.version)
            # Go on at once, or list at once where the version was too old; but one that ends as soon as it begins,
            # again and again, must not make this a busy loop.
            if trio.current_time() - (began if at.version is not None else listed) >= 1:
                failures = 0
                continue
            failures += 1
        except JiemiError as error:
            if error.failure.reason in _LIST_AGAIN:
                at.version = None
            steady = trio.current_time() - at.opened >= STEADY_SECONDS
            failures = 1 if steady else failures + 1
            followed.counts.failure(followed.name, error.failure.reason)
            followed.sink.interrupted(error.failure, failures)
        at.opened = math.inf
        await trio.sleep(retry_seconds(failures))


class _Position:
    """How far the collection was read, also where a watch ends with an error: what was seen is not asked for again,
    because old states would be taken for new ones.

    Attributes:
        version: the newest that was seen; None: list.
        opened: when the watch that is being read was opened.
    """

    version: str | None = None
    opened: float = math.inf


async def _list(collection: ListWatch, sink: Sink[K], name: str) -> str:
    """Read all pages; returns the version to watch from."""
    keys: set[K] = set()
    unreadable = 0
    token: str | None = None
    page: Page | None
    while True:
        page = None  # two at a time would be in memory
        page = await collection.list(limit=PAGE_LIMIT, continue_token=token)
        unreadable += page.left_out
        for obj in page.items:
            key = sink.put(obj)
            if key is None:
                unreadable += 1
            else:
                keys.add(key)
        token = page.continue_token
        if token is None:
            if not unreadable:
                sink.keep_only(keys)
            _log.info(
                "listed", of=name, objects=len(keys), unreadable=unreadable, resource_version=page.resource_version
            )
            return page.resource_version


async def _watch(followed: _Followed[K], at: _Position, version: str) -> None:
    """Read one watch to its end. Moves the position on; takes its version away where listing again is what is left."""
    async with followed.collection.watch(resource_version=version) as chunks:
        with followed.counts.watching(followed.name):
            at.opened = trio.current_time()
            followed.sink.watching()
            await _read(chunks, followed.sink, followed.name, at)


async def _read(chunks: AsyncIterator[bytes], sink: Sink[K], name: str, at: _Position) -> None:
    """Read an open watch to its end, as `_watch` says."""
    lines = LineSplitter()
    async for chunk in chunks:
        try:
            events = [parse_event(line) for line in lines.feed(chunk)]
        except MalformedWatch as error:
            _log.warning("watch_malformed", of=name, message=str(error))
            at.version = None
            return
        while events:
            event = events.pop(0)
            if isinstance(event, Expired):
                at.version = None
                return
            if isinstance(event, WatchFailed):
                # It may be the version that the server can't serve.
                _log.warning("watch_failed", of=name, code=event.code)
                at.version = None
                return
            if isinstance(event, Change):
                if event.type is ChangeType.DELETED:
                    sink.remove(event.object)
                else:
                    sink.put(event.object)
            if isinstance(event, Change | Bookmark):
                at.version = event.resource_version
            # An object of 1.5 MiB may take 30, and nothing else may come for a long time.
            del event
