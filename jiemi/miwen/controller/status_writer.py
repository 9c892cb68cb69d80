"""The status of one Decryptor on its way to the API server: it is written where it changed.

A tick writes ahead of what it does, and the loop writes what the tick came to. Where the API server refuses a status
for good, users see an old state, so the refusal itself is written in its place.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

import structlog

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.decryptor_status import DecryptorStatus
from jiemi.core.api.status_bounds import status_json
from jiemi.core.decisions.conditions import condition
from jiemi.core.decisions.status import after_failure, blank
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.drift import is_newer
from jiemi.core.reasons import Kind
from jiemi.core.trace_context import TraceContext
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile.tick import ObjectGone
from jiemi.miwen.report.event_object import EventContent
from jiemi.miwen.report.events import EventRecorder
from jiemi.miwen.report.summary import summarized
from jiemi.tracing.current import span

_log = structlog.get_logger("jiemi.miwen.controller")


class StatusWriter:
    """Writes the status of one Decryptor, from tick to tick.

    Args:
        kubernetes: where it is written.
        events: where a refusal is reported.
        now: the wall clock, for timestamps in the status.
        decryptor: as it is now.
        written: its status as it is stored; None where it has none.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        events: EventRecorder,
        now: Callable[[], datetime.datetime],
        decryptor: Decryptor,
        written: DecryptorStatus | None,
    ) -> None:
        self._kubernetes = kubernetes
        self._events = events
        self._now = now
        self._decryptor = decryptor
        self._written = written
        self._version = decryptor.meta.resource_version
        self._refusal: Failure | None = None
        self._woken_by = ""
        self._seen_by: TraceContext | None = None

    def begin_tick(self, decryptor: Decryptor, woken_by: str = "", seen_by: TraceContext | None = None) -> None:
        """Write for the Decryptor in this state from now on; what woke the tick, and in which trace, is for the log."""
        self._decryptor = decryptor
        self._woken_by, self._seen_by = woken_by, seen_by

    async def write(self, status: DecryptorStatus) -> None:
        """Write the status where it changed, in the middle of a tick.

        Raises:
            JiemiError: why it was refused, or not answered.
            ObjectGone.
        """
        if await self._write(status):
            _log.debug("status_written_ahead", **self._shown(status))

    async def _write(self, status: DecryptorStatus) -> bool:
        """As `write`. Returns whether it changed."""
        status = summarized(status, self._decryptor)
        if status == self._written and not self._is_overwritten:
            return False
        meta = self._decryptor.meta
        with span("status"):
            found = await self._kubernetes.patch_status(meta.namespace, meta.name, status_json(status), uid=meta.uid)
        if found is None:
            raise ObjectGone
        self._written = status
        self._version = str(found["metadata"]["resourceVersion"])
        return True

    def _shown(self, status: DecryptorStatus) -> dict[str, object]:
        """What the log says of a status that was written."""
        meta, ready = self._decryptor.meta, condition(status, "Ready")
        return {
            "namespace": meta.namespace,
            "name": meta.name,
            "woken_by": self._woken_by,
            **({"seen_by": self._seen_by.trace_id} if self._seen_by is not None else {}),
            "ready": ready.status if ready is not None else None,
            "reason": ready.reason if ready is not None else None,
            "resource_version": self._version,
        }

    async def end_tick(self, status: DecryptorStatus | None) -> Failure | None:
        """Write the status at the end of a tick. Returns why it could not be written.

        Args:
            status: what the tick came to; None where there is nothing to write it to.
        """
        self._refusal = await self._end_tick(status)
        return self._refusal

    async def _end_tick(self, status: DecryptorStatus | None) -> Failure | None:
        meta = self._decryptor.meta
        try:
            if status is not None and await self._write(status):
                _log.info("status_written", **self._shown(status))
        except JiemiError as error:
            failure = error.failure
            _log.warning("status_not_written", namespace=meta.namespace, name=meta.name, failure=str(error))
            if failure.kind is Kind.STALLED and failure != self._refusal and status is not None:
                await self._report_refusal(status, failure)
            return failure
        except ObjectGone:
            # The watch ends this loop if that is so; until it does, the loop goes on.
            _log.info("object_gone", namespace=meta.namespace, name=meta.name)
        except Exception:  # noqa: BLE001 - the boundary of this Decryptor, as in the tick
            _log.exception("status_crashed", namespace=meta.namespace, name=meta.name)
            return Failure("InternalError", "Miwen's log has the details at this time")
        return None

    async def _report_refusal(self, status: DecryptorStatus, failure: Failure) -> None:
        """The API server refuses the status for good, and the stored one shows an old state: say so in an Event, and in
        those two fields of the status that users look at, with the rest as it is stored."""
        meta = self._decryptor.meta
        content = EventContent("Warning", failure.reason, "WriteStatus", failure.text)
        self._events.record(meta, content, transition=True)
        refused = after_failure(
            blank(status.current.file_to_decrypt) if self._written is None else status,
            generation=meta.generation,
            failure=failure,
            attempted_revision=None,
            now=self._now(),
        )
        try:
            await self._write_readiness(refused)
        except JiemiError as error:
            _log.error("refusal_not_written", namespace=meta.namespace, name=meta.name, failure=str(error))

    async def _write_readiness(self, status: DecryptorStatus) -> None:
        """Write `current` and `conditions` alone. Raises JiemiError."""
        meta, value = self._decryptor.meta, status_json(status)
        parts = {name: value[name] for name in ("current", "conditions") if name in value}
        keep = self._written is not None
        await self._kubernetes.patch_status(meta.namespace, meta.name, parts, uid=meta.uid, keep_rest=keep)

    @property
    def _is_overwritten(self) -> bool:
        """Whether somebody else wrote the object since: perhaps its status, which nobody kept. Writing ours again costs
        a request, and changes nothing where ours is still there."""
        return is_newer(self._decryptor.meta.resource_version, than=self._version)
