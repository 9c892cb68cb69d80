"""A real API server for tests: an administrator's hands on it, and access with few rights."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from contract.tcp_proxy import TcpProxy
from ruamel.yaml import YAML
from support.kubernetes.stand_in_kubelet import NODE, NODE_MANIFEST, STRATEGIC_MERGE, ready_status

from jiemi.core.api.crd import crd
from jiemi.core.api.decryptor import API_VERSION, GROUP, PLURAL
from jiemi.core.errors import JiemiError
from jiemi.core.objects.endpoints import endpoints
from jiemi.miwen.kubernetes.connection import KubernetesSettings, open_http
from jiemi.miwen.kubernetes.discovery import Discovery, Resource, parse_resources, version_path
from jiemi.miwen.kubernetes.http import Answer, KubernetesHttp, Request
from jiemi.miwen.kubernetes.port import Account, JsonObject, Kubernetes
from jiemi.miwen.kubernetes.real import RealKubernetes, open_kubernetes

DEADLINE_SECONDS = 30

RIGHTS = {("list", "decryptors"), ("watch", "decryptors")}
"""Of an account that follows Decryptors."""

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_GROUPS = {PLURAL: GROUP, "events": "events.k8s.io", "roles": "rbac.authorization.k8s.io"} | {
    "endpointslices": "discovery.k8s.io"
}
"""API groups of the resources that rights name; the core group for others."""

_MERGE_PATCH = "application/merge-patch+json"


class Admin:
    """May do anything."""

    def __init__(self, http: KubernetesHttp) -> None:
        self.http = http
        self._discovery = Discovery(self._fetch_kinds)

    async def send(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Answer:
        """Any request; its answer may be a refusal."""
        data = None if body is None else json.dumps(body).encode()
        return await self.http.send(Request("admin", "any", path, method, path, {}, data, content_type))

    async def must(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> JsonObject:
        """A request that succeeds; returns its JSON."""
        answer = await self.send(method, path, body, content_type)
        assert answer.good, (method, path, answer.status, answer.body)
        found: JsonObject = json.loads(answer.body)
        return found

    async def put(self, obj: JsonObject, manager: str = "tests") -> Mapping[str, Any]:
        """Create or replace an object, as another field manager than Miwen."""
        metadata = obj["metadata"]
        path = await self._path(obj["apiVersion"], obj["kind"], metadata.get("namespace"), metadata["name"])
        collection = path.rpartition("/")[0]
        old = await self.send("GET", path)
        if old.status == 404:
            return await self.must("POST", f"{collection}?fieldManager={manager}", obj)
        version = json.loads(old.body)["metadata"]["resourceVersion"]
        new = {**obj, "metadata": {**metadata, "resourceVersion": version}}
        return await self.must("PUT", f"{path}?fieldManager={manager}", new)

    async def edit(
        self, api_version: str, kind: str, namespace: str | None, name: str, changes: JsonObject, manager: str = "tests"
    ) -> Mapping[str, Any]:
        """Change fields of an object by a JSON merge patch, as another field manager than Miwen."""
        path = await self._path(api_version, kind, namespace, name)
        return await self.must("PATCH", f"{path}?fieldManager={manager}", changes, _MERGE_PATCH)

    async def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Mapping[str, Any]:
        return await self.must("GET", await self._path(api_version, kind, namespace, name))

    async def exists(self, api_version: str, kind: str, namespace: str | None, name: str) -> bool:
        return (await self.send("GET", await self._path(api_version, kind, namespace, name))).good

    async def delete(self, api_version: str, kind: str, namespace: str | None, name: str) -> None:
        await self.must("DELETE", await self._path(api_version, kind, namespace, name))

    async def new_namespace(self, finalizers: Sequence[str] = ()) -> str:
        """A namespace that no other test has.

        Args:
            finalizers: what keeps it in deletion.
        """
        name = f"t{uuid.uuid4().hex[:12]}"
        await self.must("POST", "/api/v1/namespaces", {"metadata": {"name": name, "finalizers": list(finalizers)}})
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
        rbac = f"{_RBAC}/namespaces/{namespace}"
        await self.must("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
        rules = [
            {"apiGroups": [_group_of(resource)], "resources": [resource], "verbs": [verb]}
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
            "group": _group_of(resource),
            "resource": plural,
            "subresource": subresource,
        }
        user = f"system:serviceaccount:{namespace}:{account}"
        review = {"spec": {"resourceAttributes": attributes, "user": user}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        while not (await self.must("POST", path, review))["status"]["allowed"]:  # noqa: ASYNC110
            await trio.sleep(0.02)

    async def policy(self, name: str, policy: JsonObject) -> None:
        """Install a ValidatingAdmissionPolicy with its binding (to be removed with `remove_policy`)."""
        await self.must(
            "POST", f"{_ADMISSION}/validatingadmissionpolicies", {"metadata": {"name": name}, "spec": policy}
        )
        binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
        await self.must("POST", f"{_ADMISSION}/validatingadmissionpolicybindings", binding)

    async def remove_policy(self, name: str) -> None:
        await self.send("DELETE", f"{_ADMISSION}/validatingadmissionpolicybindings/{name}")
        await self.send("DELETE", f"{_ADMISSION}/validatingadmissionpolicies/{name}")

    async def quota(self, namespace: str, name: str, hard: Mapping[str, str]) -> None:
        """A ResourceQuota whose controller has counted what is there."""
        path = f"/api/v1/namespaces/{namespace}/resourcequotas"
        await self.must("POST", path, {"metadata": {"name": name}, "spec": {"hard": hard}})
        with trio.fail_after(DEADLINE_SECONDS):
            while "used" not in (await self.must("GET", f"{path}/{name}"))["status"]:  # noqa: ASYNC110
                await trio.sleep(0.02)

    async def serve(self, namespace: str, service: str, pods: Collection[str]) -> None:
        """Have these Pods, and no others, behind a Service. What a kubelet writes is written here."""
        at, labels = f"/api/v1/namespaces/{namespace}", {"app": service}
        ports = [{"name": "capnp", "port": 50208, "targetPort": "capnp"}]
        spec = {"clusterIP": "None", "selector": labels, "ports": ports}
        for path, manifest in (
            ("/api/v1/nodes", NODE_MANIFEST),
            (f"{at}/services", {"metadata": {"name": service}, "spec": spec}),
        ):
            assert (await self.send("POST", path, manifest)).status in (201, 409)
        listed = (await self.must("GET", f"{at}/pods?labelSelector=app={service}"))["items"]
        there = {each["metadata"]["name"] for each in listed}
        for name in there - set(pods):
            await self.must("DELETE", f"{at}/pods/{name}", {"gracePeriodSeconds": 0})
        container = {"name": "app", "image": "example.org/app:1", "ports": [{"name": "capnp", "containerPort": 50208}]}
        for number, name in enumerate(sorted(set(pods) - there), 2 + len(there)):
            pod = {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": NODE, "containers": [container]}}
            with trio.fail_after(DEADLINE_SECONDS):
                # 403: the controller has not made the namespace's default ServiceAccount yet.
                while (await self.send("POST", f"{at}/pods", pod)).status == 403:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            ready = ready_status(pod, f"10.88.0.{number}")
            await self.must("PATCH", f"{at}/pods/{name}/status", ready, STRATEGIC_MERGE)
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        path += f"?labelSelector=kubernetes.io/service-name={service}"
        with trio.fail_after(DEADLINE_SECONDS):
            while {  # noqa: ASYNC110
                each.pod for each in endpoints((await self.must("GET", path))["items"], "capnp") if each.ready
            } != set(pods):
                await trio.sleep(0.02)

    async def _fetch_kinds(self, api_version: str) -> Mapping[str, Resource]:
        answer = await self.send("GET", version_path(api_version))
        return parse_resources(api_version, json.loads(answer.body)) if answer.good else {}

    async def _path(self, api_version: str, kind: str, namespace: str | None, name: str) -> str:
        resource = await self._discovery.find(api_version, kind)
        assert resource is not None, (api_version, kind)
        return resource.path(namespace, name)


def _group_of(resource: str) -> str:
    return _GROUPS.get(resource.partition("/")[0], "")


@attrs.define
class RealWorld:
    """What the contract asks for, on a real API server."""

    kubernetes: RealKubernetes
    namespace: str
    admin: Admin
    kubeconfig: Path
    directory: Path
    doomed: str | None = None

    async def put(self, obj: JsonObject, *, manager: str = "tests") -> Mapping[str, Any]:
        return await self.admin.put(obj, manager)

    async def edit(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        name: str,
        changes: JsonObject,
        *,
        manager: str = "tests",
    ) -> Mapping[str, Any]:
        return await self.admin.edit(api_version, kind, namespace, name, changes, manager)

    async def delete(self, api_version: str, kind: str, namespace: str | None, name: str) -> None:
        await self.admin.delete(api_version, kind, namespace, name)

    async def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Mapping[str, Any]:
        return await self.admin.get(api_version, kind, namespace, name)

    async def exists(self, api_version: str, kind: str, namespace: str | None, name: str) -> bool:
        return await self.admin.exists(api_version, kind, namespace, name)

    async def doomed_namespace(self) -> str:
        self.doomed = await self.admin.new_namespace(finalizers=["tests.example/stays"])
        await self.admin.delete("v1", "Namespace", None, self.doomed)
        return self.doomed

    async def serve(self, service: str, *pods: str) -> None:
        await self.admin.serve(self.namespace, service, pods)

    @asynccontextmanager
    async def policy(self, reason: str = "Invalid") -> AsyncIterator[str]:
        name = f"{self.namespace}-policy"
        here = {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"]}
        operations = ["CREATE", "UPDATE", "DELETE"]
        policy = {
            "matchConstraints": {"resourceRules": [{**rule, "operations": operations}], "namespaceSelector": here},
            "validations": [
                {
                    "reason": reason,
                    "expression": "request.operation == 'DELETE'"
                    " ? !has(oldObject.data) || !('kept' in oldObject.data)"
                    " : !has(object.data) || !('banned' in object.data)",
                    "messageExpression": "'this value: ' + (request.operation == 'DELETE' ? string(oldObject.data.kept)"
                    " : string(object.data.banned))",
                }
            ],
        }
        await self.admin.policy(name, policy)
        try:
            path = f"/api/v1/namespaces/{self.namespace}/secrets?dryRun=All"
            probe = {"metadata": {"name": "probe"}, "data": {"banned": ""}}
            with trio.fail_after(DEADLINE_SECONDS):
                # The API server takes a moment to read the policy.
                while (await self.admin.send("POST", path, probe)).good:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            yield name
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(DEADLINE_SECONDS):
                await self.admin.remove_policy(name)

    async def quota(self, name: str, hard: Mapping[str, str]) -> None:
        await self.admin.quota(self.namespace, name, hard)

    async def account(self, rights: Collection[tuple[str, str]]) -> Account:
        return Account(self.namespace, await self.admin.account(self.namespace, rights))

    @asynccontextmanager
    async def limited(self, rights: Collection[tuple[str, str]]) -> AsyncIterator[RealKubernetes]:
        account = await self.admin.account(self.namespace, rights)
        token = await self.admin.token(self.namespace, account)
        path = write_kubeconfig(self.directory / account, self.kubeconfig, {"token": token})
        async with open_kubernetes(KubernetesSettings(kubeconfig=path, namespaces=(self.namespace,))) as kubernetes:
            yield kubernetes

    @asynccontextmanager
    async def short_watch(self) -> AsyncIterator[Kubernetes]:
        settings = KubernetesSettings(kubeconfig=self.kubeconfig, namespaces=(self.namespace,), watch_timeout_seconds=1)
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
        async with open_kubernetes(KubernetesSettings(kubeconfig=kubeconfig, namespaces=(namespace,))) as kubernetes:
            world = RealWorld(kubernetes, namespace, admin, kubeconfig, directory)
            yield world
        # Not the namespace: for its end the controller asks for every kind, which costs the API server 0.2 s of CPU.
        await admin.send("DELETE", f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}")
        if world.doomed is not None:
            await admin.edit("v1", "Namespace", None, world.doomed, {"metadata": {"finalizers": None}})


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


async def through_proxy(proxy: TcpProxy, world: RealWorld, **user: Any) -> Path:
    """A kubeconfig of an account that may list and watch, by way of the proxy."""
    if not user:
        account = await world.admin.account(world.namespace, RIGHTS)
        user = {"token": await world.admin.token(world.namespace, account)}
    server = f"https://127.0.0.1:{proxy.port}"
    return write_kubeconfig(world.directory / "through-proxy", world.kubeconfig, user, server=server)
