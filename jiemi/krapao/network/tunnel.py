"""A connection to a host through a proxy: CONNECT (RFC 9110, section 9.3.6) or SOCKS 5 (RFC 1928, RFC 1929).

The proxy is asked for the host by its name and looks that up by itself. Its answer is read to the last byte and no
further, because what follows is the host's: an ssh server speaks first. So there is no reader with a buffer here, and
no library that has one.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence

from jiemi.concurrency import calls
from jiemi.krapao.network.proxy import Proxy

_MAX_HEAD_BYTES = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")

_VERSION, _LOGIN_VERSION = 5, 1
_NO_LOGIN, _LOGIN, _NONE_FITS = 0, 2, 0xFF
_CONNECT, _ADDRESS_4, _NAME, _ADDRESS_6 = 1, 1, 3, 4
_NOT_ALLOWED = 2
_MAX_FIELD_BYTES = 255


class TunnelError(OSError):
    """The proxy does not speak as it should, or leads nowhere."""


def refused(status: int) -> TunnelError:
    """A refusal by the proxy, as an HTTP status, in the words in which http.client says it."""
    return TunnelError(f"Tunnel connection failed: {status} by the proxy")


def open_tunnel(
    proxy: Proxy,
    host: str,
    port: int,
    *,
    timeout_seconds: float | None,
    permit: Callable[[str, Sequence[str]], None] | None,
) -> socket.socket:
    """A connection to a host through a proxy, on a worker thread; its making can be interrupted.

    Args:
        proxy: whose scheme is http or socks5.
        timeout_seconds: for each silence of the proxy; it stays set on the socket.
        permit: called with the proxy's host and its addresses, before one is connected to.

    Raises:
        OSError: no connection; TunnelError where the proxy refuses.
    """
    interrupter = calls.current()
    sock = calls.connect_tcp(interrupter, proxy.host, proxy.port, timeout_seconds=timeout_seconds, permit=permit)
    try:
        with calls.interruptible_socket(interrupter, sock):
            if proxy.scheme == "socks5":
                speak_socks(sock, proxy, host, port)
            else:
                speak_http(sock, proxy, host, port)
    except BaseException:
        sock.close()
        raise
    return sock


def speak_http(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Have an http proxy lead a connection on to a host. Raises TunnelError where it does not."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization.reveal()}")
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = b""
    while not head.endswith((b"\r\n\r\n", b"\n\n")):
        if len(head) >= _MAX_HEAD_BYTES:
            raise TunnelError("the proxy answers CONNECT at length")
        head += _exactly(sock, 1)
    status = _STATUS.match(head)
    if status is None:
        raise TunnelError("the proxy does not speak HTTP")
    if not 200 <= int(status[1]) < 300:
        raise refused(int(status[1]))


def speak_socks(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Have a SOCKS 5 proxy lead a connection on to a host. Raises TunnelError where it does not."""
    has_login = proxy.username is not None and proxy.password is not None
    methods = bytes([_NO_LOGIN, _LOGIN]) if has_login else bytes([_NO_LOGIN])
    sock.sendall(bytes([_VERSION, len(methods)]) + methods)
    version, method = _exactly(sock, 2)
    if version != _VERSION:
        raise TunnelError("the proxy does not speak SOCKS 5")
    if method == _LOGIN and proxy.username is not None and proxy.password is not None:
        name, password = proxy.username.reveal().encode(), proxy.password.reveal().encode()
        sock.sendall(bytes([_LOGIN_VERSION]) + _field(name) + _field(password))
        if _exactly(sock, 2)[1] != 0:
            raise refused(407)
    elif method == _NONE_FITS:
        raise refused(407)
    elif method != _NO_LOGIN:
        raise TunnelError("the proxy wants a login of another kind")
    sock.sendall(bytes([_VERSION, _CONNECT, 0]) + _address(host) + port.to_bytes(2, "big"))
    version, reply, _, kind = _exactly(sock, 4)
    if version != _VERSION:
        raise TunnelError("the proxy does not speak SOCKS 5")
    if reply != 0:
        # RFC 1928, section 6: not allowed; or a failure of the proxy or of the way to the host.
        raise refused(403 if reply == _NOT_ALLOWED else 502)
    sizes = {_ADDRESS_4: 4, _ADDRESS_6: 16}
    size = _exactly(sock, 1)[0] if kind == _NAME else sizes.get(kind)
    if size is None:
        raise TunnelError("the proxy does not speak SOCKS 5")
    _exactly(sock, size + 2)


def _address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bytes([_NAME]) + _field(host.encode("ascii", "replace"))
    return bytes([_ADDRESS_4 if address.version == 4 else _ADDRESS_6]) + address.packed


def _field(value: bytes) -> bytes:
    if len(value) > _MAX_FIELD_BYTES:
        raise TunnelError("a name, or a part of the login, is longer than SOCKS 5 takes")
    return bytes([len(value)]) + value


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise TunnelError("the proxy ended the connection")
        data += more
    return data
