"""The cluster of a run: one node, with deploy/ applied as it is shipped."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest
from support.kubernetes.api_server import open_admin
from support.kubernetes.kubectl import Kubectl
from support.pods.churn import Churn, make_churn
from support.pods.cluster import given, open_cluster, program
from support.pods.demo import Demo, until
from support.pods.running import MIWEN, until_rolled_out

from jiemi.controlplane.node.arguments import NODE_ADDRESS
from jiemi.controlplane.pins import Tool
from jiemi.demo.content import KEY_NAME, KEY_SECRET, demo_file, make_age_key, make_repository
from jiemi.demo.git_server import serve_git

ROOT = Path(__file__).parents[2]
NAMESPACE = "jiemi"
KRAPAO_USER = 65532
CHURN_NAMESPACE = "churn"
PODS = 4
"""Two of each, as they are shipped."""

MOST_KRAPAOS = 4
"""As many have a volume."""

_INTERVAL = "10s"


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the run."""
    return Path(given("ROOT"))


@pytest.fixture(scope="session")
def kubectl(root: Path) -> Iterator[Kubectl]:
    """kubectl as the administrator, in Jiemi's namespace."""
    home = root / "home"
    home.mkdir()
    with open_cluster() as kubeconfig:
        yield Kubectl(Path(given("KUBECTL")), home, kubeconfig, NAMESPACE)


@pytest.fixture(scope="session")
def installed(kubectl: Kubectl, root: Path) -> Kubectl:
    """deploy/ as it is shipped, with all Pods ready."""
    until("the node is Ready", lambda: " Ready " in kubectl("get", "nodes"))
    kubectl("apply", "-f", "-", given=[_volume(root / "volumes", number) for number in range(MOST_KRAPAOS)])
    kubectl("apply", "-k", str(ROOT / "deploy"))
    try:
        until("all Pods are ready", lambda: kubectl("get", "pods").count("1/1") == PODS)
    except TimeoutError as error:
        raise AssertionError(kubectl("describe", "pods")[-8_000:]) from error
    return kubectl


@pytest.fixture
async def demo(installed: Kubectl, tmp_path: Path) -> AsyncIterator[Demo]:
    """The demo's repository and objects. They are deleted afterwards, while the repository is still there."""
    served = tmp_path / "git"
    served.mkdir()
    in_default = attrs.evolve(installed, namespace="default")
    async with serve_git(served, host=NODE_ADDRESS) as server:
        key = make_age_key(tmp_path / "key")
        repository = await make_repository(server, tmp_path, key, sops=program(Tool.SOPS))
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": KEY_SECRET},
            "stringData": {KEY_NAME: key.identity.reveal()},
        }
        in_default("apply", "-f", "-", given=secret)
        manifest = tmp_path / "decryptor.yaml"
        written = demo_file("decryptor.yaml").replace("REPOSITORY_URL", repository.url)
        manifest.write_text(f"{written}  interval: {_INTERVAL}\n")
        in_default("apply", "-f", str(manifest))
        yield Demo(in_default, repository, tmp_path)
        in_default("delete", "decryptor", "demo")
        in_default("delete", "secret", KEY_SECRET, "demo", "--ignore-not-found")


@pytest.fixture
async def churn(installed: Kubectl, tmp_path: Path) -> AsyncIterator[Churn]:
    """The churn, with three Krapaos."""
    installed("scale", "statefulset", "repository", "--replicas=3")
    installed("create", "namespace", CHURN_NAMESPACE)
    api, close = open_admin(installed.kubeconfig)
    served = tmp_path / "git"
    served.mkdir()
    async with serve_git(served, host=NODE_ADDRESS) as server:
        kubectl = attrs.evolve(installed, namespace=CHURN_NAMESPACE)
        key = make_age_key(tmp_path / "key")
        made = make_churn(kubectl, api, installed, server, tmp_path, key, program(Tool.SOPS))
        made.until_all_are_ready()
        made.start()
        made.settle()
        yield made
        kubectl("delete", "decryptors", "--all")
        installed("delete", "namespace", CHURN_NAMESPACE)
    installed("scale", "statefulset", "repository", "--replicas=2")
    until("the Pods are those that are shipped", lambda: len(installed("get", "pods", "--output=name").split()) == PODS)
    close()


@pytest.fixture
def received(installed: Kubectl, tmp_path: Path) -> Iterator[Kubectl]:
    """An overlay with the component, as docs/operations.md has it."""
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    wanted = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(ROOT / "deploy", overlay)],
        "components": [os.path.relpath(ROOT / "deploy" / "webhooks", overlay)],
    }
    (overlay / "kustomization.yaml").write_text(json.dumps(wanted))
    installed("apply", "-k", str(overlay))
    until_rolled_out(installed, MIWEN)
    yield installed
    installed("apply", "-k", str(ROOT / "deploy"))
    installed("delete", "service,networkpolicy", "webhooks")
    until_rolled_out(installed, MIWEN)
    until("all Pods are ready", lambda: installed("get", "pods").count("1/1") == PODS)


def _volume(folder: Path, number: int) -> dict[str, object]:
    """A volume for a claim of a Krapao. Nothing gives a hostPath the Pod's group, so it is its user's at once."""
    folder.mkdir(exist_ok=True)
    (folder / str(number)).mkdir()
    os.chown(folder / str(number), KRAPAO_USER, KRAPAO_USER)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"state-{number}"},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(folder / str(number)), "type": "Directory"},
        },
    }
