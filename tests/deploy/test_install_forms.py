"""The install forms as the real Kustomize makes them. tests/e2e has what Miwen does in each."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.kubernetes.api_server import Manifest
from support.kubernetes.installing import kustomized
from support.paths import ROOT

pytestmark = pytest.mark.e2e

INSTALL = ROOT / "install"
WRITES = {"create", "update", "patch", "delete", "deletecollection", "*"}
READS = {"get", "list", "watch", "*"}


def _key(each: Manifest) -> tuple[str, str, str]:
    return each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]


def _rules(manifests: list[Manifest], kind: str) -> Iterator[tuple[Manifest, dict[str, Any]]]:
    for each in manifests:
        if each["kind"] == kind:
            for rule in each.get("rules") or ():
                yield each, rule


def _arguments(manifests: list[Manifest]) -> list[str]:
    (miwen,) = (each for each in manifests if each["kind"] == "Deployment")
    (container,) = miwen["spec"]["template"]["spec"]["containers"]
    arguments: list[str] = container["args"]
    return arguments


@pytest.mark.parametrize(
    ("form", "gone", "new", "flags"),
    [
        (
            "namespaces",
            {("ClusterRole", "jiemi-miwen"), ("ClusterRoleBinding", "jiemi-miwen")}
            | {("ClusterRoleBinding", "jiemi-miwen-extra")},
            {"Role", "RoleBinding"},
            ["--namespace=team-a", "--namespace=team-b"],
        ),
        (
            "impersonation",
            set(),
            {"ClusterRole", "ClusterRoleBinding"},
            ["--default-service-account=jiemi-apply"],
        ),
        ("anything", set(), {"ClusterRoleBinding"}, []),
    ],
)
def test_a_form_is_all_of_deploy_but_for_the_rights_of_miwen(
    form: str, gone: set[tuple[str, str]], new: set[str], flags: list[str], kubectl_program: Path
) -> None:
    plain, found = (kustomized(kubectl_program, ROOT / folder) for folder in ("deploy", f"install/{form}"))
    before, after = {_key(each): each for each in plain}, {_key(each): each for each in found}
    assert {(kind, name) for kind, _, name in before.keys() - after.keys()} == gone
    assert {kind for kind, _, _ in after.keys() - before.keys()} == new
    assert _arguments(found) == [*_arguments(plain), *flags]
    changed = {key for key in before.keys() & after.keys() if before[key] != after[key]}
    may_change = {("Deployment", "jiemi", "miwen")} if flags else set()
    assert changed == may_change | ({("ClusterRole", "", "jiemi-miwen")} if form == "impersonation" else set())


def test_in_the_form_for_named_namespaces_no_role_reads_secrets_anywhere_else(kubectl_program: Path) -> None:
    manifests = kustomized(kubectl_program, INSTALL / "namespaces")
    assert not [role for role, rule in _rules(manifests, "ClusterRole") if "secrets" in rule["resources"]]
    readers = {
        role["metadata"]["namespace"]
        for role, rule in _rules(manifests, "Role")
        if "secrets" in rule["resources"] and READS & set(rule["verbs"]) and "resourceNames" not in rule
    }
    assert readers == {"team-a", "team-b"}


def test_a_named_namespace_has_the_rules_of_the_form_for_the_whole_cluster(kubectl_program: Path) -> None:
    whole = [
        rule for role, rule in _rules(kustomized(kubectl_program, ROOT / "deploy"), "ClusterRole") if _is_own(role)
    ]
    for namespace in ("team-a", "team-b"):
        roles = _rules(kustomized(kubectl_program, INSTALL / "namespaces"), "Role")
        assert [rule for role, rule in roles if role["metadata"]["namespace"] == namespace] == whole


def _is_own(role: Manifest) -> bool:
    return bool(role["metadata"]["name"] == "jiemi-miwen")


def test_in_the_form_by_impersonation_miwen_writes_no_objects_and_acts_as_one_name(kubectl_program: Path) -> None:
    manifests = kustomized(kubectl_program, INSTALL / "impersonation")
    (binding,) = (each for each in manifests if _key(each) == ("ClusterRoleBinding", "", "jiemi-miwen"))
    assert binding["roleRef"]["name"] == "jiemi-miwen"
    writes = {
        (group, resource, verb)
        for role, rule in _rules(manifests, "ClusterRole")
        if _is_own(role)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb in WRITES
    }
    assert writes == {
        ("jiemi.cr", "decryptors", "patch"),
        ("jiemi.cr", "decryptors/status", "patch"),
        ("events.k8s.io", "events", "create"),
    }
    acts = [rule for _, rule in _rules(manifests, "ClusterRole") if "impersonate" in rule["verbs"]]
    assert [(rule["resources"], rule["resourceNames"]) for rule in acts] == [(["serviceaccounts"], ["jiemi-apply"])]


def test_the_overlay_of_the_docs_leaves_the_certificates_to_cert_manager(kubectl_program: Path, tmp_path: Path) -> None:
    chapter = (ROOT / "docs" / "operations.md").read_text().partition("### Certificates of cert-manager")[2]
    code = re.search(r"^       # kustomization.yaml\n((?: {7}.*\n)+)", chapter, re.MULTILINE)
    assert code is not None
    base = tmp_path / "overlay"
    base.mkdir()
    here = f"{'../' * (len(base.parts) - 1)}{ROOT.relative_to('/')}"
    (base / "kustomization.yaml").write_text(textwrap.dedent(code[1]).replace("PATH-OR-URL-OF/jiemi", here))
    manifests = kustomized(kubectl_program, base)
    assert "--tls-secret=miwen-tls" in _arguments(manifests)
    assert "--make-certificates" not in _arguments(manifests)
    issued = {each["metadata"]["name"] for each in manifests if each["kind"] == "Certificate"}
    assert issued == {"krapao-tls", "miwen-tls", "jiemi-ca"}
    (role,) = (each for each in manifests if _key(each) == ("Role", "jiemi", "miwen-certificates"))
    assert [rule["verbs"] for rule in role["rules"]] == [["get"]]


def test_the_overlay_of_the_docs_gives_rights_in_the_namespace_that_it_names(
    kubectl_program: Path, tmp_path: Path
) -> None:
    chapter = (ROOT / "docs" / "operations.md").read_text().partition("**Named namespaces.**")[2]
    code = chapter.partition("\n- ")[0]
    files = re.findall(r"^    # (\S+)$(.+?)(?=^    # |\Z)", code, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["kustomization.yaml", "shop/kustomization.yaml"]
    base = tmp_path / "overlay"
    for name, text in files:
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        here = f"{'../' * (len(path.parent.parts) - 1)}{ROOT.relative_to('/')}"
        path.write_text(re.sub("^    ", "", text.replace("PATH-OR-URL-OF/jiemi", here), flags=re.MULTILINE))
    manifests = kustomized(kubectl_program, base)
    assert "--namespace=shop" in _arguments(manifests)
    keys = {_key(each) for each in manifests}
    assert {("Role", "shop", "jiemi-miwen"), ("RoleBinding", "shop", "jiemi-miwen")} <= keys
    (binding,) = (each for each in manifests if _key(each) == ("RoleBinding", "shop", "jiemi-miwen"))
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "miwen", "namespace": "jiemi"}]
