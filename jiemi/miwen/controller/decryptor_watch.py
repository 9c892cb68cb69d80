"""Follows the Decryptors: a reflector (`jiemi.miwen.watch.reflector`) reads them and passes each on to its task.

Where Miwen looks at some namespaces only, each has a reflector of its own, because a right to all of them at once is
none that it has. What goes wrong in one of them does not concern the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from functools import partial

import structlog
import trio

from jiemi.core.api.decryptor import Decryptor, read_decryptor
from jiemi.core.api.fields import FieldError
from jiemi.core.decisions.schedule import watch_retry_seconds
from jiemi.core.errors import Failure
from jiemi.core.names import NamespacedName
from jiemi.metrics.health import Heart
from jiemi.miwen.controller.supervisor import Decryptors
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes, Page
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.watch.reflector import reflect

HUNG_SECONDS = 900.0
"""From when on the watch of the Decryptors counts as hung. A watch that stays silent is given up after six minutes at
most, and a request after half a minute; then it is tried again, which is progress too."""

_log = structlog.get_logger("jiemi.miwen.controller")


async def follow(
    kubernetes: Kubernetes,
    decryptors: Decryptors,
    *,
    random: Callable[[], float],
    metrics: MiwenMetrics,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep the tasks in step with the objects, until cancelled. Started once the first list of each namespace was read;
    not waiting for those that may not be read, as long as there is another."""
    first = _FirstLists(kubernetes.scopes, decryptors)
    hearts = {scope: Heart() for scope in kubernetes.scopes}
    metrics.health.watch(
        "decryptors", lambda: max(heart.age_seconds() for heart in hearts.values()), limit_seconds=HUNG_SECONDS
    )

    async def follow_one(namespace: str | None, nursery: trio.Nursery) -> None:
        await nursery.start(
            partial(
                reflect,
                DecryptorListWatch(kubernetes, namespace),
                _DecryptorSink(namespace, decryptors, first, hearts[namespace].beat),
                name="decryptors",
                retry_seconds=lambda failures: watch_retry_seconds(failures, random=random()),
                counts=metrics.watches,
            )
        )
        first.listed(namespace)

    try:
        async with trio.open_nursery() as nursery:
            for scope in kubernetes.scopes:
                nursery.start_soon(follow_one, scope, nursery)
            # Without a deadline: until then nothing is done, and the log says why.
            await first.done.wait()
            task_status.started()
    finally:
        metrics.health.forget("decryptors")


class _FirstLists:
    """Which namespaces were read for the first time.

    Attributes:
        done: set once all were read, or may not be read though another was.
    """

    def __init__(self, scopes: Iterable[str | None], decryptors: Decryptors) -> None:
        self.done = trio.Event()
        self._unread = set(scopes)
        self._forbidden: set[str | None] = set()
        self._any_read = False
        self._decryptors = decryptors

    def listed(self, namespace: str | None) -> None:
        """Its first list was read."""
        self._unread.discard(namespace)
        self._forbidden.discard(namespace)
        self._any_read = True
        self._look()

    def forbidden(self, namespace: str | None) -> None:
        """It may not be read."""
        if namespace in self._unread:
            self._forbidden.add(namespace)
            self._look()

    def _look(self) -> None:
        if self._any_read and self._unread <= self._forbidden:
            self._decryptors.all_are_read(except_in={each for each in self._forbidden if each is not None})
            self.done.set()


class DecryptorListWatch:
    """The Decryptors of a namespace, as a reflector reads them.

    Args:
        namespace: one of the port's `scopes`; None: all, or the one that there is.
    """

    def __init__(self, kubernetes: Kubernetes, namespace: str | None = None) -> None:
        self._kubernetes = kubernetes
        self._namespace = namespace

    async def list(self, *, limit: int, continue_token: str | None) -> Page:
        """As the port's `list_decryptors`."""
        return await self._kubernetes.list_decryptors(
            limit=limit, continue_token=continue_token, namespace=self._namespace
        )

    def watch(self, *, resource_version: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """As the port's `watch_decryptors`."""
        return self._kubernetes.watch_decryptors(resource_version=resource_version, namespace=self._namespace)


class _DecryptorSink:
    """Each call is a sign that the watch gets on: it reads, or it fails and is tried again."""

    def __init__(
        self, namespace: str | None, decryptors: Decryptors, first: _FirstLists, beat: Callable[[], None]
    ) -> None:
        self._namespace = namespace
        self._decryptors = decryptors
        self._first = first
        self._beat = beat

    def put(self, obj: JsonObject) -> NamespacedName | None:
        self._beat()
        decryptor = _read(obj)
        if decryptor is None:
            return None
        self._decryptors.put(decryptor)
        return decryptor.meta.key

    def remove(self, obj: JsonObject) -> None:
        self._beat()
        decryptor = _read(obj)
        if decryptor is not None:
            self._decryptors.remove(decryptor.meta.key)

    def keep_only(self, keys: AbstractSet[NamespacedName]) -> None:
        self._beat()
        self._decryptors.keep_only(keys, namespace=self._namespace)

    def watching(self) -> None:
        self._beat()

    def interrupted(self, failure: Failure, failures_in_a_row: int) -> None:
        self._beat()
        if failure.reason == "ListForbidden":
            self._first.forbidden(self._namespace)
        where = {} if self._namespace is None else {"namespace": self._namespace}
        _log.warning("watch_interrupted", reason=failure.reason, message=failure.text, **where)


def _read(obj: JsonObject) -> Decryptor | None:
    try:
        return read_decryptor(obj)
    except FieldError as error:
        _log.warning("object_unreadable", message=str(error))
        return None
