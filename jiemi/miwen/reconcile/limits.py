"""Decryptors for which their namespace has no memory left: their status says so, and they wait for room.

Only the name of such a Decryptor is kept, and how much it needs, because it is turned away for what it would take. So
one task reads one of them at a time: to write its status, which otherwise stays as it is, or to let it in, once others
have given room back. Namespaces take turns.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

import attrs
import structlog
import trio

from jiemi.core.api.decryptor import Decryptor, read_decryptor
from jiemi.core.api.fields import FieldError
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.api.status_bounds import status_json
from jiemi.core.decisions.status import after_failure, blank
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.memory import MEBIBYTE, MemoryBudget
from jiemi.core.names import NamespacedName
from jiemi.miwen.kubernetes.on_behalf import on_behalf_of
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.report.event_object import EventContent
from jiemi.miwen.report.events import EventRecorder
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.report.summary import summarized

_RETRY_SECONDS = 5.0
"""How soon Miwen tries again with a Decryptor that could not be read or written."""

_LOOK_SECONDS = 60.0
"""How often Miwen checks whether there is room, though nobody reported any."""

_log = structlog.get_logger("jiemi.miwen.reconcile")


@attrs.define
class _Away:
    account: str
    size_bytes: int


class TurnedAway:
    """The Decryptors that wait for room.

    Args:
        kubernetes: where they are read, and their status is written.
        budget: the memory that they wait for.
        events: what users see.
        metrics: what operators see.
        now: the wall clock.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        budget: MemoryBudget,
        events: EventRecorder,
        metrics: MiwenMetrics,
        *,
        now: Callable[[], datetime.datetime],
    ) -> None:
        self._kubernetes = kubernetes
        self._budget = budget
        self._events = events
        self._metrics = metrics
        self._now = now
        self._by_namespace: dict[str, dict[NamespacedName, _Away]] = {}
        self._unreported: dict[str, dict[NamespacedName, None]] = {}
        self._with_room: set[str] = set()
        self._woken = trio.Event()

    def put(self, decryptor: Decryptor, account: str, size_bytes: int) -> None:
        """Turn a Decryptor away, or take its newer state."""
        key = decryptor.meta.key
        failure = no_room(self._budget, key[0])
        ready = decryptor.ready
        is_reported = (
            ready is not None
            and (ready.reason, ready.message) == (failure.reason, failure.text)
            and decryptor.observed_generation == decryptor.meta.generation
        )
        self._by_namespace.setdefault(key[0], {})[key] = _Away(account, size_bytes)
        self._set_reported(key, is_reported)
        if not is_reported:
            self._woken.set()

    def remove(self, key: NamespacedName) -> None:
        """A Decryptor is gone, or was let in."""
        waiting = self._by_namespace.get(key[0], {})
        waiting.pop(key, None)
        self._set_reported(key, True)
        if not waiting:
            self._by_namespace.pop(key[0], None)
            self._with_room.discard(key[0])

    def keys(self) -> frozenset[NamespacedName]:
        """All of them."""
        return frozenset(key for waiting in self._by_namespace.values() for key in waiting)

    def has_room(self) -> None:
        """Others have given room back."""
        if self._by_namespace:
            self._woken.set()

    async def run(self, let_in: Callable[[Decryptor], None]) -> None:
        """Look after them until the task is cancelled.

        Args:
            let_in: takes a Decryptor for which there may be room; it turns it away again where there is none.
        """
        while True:
            with trio.move_on_after(_LOOK_SECONDS):
                await self._woken.wait()
            self._woken = trio.Event()
            # Others may also have become smaller, or closed a repository.
            self._with_room = set(self._by_namespace)
            failed: list[NamespacedName] = []
            while (key := self._next()) is not None:
                try:
                    with on_behalf_of(key[0]):
                        await self._look(key, let_in)
                except JiemiError as error:
                    _log.warning("turned_away_not_reported", namespace=key[0], name=key[1], failure=str(error))
                    failed.append(key)
                    self._set_reported(key, True)
                    self._with_room.discard(key[0])  # not before the pause is over
                except Exception:  # noqa: BLE001 - the boundary of that Decryptor, as in a tick
                    _log.exception("turned_away_crashed", namespace=key[0], name=key[1])
                    self._set_reported(key, True)
                    self._with_room.discard(key[0])
            if failed:
                await trio.sleep(_RETRY_SECONDS)
                for key in failed:
                    self._set_reported(key, False)
                self._woken.set()

    def _next(self) -> NamespacedName | None:
        """A Decryptor for which there is something to do; its namespace goes to the end of the queue."""
        for namespace, waiting in self._by_namespace.items():
            key = next(iter(self._unreported.get(namespace, ())), None)
            if key is None and namespace in self._with_room:
                key = next(
                    (key for key, away in waiting.items() if self._budget.has_room(away.account, away.size_bytes)), None
                )
                if key is None:
                    self._with_room.discard(namespace)
            if key is not None:
                self._by_namespace[namespace] = self._by_namespace.pop(namespace)
                return key
        return None

    async def _look(self, key: NamespacedName, let_in: Callable[[Decryptor], None]) -> None:
        away = self._by_namespace[key[0]][key]
        obj = await self._kubernetes.get_decryptor(*key)
        try:
            decryptor = read_decryptor(obj) if obj is not None else None
        except FieldError:
            decryptor = None
        obj = None  # it may take much
        if self._by_namespace.get(key[0], {}).get(key) is not away:
            return  # a watch was quicker
        if decryptor is None:
            self.remove(key)
        elif self._budget.has_room(away.account, away.size_bytes):
            self.remove(key)
            let_in(decryptor)
        else:
            self._set_reported(key, True)
            await self._report(decryptor)

    async def _report(self, decryptor: Decryptor) -> None:
        meta = decryptor.meta
        failure = no_room(self._budget, meta.namespace)
        described = decryptor.spec.source.described if isinstance(decryptor.spec, DecryptorSpec) else ""
        before = decryptor.status or blank(described)
        refused = after_failure(
            before, generation=meta.generation, failure=failure, attempted_revision=None, now=self._now()
        )
        status = summarized(refused, decryptor)
        self._metrics.tick(failure)
        if status == before:
            return
        _log.error("turned_away", namespace=meta.namespace, name=meta.name, reason=failure.reason, message=failure.text)
        self._events.record(meta, EventContent("Warning", failure.reason, "Reconcile", failure.text))
        await self._kubernetes.patch_status(meta.namespace, meta.name, status_json(status), uid=meta.uid)

    def _set_reported(self, key: NamespacedName, is_reported: bool) -> None:
        if not is_reported and key in self._by_namespace.get(key[0], {}):
            self._unreported.setdefault(key[0], {})[key] = None
        elif key[0] in self._unreported:
            self._unreported[key[0]].pop(key, None)
            if not self._unreported[key[0]]:
                del self._unreported[key[0]]


def no_room(budget: MemoryBudget, namespace: str) -> Failure:
    """Why a Decryptor of a namespace gets no memory. It names no number that changes from one time to the next."""
    return Failure(
        "NamespaceLimitExceeded",
        f"the Decryptors of namespace {namespace}, with their statuses, credentials and lists of files, take the "
        f"memory that Miwen grants one namespace: {budget.share_bytes // MEBIBYTE} MiB, or less where many namespaces "
        f"share {budget.total_bytes // MEBIBYTE} MiB",
    )
