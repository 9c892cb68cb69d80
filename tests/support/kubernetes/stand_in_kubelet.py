"""What a scheduler and a kubelet do with Pods, for a cluster that has the controllers and no node.

Pods are given to a node that is only an object, are reported ready as a kubelet reports them, and go once they are
asked to. No container runs, and no volume is mounted: a Pod is ready though its claim has no disk. Instead, a program
may be given for the Pods with a label.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
from support.kubernetes.api_server import ApiServer, Manifest

COMPONENT = "app.kubernetes.io/component"
NODE = "stand-in"
NODE_MANIFEST: Manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
"""As kubelets write statuses: of a list of conditions it changes those that it names."""

_PAUSE_SECONDS = 0.1
_END_SECONDS = 60

Program = Callable[[], Callable[[], object]]
"""Starts a program, and gives what ends it."""


def ready_status(pod: Manifest, address: str) -> dict[str, Any]:
    """The change that a kubelet writes into the status of a Pod whose containers all run and are ready.

    Args:
        address: the Pod's IP address.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    conditions = ("PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")
    return {
        "status": {
            "phase": "Running",
            "startTime": now,
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": each, "status": "True", "lastTransitionTime": now} for each in conditions],
            "containerStatuses": [
                {
                    "name": each["name"],
                    "image": each["image"],
                    "imageID": "",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": now}},
                }
                for each in pod["spec"]["containers"]
            ],
        }
    }


def is_ready(pod: Manifest) -> bool:
    """Whether a kubelet has said so."""
    return any(
        (each["type"], each["status"]) == ("Ready", "True") for each in pod.get("status", {}).get("conditions", ())
    )


def make_pods_ready(admin: ApiServer, namespace: str, app: str) -> int:
    """Report the Pods with that label `app` ready, without giving them to a node; returns how many there are."""
    found = admin.call("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector=app={app}").ok()["items"]
    for number, pod in enumerate(found, 2):
        if not is_ready(pod):
            path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/status"
            # 404: a newer ReplicaSet has taken its place.
            answer = admin.call("PATCH", path, ready_status(pod, f"10.88.0.{number}"), STRATEGIC_MERGE)
            assert answer.status in (200, 404), answer.body
    return len(found)


@attrs.define
class Kubelet:
    """The scheduler and the kubelet for the Pods of one namespace.

    Attributes:
        programs: by the label COMPONENT of the Pods that they are for. One runs while there is such a Pod that is not
            to go.
    """

    admin: ApiServer
    namespace: str
    programs: Mapping[str, Program] = attrs.Factory(dict)
    _failures: list[Exception] = attrs.Factory(list)
    _running: dict[str, Callable[[], object]] = attrs.Factory(dict)
    _addresses: int = 1

    @contextlib.contextmanager
    def running(self) -> Iterator[Kubelet]:
        """It works while the context lasts.

        Raises:
            ExceptionGroup: what it failed with.
        """
        self.admin.apply(NODE_MANIFEST).ok()
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
        if self._failures:
            raise ExceptionGroup("the stand-in of the kubelet failed", self._failures)

    def _run(self, ended: threading.Event) -> None:
        try:
            while not ended.wait(_PAUSE_SECONDS):
                self._work()
        except Exception as error:  # noqa: BLE001 # it is raised where the thread is waited for
            self._failures.append(error)

    def _work(self) -> None:
        pods = self.admin.call("GET", f"/api/v1/namespaces/{self.namespace}/pods").ok()["items"]
        leaving = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
        staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        # The program is there before the Pod is ready, and has ended before the Pod is gone.
        self._programs({pod["metadata"].get("labels", {}).get(COMPONENT) for pod in staying})
        for pod in staying:
            if not pod["spec"].get("nodeName"):
                target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
                self._call("POST", pod, "/binding", {"metadata": {"name": pod["metadata"]["name"]}, "target": target})
            elif not is_ready(pod):
                self._addresses += 1
                self._call("PATCH", pod, "/status", ready_status(pod, f"10.88.0.{self._addresses}"), STRATEGIC_MERGE)
        for pod in leaving:
            condition = {"uid": pod["metadata"]["uid"]}
            self._call("DELETE", pod, "", {"gracePeriodSeconds": 0, "preconditions": condition})

    def _programs(self, wanted: set[str | None]) -> None:
        for component, start in self.programs.items():
            if component in wanted and component not in self._running:
                self._running[component] = start()
            elif component not in wanted and component in self._running:
                self._running.pop(component)()

    def _call(self, method: str, pod: Manifest, part: str, body: Any, content_type: str = "application/json") -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}{part}"
        answer = self.admin.call(method, path, body, content_type)
        # Others have deleted it, or asked it to go, since it was listed.
        assert answer.status in (200, 201, 404, 409), answer.body
