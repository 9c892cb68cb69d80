"""The Kubernetes port, for real: the only module that imports the kubernetes client.

The client loads the cluster's entry and gives the connection pool (TLS, proxy). Requests are made on it as method,
path and body (`http`): the client's models and its Watch class cost more than they give here. What an answer
means is told by `errors`, where a manifest goes by `discovery`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs
import urllib3
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import ConfigException
from kubernetes.config.kube_config import load_kube_config_from_dict
from urllib3.exceptions import HTTPError

from jiemi.blocking.http import close_pool, make_interruptible
from jiemi.core.decryptor import API_VERSION, GROUP, KIND, PLURAL
from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes import errors
from jiemi.miwen.kubernetes.access import Access, from_kubeconfig, in_cluster
from jiemi.miwen.kubernetes.counts import RequestCounter
from jiemi.miwen.kubernetes.discovery import (
    Discovery,
    Resource,
    is_path_part,
    parse_resources,
    target,
    version_path,
)
from jiemi.miwen.kubernetes.errors import Refusal
from jiemi.miwen.kubernetes.http import Answer, KubernetesHttp, Request
from jiemi.miwen.kubernetes.port import FIELD_MANAGER, JsonObject, Page

_APPLY = "application/apply-patch+yaml"
_JSON_PATCH = "application/json-patch+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json"
_STATUS = f"{PLURAL}/status"
_WATCHES = 4
"""How many watches the pool leaves places for; with more of them it may drop a connection that could be kept."""
_SECRETS = Resource("v1", "Secret", "secrets", namespaced=True)
_DECRYPTORS = Resource(API_VERSION, KIND, PLURAL, namespaced=True)


@attrs.frozen
class KubernetesSettings:
    """How the API server is reached.

    Attributes:
        kubeconfig: the operator's own file (it may name commands to run), or None: the ServiceAccount of this pod.
        context: of the kubeconfig; None: its current one.
        namespace: the one whose Decryptors are looked at; None: all.
        environment: where a pod's KUBERNETES_SERVICE_HOST and _PORT are; proxies (HTTPS_PROXY, NO_PROXY); and what the
            kubeconfig's credential plugin gets.
        request_timeout_seconds: for one try of a request, counted from when it has its place.
        watch_timeout_seconds: after this the API server is asked to end a watch.
        watch_grace_seconds: a watch on which nothing arrives for so much longer than that is half-open. The API
            server sends a bookmark each minute or so.
        max_concurrent_requests: how many run at once, watches apart; also the connections that are kept.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    environment: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    request_timeout_seconds: float = 30.0
    watch_timeout_seconds: float = 300.0
    watch_grace_seconds: float = 30.0
    max_concurrent_requests: int = 16


@asynccontextmanager
async def open_kubernetes(settings: KubernetesSettings) -> AsyncIterator[RealKubernetes]:
    """The cluster, for as long as the context lasts. Nothing is asked of it yet.

    Raises:
        JiemiError: KubeconfigInvalid. The message says what was looked for.
    """
    async with open_http(settings) as http:
        yield RealKubernetes(http, settings)


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
        connection_pool_maxsize=settings.max_concurrent_requests + _WATCHES,
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


class RealKubernetes:
    """The port `Kubernetes`, for real. Made by `open_kubernetes`.

    Attributes:
        requests: counts every request that is sent.
    """

    def __init__(self, http: KubernetesHttp, settings: KubernetesSettings) -> None:
        self.requests: RequestCounter = http.requests
        self._http = http
        self._namespace = settings.namespace
        self._watch_timeout_seconds = settings.watch_timeout_seconds
        self._discovery = Discovery(self._fetch_kinds)

    async def list_decryptors(self, *, limit: int, continue_token: str | None) -> Page:
        """See the port."""
        query = {"limit": str(limit)} | ({"continue": continue_token} if continue_token else {})
        doing = "listing the Decryptors"
        answer = await self._http.send(Request("list", PLURAL, doing, "GET", self._decryptors_path(), query))
        if not answer.good:
            raise self._list_failure(answer.refusal, doing, "list", from_token=continue_token is not None)
        listed = self._object(answer, doing)
        metadata, items = listed.get("metadata"), listed.get("items") or []
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if not isinstance(metadata, dict) or not isinstance(version, str) or not isinstance(items, list):
            raise self._no_kubernetes(doing)
        return Page(tuple(item for item in items if isinstance(item, dict)), version, metadata.get("continue") or None)

    @asynccontextmanager
    async def watch_decryptors(self, *, resource_version: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """See the port."""
        query = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, int(self._watch_timeout_seconds))),
        }
        doing = "watching the Decryptors"
        request = Request("watch", PLURAL, doing, "GET", self._decryptors_path(), query)
        async with self._http.stream(request) as opened:
            if isinstance(opened, Answer):
                raise self._list_failure(opened.refusal, doing, "watch", from_token=True)
            yield opened

    async def get_secret(self, namespace: str, name: str) -> JsonObject:
        """See the port."""
        label = f"Secret {namespace}/{name}"
        if not is_path_part(namespace) or not is_path_part(name):
            raise JiemiError("SecretNotFound", f"{label}: no Secret can have that name")
        doing = f"reading {label}"
        answer = await self._http.send(Request("get", "secrets", doing, "GET", _SECRETS.path(namespace, name)))
        if answer.status == HTTPStatus.NOT_FOUND:
            raise JiemiError("SecretNotFound", f"there is no {label}")
        if answer.status == HTTPStatus.FORBIDDEN:
            raise errors.forbidden(
                "SecretForbidden", doing, verbs="`get`", resource="secrets", group="", namespace=namespace
            )
        return self._object(answer, doing)

    async def apply(self, manifest: JsonObject, *, default_namespace: str) -> JsonObject:
        """See the port."""
        api_version, kind = str(manifest["apiVersion"]), str(manifest["kind"])
        resource = await self._discovery.find(api_version, kind)
        if resource is None:
            raise errors.kind_unknown(api_version, kind)
        to = target(manifest, resource, default_namespace=default_namespace)
        answer = await self._http.send(
            Request(
                verb="apply",
                resource=resource.plural,
                doing=f"applying {to.label}",
                method="PATCH",
                path=resource.path(to.namespace, to.name),
                query={"fieldManager": FIELD_MANAGER, "force": "true"},
                body=json.dumps(to.body, separators=(",", ":")).encode(),
                content_type=_APPLY,
                accept=_METADATA_ONLY,
            )
        )
        if not answer.good:
            failure = errors.apply_failure(answer.refusal, resource, to.namespace, to.label)
            if failure.failure.reason == "KindUnknown":
                self._discovery.forget(api_version)
            raise failure
        metadata = self._object(answer, f"applying {to.label}").get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        wanted = ("name", "namespace", "uid", "resourceVersion")
        return {field: metadata[field] for field in wanted if field in metadata}

    async def patch_status(self, namespace: str, name: str, status: JsonObject, *, uid: str) -> JsonObject | None:
        """See the port."""
        label = f"Decryptor {namespace}/{name}"
        doing = f"writing the status of {label}"
        # Not a merge patch: it keeps fields that are no longer given, and the API server ignores a uid in the body of
        # one for a custom resource's status (tried with 1.37). `add` replaces what is there (RFC 6902, 4.1).
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": dict(status)},
        ]
        answer = await self._http.send(
            Request(
                "patch",
                _STATUS,
                doing,
                "PATCH",
                f"{_DECRYPTORS.path(namespace, name)}/status",
                {"fieldManager": FIELD_MANAGER},
                json.dumps(patch).encode(),
                _JSON_PATCH,
            )
        )
        refusal = answer.refusal
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status == HTTPStatus.FORBIDDEN:
            raise errors.forbidden(
                "ListForbidden",
                doing,
                verbs="`patch`",
                resource=_STATUS,
                group=GROUP,
                namespace=self._namespace,
            )
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY and not refusal.causes and not refusal.of_name:
            # The `test` failed. An invalid status is refused with the same code, but its object and fields are named.
            return None
        if answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
            fields = ", ".join(errors.safe_field(cause.field) or "status" for cause in refusal.causes)
            raise JiemiError(
                "ApplyRejected",
                f"{doing}: the CustomResourceDefinition does not allow it ({fields}); apply this release's CRD",
            )
        if answer.status == HTTPStatus.CONFLICT:
            raise JiemiError("ApplyConflict", f"{label} was changed by another at the same moment")
        return self._object(answer, doing)

    def _decryptors_path(self) -> str:
        namespace = self._namespace
        if namespace is None:
            return f"{version_path(API_VERSION)}/{PLURAL}"
        if not is_path_part(namespace):
            raise JiemiError("ListForbidden", "no namespace can have the name that --namespace gives")
        return f"{version_path(API_VERSION)}/namespaces/{namespace}/{PLURAL}"

    def _list_failure(self, refusal: Refusal, doing: str, verb: str, *, from_token: bool) -> JiemiError:
        if refusal.code == HTTPStatus.FORBIDDEN:
            namespace = self._namespace
            return errors.forbidden(
                "ListForbidden", doing, verbs=f"`{verb}`", resource=PLURAL, group=GROUP, namespace=namespace
            )
        if refusal.code == HTTPStatus.NOT_FOUND:
            return JiemiError("ListForbidden", f"{doing}: the CRD {PLURAL}.{GROUP} is not installed; apply deploy/")
        newer = any(cause.reason == "ResourceVersionTooLarge" for cause in refusal.causes)
        # A token or version that the server can't read, or that is ahead of it (its data was put back to a backup), is
        # as useless as one that is too old.
        useless = from_token and (newer or refusal.code == HTTPStatus.BAD_REQUEST)
        if refusal.code == HTTPStatus.GONE or useless:
            return JiemiError("WatchExpired", f"{doing}: the API server no longer has the changes since then")
        return errors.unavailable(doing, refusal)

    async def _fetch_kinds(self, api_version: str) -> Mapping[str, Resource]:
        doing = f"asking for the kinds of {api_version}"
        answer = await self._http.send(Request("get", "discovery", doing, "GET", version_path(api_version)))
        if answer.status == HTTPStatus.NOT_FOUND:
            return {}
        return parse_resources(api_version, self._object(answer, doing))

    def _object(self, answer: Answer, doing: str) -> dict[str, Any]:
        """The object in an answer; whatever it is else, is an error."""
        if not answer.good:
            raise errors.unavailable(doing, answer.refusal)
        try:
            value = json.loads(answer.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise self._no_kubernetes(doing)
        return value

    def _no_kubernetes(self, doing: str) -> JiemiError:
        return JiemiError("ClusterUnavailable", f"{doing}: {self._http.server} did not answer as a Kubernetes API does")
