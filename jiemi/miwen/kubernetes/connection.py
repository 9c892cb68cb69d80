"""The connection to the API server: the only module that imports the kubernetes client.

The client loads the cluster's entry and gives the connection pool (TLS, proxy). Requests are made on it as method,
path and body (`http`), because the client's models and its Watch class cost more than they give here.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import urllib3
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import ConfigException
from kubernetes.config.kube_config import load_kube_config_from_dict
from urllib3.exceptions import HTTPError

from jiemi.concurrency.http import close_pool, make_interruptible
from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.access import Access, in_cluster
from jiemi.miwen.kubernetes.http import KubernetesHttp
from jiemi.miwen.kubernetes.kubeconfig import from_kubeconfig

_WATCHES = 4
"""How many watches of a namespace, or of all, the pool leaves places for; with more of them it may drop a connection
that could be kept."""


@attrs.frozen
class KubernetesSettings:
    """How the API server is reached.

    Attributes:
        kubeconfig: the operator's own file (it may name commands to run), or None: the ServiceAccount of this pod.
        context: the context of the kubeconfig; None: its current one.
        namespaces: those whose Decryptors and objects are looked at; empty: all.
        environment: variables: a pod's KUBERNETES_SERVICE_HOST and _PORT; proxies (HTTPS_PROXY, NO_PROXY); and what the
            kubeconfig's credential plugin gets.
        request_timeout_seconds: for one try of a request, counted from when it has its place.
        watch_timeout_seconds: after this the API server is asked to end a watch.
        watch_grace_seconds: a watch on which nothing arrives for so much longer than that is half-open. The API
            server sends a bookmark each minute or so.
        max_concurrent_requests: the most that run at once, watches apart; also the connections that are kept.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespaces: tuple[str, ...] = ()
    environment: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    request_timeout_seconds: float = 30.0
    watch_timeout_seconds: float = 300.0
    watch_grace_seconds: float = 30.0
    max_concurrent_requests: int = 16


@asynccontextmanager
async def open_http(settings: KubernetesSettings) -> AsyncIterator[KubernetesHttp]:
    """The way to the API server alone, for requests that the port has not.

    Raises:
        JiemiError: KubeconfigInvalid.
    """
    with contextlib.ExitStack() as memory:
        if settings.kubeconfig is None:
            access = in_cluster(settings.environment)
        else:
            access = from_kubeconfig(
                settings.kubeconfig, settings.context, environment=settings.environment, memory=memory
            )
        pool = _pool(access, settings)
        memory.callback(close_pool, pool)
        yield KubernetesHttp(
            pool,
            access,
            timeout_seconds=settings.request_timeout_seconds,
            silence_seconds=settings.watch_timeout_seconds + settings.watch_grace_seconds,
            max_concurrent_requests=settings.max_concurrent_requests,
        )


def _pool(access: Access, settings: KubernetesSettings) -> urllib3.PoolManager:
    def variable(name: str) -> str:
        return settings.environment.get(name) or settings.environment.get(name.lower()) or ""

    proxy = variable("HTTPS_PROXY" if access.server.startswith("https:") else "HTTP_PROXY")
    # An empty text, not None: for None the client looks into the environment by itself.
    configuration = Configuration(
        proxy=proxy,
        no_proxy=variable("NO_PROXY"),
        connection_pool_maxsize=settings.max_concurrent_requests + _WATCHES * max(1, len(settings.namespaces)),
    )
    configuration.keep_alive = True
    try:
        load_kube_config_from_dict(  # type: ignore[no-untyped-call]
            dict(access.entry), client_configuration=configuration, persist_config=False, temp_file_path=None
        )
        return make_interruptible(RESTClientObject(configuration).pool_manager)
    except (ConfigException, HTTPError, OSError, ValueError) as error:
        # Its text may quote the entry.
        problem = f"{access.origin} can't be used ({type(error).__name__})"
        raise JiemiError("KubeconfigInvalid", problem) from None
