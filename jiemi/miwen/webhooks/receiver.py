"""The port that git hosts send webhooks to: HTTP, one request a connection.

    accept (at a pace) -> head -> is there such a webhook, is it signed? -> body (bounded) -> genuine? -> new? -> push
                           `- refused without its body being read

A stranger gets the same answer, 403, whatever is wrong: that there is no such webhook, that a request is unsigned,
forged or stale. What it was is counted and logged (never a header's value or a body). A host gets 202 once it is known
who sent it, also where nothing follows: it would try again otherwise.

Everything is bounded: the connections (of too many the oldest is dropped), the head (16 KiB, h11's own bound), the
body, the bodies of all together, the time, what one source may have refused (`limits`).
"""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import attrs
import h11
import structlog
import trio

from jiemi.core.names import NamespacedName
from jiemi.core.trace_context import TraceContext, read_traceparent
from jiemi.core.webhooks.headers import Headers
from jiemi.core.webhooks.payload import MAX_BODY_BYTES
from jiemi.miwen.webhooks.limits import Buffer, Buffers, Pace, Sources, forwarded_source, source_of
from jiemi.miwen.webhooks.paced_listener import PacedListener
from jiemi.tracing.current import new_trace
from jiemi.tracing.spans import AnySpan, Tracer

_HEAD_SECONDS = 5.0
_REQUEST_SECONDS = 15.0
"""Hosts wait 10 s for an answer; over a slow line, 4 MiB take some."""
_MAX_CONNECTIONS = 64
_BACKLOG = 1024
"""Room in the kernel while a flood comes: what finds none is tried again by its sender after a second or more."""
_READ_BYTES = 64 * 1024
_TARGET = re.compile(rb"/webhooks/([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)/([a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?)")

_FAULTS = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What clients make happen."""

_log = structlog.get_logger("jiemi.miwen.webhooks")


class Outcome(enum.Enum):
    """What became of a request. The values are words of the metrics and of the log."""

    PUSH = "push"
    """It is genuine, and Decryptors look."""
    NO_FOLLOWER = "no_follower"
    """It is genuine, and no Decryptor follows that repository."""
    OTHER_EVENT = "other_event"
    """It is genuine, and moves no ref of a repository."""
    DUPLICATE = "duplicate"
    CONFIRMED = "confirmed"
    """It asked for a subscription to be confirmed, which is done."""
    FORWARDED = "forwarded"
    """This Miwen waits for its turn; the active one has it, and counts what became of it."""
    NOT_FOUND = "not_found"
    UNKNOWN = "unknown"
    """There is no such webhook."""
    UNSIGNED = "unsigned"
    FORGED = "forged"
    STALE = "stale"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    RATE_LIMITED = "rate_limited"
    BUSY = "busy"
    """There is no memory for one more body."""
    FAILED = "failed"
    """A fault of Miwen's own."""
    NO_KEY = "no_key"
    """The key that would show whether it is genuine can't be had, or SNS not be asked."""
    NOT_READY = "not_ready"
    """No Miwen is active."""


_STATUS: dict[Outcome, int] = {
    Outcome.PUSH: 202,
    Outcome.NO_FOLLOWER: 202,
    Outcome.OTHER_EVENT: 202,
    Outcome.DUPLICATE: 202,
    Outcome.CONFIRMED: 202,
    Outcome.FORWARDED: 202,
    Outcome.NOT_FOUND: 404,
    Outcome.UNKNOWN: 403,
    Outcome.UNSIGNED: 403,
    Outcome.FORGED: 403,
    Outcome.STALE: 403,
    Outcome.MALFORMED: 400,
    Outcome.TOO_LARGE: 413,
    Outcome.TOO_SLOW: 408,
    Outcome.RATE_LIMITED: 429,
    Outcome.BUSY: 503,
    Outcome.FAILED: 500,
    Outcome.NO_KEY: 503,
    Outcome.NOT_READY: 503,
}

_BLAMED = frozenset(
    {
        Outcome.NOT_FOUND,
        Outcome.UNKNOWN,
        Outcome.UNSIGNED,
        Outcome.FORGED,
        Outcome.STALE,
        Outcome.MALFORMED,
        Outcome.TOO_LARGE,
        Outcome.TOO_SLOW,
    }
)
"""What counts against its source."""


@attrs.frozen
class Delivery:
    """A request, as far as its head says.

    Attributes:
        webhook: namespace and name, as its path has them.
        target: the path, as it came.
        headers: all of them.
        forwarded: whether another Miwen sent it on.
        trace: the one that the other Miwen began for it. It is believed once the delivery is genuine.
    """

    webhook: NamespacedName
    target: bytes
    headers: Headers
    forwarded: bool = False
    trace: TraceContext | None = None


class Taker(Protocol):
    """What decides on deliveries: the active Miwen's `Intake`, or the `Forwarder` of one that waits."""

    def objection(self, delivery: Delivery) -> Outcome | None:
        """Why it is refused by its head alone; None: its body is read."""
        ...

    async def take(self, delivery: Delivery, body: bytes) -> Outcome:
        """What becomes of it, which it logs (`received`)."""
        ...


FORWARDED = "jiemi-forwarded"
"""The header of a request that another Miwen sent on; it is never sent on again."""

TRACEPARENT = "traceparent"
"""The header of such a request that names its trace (https://www.w3.org/TR/trace-context/)."""


def received(delivery: Delivery, outcome: Outcome) -> Outcome:
    """Log what became of a delivery, and return that."""
    namespace, name = delivery.webhook
    log = _log.warning if outcome in _BLAMED else _log.info
    log("webhook_received", namespace=namespace, secret=name, outcome=outcome.value)
    return outcome


@contextlib.contextmanager
def delivery_traced(tracer: Tracer | None, delivery: Delivery) -> Iterator[AnySpan]:
    """What is done with a genuine delivery is a trace, or goes on with that of the Miwen that sent it on. Strangers
    make none."""
    namespace, name = delivery.webhook
    attributes = {"k8s.namespace.name": namespace, "secret": name}
    parent = delivery.trace if delivery.forwarded else None
    with new_trace(tracer, "webhook", shown={}, attributes=attributes, parent=parent) as traced:
        yield traced


@attrs.define
class Receiver:
    """Serves the port.

    Attributes:
        count: called with what became of each request.
        proxies: how many proxies of our own stand before it, each of which adds to X-Forwarded-For.
        taker: what decides; None where nothing can yet.
    """

    count: Callable[[Outcome], None]
    proxies: int = 0
    taker: Taker | None = None
    _sources: Sources = attrs.field(factory=Sources, init=False)
    _buffers: Buffers = attrs.field(factory=Buffers, init=False)
    _open: dict[trio.CancelScope, None] = attrs.field(factory=dict, init=False)

    @contextlib.contextmanager
    def taking(self, taker: Taker) -> Iterator[None]:
        """While the context lasts, that one decides; then again the one before it."""
        before, self.taker = self.taker, taker
        try:
            yield
        finally:
            self.taker = before

    async def serve(
        self, host: str | None, port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled. It counts as started, with its port, once it listens.

        Args:
            host: address to listen on; None for all.
            port: 0 takes a free one.

        Raises:
            OSError: it can't listen there.
        """
        pace = Pace()
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
        paced = [PacedListener(each, pace, self._is_unwanted) for each in listeners]
        bound = paced[0].port
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, self._connection, paced, handler_nursery=nursery))
            task_status.started(bound)

    async def _connection(self, stream: trio.SocketStream) -> None:
        """One request. A client's faults end here: they harm only its own connection."""
        async with stream:
            exchange = _Exchange(self, stream, _peer(stream))
            with trio.move_on_after(_REQUEST_SECONDS) as scope:
                self._open[scope] = None
                if len(self._open) > _MAX_CONNECTIONS:
                    oldest = next(iter(self._open))
                    del self._open[oldest]
                    oldest.cancel()
                try:
                    with contextlib.suppress(*_FAULTS):
                        await exchange.run()
                finally:
                    self._open.pop(scope, None)
            # One that a crowd pushed out may have been an honest one.
            if scope.cancelled_caught and trio.current_time() >= scope.deadline:
                exchange.count(Outcome.TOO_SLOW)

    def _is_unwanted(self, source: str) -> bool:
        """Whether a connection is not even read, because of what came from its source before."""
        if self.proxies or self._sources.may_ask(source, trio.current_time()):
            return False
        self.count(Outcome.RATE_LIMITED)
        return True

    @property
    def buffers(self) -> Buffers:
        return self._buffers

    @property
    def sources(self) -> Sources:
        return self._sources


class _Refused(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class _Exchange:
    """One request and its answer."""

    def __init__(self, receiver: Receiver, stream: trio.SocketStream, peer: str) -> None:
        self._receiver = receiver
        self._stream = stream
        self._source = peer
        self._is_counted = False
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        outcome = await self._outcome()
        if outcome is not None:
            self.count(outcome)
            await self._answer(_STATUS[outcome])

    def count(self, outcome: Outcome) -> None:
        """Count what became of it, once, also against its source."""
        if self._is_counted:
            return
        self._is_counted = True
        self._receiver.count(outcome)
        if outcome in _BLAMED:
            self._receiver.sources.refused(self._source, trio.current_time())

    async def _outcome(self) -> Outcome | None:
        """What becomes of the request; None where none came."""
        try:
            request = None
            with trio.move_on_after(_HEAD_SECONDS) as deadline:
                request = await self._next()
            if deadline.cancelled_caught:
                return Outcome.TOO_SLOW
            return await self._request(request) if isinstance(request, h11.Request) else None
        except h11.RemoteProtocolError:
            return Outcome.MALFORMED
        except _Refused as error:
            return error.outcome
        except _FAULTS:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of this request: a fault must not end Miwen
            # Its kind alone: the text may hold what was sent.
            _log.error("webhook_failed", error=type(error).__name__)
            return Outcome.FAILED

    async def _request(self, request: h11.Request) -> Outcome:
        headers = Headers(tuple(request.headers))
        self._require_source(headers)
        match = _TARGET.fullmatch(request.target)
        if match is None or request.method != b"POST":
            return Outcome.NOT_FOUND
        taker = self._receiver.taker
        if taker is None:
            return Outcome.NOT_READY
        namespace, name = match[1].decode(), match[2].decode()
        trace = read_traceparent((headers.one(TRACEPARENT) or b"").decode("latin-1"))
        delivery = Delivery((namespace, name), request.target, headers, headers.has(FORWARDED), trace)
        outcome = taker.objection(delivery)
        if outcome is not None:
            _log.debug("webhook_refused", namespace=namespace, secret=name, outcome=outcome.value)
            return outcome
        with self._receiver.buffers.body() as buffer:
            await self._body(headers, buffer)
            return await taker.take(delivery, bytes(buffer.data))

    def _require_source(self, headers: Headers) -> None:
        """Find out who asks, where proxies say so."""
        receiver = self._receiver
        if receiver.proxies:
            values = [value for name, value in headers.fields if name == b"x-forwarded-for"]
            self._source = forwarded_source(values, receiver.proxies) or self._source
            if not receiver.sources.may_ask(self._source, trio.current_time()):
                raise _Refused(Outcome.RATE_LIMITED)

    async def _body(self, headers: Headers, buffer: Buffer) -> None:
        """Read the body into the buffer."""
        length = headers.one("content-length")
        if length is not None and int(length) > MAX_BODY_BYTES:
            raise _Refused(Outcome.TOO_LARGE)
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise _Refused(Outcome.MALFORMED)
            if len(buffer.data) + len(event.data) > MAX_BODY_BYTES:
                raise _Refused(Outcome.TOO_LARGE)
            if not buffer.add(bytes(event.data)):
                raise _Refused(Outcome.BUSY)

    async def _next(self) -> object:
        """The next event of the request."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await self._stream.send_all(self._http.send(go_on) or b"")
            self._http.receive_data(bytes(await self._stream.receive_some(_READ_BYTES)))
        return event

    async def _answer(self, status: int) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = b"accepted\n" if status == 202 else b"refused\n"
        headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        if status in (429, 503):
            headers.append(("retry-after", "60"))
        answer = self._http.send(h11.Response(status_code=status, headers=headers)) or b""
        answer += self._http.send(h11.Data(data=body)) or b""
        await self._stream.send_all(answer)
        await self._stream.send_eof()
        # What the client still sends would make the kernel reset the connection, and the answer would be lost.
        with trio.move_on_after(1):
            for _ in range(16):
                if not await self._stream.receive_some(_READ_BYTES):
                    break


def _peer(stream: trio.SocketStream) -> str:
    try:
        return source_of(str(stream.socket.getpeername()[0]))
    except OSError:  # it has gone already
        return "?"
