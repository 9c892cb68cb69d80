"""A real API server for tests: an administrator's hands on it, and access with few rights."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from ruamel.yaml import YAML

from jiemi.core.crd import crd
from jiemi.core.decryptor import API_VERSION, GROUP, KIND, PLURAL
from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.http import Answer, KubernetesHttp, Request
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes
from jiemi.miwen.kubernetes.real import KubernetesSettings, RealKubernetes, open_http, open_kubernetes

DEADLINE_SECONDS = 30

_KINDS = {
    ("v1", "Secret"): "secrets",
    ("v1", "ConfigMap"): "configmaps",
    (API_VERSION, KIND): PLURAL,
}


class Admin:
    """May do anything."""

    def __init__(self, http: KubernetesHttp) -> None:
        self.http = http

    async def send(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Answer:
        """Any request; its answer may be a refusal."""
        data = None if body is None else json.dumps(body).encode()
        return await self.http.send(Request("admin", "any", path, method, path, {}, data, content_type))

    async def must(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        """A request that succeeds; returns its JSON."""
        answer = await self.send(method, path, body, content_type)
        assert answer.good, (method, path, answer.status, answer.body)
        return json.loads(answer.body)

    async def put(self, obj: JsonObject) -> Mapping[str, Any]:
        """Create or replace an object, as another field manager than Miwen."""
        key = (obj["apiVersion"], obj["kind"])
        resource = Resource(*key, _KINDS[key], namespaced=True)
        path = resource.path(obj["metadata"]["namespace"], obj["metadata"]["name"])
        collection = path.rpartition("/")[0]
        old = await self.send("GET", path)
        if old.status == 404:
            return await self.must("POST", f"{collection}?fieldManager=tests", obj)
        version = json.loads(old.body)["metadata"]["resourceVersion"]
        return await self.must("PUT", path, {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}})

    async def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Mapping[str, Any]:
        return await self.must("GET", self._path(api_version, kind, namespace, name))

    async def delete(self, api_version: str, kind: str, namespace: str, name: str) -> None:
        await self.must("DELETE", self._path(api_version, kind, namespace, name))

    async def new_namespace(self) -> str:
        """A namespace that no other test has."""
        name = f"t{uuid.uuid4().hex[:12]}"
        await self.must("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    async def install_crd(self) -> None:
        """Install the CRD and wait until the API server serves it."""
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}?fieldManager=tests&force=true"
        await self.must("PATCH", path, crd(), "application/apply-patch+yaml")
        with trio.fail_after(DEADLINE_SECONDS):
            while not (await self.send("GET", f"/apis/{API_VERSION}/{PLURAL}?limit=1")).good:  # noqa: ASYNC110
                await trio.sleep(0.05)

    async def token(self, namespace: str, account: str, *, seconds: int = 3600) -> str:
        """A new token of a ServiceAccount (TokenRequest)."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        made = await self.must("POST", path, {"spec": {"expirationSeconds": seconds}})
        return str(made["status"]["token"])

    async def account(self, namespace: str, rights: Collection[tuple[str, str]]) -> str:
        """A ServiceAccount that has these rights in its namespace; returns its name."""
        name = f"a{uuid.uuid4().hex[:12]}"
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        await self.must("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
        rules = [
            {"apiGroups": [GROUP if resource.startswith(PLURAL) else ""], "resources": [resource], "verbs": [verb]}
            for verb, resource in sorted(rights)
        ]
        await self.must("POST", f"{rbac}/roles", {"metadata": {"name": name}, "rules": rules})
        await self.must(
            "POST",
            f"{rbac}/rolebindings",
            {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            },
        )
        with trio.fail_after(DEADLINE_SECONDS):
            for verb, resource in rights:
                await self._until_allowed(namespace, name, verb, resource)
        return name

    async def _until_allowed(self, namespace: str, account: str, verb: str, resource: str) -> None:
        plural, _, subresource = resource.partition("/")
        attributes = {
            "namespace": namespace,
            "verb": verb,
            "group": GROUP if plural == PLURAL else "",
            "resource": plural,
            "subresource": subresource,
        }
        user = f"system:serviceaccount:{namespace}:{account}"
        review = {"spec": {"resourceAttributes": attributes, "user": user}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        while not (await self.must("POST", path, review))["status"]["allowed"]:  # noqa: ASYNC110
            await trio.sleep(0.02)

    def _path(self, api_version: str, kind: str, namespace: str | None, name: str) -> str:
        plural = _KINDS[api_version, kind]
        return Resource(api_version, kind, plural, namespaced=True).path(namespace, name)


@attrs.define
class RealWorld:
    """What the contract asks for, on a real API server."""

    kubernetes: RealKubernetes
    namespace: str
    admin: Admin
    kubeconfig: Path
    directory: Path

    async def put(self, obj: JsonObject) -> Mapping[str, Any]:
        return await self.admin.put(obj)

    async def delete(self, api_version: str, kind: str, namespace: str, name: str) -> None:
        await self.admin.delete(api_version, kind, namespace, name)

    async def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Mapping[str, Any]:
        return await self.admin.get(api_version, kind, namespace, name)

    @asynccontextmanager
    async def limited(self, rights: Collection[tuple[str, str]]) -> AsyncIterator[Kubernetes]:
        account = await self.admin.account(self.namespace, rights)
        token = await self.admin.token(self.namespace, account)
        path = write_kubeconfig(self.directory / account, self.kubeconfig, {"token": token})
        async with open_kubernetes(KubernetesSettings(kubeconfig=path, namespace=self.namespace)) as kubernetes:
            yield kubernetes

    @asynccontextmanager
    async def short_watch(self) -> AsyncIterator[Kubernetes]:
        settings = KubernetesSettings(kubeconfig=self.kubeconfig, namespace=self.namespace, watch_timeout_seconds=1)
        async with open_kubernetes(settings) as kubernetes:
            yield kubernetes


@asynccontextmanager
async def open_world(kubeconfig: Path, directory: Path) -> AsyncIterator[RealWorld]:
    """A new namespace on the API server of an administrator's kubeconfig.

    Args:
        directory: for the kubeconfigs of others.
    """
    async with open_http(KubernetesSettings(kubeconfig=kubeconfig)) as http:
        admin = Admin(http)
        await admin.install_crd()
        namespace = await admin.new_namespace()
        async with open_kubernetes(KubernetesSettings(kubeconfig=kubeconfig, namespace=namespace)) as kubernetes:
            yield RealWorld(kubernetes, namespace, admin, kubeconfig, directory)
        await admin.send("DELETE", f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}")


def cluster_of(kubeconfig: Path) -> dict[str, Any]:
    """The cluster entry of an administrator's kubeconfig."""
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(kubeconfig.read_text())["clusters"][0]["cluster"]
    return found


def write_kubeconfig(path: Path, admin: Path, user: Mapping[str, Any], **cluster: Any) -> Path:
    """A kubeconfig for the same cluster, with this user entry; `cluster` changes fields of the cluster's."""
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "it",
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                "clusters": [{"name": "it", "cluster": {**cluster_of(admin), **cluster}}],
                "users": [{"name": "it", "user": dict(user)}],
            }
        )
    )
    return path


async def reason_of(kubernetes: Kubernetes) -> str:
    """Why the Decryptors can't be listed; "" where they can."""
    try:
        await kubernetes.list_decryptors(limit=1, continue_token=None)
    except JiemiError as error:
        return error.failure.reason
    return ""
