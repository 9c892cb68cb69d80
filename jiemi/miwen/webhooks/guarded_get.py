"""One guarded GET over https, for a key by which webhooks are verified: to a host that others may have chosen.

The name is looked up once, all its addresses are judged (`jiemi.core.address_rules`), and one of those is connected to.
No proxy, no redirect, nothing from the environment except where the system has its certificate authorities. All is
a part of the calling task, and ends with it.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

import attrs
import h11
import structlog
import trio

from jiemi import __version__
from jiemi.core.address_rules import AddressRules, first_refusal, read_address

_MAX_HEAD_BYTES = 16 * 1024
_READ_BYTES = 16 * 1024

_log = structlog.get_logger("jiemi.miwen.webhooks")


class GetError(OSError):
    """There is no answer that can be used. The text says why, and holds nothing of the answer."""


@attrs.frozen
class GuardedGet:
    """Gets what is at a URL.

    Attributes:
        rules: where connections may go.
        tls: whom is trusted.
        seconds: limit for all of it.
    """

    rules: AddressRules
    tls: ssl.SSLContext
    seconds: float = 5.0

    async def get(self, url: str, *, max_bytes: int) -> bytes:
        """The body of the answer 200.

        Args:
            url: https://, checked by the caller.

        Raises:
            GetError: there is none, or a longer one.
        """
        try:
            with trio.fail_after(self.seconds):
                return await self._get(url, max_bytes)
        except trio.TooSlowError as error:
            raise GetError("it takes too long") from error
        except h11.RemoteProtocolError as error:
            raise GetError("what answers is no HTTP server") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise GetError(_why(error)) from error

    async def _get(self, url: str, max_bytes: int) -> bytes:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        plain = await self._connect(host, port)
        async with trio.SSLStream(plain, self.tls, server_hostname=host, https_compatible=True) as stream:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return await _converse(stream, parts.netloc, target, max_bytes)

    async def _connect(self, host: str, port: int) -> trio.SocketStream:
        why = self.rules.refusal_of_name(host)
        try:
            found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM) if why is None else []
        except (OSError, UnicodeError) as error:
            raise GetError("its name is not known") from error
        refusal = first_refusal(self.rules, ((read_address(str(each[4][0])), False) for each in found))
        if why is not None or refusal is not None or not found:
            _log.warning("webhook_key_address_refused", host=host, kind=why or (refusal[1] if refusal else "none"))
            raise GetError("Miwen does not connect to its address")
        last: OSError = GetError("it can't be reached")
        for family, kind, protocol, _, address in found:
            try:
                return await self._connect_to(trio.socket.socket(family, kind, protocol), address)
            except OSError as error:
                last = error
        raise last if isinstance(last, GetError) else GetError("it can't be reached") from last

    async def _connect_to(self, sock: trio.socket.SocketType, address: Any) -> trio.SocketStream:
        try:
            await sock.connect(address)
            # A connection to an address of this machine has that on both ends.
            own = sock.getsockname()[0]
            if own == sock.getpeername()[0] and self.rules.refusal(read_address(own), own=True):
                raise GetError("Miwen does not connect to its address")
            return trio.SocketStream(sock)
        except BaseException:
            sock.close()
            raise


async def _converse(stream: trio.abc.Stream, authority: str, target: str, max_bytes: int) -> bytes:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
    headers = [
        ("Host", authority),
        ("User-Agent", f"jiemi/{__version__}"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    await stream.send_all(http.send(h11.Request(method="GET", target=target, headers=headers)) or b"")
    http.send(h11.EndOfMessage())
    body = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
        elif isinstance(event, h11.Response):
            if event.status_code != 200:
                raise GetError(f"it answers {event.status_code}")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > max_bytes:
                raise GetError("its answer is too long")
        elif isinstance(event, h11.EndOfMessage):
            return body


def _why(error: BaseException) -> str:
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return "its certificate does not verify"
    return "it does not speak TLS as it should, or ended the connection"
