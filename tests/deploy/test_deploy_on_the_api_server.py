"""deploy/ and examples/ applied to a real API server, and the rights that come of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.e2e.lab import until
from support.kubernetes.api_server import ApiServer

pytestmark = pytest.mark.e2e

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("**/*.yaml"))
NAMESPACE = "deploy-rights"

Rule = tuple[frozenset[str], frozenset[str], frozenset[str]]


def rule(verbs: str, group: str, resources: str) -> Rule:
    return frozenset(verbs.split()), frozenset([group]), frozenset(resources.split())


MIWEN_MAY = {
    rule("get list watch patch", "jiemi.cr", "decryptors"),
    rule("patch", "jiemi.cr", "decryptors/status"),
    rule("get list watch create patch delete", "", "secrets configmaps"),
    rule("create", "events.k8s.io", "events"),
}
"""All that Miwen may do; anything more must be added here and in docs/operations.md."""

MIWEN_MAY_NOT = [
    ("update", "", "secrets"),
    ("deletecollection", "", "secrets"),
    ("deletecollection", "", "configmaps"),
    ("create", "", "pods"),
    ("create", "", "serviceaccounts/token"),
    ("impersonate", "", "users"),
    ("impersonate", "", "serviceaccounts"),
    ("create", "", "namespaces"),
    ("patch", "apps", "deployments"),
    ("create", "apps", "deployments"),
    ("create", "jiemi.cr", "decryptors"),
    ("update", "jiemi.cr", "decryptors"),
    ("delete", "jiemi.cr", "decryptors"),
    ("create", "rbac.authorization.k8s.io", "clusterroles"),
    ("bind", "rbac.authorization.k8s.io", "clusterroles"),
    ("escalate", "rbac.authorization.k8s.io", "clusterroles"),
    ("patch", "apiextensions.k8s.io", "customresourcedefinitions"),
]


@pytest.fixture
def namespace(installed: ApiServer) -> str:
    """A namespace for the objects of these tests."""
    installed.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).ok()
    return NAMESPACE


def rules_of(user: Any, namespace: str) -> set[Rule]:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    status = user.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review).ok()["status"]
    assert status["incomplete"] is False
    return {
        (frozenset(each["verbs"]), frozenset(each["apiGroups"]), frozenset(each["resources"]))
        for each in status["resourceRules"]
    }


@pytest.fixture
def granted(installed: ApiServer) -> Callable[[ApiServer, str], set[Rule]]:
    """Every rule of a user in a namespace, beyond those that the cluster gives each ServiceAccount by itself."""
    stranger = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "jiemi", "name": "stranger"}}
    installed.apply(stranger).ok()
    given_to_all = installed.service_account("jiemi", "stranger")
    return lambda user, namespace: rules_of(user, namespace) - rules_of(given_to_all, namespace)


def secret(namespace: str, name: str, text: str) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"text": text}}


def decryptor(namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "jiemi.cr/v1alpha1",
        "kind": "Decryptor",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "provider": {"age": {"privateKey": {"secretName": "age-key", "key": "privateKey"}}},
            "source": {"repository": {"url": "https://git.example.com/x.git"}, "fileToDecrypt": "x.enc.yaml"},
        },
    }


def test_applying_all_of_it_again_changes_nothing(installed: ApiServer, manifests: list[dict[str, Any]]) -> None:
    paths = [installed.path_of(manifest) for manifest in manifests]

    def changed() -> list[str]:
        before = [installed.call("GET", path).ok()["metadata"]["resourceVersion"] for path in paths]
        after = [installed.apply(manifest).ok()["metadata"]["resourceVersion"] for manifest in manifests]
        return [path for path, *versions in zip(paths, before, after, strict=True) if len(set(versions)) > 1]

    # While the cluster's controllers are at work on new workloads, these change by themselves.
    until("applying it changes nothing", lambda: changed() == [])


def test_the_api_server_knows_every_field_of_every_manifest(
    installed: ApiServer, manifests: list[dict[str, Any]]
) -> None:
    for manifest in manifests:
        installed.apply(manifest, query="&fieldValidation=Strict&dryRun=All").ok()


@pytest.mark.parametrize(("kind", "name"), [("StatefulSet", "repository"), ("Deployment", "miwen")])
def test_pods_meet_the_restricted_profile_that_the_namespace_enforces(
    installed: ApiServer, manifests: list[dict[str, Any]], kind: str, name: str
) -> None:
    (workload,) = (each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": "jiemi"},
        "spec": copy.deepcopy(workload["spec"]["template"]["spec"]),
    }
    for claim in workload["spec"].get("volumeClaimTemplates", []):
        volume = {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
        pod["spec"]["volumes"].append(volume)
    create = "/api/v1/namespaces/jiemi/pods?dryRun=All&fieldValidation=Strict"
    installed.call("POST", create, pod).ok()

    # The profile is really enforced: each of these alone is refused.
    for part, value in (("runAsNonRoot", False), ("seccompProfile", {"type": "Unconfined"})):
        loose = copy.deepcopy(pod)
        loose["spec"]["securityContext"][part] = value
        assert installed.call("POST", create, loose).status == 403
    for part, value in (("allowPrivilegeEscalation", True), ("capabilities", {})):
        loose = copy.deepcopy(pod)
        loose["spec"]["containers"][0]["securityContext"][part] = value
        assert installed.call("POST", create, loose).status == 403
    assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in pod["spec"]["containers"])


def test_miwen_has_exactly_the_rights_of_the_list(
    miwen: ApiServer, granted: Callable[[ApiServer, str], set[Rule]]
) -> None:
    assert granted(miwen, "default") == MIWEN_MAY
    assert granted(miwen, "kube-system") == MIWEN_MAY


@pytest.mark.parametrize(("verb", "group", "resource"), MIWEN_MAY_NOT)
def test_miwen_may_not(miwen: ApiServer, verb: str, group: str, resource: str) -> None:
    assert not miwen.may(verb, group, resource)


def test_miwen_makes_and_renews_its_certificates_where_its_other_rights_are_narrowed_to_one_namespace(
    installed: ApiServer, granted: Callable[[ApiServer, str], set[Rule]]
) -> None:
    metadata = {"namespace": "jiemi", "name": "narrowed"}
    installed.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}).ok()
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "miwen-certificates"},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    }
    installed.apply(binding).ok()
    narrowed = installed.service_account("jiemi", "narrowed")
    until("the binding holds", lambda: narrowed.may("create", "", "secrets", "jiemi"))
    secrets = "/api/v1/namespaces/jiemi/secrets"
    for name in ("jiemi-authorities", "krapao-tls", "miwen-tls"):
        made = narrowed.call("POST", secrets, secret("jiemi", name, "x"))
        assert made.status in (201, 409)  # another test's Miwen may have made it
        read = narrowed.call("GET", f"{secrets}/{name}").ok()
        narrowed.call("PUT", f"{secrets}/{name}", read).ok()
        assert narrowed.call("DELETE", f"{secrets}/{name}").status == 403
        assert narrowed.apply(secret("jiemi", name, "y")).status == 403
        installed.call("DELETE", f"{secrets}/{name}").ok()
    # Not another, and not all of them.
    installed.apply(secret("jiemi", "other", "x")).ok()
    assert narrowed.call("GET", f"{secrets}/other").status == 403
    assert narrowed.call("GET", secrets).status == 403
    assert narrowed.call("POST", "/api/v1/namespaces/default/secrets", secret("default", "s", "x")).status == 403


def test_krapao_has_no_right_at_all(installed: ApiServer, granted: Callable[[ApiServer, str], set[Rule]]) -> None:
    assert granted(installed.service_account("jiemi", "repository"), "jiemi") == set()


def test_miwen_reads_a_secret_by_name_and_applies_secrets_and_config_maps(
    installed: ApiServer, miwen: ApiServer, namespace: str
) -> None:
    installed.apply(secret(namespace, "credential", "x")).ok()
    assert miwen.call("GET", f"/api/v1/namespaces/{namespace}/secrets/credential").status == 200
    for text in ("first", "second"):
        miwen.apply(secret(namespace, "applied", text)).ok()
        metadata = {"namespace": namespace, "name": "applied"}
        settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": text}}
        miwen.apply(settings).ok()
        settings_now = installed.call("GET", f"/api/v1/namespaces/{namespace}/configmaps/applied").ok()
        assert settings_now["data"] == {"text": text}


def test_miwen_watches_and_prunes_secrets_one_by_one_and_is_refused_when_it_touches_a_deployment(
    installed: ApiServer, miwen: ApiServer, namespace: str
) -> None:
    installed.apply(secret(namespace, "kept", "x")).ok()
    installed.apply(secret(namespace, "pruned", "x")).ok()
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    assert miwen.call("GET", "/api/v1/secrets").status == 200
    assert miwen.call("DELETE", f"{secrets}/pruned").status == 200
    assert miwen.call("DELETE", secrets).status == 403
    assert installed.call("GET", f"{secrets}/kept").status == 200
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": "x"}}
    assert miwen.apply(deployment).status == 403
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "x"}, "rules": []}
    assert miwen.apply(role).status == 403


def test_miwen_follows_decryptors_and_writes_their_status_and_finalizers_but_deletes_none(
    installed: ApiServer, miwen: ApiServer, namespace: str
) -> None:
    path = installed.path_of(decryptor(namespace, "followed"))
    installed.apply(decryptor(namespace, "followed")).ok()
    listed = miwen.call("GET", "/apis/jiemi.cr/v1alpha1/decryptors?limit=500").ok()
    assert (namespace, "followed") in {(i["metadata"]["namespace"], i["metadata"]["name"]) for i in listed["items"]}
    current = {
        "id": 1,
        "revision": "a" * 40,
        "file_to_decrypt": "x.enc.yaml",
        "deployed_at": "2026-01-01T00:00:00Z",
        "status": "Sync",
        "error_message": None,
    }
    merge = "application/merge-patch+json"
    patched = miwen.call("PATCH", f"{path}/status", {"status": {"current": current, "history": [current]}}, merge).ok()
    assert patched["status"]["current"]["status"] == "Sync"
    metadata = {"metadata": {"finalizers": ["jiemi.cr/cleanup"]}}
    assert miwen.call("PATCH", path, metadata, merge).ok()["metadata"]["finalizers"] == ["jiemi.cr/cleanup"]
    assert miwen.call("PATCH", path, {"metadata": {"finalizers": None}}, merge).status == 200
    assert miwen.call("DELETE", path).status == 403


def test_rights_that_the_clusters_controller_aggregates_survive_applying_deploy_again(
    installed: ApiServer,
    manifests: list[dict[str, Any]],
    miwen: ApiServer,
    granted: Callable[[ApiServer, str], set[Rule]],
) -> None:
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    more = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "deploy-rights", "labels": {"jiemi.cr/aggregate-to-miwen": "true"}},
        "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create", "patch"]}],
    }
    all_of_them = MIWEN_MAY | {rule("create patch", "apps", "deployments")}
    installed.apply(more).ok()
    try:
        until("they are aggregated", lambda: granted(miwen, "default") == all_of_them)
        before = installed.call("GET", f"{roles}/jiemi-miwen-extra").ok()
        assert before["rules"] == more["rules"]
        for manifest in manifests:
            installed.apply(manifest).ok()
        # Not even for the moment after which the controller would put them back.
        since = installed.changes_since(f"{roles}/jiemi-miwen-extra", before["metadata"]["resourceVersion"])
        assert [each["rules"] for each in since if each["rules"] != more["rules"]] == []
        assert granted(miwen, "default") == all_of_them
    finally:
        installed.call("DELETE", f"{roles}/deploy-rights").ok()
    until("they are taken back", lambda: granted(miwen, "default") == MIWEN_MAY)


def test_a_role_binding_in_place_of_the_cluster_wide_one_confines_miwen_to_that_namespace(
    installed: ApiServer, namespace: str, granted: Callable[[ApiServer, str], set[Rule]]
) -> None:
    # As docs/operations.md has it ("Install forms", impersonation), for a ServiceAccount of the test's own.
    metadata = {"namespace": "jiemi", "name": "confined"}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"namespace": namespace, "name": "jiemi-miwen"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "jiemi-miwen"},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    }
    installed.apply(account).ok()
    installed.apply(binding).ok()
    confined = installed.service_account("jiemi", "confined")
    assert granted(confined, namespace) == MIWEN_MAY
    assert granted(confined, "default") == set()
    assert confined.call("GET", f"/apis/jiemi.cr/v1alpha1/namespaces/{namespace}/decryptors").status == 200
    assert confined.call("GET", "/apis/jiemi.cr/v1alpha1/decryptors").status == 403


@pytest.mark.parametrize(("role", "writes"), [("jiemi-decryptor-editor", True), ("jiemi-decryptor-viewer", False)])
def test_users_roles_let_them_read_or_write_decryptors_but_never_their_status(
    installed: ApiServer, namespace: str, role: str, writes: bool
) -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"namespace": namespace, "name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": role}],
    }
    installed.apply(binding).ok()
    user = installed.impersonating(role)
    # The authorizer learns of a binding by its own watch, a moment after it was answered.
    until("the binding holds", lambda: user.may("get", "jiemi.cr", "decryptors", namespace))
    for verb in ("get", "list", "watch"):
        assert user.may(verb, "jiemi.cr", "decryptors", namespace)
    for verb in ("create", "update", "patch", "delete"):
        assert user.may(verb, "jiemi.cr", "decryptors", namespace) is writes
        assert not user.may(verb, "jiemi.cr", "decryptors/status", namespace)
    assert not user.may("get", "", "secrets", namespace)


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.name != ".sops.yaml"], ids=lambda path: path.stem)
def test_the_api_server_accepts_the_example(installed: ApiServer, path: Path) -> None:
    for manifest in YAML(typ="safe").load_all(path.read_text()):
        installed.apply(manifest, query="&fieldValidation=Strict&dryRun=All").ok()
