"""The proxy that git over http and https goes through: its address, its credentials, and the hosts that need none."""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import unquote, urlsplit

import attrs

from jiemi.core.addresses import is_plain_host
from jiemi.core.sensitive import SensitiveText

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


@attrs.frozen
class HttpProxy:
    """One proxy.

    Attributes:
        url: http://HOST:PORT or https://HOST:PORT, without credentials.
        authorization: value of the Proxy-Authorization header (RFC 9110, section 11.7.2), or None.
        direct: hosts that are connected to without it: names with all names below them, addresses and networks (CIDR).
    """

    url: str
    authorization: SensitiveText | None = None
    direct: tuple[str, ...] = ()

    def is_for(self, host: str) -> bool:
        """Whether a host, in lower case and without brackets, is reached through the proxy."""
        return not any(_takes(pattern, host.removesuffix(".")) for pattern in self.direct)


def read_proxy(text: str, *, credentials: bool, direct: tuple[str, ...] = ()) -> HttpProxy:
    """Read a proxy's URL.

    Args:
        credentials: whether it may hold a user name and a password.
        direct: as in `HttpProxy`.

    Raises:
        ValueError: it is none; the text quotes nothing of it.
    """
    try:
        url = urlsplit(text.strip())
        host, port = url.hostname or "", url.port
    except ValueError:
        raise ValueError("it is no URL") from None
    if url.scheme not in ("http", "https") or not is_plain_host(host):
        raise ValueError("it is no http:// or https:// URL of a host")
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError("it has more behind its host and port")
    if port is None:
        raise ValueError("it has no port")
    authorization = None
    if url.username is not None or url.password is not None:
        if not credentials:
            raise ValueError("it holds a user name or password, which every process here could see; put it into a file")
        pair = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
        authorization = SensitiveText("Basic " + base64.b64encode(pair.encode()).decode())
    shown = f"[{host}]" if ":" in host else host
    return HttpProxy(f"{url.scheme}://{shown}:{port}", authorization, tuple(each.lower().strip() for each in direct))


def may_be_direct(pattern: str) -> bool:
    """Whether a pattern of `HttpProxy.direct` can take any host: it is a name, an address or a network."""
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
