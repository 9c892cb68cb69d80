"""The Kubernetes port, for real: the Decryptors, and what goes with them.

Objects of any kind are in `real_objects`, lists and watches in `real_lists`; what an answer means is in `errors`, where
a manifest goes in `discovery`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any

from jiemi.concurrency.fair_limiter import FairLimiter
from jiemi.core.api.decryptor import API_VERSION, GROUP, KIND, PLURAL
from jiemi.core.errors import JiemiError
from jiemi.core.objects.managed_fields import FIELD_MANAGER
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes import errors
from jiemi.miwen.kubernetes.connection import KubernetesSettings, open_http
from jiemi.miwen.kubernetes.counts import RequestCounter
from jiemi.miwen.kubernetes.discovery import (
    ALL_KINDS,
    Discovery,
    Resource,
    is_path_part,
    label,
    parse_all_kinds,
    parse_resources,
    version_path,
)
from jiemi.miwen.kubernetes.errors import Act
from jiemi.miwen.kubernetes.fence import Fence
from jiemi.miwen.kubernetes.http import JSON, Answer, KubernetesHttp, Request
from jiemi.miwen.kubernetes.missing_rights import Right, RightMissing
from jiemi.miwen.kubernetes.port import (
    Account,
    EndpointSlices,
    JsonObject,
    Leases,
    Page,
)
from jiemi.miwen.kubernetes.real_endpoint_slices import RealEndpointSlices
from jiemi.miwen.kubernetes.real_leases import RealLeases
from jiemi.miwen.kubernetes.real_lists import MAX_PAGE_BYTES, Collection, Lists
from jiemi.miwen.kubernetes.real_objects import JSON_PATCH, METADATA_ONLY, RealObjects, must_be
from jiemi.miwen.kubernetes.refusal import Refusal

_STATUS = f"{PLURAL}/status"
_FINALIZERS = "metadata.finalizers"
SECRETS_AT_ONCE = 4
"""How many Secrets are read at once, shared fairly between namespaces: each may take 1.5 MiB."""

_SECRETS = Resource("v1", "Secret", "secrets", namespaced=True)
_DECRYPTORS = Resource(API_VERSION, KIND, PLURAL, namespaced=True)
_EVENTS = Resource("events.k8s.io/v1", "Event", "events", namespaced=True)


@asynccontextmanager
async def open_kubernetes(settings: KubernetesSettings) -> AsyncIterator[RealKubernetes]:
    """The cluster, for as long as the context lasts. Nothing is asked of it yet.

    Raises:
        JiemiError: KubeconfigInvalid. The message says what was looked for.
    """
    async with open_http(settings) as http:
        yield RealKubernetes(http, settings)


class RealKubernetes:
    """The port `Kubernetes`, for real. Made by `open_kubernetes`.

    Attributes:
        requests: counts every request that is sent.
        fence: until when it may write.
        leases: the Leases.
        endpoint_slices: the EndpointSlices.
    """

    def __init__(self, http: KubernetesHttp, settings: KubernetesSettings) -> None:
        self.requests: RequestCounter = http.requests
        self.fence: Fence = http.fence
        self.leases: Leases = RealLeases(http)
        self._http = http
        self._namespaces = settings.namespaces
        self._lists = Lists(http, watch_timeout_seconds=settings.watch_timeout_seconds)
        self.endpoint_slices: EndpointSlices = RealEndpointSlices(self._lists)
        self._discovery = Discovery(self._fetch_kinds, self._fetch_all_kinds)
        self._reading = FairLimiter(SECRETS_AT_ONCE)

    # --- lists and watches

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """See the port."""
        return self._namespaces or (None,)

    async def list_decryptors(self, *, limit: int, continue_token: str | None, namespace: str | None = None) -> Page:
        """See the port."""
        return await self._lists.page(self._decryptors(namespace), limit=limit, continue_token=continue_token)

    def watch_decryptors(
        self, *, resource_version: str, namespace: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See the port."""
        return self._lists.watch(self._decryptors(namespace), resource_version=resource_version)

    async def list_metadata(
        self,
        resource: Resource,
        *,
        label_selector: str,
        field_selector: str,
        limit: int,
        continue_token: str | None,
        namespace: str | None = None,
    ) -> Page:
        """See the port."""
        selected = self._metadata_of(resource, label_selector, field_selector, namespace)
        return await self._lists.page(selected, limit=limit, continue_token=continue_token)

    def watch_metadata(
        self,
        resource: Resource,
        *,
        label_selector: str,
        field_selector: str,
        resource_version: str,
        namespace: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See the port."""
        selected = self._metadata_of(resource, label_selector, field_selector, namespace)
        return self._lists.watch(selected, resource_version=resource_version)

    def _decryptors(self, namespace: str | None) -> Collection:
        namespace = self._looked_at(namespace, "ListForbidden")

        def failure(refusal: Refusal, doing: str, _: str) -> JiemiError:
            if refusal.code == HTTPStatus.FORBIDDEN:
                return _forbidden(doing, ("list", "watch"), PLURAL, namespace)
            if refusal.code == HTTPStatus.NOT_FOUND:
                return JiemiError("ListForbidden", f"{doing}: the CRD {PLURAL}.{GROUP} is not installed; apply deploy/")
            return errors.unavailable(doing, refusal)

        return Collection(_DECRYPTORS, namespace, "the Decryptors", failure)

    def _metadata_of(
        self, resource: Resource, label_selector: str, field_selector: str, namespace: str | None
    ) -> Collection:
        namespace = self._looked_at(namespace, "WatchForbidden") if resource.namespaced else None

        def failure(refusal: Refusal, doing: str, _: str) -> JiemiError:
            if refusal.code == HTTPStatus.NOT_FOUND:
                self._discovery.forget(resource.api_version)
                return errors.kind_unknown(resource.api_version, resource.kind)
            act = Act(doing, resource.plural, resource, namespace, followed=namespace in self.scopes)
            return errors.access_failure(refusal, act, "WatchForbidden", "list", "watch")

        return Collection(
            resource, namespace, resource.plural, failure, label_selector, field_selector, metadata_only=True
        )

    def _looked_at(self, namespace: str | None, reason: str) -> str | None:
        """The namespace that is listed or watched; None: all."""
        if namespace is None and len(self._namespaces) == 1:
            namespace = self._namespaces[0]
        if namespace is not None and not is_path_part(namespace):
            raise JiemiError(reason, "no namespace can have the name that --namespace gives")
        return namespace

    # --- objects

    def objects(self, account: Account | None) -> RealObjects:
        """See the port."""
        return RealObjects(self._http, self._discovery, account, self.scopes)

    async def _fetch_kinds(self, api_version: str) -> Mapping[str, Resource]:
        doing = f"asking for the kinds of {api_version}"
        answer = await self._http.send(Request("get", "discovery", doing, "GET", version_path(api_version)))
        if answer.status == HTTPStatus.NOT_FOUND:
            return {}
        return parse_resources(api_version, self._http.object_in(answer, doing))

    async def _fetch_all_kinds(self) -> Sequence[Resource]:
        doing = "asking for all kinds"
        found: list[Resource] = []
        for path in ("/api", "/apis"):
            request = Request("list", "discovery", doing, "GET", path, accept=ALL_KINDS, max_bytes=MAX_PAGE_BYTES)
            found += parse_all_kinds(self._http.object_in(await self._http.send(request), doing))
        return found

    # --- Secrets, Decryptors, Events

    async def get_secret(self, namespace: str, name: str) -> JsonObject:
        """See the port."""
        what = label("Secret", namespace, name)
        if not is_path_part(namespace) or not is_path_part(name):
            raise JiemiError("SecretNotFound", f"{what}: no Secret can have that name", "Correct `secretName`.")
        doing = f"reading {what}"
        request = Request("get", "secrets", doing, "GET", _SECRETS.path(namespace, name), max_bytes=MAX_PAGE_BYTES)
        # Each takes some megabytes while it is read. Whoever asked keeps what it needs of it before it awaits again.
        async with self._reading.slot(namespace):
            answer = await self._http.send(request)
        if answer.status == HTTPStatus.NOT_FOUND:
            raise JiemiError("SecretNotFound", f"there is no {what}")
        if answer.status == HTTPStatus.FORBIDDEN:
            raise RightMissing("SecretForbidden", doing, Right(("get",), "secrets", "", namespace))
        return self._http.object_in(answer, doing)

    async def create_secret(
        self,
        namespace: str,
        name: str,
        data: Mapping[str, SensitiveText],
        *,
        of_type: str = "Opaque",
        labels: Mapping[str, str] | None = None,
    ) -> bool:
        """See the port."""
        act = Act("creating", label("Secret", namespace, name), _SECRETS, namespace)
        body = {
            "apiVersion": _SECRETS.api_version,
            "kind": _SECRETS.kind,
            "type": of_type,
            "metadata": {"namespace": namespace, "name": name, "labels": dict(labels or {})},
            "data": _encoded(data),
        }
        return await self._create(act, body, "SecretForbidden")

    async def replace_secret(self, secret: JsonObject, data: Mapping[str, SensitiveText]) -> bool:
        """See the port."""
        namespace, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
        act = Act("writing", label("Secret", namespace, name), _SECRETS, namespace)
        # With the resourceVersion that was read, the API server writes it only where that is still the newest.
        body = json.dumps({**secret, "data": _encoded(data)}).encode()
        path, query = _SECRETS.path(namespace, name), {"fieldManager": FIELD_MANAGER}
        answer = await self._http.send(
            Request("update", "secrets", act.doing, "PUT", path, query, body, JSON, METADATA_ONLY)
        )
        if answer.good:
            return True
        refusal = answer.refusal
        if refusal.code in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND} and not refusal.by_admission:
            return False
        failure = errors.apply_failure(refusal, act)
        if failure.failure.reason == "ApplyForbidden":
            failure = errors.access_failure(refusal, act, "SecretForbidden", "update")
        raise failure

    async def get_decryptor(self, namespace: str, name: str) -> JsonObject | None:
        """See the port."""
        if not is_path_part(namespace) or not is_path_part(name):
            return None
        doing = f"reading {label(KIND, namespace, name)}"
        answer = await self._http.send(Request("get", PLURAL, doing, "GET", _DECRYPTORS.path(namespace, name)))
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status == HTTPStatus.FORBIDDEN:
            raise _forbidden(doing, ("get",), PLURAL, namespace)
        return self._http.object_in(answer, doing)

    async def patch_status(
        self, namespace: str, name: str, status: JsonObject, *, uid: str, keep_rest: bool = False
    ) -> JsonObject | None:
        """See the port."""
        act = _act("writing the status of", namespace, name)
        # Not a merge patch: it keeps fields that are no longer given, and the API server ignores a uid in the body of
        # one for a custom resource's status (tried with 1.37). `add` replaces what is there (RFC 6902, 4.1).
        parts = (
            {f"/status/{field}": value for field, value in status.items()} if keep_rest else {"/status": dict(status)}
        )
        patch = [must_be("metadata", "uid", value=uid)]
        patch += [{"op": "add", "path": path, "value": value} for path, value in parts.items()]
        answer = await self._patch(act, _STATUS, f"{_DECRYPTORS.path(namespace, name)}/status", patch)
        if answer is None or not answer.good:
            return None
        return self._http.object_in(answer, act.doing)

    async def set_finalizers(
        self, namespace: str, name: str, finalizers: Sequence[str], *, uid: str, resource_version: str
    ) -> JsonObject | None:
        """See the port."""
        act = _act("writing the finalizers of", namespace, name)
        patch = [
            must_be("metadata", "uid", value=uid),
            must_be("metadata", "resourceVersion", value=resource_version),
            {"op": "add", "path": "/metadata/finalizers", "value": list(finalizers)},
        ]
        answer = await self._patch(act, PLURAL, _DECRYPTORS.path(namespace, name), patch)
        if answer is None:
            return None
        if not answer.good:
            live = await self.get_decryptor(namespace, name)
            if live is None or live["metadata"]["uid"] != uid:
                return None
            raise errors.changed(act.label)
        made = self._http.object_in(answer, act.doing)
        # The last finalizer of an object that is being deleted: it is answered once more, and is gone.
        gone = not finalizers and "deletionTimestamp" in made["metadata"]
        return None if gone else made

    async def create_event(self, namespace: str, event: JsonObject) -> None:
        """See the port."""
        name = event["metadata"]["name"]
        act = Act("creating an Event", label("Event", namespace, name), _EVENTS, namespace)
        metadata = {**event["metadata"], "namespace": namespace}
        made = {"apiVersion": _EVENTS.api_version, "kind": _EVENTS.kind, **event, "metadata": metadata}
        await self._create(act, made, "EventForbidden")

    async def _create(self, act: Act, body: JsonObject, forbidden: str) -> bool:
        """Make an object; whether it was not there yet."""
        namespace = act.namespace or ""
        answer = await self._http.send(
            Request(
                "create",
                act.resource.plural,
                act.doing,
                "POST",
                act.resource.collection_path(namespace),
                {"fieldManager": FIELD_MANAGER},
                json.dumps(body).encode(),
                JSON,
                METADATA_ONLY,
            )
        )
        refusal = answer.refusal
        if answer.good:
            return True
        if refusal.code == HTTPStatus.CONFLICT and refusal.reason == "AlreadyExists":
            return False
        failure = errors.apply_failure(refusal, act)
        if failure.failure.reason == "ApplyForbidden":
            failure = errors.access_failure(refusal, act, forbidden, "create")
        raise failure

    async def _patch(self, act: Act, resource: str, path: str, patch: list[dict[str, Any]]) -> Answer | None:
        """A JSON patch of a Decryptor: what was answered, or None when there is none.

        Of the refusals, only one is returned: that the patch does not fit the object (`Refusal.of_patch`).
        """
        query, body = {"fieldManager": FIELD_MANAGER}, json.dumps(patch).encode()
        answer = await self._http.send(Request("patch", resource, act.doing, "PATCH", path, query, body, JSON_PATCH))
        if answer.good:
            return answer
        refusal = answer.refusal
        if refusal.by_admission:
            raise errors.apply_failure(refusal, act)
        if refusal.of_patch:
            return answer
        if refusal.code == HTTPStatus.NOT_FOUND:
            return None
        if refusal.code == HTTPStatus.FORBIDDEN:
            raise _forbidden(act.doing, ("patch",), resource, act.namespace)
        # No finalizer can be added to what is being deleted: whoever asks for that does not know it yet.
        too_late = any(cause.field == _FINALIZERS and cause.reason == "FieldValueForbidden" for cause in refusal.causes)
        if refusal.code == HTTPStatus.CONFLICT or too_late:
            raise errors.changed(act.label)
        if refusal.is_too_large:
            raise JiemiError(
                "ApplyRejected",
                f"{act.doing}: the Decryptor becomes larger than the API server takes",
                "Make its spec smaller, or split it into several Decryptors.",
            )
        if refusal.code in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
            raise errors.decryptor_refused(refusal, act)
        raise errors.unavailable(act.doing, refusal)


def _forbidden(doing: str, verbs: tuple[str, ...], resource: str, namespace: str | None) -> JiemiError:
    """Miwen itself lacks a right that it always needs."""
    return RightMissing("ListForbidden", doing, Right(verbs, resource, GROUP, namespace))


def _encoded(data: Mapping[str, SensitiveText]) -> dict[str, str]:
    """As a Secret has its data."""
    return {key: base64.b64encode(value.reveal().encode()).decode() for key, value in data.items()}


def _act(doing: str, namespace: str, name: str) -> Act:
    what = label(KIND, namespace, name)
    return Act(f"{doing} {what}", what, _DECRYPTORS, namespace)
