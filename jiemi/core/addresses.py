"""Addresses of servers, in the one form in which two are compared."""

from __future__ import annotations

import re
import urllib.parse

_MAX_CHARACTERS = 2_048
_CHARACTERS = re.compile(r"[A-Za-z0-9:/._+=@-]+")


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
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    if port == {"http": 80, "https": 443}[url.scheme]:
        port = None
    path = url.path.rstrip("/")
    if any(part in ("", ".", "..") for part in path.split("/")[1:]):
        return None
    return f"{url.scheme}://{host}" + (f":{port}" if port is not None else "") + path
