"""The cluster's own controllers beside the embedded API server: what they do, as whom, and how they end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.e2e.lab import until
from support.e2e.scene import deployment
from support.kubernetes.api_server import ApiServer, Manifest, open_admin
from support.kubernetes.control_plane import programs, with_controllers
from support.kubernetes.stand_in_kubelet import Kubelet, make_pods_ready
from support.processes.of_folder import processes_of

from jiemi.controlplane.control_plane import ControlPlane, ControlPlaneSettings, open_control_plane
from jiemi.controlplane.controller_manager import NAME, ControllerManagerSettings
from jiemi.controlplane.processes import ControlPlaneError
from jiemi.core.objects.readiness import readiness
from jiemi.core.objects.readiness_facts import State

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-controllers"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"
CLAIM = {
    "metadata": {"name": "disk"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"


def names(admin: ApiServer, path: str) -> list[str]:
    return [each["metadata"]["name"] for each in admin.call("GET", path).ok()["items"]]


def state(admin: ApiServer, path: str) -> State:
    """Whether Miwen takes the object at that path for ready (`spec.wait`)."""
    return readiness(admin.call("GET", path).ok()).state


def stateful_set(name: str, replicas: int) -> Manifest:
    made = deployment(name, replicas=replicas, serviceName=name, volumeClaimTemplates=[CLAIM])
    made["metadata"]["namespace"] = NAMESPACE
    return {**made, "kind": "StatefulSet"}


def test_workloads_are_rolled_out_claims_protected_garbage_collected_and_the_namespace_is_finalized(
    admin: ApiServer,
) -> None:
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).ok()
    until("it has its ServiceAccount", lambda: "default" in names(admin, f"{CORE}/serviceaccounts"))
    web = deployment("web")
    web["metadata"]["namespace"] = NAMESPACE
    for manifest in (web, stateful_set("box", 2)):
        admin.apply(manifest).ok()
    web_path, box_path = f"{APPS}/deployments/web", f"{APPS}/statefulsets/box"
    webs, boxes = (f"{CORE}/pods?labelSelector=app={name}" for name in ("web", "box"))
    until("both have a Pod", lambda: names(admin, webs) and names(admin, boxes))
    assert {state(admin, web_path), state(admin, box_path)} == {State.PROGRESSING}
    assert make_pods_ready(admin, NAMESPACE, "web") == 1
    [pod] = admin.call("GET", webs).ok()["items"]
    assert pod["spec"]["serviceAccountName"] == "default"
    until("the Deployment is ready", lambda: state(admin, web_path) is State.READY)

    assert names(admin, boxes) == ["box-0"], "the second one waits until the first is ready"
    with Kubelet(admin, NAMESPACE).running():
        until("the StatefulSet is ready", lambda: state(admin, box_path) is State.READY)
        assert names(admin, boxes) == ["box-0", "box-1"]
        claims = f"{CORE}/persistentvolumeclaims"
        admin.call("DELETE", f"{claims}/disk-box-0").ok()
        assert names(admin, claims) == ["disk-box-0", "disk-box-1"], "a Pod mounts it"
        admin.call("DELETE", box_path).ok()
        until("its Pods are gone", lambda: names(admin, boxes) == [])
        until("the claim is let go", lambda: names(admin, claims) == ["disk-box-1"])
        admin.call("DELETE", web_path).ok()
        until("all of it is gone", lambda: names(admin, f"{CORE}/pods") == names(admin, f"{APPS}/replicasets") == [])
    admin.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}").ok()
    until("it is gone", lambda: admin.call("GET", f"/api/v1/namespaces/{NAMESPACE}").status == 404)


@pytest.fixture
def settings(tools: dict[str, Path], fast_directory: Path) -> ControlPlaneSettings:
    return with_controllers(fast_directory / "state", *programs(tools))


async def test_they_are_a_user_of_their_own_serve_their_health_on_loopback_alone_and_end_with_the_api_server(
    settings: ControlPlaneSettings,
) -> None:
    async with open_control_plane(settings) as running:
        assert set(running.pids) == {"etcd", "kube-apiserver", NAME}
        await trio.to_thread.run_sync(_check_rights, settings.state_dir, running)
        assert {host for host, _ in _listening(running.pids[NAME])} == {"127.0.0.1"}
        assert (settings.state_dir / f"{NAME}.kubeconfig").stat().st_mode & 0o777 == 0o600
    assert processes_of(settings.state_dir) == set()


def _check_rights(state_dir: Path, running: ControlPlane) -> None:
    theirs, close = open_admin(state_dir / f"{NAME}.kubeconfig")
    try:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        user = theirs.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review).ok()["status"]
        assert user["userInfo"]["username"] == "system:kube-controller-manager"
        assert not theirs.may("*", "*", "*")
        assert not theirs.may("create", "rbac.authorization.k8s.io", "clusterrolebindings")
    finally:
        close()
    admin, close = open_admin(running.kubeconfig)
    try:
        accounts = "/api/v1/namespaces/kube-system/serviceaccounts"
        until("each acts as an account of its own", lambda: "deployment-controller" in names(admin, accounts))
        until("roles are aggregated", lambda: admin.call("GET", f"{ROLES}/view").ok()["rules"])
    finally:
        close()


def _listening(pid: int) -> set[tuple[str, int]]:
    """The IPv4 and IPv6 addresses and TCP ports at which a process listens (proc_pid_net(5), proc_pid_fd(5))."""
    inodes = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes |= set(re.findall(r"socket:\[(\d+)\]", str(each.readlink())))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                host = ".".join(str(byte) for byte in reversed(bytes.fromhex(address))) if table == "tcp" else address
                found.add((host, int(port, 16)))
    return found


async def test_when_they_die_the_context_ends_with_an_error_that_names_them(settings: ControlPlaneSettings) -> None:
    async def open_and_kill() -> None:
        async with open_control_plane(settings) as running:
            os.kill(running.pids[NAME], signal.SIGKILL)
            await trio.sleep_forever()

    with trio.fail_after(60), pytest.raises(ControlPlaneError, match=f"^{NAME} ended with signal 9"):
        await open_and_kill()
    assert processes_of(settings.state_dir) == set()


def _but(settings: ControlPlaneSettings, **changes: Any) -> ControlPlaneSettings:
    assert settings.controllers is not None
    return attrs.evolve(settings, controllers=attrs.evolve(settings.controllers, **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"controllers": ("no-such",)}, r"(?s)kube-controller-manager ended.*no-such"),
        ({"start_timeout_seconds": 0.1}, r"kube-controller-manager was not ready within 0.1 s"),
    ],
    ids=["unknown", "slow"],
)
async def test_where_they_do_not_start_nothing_stays(
    changes: dict[str, Any], said: str, settings: ControlPlaneSettings
) -> None:
    with trio.fail_after(60), pytest.raises(ControlPlaneError, match=said):
        async with open_control_plane(_but(settings, **changes)):
            pass
    assert processes_of(settings.state_dir) == set()


async def test_those_that_are_named_run_and_no_others(settings: ControlPlaneSettings, tools: dict[str, Path]) -> None:
    only = ControllerManagerSettings(tools[NAME], ("clusterrole-aggregation-controller",))
    async with open_control_plane(attrs.evolve(settings, controllers=only)) as running:
        await trio.to_thread.run_sync(_check_that_one_runs, running)


def _check_that_one_runs(running: ControlPlane) -> None:
    admin, close = open_admin(running.kubeconfig)
    try:
        until("roles are aggregated", lambda: admin.call("GET", f"{ROLES}/view").ok()["rules"])
        # No account is made, so Pods need none.
        assert names(admin, "/api/v1/namespaces/default/serviceaccounts") == []
        spec = {"containers": [{"name": "app", "image": "example.org/app:1"}]}
        admin.call("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": "x"}, "spec": spec}).ok()
    finally:
        close()
