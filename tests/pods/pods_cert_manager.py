"""cert-manager in Miwen's place, on a real kubelet, as docs/operations.md has it: there, a renewal, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pods.conftest import ROOT
from support.e2e.certified import USAGES, leaf
from support.kubernetes.api_server import ApiServer, Manifest, open_admin
from support.kubernetes.cert_manager import GROUP, CertManager, open_cert_manager, secret_parts
from support.kubernetes.deploy_manifests import DEPLOY
from support.kubernetes.installing import kustomized
from support.kubernetes.kubectl import Kubectl
from support.pods.cluster import given
from support.pods.demo import Demo, until
from support.pods.rotation import failed_calls, shown_end
from support.pods.running import KRAPAO, MIWEN, active_pod, pods_of, until_rolled_out

_OURS = ("krapao-tls", "miwen-tls")


@pytest.fixture
def admin(installed: Kubectl) -> Iterator[ApiServer]:
    api, close = open_admin(installed.kubeconfig)
    yield api
    close()


@pytest.fixture
def cert_manager(installed: Kubectl, admin: ApiServer, tmp_path: Path) -> Iterator[CertManager]:
    """cert-manager beside the cluster. Afterwards nothing of it is left, and deploy/ is there as it is shipped."""
    with open_cert_manager(Path(given("CERT_MANAGER")), admin, installed.kubeconfig, tmp_path) as running:
        yield running
        kinds = installed("get", "crds", "--output=name").split()
        installed("delete", *(kind for kind in kinds if kind.endswith(f".{GROUP}")))
    installed("delete", "secret", "jiemi-ca", "--ignore-not-found")


def _active(admin: ApiServer) -> Any:
    name = active_pod(admin)
    found = [pod for pod in pods_of(admin, "miwen") if pod["metadata"]["name"] == name]
    assert len(found) == 1, f"{name or 'nobody'} has the Lease"
    return found[0]


def _ends(admin: ApiServer) -> dict[str, float]:
    """When the certificates in the Secrets end, in seconds since 1970, by who shows them."""
    parts = {end: secret_parts(admin, "jiemi", f"{end}-tls") for end in USAGES}
    return {end: leaf(found["tls.crt"]).not_valid_after_utc.timestamp() for end, found in parts.items()}


def _krapaos_show(admin: ApiServer) -> bool:
    """Whether both Krapaos show the certificate that is in the Secret; raises AssertionError where not."""
    end = _ends(admin)["krapao"]
    shown = {pod["metadata"]["name"]: shown_end(pod) for pod in pods_of(admin, "repository")}
    assert shown == {"repository-0": end, "repository-1": end}
    return True


def _miwen_shows(admin: ApiServer) -> bool:
    assert shown_end(_active(admin)) == _ends(admin)["miwen"]
    return True


def _authorities(admin: ApiServer) -> set[bytes]:
    return {secret_parts(admin, "jiemi", name).get("ca.crt", b"") for name in _OURS}


def _overlay(folder: Path) -> Path:
    folder.mkdir()
    wanted = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(DEPLOY / each, folder) for each in ("", "cert-manager/issuer")],
        "components": [os.path.relpath(DEPLOY / "cert-manager", folder)],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(wanted))
    return folder


def _followed(demo: Demo, greeting: str) -> None:
    demo.push(greeting)
    until(f"{greeting!r} is deployed", lambda: demo.plain()["greeting"] == greeting)


async def test_cert_manager_takes_the_certificates_over_renews_them_without_a_failed_call_and_gives_them_back(
    installed: Kubectl, admin: ApiServer, cert_manager: CertManager, demo: Demo, tmp_path: Path
) -> None:
    of_miwen = _authorities(admin)
    overlay = _overlay(tmp_path / "overlay")
    made: list[Manifest] = [
        each
        for each in kustomized(Path(given("KUBECTL")), overlay)
        if each["apiVersion"].startswith(f"{GROUP}/") and each["kind"] == "Certificate"
    ]
    installed("apply", "-k", str(overlay))
    until_rolled_out(installed, MIWEN)
    cert_manager.until_ready(*made)
    _followed(demo, "Hello by the certificates of before")
    assert _authorities(admin) == of_miwen

    installed("delete", "secret", *_OURS, "jiemi-authorities")
    until("cert-manager has made them", lambda: not _authorities(admin) & {*of_miwen, b""})
    until("the Krapaos show the new one", lambda: _krapaos_show(admin))
    _followed(demo, "Hello by cert-manager")
    until("so does Miwen", lambda: _miwen_shows(admin))

    active, failed = _active(admin), failed_calls(_active(admin))
    before = _ends(admin)
    for each in made:
        if each["metadata"]["name"] in _OURS:
            cert_manager.renew(each)
    assert all(end > before[name] for name, end in _ends(admin).items())
    number = 0

    def shown_while_it_is_used() -> bool:
        nonlocal number
        number += 1
        _followed(demo, f"Hello renewed {number}")
        return _krapaos_show(admin)

    until("the Krapaos show the renewed one", shown_while_it_is_used)
    # Miwen takes its own for the next connection that it makes.
    for name in ("repository-0", "repository-1"):
        installed("delete", "pod", name)
        until_rolled_out(installed, KRAPAO)
        _followed(demo, f"Hello by a new connection to {name}")
    until("Miwen shows the renewed one", lambda: _miwen_shows(admin))
    assert _active(admin)["metadata"]["uid"] == active["metadata"]["uid"]
    assert failed_calls(_active(admin)) == failed

    installed("delete", "certificate", *_OURS)
    installed("delete", "secret", *_OURS)
    installed("apply", "-k", str(ROOT / "deploy"))
    until_rolled_out(installed, MIWEN)
    until("Miwen has made them", lambda: b"" not in _authorities(admin))
    until("the Krapaos show that", lambda: _krapaos_show(admin))
    _followed(demo, "Hello by Miwen again")
    until("so does Miwen", lambda: _miwen_shows(admin))
    assert installed("get", "secret", "jiemi-authorities", "--output=name")
