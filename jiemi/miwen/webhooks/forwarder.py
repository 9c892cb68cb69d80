"""A Miwen that waits for its turn sends genuine webhooks on to the active one.

A Service reaches any Miwen that is ready, and those that wait are: else no rollout would end, and a
PodDisruptionBudget would count them as lost. Hosts do not try again, or after minutes, so a refusal would lose every
second push. So each of them verifies, as the active one does, and what is genuine goes on. The address of the active
one is in the Lease, behind its name. What was sent on once is never sent on again: while the Lease changes hands, two
could send to each other.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import h11
import structlog
import trio

from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.receiver import FORWARDED, TRACEPARENT, Delivery, Outcome
from jiemi.tracing.current import current
from jiemi.tracing.spans import Tracer

_SECONDS = 8.0
_ANSWER_BYTES = 16 * 1024
_OF_THE_CONNECTION = frozenset(
    {b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"te", b"traceparent", b"tracestate"}
)

_log = structlog.get_logger("jiemi.miwen.webhooks")


@attrs.frozen
class Forwarder:
    """A `jiemi.miwen.webhooks.receiver.Taker`.

    Attributes:
        verifier: what is genuine.
        active: host and port of the active Miwen's receiver; None where it is not known.
        tracer: where the spans of deliveries go; None where no traces are collected.
    """

    verifier: Verifier
    active: Callable[[], tuple[str, int] | None]
    tracer: Tracer | None = None

    def objection(self, delivery: Delivery) -> Outcome | None:
        return Outcome.NOT_READY if delivery.forwarded else self.verifier.objection(delivery)

    async def take(self, delivery: Delivery, body: bytes) -> Outcome:
        return await self.verifier.take(delivery, body, self.tracer, lambda _: self._send_on(delivery, body))

    async def _send_on(self, delivery: Delivery, body: bytes) -> Outcome:
        address = self.active()
        if address is None:
            return Outcome.NOT_READY
        try:
            with trio.fail_after(_SECONDS):
                status = await _send(address, delivery, body)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError, h11.RemoteProtocolError) as error:
            _log.warning("webhook_not_forwarded", error=type(error).__name__)
            return Outcome.NOT_READY
        # The active one may know a newer state of the Secret.
        return Outcome.FORWARDED if status == 202 else Outcome.FORGED if status == 403 else Outcome.NOT_READY


async def _send(address: tuple[str, int], delivery: Delivery, body: bytes) -> int:
    """Send it on; returns the status of the answer."""
    host, port = address
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_ANSWER_BYTES)
    headers = [
        (b"host", b"jiemi"),
        (b"connection", b"close"),
        (b"content-length", str(len(body)).encode()),
        (FORWARDED.encode(), b"1"),
        *([(TRACEPARENT.encode(), trace.traceparent.encode())] if (trace := current()) is not None else []),
        *(field for field in delivery.headers.fields if field[0] not in _OF_THE_CONNECTION),
    ]
    request = h11.Request(method=b"POST", target=delivery.target, headers=headers)
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all((http.send(request) or b"") + (http.send(h11.Data(data=body)) or b""))
        http.send(h11.EndOfMessage())
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some(_ANSWER_BYTES)))
            elif isinstance(event, h11.Response):
                return event.status_code
            elif not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("no answer")
