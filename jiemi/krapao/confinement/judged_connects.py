"""Judges each connection that a confined program makes, at the moment when it makes it.

A holder of a cloud's key is sops, which resolves names and follows redirects by itself, so what is known of its servers
before it is asked says little about where it ends up: the answer of a server that a Decryptor names may send it to the
node's metadata service. So the kernel asks us about each connect(2) of such a program (seccomp_unotify(2)), and one
that goes where Krapao does not connect to fails with EACCES before a packet is sent.

The address is read from the program's memory, where another thread of it could change it in between. So this holds a
sops that servers lead astray, and not one that somebody has taken over: against that there is only a NetworkPolicy.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import select
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import trio

from jiemi.core.address_rules import Address, AddressRules, read_address
from jiemi.krapao.network.connecting import is_own, log

Decide = Callable[[bytes], int]
"""Given a socket address as the program wrote it, the error that its connect fails with, or 0."""

# struct seccomp_notif, struct seccomp_notif_resp and the ioctls of linux/seccomp.h, equal on x86-64 and aarch64
_NOTIFICATION = struct.Struct("=QII i I Q 6Q")
_RESPONSE = struct.Struct("=Q q i I")
_RECEIVE, _SEND, _IS_VALID = 0xC0502100, 0xC0182101, 0x40082102
_CONTINUE = 1
_MAX_ADDRESS_BYTES = 128
"""struct sockaddr_storage"""

_DNS_PORT = 53
_RESOLV_CONF = Path("/etc/resolv.conf")
_RESOLVE_SECONDS = 5
_PROXY_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_NO_RESOLVERS = ("127.0.0.1", "::1")
"""Whom resolvers ask where resolv.conf names nobody (resolv.conf(5))."""


async def answer_connects(listener: int, decide: Decide) -> None:
    """Answer until the program, and all that it started, has ended. Has no deadline: it lasts as long as they.

    Args:
        listener: of seccomp(2); the caller's to close, after this.
    """
    ready = select.poll()
    ready.register(listener, select.POLLIN)
    while True:
        await trio.lowlevel.wait_readable(listener)
        events = dict(ready.poll(0)).get(listener, 0)
        if events & select.POLLIN:
            _answer(listener, decide)
        elif events & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
            return


def _answer(listener: int, decide: Decide) -> None:
    notification = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, notification)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):  # it has been killed meanwhile
            return
        raise
    which, thread, _, _, _, _, _, pointer, length, *_ = _NOTIFICATION.unpack(notification)
    try:
        raw = _read(thread, pointer, min(length, _MAX_ADDRESS_BYTES))
        # Whether it was that program's memory, and not that of one that got its number after it had ended
        fcntl.ioctl(listener, _IS_VALID, struct.pack("=Q", which))
        error_number = decide(raw)
    except (OSError, OverflowError):  # what it points to can't be read
        error_number = errno.EACCES
    answer = _RESPONSE.pack(which, 0, -error_number, 0 if error_number else _CONTINUE)
    try:
        fcntl.ioctl(listener, _SEND, answer)
    except OSError as error:
        if error.errno != errno.ENOENT:  # killed, or interrupted by a signal: then it asks again
            raise


def _read(thread: int, pointer: int, length: int) -> bytes:
    memory = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(memory, length, pointer)
    finally:
        os.close(memory)


def read_destination(raw: bytes) -> tuple[Address, int] | None:
    """The address and port in a socket address (ip(7), ipv6(7)), or None where it is of another family.

    Raises:
        ValueError: it is shorter than its family's addresses are.
    """
    family = int.from_bytes(raw[:2], "little") if len(raw) >= 2 else socket.AF_UNSPEC
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    end = 8 if family == socket.AF_INET else 24
    if len(raw) < end:
        raise ValueError("too short for an address of its family")
    address = raw[4:8] if family == socket.AF_INET else raw[8:24]
    return ipaddress.ip_address(address), int.from_bytes(raw[2:4], "big")


@attrs.define
class ConnectJudge:
    """Where a holder may connect to.

    Attributes:
        rules: Krapao's. What the operator denies counts for private networks only: a cloud's own servers, which no
            Decryptor chose, have public addresses, and `--deny-address 0.0.0.0/0` is not meant for them.
        granted: addresses and ports that are the operator's: resolvers, a proxy.
        refusals: how many connects were refused.
    """

    rules: AddressRules
    granted: frozenset[tuple[Address, int]] = frozenset()
    refusals: int = 0

    def __call__(self, raw: bytes) -> int:
        """As `Decide`."""
        try:
            destination = read_destination(raw)
        except ValueError:
            return errno.EINVAL
        if destination is None or destination in self.granted:
            return 0
        address, _ = destination
        rules = attrs.evolve(self.rules, denied=()) if address.is_global else self.rules
        why = rules.refusal(address, own=is_own(address))
        if why is None:
            return 0
        self.refusals += 1
        log.warning("address_refused", by="a key service's client", address=str(address), kind=why)
        return errno.EACCES


async def granted_destinations(environment: Mapping[str, str]) -> frozenset[tuple[Address, int]]:
    """Resolvers, and the proxies that the operator names, wherever they are.

    Args:
        environment: the operator's HTTPS_PROXY and HTTP_PROXY.
    """
    try:
        text = await trio.Path(_RESOLV_CONF).read_text(errors="replace")
    except OSError:
        text = ""
    found = set(resolvers(text))
    for host, port in proxies(environment):
        with trio.move_on_after(_RESOLVE_SECONDS), contextlib.suppress(OSError, UnicodeError):
            looked_up = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found |= _destinations((str(each[4][0]), port) for each in looked_up)
    return frozenset(found)


def proxies(environment: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """Host and port of each proxy, as Go reads them (golang.org/x/net/http/httpproxy): the scheme may be missing."""
    found = []
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        text = environment.get(name, "")
        try:
            url = urlsplit(text if "://" in text else f"http://{text}")
            port = url.port or _PROXY_PORTS.get(url.scheme)
        except ValueError:
            continue
        if url.hostname and port is not None:
            found.append((url.hostname, port))
    return tuple(dict.fromkeys(found))


def resolvers(resolv_conf: str) -> frozenset[tuple[Address, int]]:
    """Whom a program asks for the addresses of names, by the text of its resolv.conf."""
    words = (line.split() for line in resolv_conf.splitlines())
    named = [each[1] for each in words if len(each) > 1 and each[0] == "nameserver"]
    return _destinations((each, _DNS_PORT) for each in named or _NO_RESOLVERS)


def _destinations(pairs: Iterable[tuple[str, int]]) -> frozenset[tuple[Address, int]]:
    found = set()
    for host, port in pairs:
        try:
            found.add((read_address(host), port))
        except ValueError:
            continue
    return frozenset(found)
