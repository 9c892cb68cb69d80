"""The pages of a service: `/metrics`, `/healthz` and `/readyz`, by HTTP on a port of their own.

    /metrics   https://prometheus.io/docs/instrumenting/exposition_formats/: numbers, fixed words and, in Miwen, names
               of Decryptors, kinds of objects and commit hashes; no URL and nothing else from a repository
    /healthz   200 while the process lives, 503 where one of its loops hangs, with the loop's name
    /readyz    200 while it can be used, 503 before and from the moment that it is asked to end

Whoever reaches the port may read them. A crowd of connections can't keep a prober out: where there are too many, the
oldest is dropped, and an honest one takes milliseconds.
"""

from __future__ import annotations

import contextlib
from functools import partial

import h11
import trio
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from jiemi.metrics.health import Health, Readiness
from jiemi.metrics.registry import ServiceMetrics

_REQUEST_SECONDS = 10
_MAX_CONNECTIONS = 16
_READ_BYTES = 16 * 1024
_TEXT = "text/plain; charset=utf-8"

_FAULTS = (h11.RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What clients make happen."""

_Answer = tuple[int, str, bytes]
"""Status, content type, body."""


async def serve_pages(
    metrics: ServiceMetrics,
    host: str | None,
    port: int,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the pages until cancelled. It counts as started, with its port, once requests are answered.

    Args:
        host: address to listen on; None for all.
        port: 0 takes a free one.

    Raises:
        OSError: it can't listen there.
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    connections = _Connections(metrics)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, connections.answer, listeners, handler_nursery=nursery))
        bound: int = listeners[0].socket.getsockname()[1]
        task_status.started(bound)


class _Connections:
    """Answers one request per connection. A client's faults end here: they harm only its own connection."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._metrics = metrics
        self._open: dict[trio.CancelScope, None] = {}
        # Making a large page takes a while, and Python runs one at a time anyhow.
        self._makers = trio.CapacityLimiter(1)

    async def answer(self, stream: trio.SocketStream) -> None:
        async with stream:
            with trio.move_on_after(_REQUEST_SECONDS) as scope:
                self._open[scope] = None
                if len(self._open) > _MAX_CONNECTIONS:
                    oldest = next(iter(self._open))
                    del self._open[oldest]
                    oldest.cancel()
                try:
                    with contextlib.suppress(*_FAULTS):
                        await self._answer(stream)
                finally:
                    self._open.pop(scope, None)

    async def _answer(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        request = await _request(connection, stream)
        if request is None:
            return
        status, content_type, body = await self._page(request)
        headers = [("content-type", content_type), ("content-length", str(len(body))), ("connection", "close")]
        answer = connection.send(h11.Response(status_code=status, headers=headers)) or b""
        if request.method != b"HEAD":
            answer += connection.send(h11.Data(data=body)) or b""
        await stream.send_all(answer)

    async def _page(self, request: h11.Request) -> _Answer:
        path = request.target.split(b"?", 1)[0]
        if path not in (b"/metrics", b"/healthz", b"/readyz"):
            return 404, _TEXT, b"The pages are /metrics, /healthz and /readyz.\n"
        if request.method not in (b"GET", b"HEAD"):
            return 405, _TEXT, b"GET it.\n"
        if path == b"/healthz":
            return _healthz(self._metrics.health)
        if path == b"/readyz":
            return _readyz(self._metrics.health)
        self._metrics.prepare()
        page = await trio.to_thread.run_sync(generate_latest, self._metrics.registry, limiter=self._makers)
        return 200, CONTENT_TYPE_PLAIN_0_0_4, page


async def _request(connection: h11.Connection, stream: trio.SocketStream) -> h11.Request | None:
    """The request, read to its end; None where none comes."""
    request: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None


def _healthz(health: Health) -> _Answer:
    hung = [loop for loop in health.loops() if loop.hangs]
    if not hung:
        return 200, _TEXT, b"ok\n"
    lines = (f"{loop.name} has not moved on for {loop.seconds:.0f} s\n" for loop in hung)
    return 503, _TEXT, "".join(lines).encode()


def _readyz(health: Health) -> _Answer:
    return 200 if health.readiness is Readiness.READY else 503, _TEXT, f"{health.readiness.value}\n".encode()
