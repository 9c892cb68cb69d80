"""Counters for Prometheus, and the page that shows them: `GET /metrics` on a port of its own.

https://prometheus.io/docs/instrumenting/exposition_formats/. The page holds numbers, fixed words and, in Miwen, names
of Decryptors and commit hashes: no URL and nothing else from a repository is ever a label.
"""

from __future__ import annotations

import contextlib
from functools import partial

import h11
import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

_REQUEST_SECONDS = 10
_MAX_CONNECTIONS = 16
_READ_BYTES = 16 * 1024


async def serve_metrics(
    registry: CollectorRegistry,
    host: str | None,
    port: int,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the page until cancelled. It counts as started, with its port, once requests are answered.

    Args:
        host: address to listen on; None for all.
        port: 0 takes a free one.

    Raises:
        OSError: it can't listen there.
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    places = trio.CapacityLimiter(_MAX_CONNECTIONS)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(trio.serve_listeners, partial(_answer_one, registry, places), listeners, handler_nursery=nursery)
        )
        bound: int = listeners[0].socket.getsockname()[1]
        task_status.started(bound)


async def _answer_one(registry: CollectorRegistry, places: trio.CapacityLimiter, stream: trio.SocketStream) -> None:
    """Answer one request per connection. A scraper's faults end here: they harm only its own connection."""
    async with stream:
        if places.available_tokens < 1:
            return
        async with places:
            with trio.move_on_after(_REQUEST_SECONDS):
                with contextlib.suppress(h11.RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
                    await _answer(registry, stream)


async def _answer(registry: CollectorRegistry, stream: trio.SocketStream) -> None:
    connection = h11.Connection(h11.SERVER)
    request: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            break
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return
    assert request is not None  # noqa: S101 - there is no end of a message without its beginning
    if request.target.split(b"?", 1)[0] != b"/metrics":
        status, content_type, body = 404, "text/plain", b"The page is /metrics.\n"
    elif request.method not in (b"GET", b"HEAD"):
        status, content_type, body = 405, "text/plain", b"GET it.\n"
    else:
        status, content_type, body = 200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)
    headers = [("content-type", content_type), ("content-length", str(len(body))), ("connection", "close")]
    answer = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    if request.method != b"HEAD":
        answer += connection.send(h11.Data(data=body)) or b""
    await stream.send_all(answer)
