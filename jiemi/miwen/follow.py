"""Follow the Decryptors of the cluster: list them in pages, watch from there on, resume where the watch ended.

Three concerns, one function each: `follow` decides between listing and watching, `_list` reads pages, `_watch` reads
one watch. A watch that ends is opened again at the last version seen; 410 Gone means list again; so does a watch that
makes no sense. Nothing is removed but by a DELETED event or a list that was read whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import structlog
import trio

from jiemi.core.decryptor import Decryptor, read_decryptor
from jiemi.core.errors import JiemiError
from jiemi.core.fields import FieldError
from jiemi.core.schedule import watch_retry_seconds
from jiemi.core.watch import (
    Bookmark,
    Change,
    ChangeType,
    Expired,
    LineSplitter,
    MalformedWatch,
    WatchFailed,
    parse_event,
)
from jiemi.miwen.decryptors import Decryptors
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes

PAGE_LIMIT = 500
"""Objects a page; the page size of kubectl."""

_log = structlog.get_logger("jiemi.miwen")


async def follow(
    kubernetes: Kubernetes,
    decryptors: Decryptors,
    *,
    random: Callable[[], float],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep the tasks in step with the objects, until cancelled. Started once the first list was read whole."""
    version: str | None = None
    listed = -math.inf
    failures = 0
    while True:
        seen = _Seen()
        try:
            if version is None:
                version = await _list(kubernetes, decryptors)
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                listed = trio.current_time()
            began = trio.current_time()
            version = await _watch(kubernetes, decryptors, version, seen)
            # Go on at once, or list at once where the version was too old; but one that ends as soon as it begins,
            # again and again, must not make this a busy loop.
            if trio.current_time() - (began if version is not None else listed) >= 1:
                failures = 0
                continue
            failures += 1
        except JiemiError as error:
            # What was seen is not asked for again: old states would be taken for new ones.
            version = None if error.failure.reason == "WatchExpired" else seen.version or version
            failures += 1
            _log.warning("watch-interrupted", reason=error.failure.reason, message=error.failure.message)
        await trio.sleep(watch_retry_seconds(failures, random=random()))


class _Seen:
    """The newest version of a watch, also where the watch ends with an error."""

    version: str | None = None


async def _list(kubernetes: Kubernetes, decryptors: Decryptors) -> str:
    """Read all pages; returns the version to watch from."""
    seen = []
    token: str | None = None
    while True:
        page = await kubernetes.list_decryptors(limit=PAGE_LIMIT, continue_token=token)
        for obj in page.items:
            decryptor = _read(obj)
            if decryptor is not None:
                seen.append(decryptor.meta.key)
                decryptors.put(decryptor)
        token = page.continue_token
        if token is None:
            decryptors.keep_only(seen)
            _log.info("listed", decryptors=len(seen), resource_version=page.resource_version)
            return page.resource_version


async def _watch(kubernetes: Kubernetes, decryptors: Decryptors, version: str, seen: _Seen) -> str | None:
    """Read one watch to its end; returns the version to go on from, or None to list again."""
    lines = LineSplitter()
    async with kubernetes.watch_decryptors(resource_version=version) as chunks:
        async for chunk in chunks:
            try:
                events = [parse_event(line) for line in lines.feed(chunk)]
            except MalformedWatch as error:
                _log.warning("watch-malformed", message=str(error))
                return None
            for event in events:
                if isinstance(event, Expired):
                    return None
                if isinstance(event, WatchFailed):
                    # It may be the version that the server can't serve.
                    _log.warning("watch-failed", code=event.code)
                    return None
                if isinstance(event, Change):
                    _take(decryptors, event)
                if isinstance(event, Change | Bookmark):
                    version = seen.version = event.resource_version
    return version


def _take(decryptors: Decryptors, change: Change) -> None:
    decryptor = _read(change.object)
    if decryptor is None:
        return
    if change.type is ChangeType.DELETED:
        decryptors.remove(decryptor.meta.key)
    else:
        decryptors.put(decryptor)


def _read(obj: JsonObject) -> Decryptor | None:
    try:
        return read_decryptor(obj)
    except FieldError as error:
        _log.warning("object-unreadable", message=str(error))
        return None
