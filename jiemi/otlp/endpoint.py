"""Where a collector is, and one request to it.

A connection for each request, straight to the host: no proxy, no redirect, nothing from the environment except where
the system has its certificate authorities. Everything is a part of the calling task: no thread is left behind, except a
lookup of a name, which trio leaves to its end and nobody waits for.
"""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import h11
import trio

from jiemi import __version__

_USUAL_PATH = "/v1/traces"
_MOST_ANSWER_BYTES = 64 * 1024
_MOST_HEADER_BYTES = 16 * 1024
_ENDED = "it ended the connection"


@attrs.frozen
class Endpoint:
    """A collector's address for traces.

    Attributes:
        tls: what its certificate is checked with; None for http.
    """

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        """The host and port, as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_endpoint(url: str, *, ca_bundle: Path | None = None, insecure: bool = False) -> Endpoint:
    """Read a collector's URL. Without a path it gets that of OTLP over HTTP, /v1/traces.

    Args:
        ca_bundle: a PEM file of authorities in place of the system's.
        insecure: whether http is allowed to other hosts than this one.

    Raises:
        ValueError: it is none; the message quotes nothing of it.
        OSError: the file can't be read, or holds no certificate.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("it is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is no http:// or https:// URL of a host")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("it has credentials, a query or a fragment; give the address alone")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("it has characters that a URL can't have")
    if parts.scheme == "https":
        tls = ssl.create_default_context(cafile=None if ca_bundle is None else str(ca_bundle))
        return Endpoint(parts.hostname, port or 443, _path(parts.path), tls)
    if ca_bundle is not None:
        raise ValueError("authorities are for https")
    if not (insecure or _is_loopback(parts.hostname)):
        raise ValueError("http is for a collector on this host")
    return Endpoint(parts.hostname, port or 80, _path(parts.path), None)


def _path(path: str) -> str:
    return path if path.strip("/") else _USUAL_PATH


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def post(endpoint: Endpoint, body: bytes) -> int:
    """Send a request; returns the status of the answer. The deadline is the caller's.

    Raises:
        OSError: there was no answer, or none that is HTTP (ConnectionError).
    """
    async with await trio.open_tcp_stream(endpoint.host, endpoint.port) as plain:
        stream: trio.abc.Stream = plain
        if endpoint.tls is not None:
            stream = trio.SSLStream(plain, endpoint.tls, server_hostname=endpoint.host, https_compatible=True)
        try:
            return await _converse(endpoint, stream, body)
        except h11.RemoteProtocolError as error:
            raise ConnectionError("what it answers is no HTTP") from error
        except trio.BrokenResourceError as error:
            why = f"TLS: {type(error.__cause__).__name__}" if isinstance(error.__cause__, ssl.SSLError) else _ENDED
            raise ConnectionError(why) from error


async def _converse(endpoint: Endpoint, stream: trio.abc.Stream, body: bytes) -> int:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEADER_BYTES)
    headers = [
        ("Host", endpoint.authority),
        ("User-Agent", f"jiemi/{__version__}"),
        ("Content-Type", "application/x-protobuf"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    request = connection.send(h11.Request(method="POST", target=endpoint.path, headers=headers))
    await stream.send_all((request or b"") + (connection.send(h11.Data(data=body)) or b""))
    connection.send(h11.EndOfMessage())
    return await _status(connection, stream)


async def _status(connection: h11.Connection, stream: trio.abc.Stream) -> int:
    """The status of the answer, of which not more is read than its headers and a little."""
    received = 0
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            return int(event.status_code)
        if event is h11.NEED_DATA:
            data = await stream.receive_some(_MOST_HEADER_BYTES)
            received += len(data)
            if received > _MOST_ANSWER_BYTES:
                raise ConnectionError("its answer has no end")
            connection.receive_data(bytes(data))
