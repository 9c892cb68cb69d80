"""The cluster of a run: one node, with deploy/ applied as it is shipped."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
from support.kubernetes.kubectl import Kubectl

from jiemi.controlplane.node.node import Node, NodeSettings, open_node
from jiemi.controlplane.pins import NODE_TOOLS, TOOLS

ROOT = Path(__file__).parents[2]
NAMESPACE = "jiemi"
KRAPAO_USER = 65532
_READY_SECONDS = 180


def _given(name: str) -> str:
    return os.environ[f"JIEMI_PODS_{name}"]


@pytest.fixture
def root() -> Path:
    """The folder of the run."""
    return Path(_given("ROOT"))


@pytest.fixture
async def node(root: Path) -> AsyncIterator[Node]:
    """The node; it runs Pods once it is Ready."""
    settings = NodeSettings(
        root=root / "node",
        programs={tool: Path(_given(tool.name)) for tool in (*TOOLS, *NODE_TOOLS)},
        images=[Path(path) for path in _given("IMAGES").split(":")],
        control_group=_given("GROUP"),
    )
    async with open_node(settings) as node:
        yield node


@pytest.fixture
def kubectl(node: Node, root: Path) -> Kubectl:
    """kubectl as the administrator, in Jiemi's namespace."""
    home = root / "home"
    home.mkdir()
    return Kubectl(Path(_given("KUBECTL")), home, node.kubeconfig, NAMESPACE)


@pytest.fixture
async def installed(kubectl: Kubectl, root: Path) -> Kubectl:
    """deploy/ as it is shipped, with both Pods ready."""
    await until("the node is Ready", lambda: " Ready " in kubectl("get", "nodes"))
    kubectl("apply", "-f", "-", given=_volume(root / "volume"))
    kubectl("apply", "-k", str(ROOT / "deploy"))
    try:
        await until("both Pods are ready", lambda: kubectl("get", "pods").count("1/1") == 2)
    except TimeoutError as error:
        raise AssertionError(kubectl("describe", "pods")[-8_000:]) from error
    return kubectl


async def until(what: str, holds: Callable[[], bool], *, seconds: float = _READY_SECONDS) -> float:
    """Wait until something holds; returns after how many seconds it did.

    Raises:
        TimeoutError: it does not.
    """
    began = trio.current_time()
    while True:
        try:
            if await trio.to_thread.run_sync(holds):
                return trio.current_time() - began
        except (AssertionError, subprocess.TimeoutExpired):
            pass  # kubectl failed: the API server may be busy
        if trio.current_time() - began > seconds:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        await trio.sleep(0.5)


def _volume(folder: Path) -> dict[str, object]:
    """A volume for the claim of repository-0. Nothing gives a hostPath the Pod's group, so it is its user's at once."""
    folder.mkdir()
    os.chown(folder, KRAPAO_USER, KRAPAO_USER)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "state-repository-0"},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }
