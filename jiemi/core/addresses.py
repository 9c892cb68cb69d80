"""Addresses of servers, in the one form in which two are compared."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse

_MAX_CHARACTERS = 2_048
_CHARACTERS = re.compile(r"[A-Za-z0-9:/._+=@-]+")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


def normal_address(text: str) -> str | None:
    """A server's address in the form in which two are compared: SCHEME://HOST[:PORT][/PATH].

    None where it is none: another scheme, no host, or with user, query or fragment.
    """
    if len(text) > _MAX_CHARACTERS or _CHARACTERS.fullmatch(text.strip().replace("[", "").replace("]", "")) is None:
        return None
    try:
        url = urllib.parse.urlsplit(text.strip())
        port = url.port
    except ValueError:
        return None
    if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc or url.query or url.fragment:
        return None
    if not is_plain_host(url.hostname):
        return None
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    if port == {"http": 80, "https": 443}[url.scheme]:
        port = None
    path = url.path.rstrip("/")
    if any(part in ("", ".", "..") for part in path.split("/")[1:]):
        return None
    return f"{url.scheme}://{host}" + (f":{port}" if port is not None else "") + path


def is_plain_host(host: str) -> bool:
    """Whether a host is a name, or an address in the one form that every parser reads alike.

    As the URL Standard has it (https://url.spec.whatwg.org/#ends-in-a-number-checker), a host whose last label is a
    number is an address; here it must be one of four decimal numbers without leading zeros. IPv6 comes without
    brackets, and without a zone, which names an interface of this machine.
    """
    if ":" in host:
        return "%" not in host and _is_address(host)
    labels = host.removesuffix(".").split(".")
    if not labels[-1] or _NUMBER.fullmatch(labels[-1]) is None:
        return bool(labels[-1])
    return _is_address(host)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
