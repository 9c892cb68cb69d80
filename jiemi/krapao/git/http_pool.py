"""Connections over http and https to hosts of a tenant's choice: guarded, bounded, and ended with their call.

git's own requests and those to a host's API go through here alike: the same authorities and client certificate, the
same judgement of addresses, the same proxy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import urllib3

from jiemi.concurrency.http import Watch, close_pool, make_interruptible
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.tls_context import proxy_context, tls_context
from jiemi.krapao.network.connecting import permit_by
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import GitCredentials


@contextlib.contextmanager
def guarded_pool(
    host: str, field: str, credentials: GitCredentials, settings: KrapaoSettings, meter: Meter
) -> Iterator[urllib3.PoolManager]:
    """A pool for requests to one host; its connections end with the context.

    Args:
        host: in lower case and without brackets. Its name is judged already (`require_name`).
        field: of the spec, that names the host.

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
    permit, proxy = None, settings.http_proxy
    if proxy is None or not proxy.is_for(host):
        pool, permit = urllib3.PoolManager(**options), permit_by(settings.addresses, field)
    else:
        # The proxy is the operator's own choice. It will look the host's name up, so only the name could be judged.
        headers = {"Proxy-Authorization": proxy.authorization.reveal()} if proxy.authorization is not None else None
        pool = urllib3.ProxyManager(
            proxy.url, proxy_headers=headers, proxy_ssl_context=proxy_context(settings.ca_bundle), **options
        )
    watched = make_interruptible(pool, Watch(permit, meter.arrived))
    try:
        yield watched
    finally:
        close_pool(pool)
