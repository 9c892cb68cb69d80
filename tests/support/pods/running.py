"""The Pods that run, as the API server names them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from support.kubernetes.api_server import ApiServer
from support.kubernetes.kubectl import Kubectl

MIWEN = "deployment/miwen"
KRAPAO = "statefulset/repository"


def until_rolled_out(kubectl: Kubectl, *workloads: str) -> None:
    """Wait until the workloads' Pods are all new ones, and ready: Krapao's and Miwen's where none is named."""
    for workload in workloads or (KRAPAO, MIWEN):
        kubectl("rollout", "status", workload, "--timeout=55s")


def active_pod(api: ApiServer) -> str:
    """The name of Miwen's Pod that holds the Lease; "" where nobody does."""
    lease = api.call("GET", "/apis/coordination.k8s.io/v1/namespaces/jiemi/leases/jiemi-miwen").ok()
    return str(lease["spec"].get("holderIdentity") or "").partition("_")[0]


def pods_of(api: ApiServer, component: str) -> list[Any]:
    """A component's Pods that are not about to end."""
    path = f"/api/v1/namespaces/jiemi/pods?labelSelector=app.kubernetes.io/component={component}"
    return not_ending(api.call("GET", path).ok()["items"])


def not_ending(pods: Iterable[Any]) -> list[Any]:
    """Of Pods, those that are not about to end."""
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
