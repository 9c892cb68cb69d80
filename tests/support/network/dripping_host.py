"""A host on loopback that never ends its answers: each connection gets the head of an answer, then a byte per second,
or other bytes again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

# A line of 65,516 bytes is announced, and comes a byte a second.
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Length: 100000\r\n\r\n"
    b"001e# service=git-upload-pack\n0000fff0"
)


@attrs.define
class DrippingHost:
    """One that runs.

    Attributes:
        url: without a slash at its end.
        connected: how many connections it drips on now.
        most_connected: the most that there were at once.
    """

    url: str
    connected: int = 0
    most_connected: int = 0


@asynccontextmanager
async def dripping_host(
    head: bytes = _HEAD, drop: bytes = b"x", *, pause_seconds: float = 1
) -> AsyncIterator[DrippingHost]:
    """Serve until the context ends.

    Args:
        head: what each connection gets first.
        drop: what it gets then, for ever.
        pause_seconds: between two of them.
    """
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        host = DrippingHost(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")

        async def drip(stream: trio.SocketStream) -> None:
            host.connected += 1
            host.most_connected = max(host.most_connected, host.connected)
            try:
                await stream.receive_some(65_536)
                await stream.send_all(head)
                while True:
                    await stream.send_all(drop)
                    await trio.sleep(pause_seconds)
            except trio.BrokenResourceError:
                pass
            finally:
                host.connected -= 1
                await trio.aclose_forcefully(stream)

        nursery.start_soon(trio.serve_listeners, drip, listeners)
        yield host
        nursery.cancel_scope.cancel()
