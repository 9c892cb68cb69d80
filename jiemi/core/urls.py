"""A repository's URL, read once and strictly.

A URL comes from anyone who may write a Decryptor, so it is refused unless it is plainly one of the forms below; what is
left can't turn into an option of a program, a second line of a protocol or a path on this machine.

    https://host[:port]/path    http://…    git://…    ssh://[user@]host[:port]/path
    [user@]host:path            the short form of ssh, as git clone(1) has it
    file:///path                only where the operator allows it

A location is in normal form, so that one repository has one clone however its URL is spelled (RFC 3986, section 6):
the scheme and host in lower case, an IPv6 address in its shortest form, the scheme's own port left out, no empty parts,
`.` parts or slash at the end of the path, and of http(s) each character percent-encoded only where it must be. What is
sent to the host is that form too. `x` and `x.git`, and paths in other case, may be two repositories: they stay two.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from typing import NoReturn
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

import attrs

from jiemi.core.addresses import is_plain_host
from jiemi.core.errors import JiemiError

FIELD = "spec.source.repository.url"
CREDENTIALS_FIELD = "spec.source.repository.credentials"
PROXY_FIELD = "spec.source.repository.proxy"

MAX_URL_CHARACTERS = 2_048


class Scheme(enum.Enum):
    """How a repository is reached."""

    HTTPS = "https"
    HTTP = "http"
    SSH = "ssh"
    GIT = "git"
    FILE = "file"


DEFAULT_PORTS = {Scheme.HTTPS: 443, Scheme.HTTP: 80, Scheme.SSH: 22, Scheme.GIT: 9418}


@attrs.frozen
class Location:
    """Where a repository is.

    Attributes:
        host: name or address in lower case, without brackets; empty for `file`.
        port: TCP port; 0 for `file`.
        path: in normal form; for http(s) percent-encoded, else as the host gets it (decoded).
        user: of ssh, where the URL names one.
    """

    scheme: Scheme
    host: str
    port: int
    path: str
    user: str | None = None

    @property
    def authority(self) -> str:
        """host, or [address] of IPv6, with the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS.get(self.scheme, 0) else f"{host}:{self.port}"

    @property
    def repository(self) -> tuple[str, str | None, str, str]:
        """What is equal for two spellings of one repository, and differs for others: `git@host:a` (in the home) and
        `ssh://git@host/a` are two. A dot at the end of the host says only how its name is looked up."""
        host = attrs.evolve(self, host=self.host.removesuffix(".")).authority
        return (self.scheme.value, self.user, host, self.path)

    @property
    def url(self) -> str:
        """The location as one text; equal for equal locations."""
        user = f"{self.user}@" if self.user is not None else ""
        path = self.path if self.path.startswith("/") else f"/{self.path}"
        return f"{self.scheme.value}://{user}{self.authority}{path}"


_HOST = re.compile(r"(?!-)[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?\.?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,127}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SHORT = re.compile(r"(?:(?P<user>[^@:/]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^@:/\[\]]+):(?P<path>.+)")


def parse_url(text: str, *, allow_file: bool = False) -> Location:
    """Read a repository's URL.

    Raises:
        JiemiError: InvalidUrl, which names what is wrong and never quotes the URL (it may hold a password);
            SchemeNotAllowed.
    """
    if not text:
        _refuse("is empty")
    if len(text) > MAX_URL_CHARACTERS:
        _refuse(f"is longer than {MAX_URL_CHARACTERS} characters")
    if not all("!" <= char <= "~" for char in text) or "\\" in text:
        _refuse(
            "holds a space, a control character, a backslash or a character beyond ASCII",
            "Take a space or line break at its ends out, and encode such a character within it as %XX.",
        )
    scheme = _SCHEME.match(text)
    if scheme is None:
        return _parse_short(text)
    try:
        kind = Scheme(scheme.group(1).lower())
    except ValueError:
        raise JiemiError(
            "SchemeNotAllowed",
            f"{FIELD}: its scheme is none that Krapao speaks",
            "Use https://, http://, ssh://, git:// or user@host:path.",
        ) from None
    if kind is Scheme.FILE and not allow_file:
        raise file_url_refused()
    return _parse_long(kind, text)


def _parse_long(kind: Scheme, text: str) -> Location:
    try:
        parts = urlsplit(text)
        port = parts.port
        host = (parts.hostname or "").lower()
    except ValueError:
        _refuse(
            "has a host or port that can't be read",
            "Write it as https://HOST/PATH or ssh://USER@HOST:PORT/PATH; a port is a number below 65536.",
        )
    if "?" in text or "#" in text:
        _refuse(
            "has a query or a fragment, which a repository's address has not",
            "Leave out what begins with ? or #; a branch or tag goes into spec.source.repository.ref.",
        )
    userinfo, at, _ = parts.netloc.rpartition("@")
    if at and (kind is not Scheme.SSH or ":" in userinfo):
        field = "credentials.ssh" if kind is Scheme.SSH else "credentials.token (and username)"
        _refuse(
            "holds a user name or password",
            f"Take it out of the URL, and put it into a Secret that spec.source.repository.{field} names; if it is in "
            "use, replace it, because whoever may read the Decryptor has seen it.",
        )
    path = _check_path(unquote(parts.path, errors="surrogateescape"))
    if kind is Scheme.FILE:
        if parts.netloc not in ("", "localhost"):
            _refuse("is a file URL that names a host", "Write it with three slashes: file:///path.")
        return Location(kind, "", 0, _normal_path(path))
    if parts.netloc.endswith(":") or port == 0:
        _refuse("has no port after its colon", "Write the port's number there, or leave the colon out.")
    return Location(
        kind,
        _check_host(host),
        port if port is not None else DEFAULT_PORTS[kind],
        _normal_path(_recoded(parts.path) if kind in (Scheme.HTTP, Scheme.HTTPS) else path),
        _check_user(userinfo) if at else None,
    )


def _parse_short(text: str) -> Location:
    match = _SHORT.fullmatch(text)
    if match is None:
        _refuse(
            "is no URL: it begins with no scheme:// and is not user@host:path",
            "Begin it with https:// (or ssh://, http://, git://), or write user@host:path.",
        )
    user = match["user"]
    host = match["host"].strip("[]").lower()
    path = _check_path(match["path"])
    if path.startswith(("-", ":")):
        _refuse("has a path that begins with a dash or a colon")
    normal = _normal_path(path)
    return Location(Scheme.SSH, _check_host(host), 22, normal, _check_user(user) if user is not None else None)


def _check_host(host: str) -> str:
    if not host:
        _refuse("has no host")
    if ":" in host:
        if not is_plain_host(host):
            _refuse("has a host that is no IPv6 address (without a zone)")
        return str(ipaddress.IPv6Address(host))
    if not _HOST.fullmatch(host) or ".." in host:
        _refuse("has a host that is no host name")
    if not is_plain_host(host):
        _refuse(
            "has a number as host that not every program reads as the same address",
            "Write the address in full, as 192.0.2.1, or the host's name.",
        )
    return host


def _check_user(user: str) -> str:
    user = unquote(user)
    if not _USER.fullmatch(user):
        _refuse("has a user that is no user name")
    return user


def _check_path(path: str) -> str:
    """The path, where it is one of a repository on a host: it will be quoted, but needs none of what is refused
    here."""
    if not path.strip("/"):
        _refuse("has no path", "Add the repository's path: https://HOST/OWNER/REPOSITORY.")
    if any(char < " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff" for char in path):
        _refuse("has a control character in its path")
    parts = path.split("/")
    if ".." in parts:
        _refuse("has .. in its path", "Write the path without it.")
    if any(part.partition(";")[0] in (".", "..") and ";" in part for part in parts):
        # Servers in Java take what follows a semicolon for parameters, and so read another path.
        _refuse("has .; or ..; in its path", "Write the path without it.")
    return path


def _recoded(path: str) -> str:
    """A URL's path with each character encoded only where it must be. An encoded slash stays one: it parts nothing."""
    parts = re.split("%2[fF]", path)
    return "%2F".join(quote(unquote_to_bytes(part), safe="/-._~!$&'()*+,;=:@") for part in parts)


def _normal_path(path: str) -> str:
    """A path without what says nothing: empty parts, parts that are one dot, and a slash at its end.

    What comes first of it keeps its meaning: a dash would begin an option, and a tilde somebody's home.
    """
    named = [part for part in path.split("/") if part not in ("", ".")]
    if not named:
        _refuse("has no path")
    begin = "/" if path.startswith("/") else ""
    if named[0].startswith(("-", ":", "~")) and not path.startswith(begin + named[0]):
        begin += "./"
    return begin + "/".join(named)


def file_url_refused() -> JiemiError:
    """For a file:// URL where they are not allowed."""
    return JiemiError(
        "SchemeNotAllowed",
        f"{FIELD}: this Krapao follows no file:// URLs",
        "Use the address of a git host; the operator may allow file:// with `jiemi krapao --allow-file-urls`.",
    )


def _refuse(what: str, remedy: str = "") -> NoReturn:
    raise JiemiError("InvalidUrl", f"{FIELD} {what}", remedy)
