"""The proxies that git goes through: their addresses, their credentials, and the hosts that need none.

The operator may set one for all of Krapao, and a Decryptor one of its own, which then counts for its repository. The
environment's proxies never do.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import unquote, urlsplit

import attrs

from jiemi.core.addresses import is_plain_host
from jiemi.core.sensitive import SensitiveText

PORTS = {"http": 80, "https": 443, "socks5": 1080}
"""The schemes of proxies, and the port of each where an address names none."""

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


@attrs.frozen
class Proxy:
    """One proxy.

    Attributes:
        scheme: one of `PORTS`.
        host: name or address, without brackets.
        username, password: by which it is logged in to; both or none.
        direct: hosts that are connected to without it: names with all names below them, addresses and networks (CIDR).
        carries_all: whether ssh and git:// go through it; else only http and https.
        is_operators: whether the operator chose it; else a Decryptor names it.
    """

    scheme: str
    host: str
    port: int
    username: SensitiveText | None = None
    password: SensitiveText | None = None
    direct: tuple[str, ...] = ()
    carries_all: bool = False
    is_operators: bool = True

    @property
    def url(self) -> str:
        """Its address, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def authorization(self) -> SensitiveText | None:
        """Value of the Proxy-Authorization header (RFC 9110, section 11.7.2), or None."""
        if self.username is None or self.password is None:
            return None
        pair = f"{self.username.reveal()}:{self.password.reveal()}"
        return SensitiveText("Basic " + base64.b64encode(pair.encode()).decode())

    def is_for(self, host: str) -> bool:
        """Whether a host, in lower case and without brackets, is reached through the proxy."""
        return not any(_takes(pattern, host.removesuffix(".")) for pattern in self.direct)


def read_proxy(text: str, *, credentials: bool, direct: tuple[str, ...] = (), is_operators: bool = True) -> Proxy:
    """Read a proxy's URL.

    Args:
        credentials: whether it may hold a user name and a password.
        direct, is_operators: as in `Proxy`.

    Raises:
        ValueError: it is none; the text quotes nothing of it.
    """
    try:
        url = urlsplit(text.strip())
        host, port = url.hostname or "", url.port
    except ValueError:
        raise ValueError("it is no URL") from None
    if url.scheme not in PORTS or not is_plain_host(host):
        raise ValueError("it is no http://, https:// or socks5:// URL of a host")
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError("it has more behind its host and port")
    if port is None and is_operators:
        raise ValueError("it has no port")
    if port == 0:
        raise ValueError("it has the port 0")
    username = password = None
    if url.username is not None or url.password is not None:
        if not credentials:
            raise ValueError("it holds a user name or password, which every process here could see; put it into a file")
        username = SensitiveText(unquote(url.username or ""))
        password = SensitiveText(unquote(url.password or ""))
    found = tuple(each.lower().strip() for each in direct)
    at = port if port is not None else PORTS[url.scheme]
    return Proxy(url.scheme, host, at, username, password, found, is_operators=is_operators)


def may_be_direct(pattern: str) -> bool:
    """Whether a pattern of `Proxy.direct` can take any host: it is a name, an address or a network."""
    name = _bare(pattern)
    try:
        ipaddress.ip_network(name, strict=False)
    except ValueError:
        return _NAME.fullmatch(name) is not None and is_plain_host(name)
    return True


def _bare(pattern: str) -> str:
    return pattern.removeprefix("*").removeprefix(".").removesuffix(".")


def _takes(pattern: str, host: str) -> bool:
    name = _bare(pattern)
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        pass
    return bool(name) and (host == name or host.endswith(f".{name}"))
