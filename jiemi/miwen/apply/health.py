"""Wait until the objects of a Decryptor are ready themselves (spec.wait), by kstatus's rules."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable

import attrs
import trio

from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.errors import Failure
from jiemi.core.objects.inventory import ref_of
from jiemi.core.objects.readiness import readiness
from jiemi.core.objects.readiness_facts import State
from jiemi.core.text import first_of
from jiemi.miwen.kubernetes.port import Objects

_POLL_SECONDS = 2.0

_MAX_SHOWN = 5


@attrs.frozen
class Waiter:
    """Looks at objects.

    Attributes:
        objects: access to the cluster's objects, as Miwen or as an account.
        now: the wall clock.
        is_superseded: asked between two looks: whether there is something newer to do.
    """

    objects: Objects
    now: Callable[[], datetime.datetime]
    is_superseded: Callable[[], bool]

    async def until_ready(self, entries: Iterable[InventoryEntry], *, seconds: float) -> Failure | None:
        """Look until all are ready.

        Args:
            seconds: the longest that this may take; 0 looks once.

        Returns:
            Why they are not: ObjectsNotReady, or ObjectsFailed as soon as one says that it can't become ready.

        Raises:
            JiemiError: one can't be read.
        """
        deadline = trio.current_time() + seconds
        waiting = list(entries)
        while True:
            waiting, said = await self._look(waiting)
            failed = [text for state, text in said if state is State.FAILED]
            if failed:
                return Failure("ObjectsFailed", _listed(failed))
            if not waiting:
                return None
            if trio.current_time() + _POLL_SECONDS > deadline or self.is_superseded():
                return Failure("ObjectsNotReady", _listed([text for _, text in said]))
            await trio.sleep(_POLL_SECONDS)

    async def _look(self, entries: Iterable[InventoryEntry]) -> tuple[list[InventoryEntry], list[tuple[State, str]]]:
        """Those that are not ready, and what they say."""
        waiting: list[InventoryEntry] = []
        said: list[tuple[State, str]] = []
        for entry in entries:
            ref = ref_of(entry)
            obj = await self.objects.get(ref)
            if obj is None:
                found, message = State.PROGRESSING, "is not there"
            else:
                result = readiness(obj, now=self.now())
                found, message = result.state, result.message
            if found is not State.READY:
                waiting.append(entry)
                said.append((found, f"{ref.label}: {message}"))
        return waiting, said


def _listed(texts: list[str]) -> str:
    return first_of(texts, _MAX_SHOWN, "; ")
