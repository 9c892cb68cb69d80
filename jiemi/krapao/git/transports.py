"""How git's bytes travel: dulwich's clients over connections that end when their call is cancelled.

`open_client` gives a dulwich client for a location. Each client belongs to one operation on one worker thread:
nothing is kept between operations, so no connection, and no credential in one, outlives the question that it was
opened for. There is one module per kind of transport: `http_transport`, `tcp_transport` (git://), `ssh_transport`
and `file_transport`.

What dulwich would do by itself and must not: read ~/.gitconfig, ask credential helpers, follow a redirect to
another host, fall back to the dumb protocol (which downloads file by file what a listing names), use the
environment's proxies, wait for ever, and read for ever. So each client there overrides the one method that makes the
connection. What a client raises becomes a JiemiError in `host_failures`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from dulwich.client import GitClient

from jiemi.core.errors import JiemiError
from jiemi.core.urls import CREDENTIALS_FIELD, FIELD, Location, Scheme, file_url_refused
from jiemi.krapao.git.file_transport import FileClient
from jiemi.krapao.git.http_transport import http_client
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.tcp_transport import TcpClient
from jiemi.krapao.network.connecting import require_name
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

logging.getLogger("dulwich").setLevel(logging.CRITICAL)  # it repeats what the host says, as often as that says it


@contextlib.contextmanager
def open_client(
    location: Location, credentials: GitCredentials, settings: KrapaoSettings, meter: Meter
) -> Iterator[tuple[GitClient, bytes]]:
    """A dulwich client and the path to give to its methods.

    Raises:
        JiemiError: SchemeNotAllowed, AddressNotAllowed, InvalidUrl where credentials are for other schemes, or what the
            credentials' form makes impossible.
    """
    with contextlib.ExitStack() as stack:
        path = location.path.encode("utf-8", "surrogateescape")
        if location.scheme is not Scheme.FILE:
            require_name(location.host, settings.addresses, FIELD)
        _require_fitting(location, credentials)
        match location.scheme:
            case Scheme.HTTP | Scheme.HTTPS:
                yield stack.enter_context(http_client(location, credentials, settings, meter)), b""
            case Scheme.GIT:
                yield stack.enter_context(TcpClient.opened(location, credentials, settings, meter)), path
            case Scheme.SSH:
                from jiemi.krapao.git.ssh_transport import ssh_client  # noqa: PLC0415 - paramiko is slow to import, and often not needed

                yield stack.enter_context(ssh_client(location, credentials, settings, meter)), path
            case Scheme.FILE:
                if not settings.allow_file_urls:
                    raise file_url_refused()
                meter.is_git = True  # nobody's host
                yield FileClient(), path


_HTTP = (Scheme.HTTPS, Scheme.HTTP)
_SCHEMES = {
    "bearer": _HTTP,
    "caBundle": (Scheme.HTTPS,),
    "clientCertificate": (Scheme.HTTPS,),
    "githubApp": (Scheme.HTTPS,),
}
"""Credentials, by the schemes of the URLs that they are for."""


def _require_fitting(location: Location, credentials: GitCredentials) -> None:
    """Refuse credentials that would not be used, because who gave them counts on them."""
    given = {
        "bearer": credentials.bearer,
        "caBundle": credentials.ca_bundle,
        "clientCertificate": credentials.client_certificate,
        "githubApp": credentials.github_app_id,
    }
    for name, schemes in _SCHEMES.items():
        if given[name] is not None and location.scheme not in schemes:
            raise JiemiError(
                "InvalidUrl",
                f"{FIELD} is no {schemes[0].value}:// URL, and {CREDENTIALS_FIELD}.{name} is for these alone",
                f"Use the repository's {schemes[0].value}:// URL, or take {name} away.",
            )
