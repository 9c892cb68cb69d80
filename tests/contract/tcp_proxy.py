"""A TCP connection between a client and a server that a test can hold still, cut and count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio


@attrs.define
class TcpProxy:
    """Forwards what connects to `port`.

    Attributes:
        port: where it listens, on loopback.
        accepted: how many connections there were.
        open: how many there are.
        from_server: how many bytes the server sent.
    """

    port: int = 0
    accepted: int = 0
    open: int = 0
    from_server: int = 0
    _held: bool = False
    _gate: trio.Event = attrs.field(factory=trio.Event)
    _streams: set[trio.SocketStream] = attrs.field(factory=set)

    def hold(self) -> None:
        """From now on nothing is forwarded and nothing is closed: both ends see silence."""
        self._held = True

    def release(self) -> None:
        """Forward again, and what was held first."""
        self._held = False
        self._gate.set()
        self._gate = trio.Event()

    async def cut(self) -> None:
        """End the connections that there are."""
        for stream in list(self._streams):
            await trio.aclose_forcefully(stream)

    async def serve(self, server_port: int, client: trio.SocketStream) -> None:
        self.accepted += 1
        self.open += 1
        server = await trio.open_tcp_stream("127.0.0.1", server_port)
        self._streams |= {client, server}
        try:
            async with client, server, trio.open_nursery() as nursery:
                nursery.start_soon(self._forward, client, server, False)
                nursery.start_soon(self._forward, server, client, True)
        finally:
            self._streams -= {client, server}
            self.open -= 1

    async def _forward(self, source: trio.SocketStream, sink: trio.SocketStream, from_server: bool) -> None:
        try:
            async for chunk in source:
                if from_server:
                    self.from_server += len(chunk)
                while self._held:
                    await self._gate.wait()
                await sink.send_all(chunk)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await trio.aclose_forcefully(sink)


@asynccontextmanager
async def open_tcp_proxy(server_port: int) -> AsyncIterator[TcpProxy]:
    """A proxy to a port on loopback, for as long as the context lasts."""
    proxy = TcpProxy()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, partial(proxy.serve, server_port), 0, host="127.0.0.1"))
        proxy.port = listeners[0].socket.getsockname()[1]
        yield proxy
        nursery.cancel_scope.cancel()
