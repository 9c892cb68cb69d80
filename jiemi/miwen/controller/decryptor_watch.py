"""Follows the Decryptors: a reflector (`jiemi.miwen.watch.reflector`) reads them and passes each on to its task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager

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
    """Keep the tasks in step with the objects, until cancelled. Started once the first list was read whole."""
    heart = Heart()
    metrics.health.watch("decryptors", heart.age_seconds, limit_seconds=HUNG_SECONDS)
    try:
        await reflect(
            DecryptorListWatch(kubernetes),
            _DecryptorSink(decryptors, heart.beat),
            name="decryptors",
            retry_seconds=lambda failures: watch_retry_seconds(failures, random=random()),
            counts=metrics.watches,
            task_status=task_status,
        )
    finally:
        metrics.health.forget("decryptors")


class DecryptorListWatch:
    """Decryptors as a reflector reads them."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes

    async def list(self, *, limit: int, continue_token: str | None) -> Page:
        """As the port's `list_decryptors`."""
        return await self._kubernetes.list_decryptors(limit=limit, continue_token=continue_token)

    def watch(self, *, resource_version: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """As the port's `watch_decryptors`."""
        return self._kubernetes.watch_decryptors(resource_version=resource_version)


class _DecryptorSink:
    """Each call is a sign that the watch gets on: it reads, or it fails and is tried again."""

    def __init__(self, decryptors: Decryptors, beat: Callable[[], None]) -> None:
        self._decryptors = decryptors
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
        self._decryptors.keep_only(keys)

    def watching(self) -> None:
        self._beat()

    def interrupted(self, failure: Failure, failures_in_a_row: int) -> None:
        self._beat()
        _log.warning("watch_interrupted", reason=failure.reason, message=failure.text)


def _read(obj: JsonObject) -> Decryptor | None:
    try:
        return read_decryptor(obj)
    except FieldError as error:
        _log.warning("object_unreadable", message=str(error))
        return None
