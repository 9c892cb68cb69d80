"""deploy/ as values, and applied."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.kubernetes.api_server import ApiServer, Manifest
from support.paths import ROOT

DEPLOY = ROOT / "deploy"


def read_yaml(path: Path) -> list[Manifest]:
    """The documents of a file."""
    with path.open(encoding="utf-8") as stream:
        return [document for document in YAML(typ="safe").load_all(stream) if document is not None]


def read_kustomization(directory: Path) -> list[Manifest]:
    """What `kubectl kustomize DIRECTORY` gives, for a kustomization that only lists resources."""
    (kustomization,) = read_yaml(directory / "kustomization.yaml")
    assert set(kustomization) == {"apiVersion", "kind", "resources"}, (
        "teach the tests the new part of kustomization.yaml"
    )
    return [manifest for name in kustomization["resources"] for manifest in read_yaml(directory / name)]


_UNITS = {"Mi": 1024**2, "Gi": 1024**3}


def shipped_limit_bytes(name: str) -> int:
    """The memory limit of the one container that a file of deploy/ ships."""
    [workload] = [each for each in read_yaml(DEPLOY / name) if each["kind"] in {"Deployment", "StatefulSet"}]
    [container] = workload["spec"]["template"]["spec"]["containers"]
    text: str = container["resources"]["limits"]["memory"]
    return int(text[:-2]) * _UNITS[text[-2:]]


@pytest.fixture(scope="session")
def manifests() -> list[Manifest]:
    """All of deploy/, in order."""
    return read_kustomization(DEPLOY)


@pytest.fixture(scope="session")
def installed(admin: ApiServer, manifests: list[Manifest]) -> ApiServer:
    """The administrator of a cluster to which deploy/ was applied."""
    for manifest in manifests:
        admin.apply(manifest).ok()
    return admin


@pytest.fixture
def miwen(installed: ApiServer) -> ApiServer:
    """The API server as Miwen's ServiceAccount."""
    return installed.service_account("jiemi", "miwen")
