"""The client's way to Krapao: a connected socket, or TLS and a pair of sockets, as Cap'n Proto can't do TLS itself.

Krapao <── TCP ── TLS, in trio ── socket pair ── kj
"""

from __future__ import annotations

import contextlib
import datetime
import socket

import attrs
import trio

from jiemi.rpc.address import Address, TcpAddress
from jiemi.rpc.sockets import detach, notice_a_peer_that_is_gone, open_connection
from jiemi.rpc.tls import IdentitySource, connect_tls, peer_not_after
from jiemi.rpc.tls_names import KRAPAO_NAME

_CHUNK_BYTES = 64 * 1024


@attrs.frozen
class ClientTls:
    """How a client does TLS.

    Attributes:
        identity: gives its own identity and the authorities that it accepts, for each connection.
        server_name: the name that Krapao's certificate must have.
    """

    identity: IdentitySource
    server_name: str = KRAPAO_NAME


@attrs.define
class Channel:
    """A way to Krapao.

    Attributes:
        socket: for Cap'n Proto. Whoever runs Cap'n Proto on it owns it.
        not_after: when the first of the two certificates ends; None without TLS.
        shown: where the certificate is that Krapao was shown, in words; "" without TLS.
        heard: how many bytes have come from Krapao; without TLS always 0, as Cap'n Proto has the socket.
    """

    socket: socket.socket
    not_after: datetime.datetime | None = None
    shown: str = ""
    _ends: tuple[trio.abc.Stream, trio.abc.Stream] | None = None
    heard: int = attrs.field(default=0, init=False)

    async def run(self) -> None:
        """Carry the bytes, until one end closes. Without TLS there is nothing to do."""
        if self._ends is None:
            return
        inner, outer = self._ends
        try:
            async with trio.open_nursery() as nursery:

                async def carry(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
                    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                        while data := await source.receive_some(_CHUNK_BYTES):
                            if source is outer:
                                self.heard += len(data)
                            await target.send_all(data)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(carry, inner, outer)
                nursery.start_soon(carry, outer, inner)
        finally:
            try:
                await trio.aclose_forcefully(inner)
            finally:  # closing is a place where a task may be cancelled
                await trio.aclose_forcefully(outer)


async def open_channel(address: Address, tls: ClientTls | None) -> Channel:
    """Connect. Deadlines are the caller's. A unix socket never has TLS.

    Raises:
        OSError: nobody answers there.
        TlsError: who answers there is not Krapao.
        JiemiError: the client has no identity.
    """
    if tls is None or not isinstance(address, TcpAddress):
        return Channel(detach(await open_connection(address)))
    identity = await tls.identity()
    stream = await open_connection(address)
    notice_a_peer_that_is_gone(stream.socket)
    outer = await connect_tls(stream, identity, tls.server_name)
    ours, theirs = socket.socketpair()
    inner = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    not_after = min(identity.not_after, peer_not_after(outer))
    return Channel(theirs, not_after, identity.certificate_at, (inner, outer))
