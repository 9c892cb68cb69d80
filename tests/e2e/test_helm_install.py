"""The Helm chart on an API server of its own: installed, upgraded with its CRD, uninstalled; also after Kustomize."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.e2e.lab import until
from support.kubernetes.api_server import ApiServer, Manifest
from support.kubernetes.deploy_manifests import DEPLOY
from support.kubernetes.helm_chart import CHART, rendered, run_helm
from support.kubernetes.installing import kustomized
from support.kubernetes.own_control_plane import OwnControlPlane, open_own_control_plane

pytestmark = pytest.mark.e2e

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/decryptors.jiemi.cr"
EXTRA = "/apis/rbac.authorization.k8s.io/v1/clusterroles/jiemi-miwen-extra"
MORE_RIGHTS: Manifest = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "more-rights", "labels": {"jiemi.cr/aggregate-to-miwen": "true"}},
    "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}],
}
DECRYPTOR = {
    "apiVersion": "jiemi.cr/v1alpha1",
    "kind": "Decryptor",
    "metadata": {"name": "stays", "namespace": "team-a"},
    "spec": {
        "provider": {"age": {"privateKey": {"secretName": "age-key", "key": "privateKey"}}},
        "source": {"repository": {"url": "https://git.example.com/x.git"}, "fileToDecrypt": "x.enc.yaml"},
    },
}

Cluster = tuple[OwnControlPlane, ApiServer]
Helm = Callable[..., None]


@pytest.fixture
def cluster(tools: dict[str, Path]) -> Iterator[Cluster]:
    """A cluster without Jiemi, and with the namespace team-a."""
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="jiemi-helm-", dir=parent) as name,
        open_own_control_plane(Path(name), tools=tools) as (plane, admin),
    ):
        admin.call("DELETE", CRD).ok()
        until("the CRD is gone", lambda: admin.call("GET", CRD).status == 404)
        for namespace in ("team-a", "jiemi"):
            admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}).ok()
        yield plane, admin


@pytest.fixture
def helm(cluster: Cluster, helm_programs: dict[int, Path], tmp_path: Path) -> Helm:
    """Runs helm in the namespace jiemi."""

    def run(version: int, *arguments: object, values: Mapping[str, Any] | None = None) -> None:
        to = (f"--kubeconfig={cluster[0].kubeconfig}", "--namespace=jiemi")
        status, output = run_helm(helm_programs[version], *arguments, *to, home=tmp_path, values=values)
        assert status == 0, output

    return run


def _are_there(admin: ApiServer, manifests: list[Manifest]) -> None:
    for manifest in manifests:
        found = admin.call("GET", admin.path_of(manifest))
        assert found.status == 200, manifest["metadata"]["name"]
        if "rules" in manifest:
            assert found.body["rules"] == manifest["rules"]


@pytest.mark.parametrize("version", [3, 4])
def test_the_chart_is_installed_upgraded_with_its_crd_and_uninstalled_without_it(
    version: int, cluster: Cluster, helm: Helm, helm_programs: dict[int, Path], tmp_path: Path
) -> None:
    _, admin = cluster
    helm(version, "install", "jiemi", CHART)
    _are_there(admin, rendered(helm_programs[version], tmp_path, {}))
    until("the CRD is served", lambda: admin.call("GET", "/apis/jiemi.cr/v1alpha1/decryptors").status == 200)
    admin.apply(DECRYPTOR).ok()
    # The cluster's own controller aggregates rules, which an upgrade leaves alone.
    admin.apply(MORE_RIGHTS).ok()
    rules = MORE_RIGHTS["rules"]
    until("they are aggregated", lambda: admin.call("GET", EXTRA).ok()["rules"] == rules)
    aggregated = admin.call("GET", EXTRA).ok()["metadata"]["resourceVersion"]

    # Another release: its CRD says something else, and the values name a form with fewer rights.
    newer = tmp_path / "newer"
    shutil.copytree(CHART, newer)
    text = (newer / "files" / "crd.yaml").read_text()
    assert "description: Commit that is deployed." in text
    (newer / "files" / "crd.yaml").write_text(
        text.replace("description: Commit that is deployed.", "description: The newer text.")
    )
    values = {"form": "namespaces", "namespaces": ["team-a"], "miwen": {"replicas": 3}}
    helm(version, "upgrade", "jiemi", newer, values=values)
    assert "The newer text." in json.dumps(admin.call("GET", CRD).ok())
    _are_there(admin, rendered(helm_programs[version], tmp_path, values))
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/jiemi-miwen"
    assert admin.call("GET", roles).status == 404
    assert admin.call("GET", EXTRA).ok()["rules"] == rules
    assert [each["rules"] for each in admin.changes_since(EXTRA, aggregated) if each["rules"] != rules] == []
    deployment = admin.call("GET", "/apis/apps/v1/namespaces/jiemi/deployments/miwen").ok()
    assert deployment["spec"]["replicas"] == 3

    helm(version, "uninstall", "jiemi")
    assert admin.call("GET", "/apis/apps/v1/namespaces/jiemi/deployments/miwen").status == 404
    assert admin.call("GET", admin.path_of(DECRYPTOR)).status == 200, "Decryptors stay with their CRD"
    # And again, over what was kept.
    helm(version, "install", "jiemi", CHART)


@pytest.mark.parametrize("version", [3, 4])
def test_the_chart_takes_the_place_of_what_kustomize_installed(
    version: int, cluster: Cluster, helm: Helm, kubectl_program: Path
) -> None:
    _, admin = cluster
    manifests = kustomized(kubectl_program, DEPLOY)
    for manifest in manifests:
        admin.apply(manifest).ok()
    uids = {admin.path_of(each): admin.call("GET", admin.path_of(each)).ok()["metadata"]["uid"] for each in manifests}
    more = ("--force-conflicts",) if version == 4 else ()
    helm(version, "install", "jiemi", CHART, "--take-ownership", *more)
    assert {path: admin.call("GET", path).ok()["metadata"]["uid"] for path in uids} == uids
    miwen = admin.call("GET", "/apis/apps/v1/namespaces/jiemi/deployments/miwen").ok()
    assert miwen["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
