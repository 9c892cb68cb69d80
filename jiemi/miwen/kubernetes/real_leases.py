"""The Leases of the API server (coordination.k8s.io/v1), for real."""

from __future__ import annotations

import json
from http import HTTPStatus

import attrs

from jiemi.core.objects.managed_fields import FIELD_MANAGER
from jiemi.miwen.kubernetes import errors
from jiemi.miwen.kubernetes.discovery import Resource, label
from jiemi.miwen.kubernetes.errors import Act
from jiemi.miwen.kubernetes.http import JSON, KubernetesHttp, Request
from jiemi.miwen.kubernetes.port import JsonObject

_LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases", namespaced=True)


@attrs.frozen
class RealLeases:
    """The port `Leases`."""

    _http: KubernetesHttp

    async def get(self, namespace: str, name: str) -> JsonObject | None:
        """See the port."""
        act = Act("reading", label("Lease", namespace, name), _LEASES, namespace)
        path = _LEASES.path(namespace, name)
        answer = await self._http.send(Request("get", "leases", act.doing, "GET", path, of_lease=True))
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status == HTTPStatus.FORBIDDEN:
            raise errors.access_failure(answer.refusal, act, "LeaseForbidden", "get")
        return self._http.object_in(answer, act.doing)

    async def write(self, namespace: str, name: str, lease: JsonObject | None, spec: JsonObject) -> JsonObject | None:
        """See the port."""
        act = Act("writing", label("Lease", namespace, name), _LEASES, namespace)
        query = {"fieldManager": FIELD_MANAGER}
        if lease is None:
            made = {
                "apiVersion": _LEASES.api_version,
                "kind": _LEASES.kind,
                "metadata": {"namespace": namespace, "name": name},
                "spec": spec,
            }
            verb, method, path = "create", "POST", _LEASES.collection_path(namespace)
        else:
            # With the resourceVersion that was read, it is written only where nobody else has written meanwhile.
            made = {**lease, "spec": spec}
            verb, method, path = "update", "PUT", _LEASES.path(namespace, name)
        body = json.dumps(made).encode()
        answer = await self._http.send(
            Request(verb, "leases", act.doing, method, path, query, body, JSON, of_lease=True)
        )
        if answer.status in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND} and not answer.refusal.by_admission:
            return None
        if answer.status == HTTPStatus.FORBIDDEN:
            raise errors.access_failure(answer.refusal, act, "LeaseForbidden", verb)
        return self._http.object_in(answer, act.doing)
