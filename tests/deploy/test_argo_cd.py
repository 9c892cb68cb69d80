"""deploy/argo-cd/health.yaml, run by Lua 5.1 as Argo CD runs it, over what Miwen writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lupa.lua51 import LuaRuntime
from support.kubernetes.api_server import ApiServer
from support.kubernetes.deploy_manifests import DEPLOY, read_yaml
from support.kubernetes.kubectl import Kubectl
from support.miwen.stored_statuses import condition, record

FILE = DEPLOY / "argo-cd" / "health.yaml"
KEY = "resource.customizations.health.jiemi.cr_Decryptor"


@pytest.fixture(scope="module")
def script() -> str:
    [patch] = read_yaml(FILE)
    assert set(patch) == {"data"}
    text: str = patch["data"][KEY]
    return text


@pytest.fixture
def kubectl(kubectl_program: Path, control_plane: Path, admin: ApiServer, tmp_path: Path) -> Kubectl:
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}}).ok()
    return Kubectl(kubectl_program, tmp_path, control_plane, "argocd")


def health(script: str, *conditions: dict[str, Any], observed: int | None = 2, **more: Any) -> tuple[str, str]:
    """What the script says of a Decryptor."""
    status: dict[str, Any] = {"current": record(1), "conditions": list(conditions)}
    if observed is not None:
        status["observedGeneration"] = observed
    found = {"metadata": {"generation": 2, **more.pop("metadata", {})}, "spec": {}, "status": status, **more}
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(found, recursive=True)
    result = lua.execute(script)
    return str(result["status"]), str(result["message"])


READY = condition("Ready", message="a.yaml of revision a888f02e1111 is applied")
FAILED = condition("Ready", status="False", reason="KeyMissing", message="a.yaml: no key")


def test_one_that_is_ready_is_healthy(script: str) -> None:
    assert health(script, READY) == ("Healthy", "a.yaml of revision a888f02e1111 is applied")


def test_one_that_is_stalled_is_degraded_and_says_why(script: str) -> None:
    assert health(script, FAILED, condition("Stalled", message="a.yaml: no key")) == ("Degraded", "a.yaml: no key")
    assert health(script, FAILED)[0] == "Degraded"


@pytest.mark.parametrize("reason", ["ProgressingWithRetry", "Deploying", "WaitingForObjects"])
def test_one_that_is_under_way_or_tried_again_is_progressing(script: str, reason: str) -> None:
    assert health(script, FAILED, condition("Reconciling", reason=reason)) == ("Progressing", "a.yaml: no key")
    assert health(script, condition("Ready", status="Unknown"), condition("Reconciling"))[0] == "Progressing"


def test_one_that_miwen_has_not_seen_since_it_changed_is_progressing(script: str) -> None:
    for observed in (1, None):
        assert health(script, READY, observed=observed) == ("Progressing", "Miwen has not looked at it yet")
    assert health(script)[0] == "Progressing"
    lua = LuaRuntime()
    lua.globals().obj = lua.table_from({"metadata": {"generation": 1}}, recursive=True)
    assert lua.execute(script)["status"] == "Progressing"


def test_one_that_is_being_deleted_is_progressing(script: str) -> None:
    found = health(script, READY, metadata={"deletionTimestamp": "2026-11-28T00:00:00Z"})
    assert found == ("Progressing", "It is being deleted")


def test_one_that_is_suspended_is_suspended(script: str) -> None:
    assert health(script, READY, spec={"suspend": True})[0] == "Suspended"


@pytest.mark.e2e
def test_kubectl_puts_it_into_argo_cds_configuration_and_leaves_the_rest(kubectl: Kubectl, script: str) -> None:
    kubectl("create", "configmap", "argocd-cm", "--from-literal=url=https://argocd.example.com")
    kubectl("patch", "configmap", "argocd-cm", "--patch-file", str(FILE))
    text = kubectl("get", "configmap", "argocd-cm", "-o", "jsonpath={.data.url}")
    assert text == "https://argocd.example.com"
    assert KEY in kubectl("get", "configmap", "argocd-cm", "-o", "json")


@pytest.mark.e2e
def test_impersonation_is_part_of_an_overlay_or_applied_by_itself(kubectl: Kubectl, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (tmp_path / "jiemi").mkdir()
    (tmp_path / "jiemi" / "deploy").symlink_to(DEPLOY)
    (overlay / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: elsewhere\n"
        "resources:\n  - ../jiemi/deploy\n  - ../jiemi/deploy/impersonation\n"
    )
    text = kubectl("kustomize", str(overlay))
    binding = text[text.index("name: jiemi-miwen-impersonation") :]
    assert "namespace: elsewhere" in binding
    assert "impersonate" in kubectl("kustomize", str(DEPLOY / "impersonation"))
