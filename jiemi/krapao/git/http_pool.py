"""Connections over http and https to hosts of a tenant's choice: guarded, bounded, and ended with their call.

git's own requests and those to a host's API go through here alike: the same authorities and client certificate, the
same judgement of addresses, the same proxy.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import urllib3

from jiemi.concurrency.http import Watch, close_pool, make_interruptible
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.routes import Route
from jiemi.krapao.git.tls_context import proxy_context, tls_context
from jiemi.krapao.network.connecting import Permit
from jiemi.krapao.network.proxy import Proxy
from jiemi.krapao.network.tunnel import open_tunnel
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials


@contextlib.contextmanager
def guarded_pool(
    route: Route, credentials: GitCredentials, settings: KrapaoSettings, meter: Meter
) -> Iterator[urllib3.PoolManager]:
    """A pool for requests to one host; its connections end with the context.

    Args:
        route: to the host, whose name is judged already (`require_name`).

    Raises:
        JiemiError: TlsVerificationFailed where authorities can't be read, RepositoryAccessDenied where the client
            certificate can't be used.
    """
    options: dict[str, Any] = {
        "retries": False,
        "timeout": urllib3.Timeout(connect=settings.connect_timeout_seconds, read=settings.connect_timeout_seconds),
        "maxsize": 1,
        "block": False,
        "cert_reqs": "CERT_REQUIRED",
    }
    context = tls_context(credentials, settings.ca_bundle)
    if context is not None:
        options["ssl_context"] = context
    dial = None
    pool: urllib3.PoolManager
    if route.proxy is None:
        pool = urllib3.PoolManager(**options)
    elif route.proxy.scheme == "socks5":
        pool = urllib3.PoolManager(**options)
        dial = partial(_dial, route.proxy, route.permit)
    else:
        authorization = route.proxy.authorization
        pool = urllib3.ProxyManager(
            route.proxy.url,
            proxy_headers=None if authorization is None else {"Proxy-Authorization": authorization.reveal()},
            proxy_ssl_context=proxy_context(route.proxy, credentials, settings.ca_bundle),
            **options,
        )
    watched = make_interruptible(pool, Watch(route.permit, meter.arrived, dial))
    try:
        yield watched
    finally:
        close_pool(pool)


def _dial(proxy: Proxy, permit: Permit | None, host: str, port: int, timeout_seconds: float | None) -> socket.socket:
    return open_tunnel(proxy, host.strip("[]"), port, timeout_seconds=timeout_seconds, permit=permit)
