"""What the cluster's own controllers do with workloads, for an API server that runs alone.

It makes the Pods and claims of the Deployments and StatefulSets of a namespace, says that they are ready, takes away
those that nobody wants, lets a claim go once no Pod mounts it (pvc-protection), and fills ClusterRoles that aggregate.
The API server judges each Pod (PodSecurity) as it does with a real controller. A Pod runs nothing by itself: a program
may be given for the Pods with a label.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
from support.kubernetes.api_server import ApiServer, Manifest

COMPONENT = "app.kubernetes.io/component"
_MERGE = "application/merge-patch+json"
_ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
_PAUSE_SECONDS = 0.1
_END_SECONDS = 60

Program = Callable[[], Callable[[], object]]
"""Starts a program, and gives what ends it."""


@attrs.define
class Controllers:
    """The controllers of one namespace.

    Attributes:
        programs: by the label COMPONENT of the Pods that they are for. One runs while there is such a Pod.
        refused: what the API server said of Pods that it did not let in, by workload.
    """

    admin: ApiServer
    namespace: str
    programs: Mapping[str, Program] = attrs.Factory(dict)
    refused: dict[str, str] = attrs.Factory(dict)
    failures: list[Exception] = attrs.Factory(list)
    _running: dict[str, Callable[[], object]] = attrs.Factory(dict)

    @contextlib.contextmanager
    def running(self) -> Iterator[Controllers]:
        """They work while the context lasts.

        Raises:
            ExceptionGroup: what they failed with.
        """
        ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(ended,))
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join(_END_SECONDS)
            for end in self._running.values():
                end()
            self._running.clear()
        if self.failures:
            raise ExceptionGroup("the stand-in of the cluster's controllers failed", self.failures)

    def _run(self, ended: threading.Event) -> None:
        try:
            while not ended.wait(_PAUSE_SECONDS):
                self._work()
        except Exception as error:  # noqa: BLE001 # it is raised where the thread is waited for
            self.failures.append(error)

    def _work(self) -> None:
        if self.admin.call("GET", f"/api/v1/namespaces/{self.namespace}").status == 404:
            return
        pods, wanted = self._list("v1", "pods"), set[str]()
        for resource in ("statefulsets", "deployments"):
            for workload in self._list("apps/v1", resource):
                names = {f"{workload['metadata']['name']}-{n}" for n in range(workload["spec"]["replicas"])}
                for name in sorted(names - {pod["metadata"]["name"] for pod in pods}):
                    self._make(workload, name)
                wanted |= names
                if workload["metadata"].get("deletionTimestamp") is None:
                    self._report(resource, workload)
        for pod in pods:
            if pod["metadata"]["name"] not in wanted or not self._is_current(pod):
                self._call("DELETE", f"pods/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
        self._programs()
        self._let_claims_go()
        self._aggregate()

    def _make(self, workload: Manifest, name: str) -> None:
        spec, owner = workload["spec"], workload["metadata"]
        for template in spec.get("volumeClaimTemplates", ()):
            claim = {**template, "metadata": {**template["metadata"], "name": f"{template['metadata']['name']}-{name}"}}
            self._call("POST", "persistentvolumeclaims", {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim})
        body = spec["template"]
        volumes = [
            {
                "name": each["metadata"]["name"],
                "persistentVolumeClaim": {"claimName": f"{each['metadata']['name']}-{name}"},
            }
            for each in spec.get("volumeClaimTemplates", ())
        ]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**body["metadata"], "name": name, "annotations": {"made-for": owner["uid"]}},
            "spec": {**body["spec"], "volumes": [*body["spec"].get("volumes", ()), *volumes]},
        }
        answer = self._call("POST", "pods", pod)
        if answer.status == 403:
            self.refused[owner["name"]] = answer.body["message"]
        else:
            answer.ok()
            self.refused.pop(owner["name"], None)

    def _is_current(self, pod: Manifest) -> bool:
        owners = {
            each["metadata"]["uid"] for kind in ("statefulsets", "deployments") for each in self._list("apps/v1", kind)
        }
        return pod["metadata"].get("annotations", {}).get("made-for") in owners

    def _report(self, resource: str, workload: Manifest) -> None:
        count = 0 if workload["metadata"]["name"] in self.refused else workload["spec"]["replicas"]
        status: dict[str, Any] = dict.fromkeys(
            ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas"), count
        )
        status["observedGeneration"] = workload["metadata"]["generation"]
        revision = {"currentRevision": "1", "updateRevision": "1"} if resource == "statefulsets" else {}
        before, wanted = workload.get("status", {}), {**status, **revision}
        if any(before.get(name, 0) != value for name, value in wanted.items()):
            path = f"/apis/apps/v1/namespaces/{self.namespace}/{resource}/{workload['metadata']['name']}/status"
            self.admin.call("PATCH", path, {"status": wanted}, _MERGE)

    def _programs(self) -> None:
        there = {pod["metadata"].get("labels", {}).get(COMPONENT) for pod in self._list("v1", "pods")}
        for component, start in self.programs.items():
            if component in there and component not in self._running:
                self._running[component] = start()
            elif component not in there and component in self._running:
                self._running.pop(component)()

    def _let_claims_go(self) -> None:
        mounted = {
            volume.get("persistentVolumeClaim", {}).get("claimName")
            for pod in self._list("v1", "pods")
            for volume in pod["spec"].get("volumes", ())
        }
        for claim in self._list("v1", "persistentvolumeclaims"):
            name, metadata = claim["metadata"]["name"], claim["metadata"]
            if name not in mounted and "deletionTimestamp" in metadata and metadata.get("finalizers"):
                self._call("PATCH", f"persistentvolumeclaims/{name}", {"metadata": {"finalizers": None}}, _MERGE)

    def _aggregate(self) -> None:
        roles = self.admin.call("GET", _ROLES).ok()["items"]
        for role in roles:
            name = role["metadata"]["name"]
            if not role.get("aggregationRule") or name.startswith("system:") or name in {"admin", "edit", "view"}:
                continue
            labels = role["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"].items()
            rules = [
                rule for each in roles if labels <= each["metadata"].get("labels", {}).items() for rule in each["rules"]
            ]
            if rules != (role.get("rules") or []):
                self.admin.call("PATCH", f"{_ROLES}/{name}", {"rules": rules or None}, _MERGE)

    def _list(self, version: str, resource: str) -> list[Any]:
        prefix = "/api/v1" if version == "v1" else f"/apis/{version}"
        found: list[Any] = self.admin.call("GET", f"{prefix}/namespaces/{self.namespace}/{resource}").ok()["items"]
        return found

    def _call(self, method: str, path: str, body: Any, content_type: str = "application/json") -> Any:
        return self.admin.call(method, f"/api/v1/namespaces/{self.namespace}/{path}", body, content_type)
