"""Where Krapao listens: `unix:/path`, `tcp:host:port`, or `host:port`, as text and as values.

An IPv6 address is written in brackets (RFC 3986): `[::1]:50208`. The host `*` means every address of the machine.
"""

from __future__ import annotations

import ipaddress
import re

import attrs

from jiemi.rpc.contract import DEFAULT_PORT

MAX_UNIX_PATH_BYTES = 107
"""sun_path's 108 bytes, less the terminating zero (unix(7))."""

ANY_HOST = "*"

_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")


@attrs.frozen
class UnixAddress:
    """A unix socket.

    Attributes:
        path: of the socket's file; at most `MAX_UNIX_PATH_BYTES` in UTF-8.
    """

    path: str

    def __attrs_post_init__(self) -> None:
        if not self.path:
            raise ValueError("unix: needs the path of a socket after it, for example unix:/run/krapao.sock")
        if not self.path.isprintable():
            raise ValueError("the path of a unix socket must be printable text")
        if len(self.path.encode()) > MAX_UNIX_PATH_BYTES:
            raise ValueError(
                f"the path of a unix socket is at most {MAX_UNIX_PATH_BYTES} bytes long, this one is "
                f"{len(self.path.encode())}: choose a shorter one"
            )

    def __str__(self) -> str:
        return f"unix:{self.path}"


@attrs.frozen
class TcpAddress:
    """A TCP port.

    Attributes:
        host: a name, an IPv4 or IPv6 address without brackets, or `*` (to listen on only).
        port: 0 to 65535; 0 (to listen on only) takes a free one.
    """

    host: str
    port: int = DEFAULT_PORT

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"the port {self.port} is not between 0 and 65535")
        if self.host == ANY_HOST or _is_ipv6(self.host):
            return
        if _HOST.fullmatch(self.host) is None or len(self.host) > 253:
            raise ValueError(
                f"{self.host!r} is no host name or address (an IPv6 address goes in brackets: [::1]:50208)"
            )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp:{host}:{self.port}"


Address = UnixAddress | TcpAddress


def parse_address(text: str) -> Address:
    """The address that the text names.

    Args:
        text: `unix:/path`, `tcp:host:port`, `host:port` or `host`; without a port it is `DEFAULT_PORT`. An IPv6 address
            is in brackets.

    Raises:
        ValueError: its text says what is wrong and how to write it.
    """
    if text.startswith("unix:"):
        return UnixAddress(text.removeprefix("unix:"))
    rest = text.removeprefix("tcp:")
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError(f"{text!r} is no address: an IPv6 address is written [::1]:50208")
        if not _is_ipv6(host):
            raise ValueError(f"{text!r} is no address: there is no IPv6 address in the brackets")
        return TcpAddress(host, _port(text, port[1:]) if port else DEFAULT_PORT)
    host, colon, port = rest.partition(":")
    if ":" in port:
        raise ValueError(f"{text!r} is no address: an IPv6 address goes in brackets, [::1]:50208")
    if not host:
        raise ValueError(f"{text!r} is no address: write unix:/path or host:port")
    return TcpAddress(host, _port(text, port) if colon else DEFAULT_PORT)


def _port(text: str, port: str) -> int:
    if not (port.isascii() and port.isdecimal() and len(port) <= 5):
        raise ValueError(f"{text!r} is no address: its port is not a number between 0 and 65535")
    return int(port)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return host.isascii() and host.isprintable()
