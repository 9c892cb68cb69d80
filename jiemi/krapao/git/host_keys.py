"""The keys that an ssh host shows, one of each type. Nobody logs in.

A host proves that it has a key while the connection is made (RFC 4253, section 8), and shows one key for each
connection, of a type that the client takes.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import paramiko
from paramiko.kex_curve25519 import KexCurve25519

from jiemi.core.errors import JiemiError
from jiemi.core.urls import Location
from jiemi.krapao.git import known_hosts
from jiemi.krapao.git.host_failures import ShownError

TYPES: Sequence[tuple[str, ...]] = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256",),
    ("ecdsa-sha2-nistp384",),
    ("ecdsa-sha2-nistp521",),
    ("rsa-sha2-512", "rsa-sha2-256"),
)
"""The types of keys that `jiemi.krapao.git.known_hosts` can compare, by their signature algorithms."""

# paramiko logs what hosts say; here errors are values.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False

_WEAK_MACS = frozenset({"hmac-md5", "hmac-md5-96", "hmac-sha1-96"})


class HostTransport(paramiko.Transport):
    """paramiko's, with the algorithms that OpenSSH's own client takes by default, as far as paramiko has them.

    That is without CBC, 3DES, MD5 and MACs that are cut short; and with X25519 by its standard name (RFC 8731) too,
    because some hosts take it by no other.
    """

    # paramiko has no public way to add one, and its stubs know of none of these.
    _preferred_kex = (*paramiko.Transport._preferred_kex, "curve25519-sha256")  # type: ignore[attr-defined]
    _preferred_ciphers = tuple(each for each in paramiko.Transport._preferred_ciphers if not each.endswith("-cbc"))  # type: ignore[attr-defined]
    _preferred_macs = tuple(each for each in paramiko.Transport._preferred_macs if each not in _WEAK_MACS)  # type: ignore[attr-defined]
    _kex_info: Mapping[str, Any] = {
        **paramiko.Transport._kex_info,  # type: ignore[attr-defined]
        "curve25519-sha256": KexCurve25519,
    }


_PARTS: Sequence[tuple[str, str, str, str]] = (
    ("kex algorithm", "key exchange", "kex", "KexAlgorithms"),
    ("ciphers", "cipher", "ciphers", "Ciphers"),
    ("macs", "MAC", "digests", "MACs"),
)
"""What paramiko says there is none of in common; its name, the attribute that has Krapao's, and sshd's option."""


def nothing_in_common(error: paramiko.SSHException, transport: paramiko.Transport, where: str) -> JiemiError | None:
    """The error for a host that takes no algorithm that Krapao has; None where it is about something else.

    That an ssh host answers there is shown, as an unknown key of a host shows it.
    """
    for words, what, attribute, option in _PARTS:
        if isinstance(error, paramiko.ssh_exception.IncompatiblePeer) and f"no acceptable {words}" in str(error):
            own = ", ".join(getattr(transport.get_security_options(), attribute))
            return ShownError(
                "GitProtocolError",
                f"{where} takes no {what} that Krapao has. Krapao has {own}",
                f"Let the host take one of these (the option {option} of OpenSSH's sshd_config), or use https.",
            )
    return None


@attrs.frozen
class HostLine:
    """A key of a host.

    Attributes:
        text: its line in a known_hosts file.
        kind: the type of the key.
        fingerprint: as `ssh-keygen -l` prints it.
    """

    text: str
    kind: str
    fingerprint: str


def shown_key(transport: paramiko.Transport, timeout_seconds: float) -> paramiko.PKey:
    """The key that a host shows on a new connection.

    Raises:
        paramiko.SSHException: it shows none; IncompatiblePeer where it has none of the types that are taken.
    """
    transport.start_client(timeout=timeout_seconds)
    return transport.get_remote_server_key()


def known_hosts_lines(location: Location, timeout_seconds: float) -> list[HostLine]:
    """The keys that a host shows, of each type that it has.

    Raises:
        JiemiError: HostUnreachable, GitProtocolError where what answers does not speak ssh, or not as Krapao does.
    """
    address = (location.host, location.port)
    try:
        keys = _shown_keys(lambda: socket.create_connection(address, timeout_seconds), timeout_seconds, location)
    except paramiko.SSHException as error:
        raise JiemiError("GitProtocolError", f"{location.authority} does not speak ssh as it should") from error
    except OSError as error:
        raise JiemiError(
            "HostUnreachable",
            f"{location.authority}: {type(error).__name__}",
            "Check the name, the port and the network.",
        ) from error
    name = known_hosts.name_of(location.host, location.port)
    return [
        HostLine(f"{name} {key.get_name()} {key.get_base64()}", key.get_name(), known_hosts.fingerprint(key.asbytes()))
        for key in keys
    ]


def _shown_keys(
    connect: Callable[[], socket.socket], timeout_seconds: float, location: Location
) -> list[paramiko.PKey]:
    found = []
    for kinds in TYPES:
        with contextlib.closing(connect()) as sock, contextlib.closing(HostTransport(sock)) as transport:
            transport.banner_timeout = transport.handshake_timeout = timeout_seconds
            transport.get_security_options().key_types = kinds
            try:
                found.append(shown_key(transport, timeout_seconds))
            except paramiko.ssh_exception.IncompatiblePeer as error:
                certain = nothing_in_common(error, transport, location.authority)
                if certain is not None:
                    raise certain from error
            transport.packetizer.complete_handshake()  # ends the timer of one that was never completed
    return found
