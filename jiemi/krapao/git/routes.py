"""The way to a host: straight, through the operator's proxy, or through the one that a Decryptor names.

A host that is connected to straight is judged by its addresses. One that a proxy looks up can be judged by its form and
name only (`require_name`); but a proxy that a Decryptor names is judged as a host is, by its own addresses. The
operator's is the operator's own choice.
"""

from __future__ import annotations

import socket

import attrs

from jiemi.concurrency import calls
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import FIELD, PROXY_FIELD, Location, Scheme
from jiemi.krapao.network.connecting import Permit, permit_by
from jiemi.krapao.network.proxy import Proxy, read_proxy
from jiemi.krapao.network.tunnel import open_tunnel
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials


@attrs.frozen
class Route:
    """How a host is reached.

    Attributes:
        proxy: None where it is connected to straight.
        permit: judges the addresses of what is connected to; None where nothing is judged.
    """

    proxy: Proxy | None
    permit: Permit | None


def route_to(
    host: str, scheme: Scheme, credentials: GitCredentials, settings: KrapaoSettings, field: str = FIELD
) -> Route:
    """How a host is reached.

    Args:
        host: in lower case and without brackets.
        scheme: that is spoken with it.
        field: of the spec, that names the host.

    Raises:
        JiemiError: InvalidSpec where the Decryptor's proxy is none.
    """
    own = _own_proxy(credentials)
    if own is not None:
        return Route(own, permit_by(settings.addresses, PROXY_FIELD))
    proxy = settings.proxy
    is_carried = proxy is not None and (proxy.carries_all or scheme in (Scheme.HTTP, Scheme.HTTPS))
    if proxy is not None and is_carried and proxy.is_for(host):
        return Route(proxy, None)
    return Route(None, permit_by(settings.addresses, field))


def _own_proxy(credentials: GitCredentials) -> Proxy | None:
    if credentials.proxy_url is None:
        return None
    try:
        found = read_proxy(credentials.proxy_url.reveal(), credentials=False, is_operators=False)
    except ValueError as error:
        why = "it holds a user name or password" if "password" in str(error) else str(error)
        raise JiemiError(
            "InvalidSpec",
            f"{PROXY_FIELD} names no proxy: {why}",
            "Write its address as http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, and put a user name and "
            "password beside it.",
        ) from None
    if credentials.proxy_username is None and credentials.proxy_password is None:
        return found
    if credentials.proxy_username is None or ":" in credentials.proxy_username.reveal():
        raise JiemiError(
            "InvalidSpec",
            f"{PROXY_FIELD} has a password and no user name, or a user name with a colon, as basic auth can't",
            "Put the user name alone into username, and the password into password.",
        )
    return attrs.evolve(
        found, username=credentials.proxy_username, password=credentials.proxy_password or SensitiveText("")
    )


def connect(location: Location, credentials: GitCredentials, settings: KrapaoSettings) -> socket.socket:
    """A connection to a repository's host, for what is no HTTP; its making can be interrupted. For a worker thread.

    Raises:
        JiemiError: AddressNotAllowed, InvalidSpec.
        OSError: no connection.
    """
    route = route_to(location.host, location.scheme, credentials, settings)
    timeout = settings.connect_timeout_seconds
    if route.proxy is None:
        return calls.connect_tcp(
            calls.current(), location.host, location.port, timeout_seconds=timeout, permit=route.permit
        )
    if route.proxy.scheme == "https":
        # paramiko reads and writes on threads of its own, and OpenSSL's connections are for one thread at a time.
        raise JiemiError(
            "InvalidSpec",
            f"{PROXY_FIELD} has a URL with https://, and such a proxy is for repositories over https and http alone",
            "Use a proxy with http:// or socks5://, or the repository's https:// URL.",
        )
    return open_tunnel(route.proxy, location.host, location.port, timeout_seconds=timeout, permit=route.permit)
