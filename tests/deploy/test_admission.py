"""The shipped admission policies on a real API server: what they refuse Miwen's ServiceAccount, and what passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.e2e.lab import until
from support.kubernetes.api_server import Answer, ApiServer

from jiemi.core.objects.protected import _OWN_PREFIXES

pytestmark = pytest.mark.e2e

NAMESPACE = "deploy-admission"
RBAC = "rbac.authorization.k8s.io"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
PATH = f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors"


def decryptor(name: str) -> dict[str, Any]:
    """One with all that metadata may have."""
    return {
        "apiVersion": "jiemi.cr/v1alpha1",
        "kind": "Decryptor",
        "metadata": {
            "namespace": NAMESPACE,
            "name": name,
            "labels": {"team": "a"},
            "annotations": {"note": "a"},
            "finalizers": ["example.com/others"],
        },
        "spec": {
            "provider": {"age": {"privateKey": {"secretName": "age-key", "key": "privateKey"}}},
            "source": {"repository": {"url": "https://git.example.com/x.git"}, "fileToDecrypt": "x.enc.yaml"},
            "interval": "5m",
        },
    }


def is_refused(answer: Answer, policy: str) -> bool:
    """Whether it was the policy that refused; the rights may have, too."""
    text = str(answer.body)
    return answer.status in (403, 422) and f"ValidatingAdmissionPolicy '{policy}'" in text and "error" not in text


@pytest.fixture(scope="module")
def guarded(installed: ApiServer) -> Iterator[ApiServer]:
    """Miwen's ServiceAccount, with every right there is: what is refused is refused by the policies alone."""
    installed.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).ok()
    installed.apply(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "all-for-miwen"},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "miwen", "namespace": "jiemi"}],
        }
    ).ok()
    miwen = installed.service_account("jiemi", "miwen")
    installed.apply(decryptor("probe")).ok()
    until("the binding holds", lambda: miwen.may("delete", "jiemi.cr", "decryptors"))
    # A policy is enforced some seconds after it was made.
    change = {"metadata": {"labels": {"probe": "x"}}}
    for policy, path in (
        ("jiemi-miwen-decryptors", f"{PATH}/probe?dryRun=All"),
        ("jiemi-miwen-objects", "/api/v1/namespaces/jiemi/configmaps/krapao-ssh-known-hosts?dryRun=All"),
    ):

        def is_enforced(path: str = path, policy: str = policy) -> bool:
            return is_refused(miwen.call("PATCH", path, change, MERGE), policy)

        until(f"{policy} is enforced", is_enforced)
    yield miwen
    installed.call("DELETE", f"/apis/{RBAC}/v1/clusterrolebindings/all-for-miwen").ok()
    for each in installed.call("GET", PATH).ok()["items"]:
        path = f"{PATH}/{each['metadata']['name']}"
        installed.call("PATCH", path, {"metadata": {"finalizers": None}}, MERGE).ok()
        installed.call("DELETE", path)


CHANGES: dict[str, list[dict[str, Any]]] = {
    "the repository": [{"op": "replace", "path": "/spec/source/repository/url", "value": "https://evil.example/x"}],
    "a new field of the spec": [{"op": "add", "path": "/spec/serviceAccountName", "value": "admin"}],
    "a field taken out of the spec": [{"op": "remove", "path": "/spec/interval"}],
    "another label": [{"op": "replace", "path": "/metadata/labels/team", "value": "b"}],
    "a new label": [{"op": "add", "path": "/metadata/labels/more", "value": "b"}],
    "no labels": [{"op": "remove", "path": "/metadata/labels"}],
    "an annotation": [{"op": "add", "path": "/metadata/annotations/jiemi.cr~1reconcile-at", "value": "1"}],
    "no annotations": [{"op": "remove", "path": "/metadata/annotations"}],
    "an owner": [
        {
            "op": "add",
            "path": "/metadata/ownerReferences",
            "value": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"}],
        }
    ],
    "another's finalizer taken off": [{"op": "remove", "path": "/metadata/finalizers"}],
    "another's finalizer put on": [{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/more"}],
    "the spec together with its finalizer": [
        {"op": "add", "path": "/metadata/finalizers/-", "value": "jiemi.cr/cleanup"},
        {"op": "replace", "path": "/spec/source/repository/url", "value": "https://evil.example/x"},
    ],
}


@pytest.mark.parametrize("what", CHANGES)
def test_miwen_can_not_change(guarded: ApiServer, installed: ApiServer, what: str) -> None:
    installed.apply(decryptor("fixed")).ok()
    before = installed.call("GET", f"{PATH}/fixed").ok()
    assert is_refused(guarded.call("PATCH", f"{PATH}/fixed", CHANGES[what], JSON_PATCH), "jiemi-miwen-decryptors")
    assert installed.call("GET", f"{PATH}/fixed").ok() == before
    # The same by whom the policy is not for.
    installed.call("PATCH", f"{PATH}/fixed?dryRun=All", CHANGES[what], JSON_PATCH)


def test_miwen_can_not_apply_a_decryptor_over_one_that_is_there(guarded: ApiServer, installed: ApiServer) -> None:
    installed.apply(decryptor("applied")).ok()
    other = decryptor("applied")
    other["spec"]["source"]["repository"]["url"] = "https://evil.example/x"
    assert is_refused(guarded.apply(other), "jiemi-miwen-decryptors")


def test_miwen_makes_and_deletes_no_decryptor_even_with_the_right_to(guarded: ApiServer, installed: ApiServer) -> None:
    assert is_refused(guarded.apply(decryptor("made")), "jiemi-miwen-decryptors")
    assert is_refused(guarded.call("POST", PATH, decryptor("made")), "jiemi-miwen-decryptors")
    installed.apply(decryptor("kept")).ok()
    assert is_refused(guarded.call("DELETE", f"{PATH}/kept"), "jiemi-miwen-decryptors")
    assert is_refused(guarded.call("DELETE", PATH), "jiemi-miwen-decryptors")
    assert installed.call("GET", f"{PATH}/kept").status == 200


def test_miwen_writes_its_finalizer_and_the_status(guarded: ApiServer, installed: ApiServer) -> None:
    installed.apply(decryptor("open")).ok()
    for finalizers in (["example.com/others", "jiemi.cr/cleanup"], ["example.com/others"]):
        patch = [{"op": "add", "path": "/metadata/finalizers", "value": finalizers}]
        assert guarded.call("PATCH", f"{PATH}/open", patch, JSON_PATCH).ok()["metadata"]["finalizers"] == finalizers
    current = {
        "id": 1,
        "revision": "a" * 40,
        "file_to_decrypt": "x.enc.yaml",
        "deployed_at": "2026-01-01T00:00:00Z",
        "status": "Sync",
        "error_message": "none",
    }
    status = {"status": {"current": current, "history": [current]}}
    path = f"{PATH}/open/status"
    assert guarded.call("PATCH", path, status, MERGE).ok()["status"]["current"] == current
    assert guarded.call("PATCH", path, {"spec": {"suspend": True}, "metadata": {"labels": {"x": "y"}}}, MERGE).ok()
    after = installed.call("GET", f"{PATH}/open").ok()
    assert (after["spec"], after["metadata"]["labels"]) == (decryptor("open")["spec"], {"team": "a"}), "as they were"


def test_the_last_finalizer_can_be_taken_off_what_is_being_deleted(guarded: ApiServer, installed: ApiServer) -> None:
    manifest = decryptor("leaving")
    manifest["metadata"]["finalizers"] = ["jiemi.cr/cleanup"]
    installed.apply(manifest).ok()
    installed.call("DELETE", f"{PATH}/leaving").ok()
    patch = [{"op": "add", "path": "/metadata/finalizers", "value": []}]
    assert guarded.call("PATCH", f"{PATH}/leaving", patch, JSON_PATCH).status == 200
    assert installed.call("GET", f"{PATH}/leaving").status == 404


def test_a_large_spec_is_not_too_costly_to_compare(guarded: ApiServer, installed: ApiServer) -> None:
    manifest = decryptor("large")
    manifest["spec"]["provider"] = {"pgp": {"privateKey": {"literal": "x" * 60_000}}}
    manifest["spec"]["source"]["files"] = [f"{number}/{'x' * 900}" for number in range(100)]
    manifest["metadata"]["annotations"] = {f"note-{number}": "x" * 1_000 for number in range(240)}
    installed.call("POST", PATH, manifest).ok()
    patch = [{"op": "add", "path": "/metadata/finalizers/-", "value": "jiemi.cr/cleanup"}]
    assert guarded.call("PATCH", f"{PATH}/large", patch, JSON_PATCH).status == 200


def test_people_and_other_accounts_change_decryptors_as_ever(guarded: ApiServer, installed: ApiServer) -> None:
    installed.apply(decryptor("peoples")).ok()
    for what in ("the repository", "a new label", "an annotation"):
        assert installed.call("PATCH", f"{PATH}/peoples", CHANGES[what], JSON_PATCH).status == 200


@pytest.mark.parametrize("type_", ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"])
def test_miwen_writes_no_secret_that_the_cluster_takes_for_a_credential(
    guarded: ApiServer, installed: ApiServer, type_: str
) -> None:
    metadata: dict[str, Any] = {"name": f"token-{type_.partition('.')[0]}", "namespace": NAMESPACE}
    if "service-account" in type_:
        metadata["annotations"] = {"kubernetes.io/service-account.name": "default"}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": type_}
    assert is_refused(guarded.apply(manifest), "jiemi-miwen-objects")
    installed.apply(manifest).ok()
    # Without its type the API server takes it for another type, which it can't become.
    untyped = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"x": "y"}}
    assert guarded.apply(untyped).status == 422


def test_miwen_writes_nothing_of_the_namespace_that_it_runs_in(guarded: ApiServer, installed: ApiServer) -> None:
    known = "/api/v1/namespaces/jiemi/configmaps/krapao-ssh-known-hosts"
    assert is_refused(guarded.call("PATCH", known, {"data": {"x": "y"}}, MERGE), "jiemi-miwen-objects")
    assert is_refused(guarded.call("DELETE", known), "jiemi-miwen-objects")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "jiemi"}}
    assert is_refused(guarded.apply(secret), "jiemi-miwen-objects")
    assert guarded.apply({**secret, "metadata": {"name": "x", "namespace": NAMESPACE}}).status < 300


def test_of_its_own_namespace_miwen_makes_and_renews_its_certificates_and_writes_nothing_else(
    guarded: ApiServer, installed: ApiServer
) -> None:
    secrets = "/api/v1/namespaces/jiemi/secrets"
    names = ("jiemi-authorities", "krapao-tls", "miwen-tls")
    for name in names:
        installed.call("DELETE", f"{secrets}/{name}")  # where a Miwen of another test made it
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "jiemi"},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": "c", "tls.key": "k"},
        }
        for other in ("bootstrap.kubernetes.io/token", "Opaque"):
            typed = {**manifest, "type": other}
            assert is_refused(guarded.call("POST", f"{secrets}?dryRun=All", typed), "jiemi-miwen-objects")
        as_config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": manifest["metadata"]}
        assert is_refused(
            guarded.call("POST", "/api/v1/namespaces/jiemi/configmaps?dryRun=All", as_config_map), "jiemi-miwen-objects"
        )
        made = guarded.call("POST", secrets, manifest).ok()
        made["data"]["tls.crt"] = "ZA=="
        guarded.call("PUT", f"{secrets}/{name}", made).ok()
        assert is_refused(guarded.call("DELETE", f"{secrets}/{name}"), "jiemi-miwen-objects")
        # cert-manager marks what it fills.
        mark = {"metadata": {"labels": {"controller.cert-manager.io/fao": "true"}}}
        marked = installed.call("PATCH", f"{secrets}/{name}", mark, MERGE).ok()
        assert is_refused(guarded.call("PUT", f"{secrets}/{name}", marked), "jiemi-miwen-objects")
        unmark = {"metadata": {"labels": {"controller.cert-manager.io/fao": None}}}
        assert is_refused(guarded.call("PATCH", f"{secrets}/{name}", unmark, MERGE), "jiemi-miwen-objects")
    another = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "miwen-tls2", "namespace": "jiemi"}}
    another |= {"type": "kubernetes.io/tls", "stringData": {"tls.crt": "c", "tls.key": "k"}}
    assert is_refused(guarded.call("POST", f"{secrets}?dryRun=All", another), "jiemi-miwen-objects")
    for name in names:
        installed.call("DELETE", f"{secrets}/{name}").ok()


def test_the_policies_hold_where_an_overlay_sets_another_namespace(guarded: ApiServer, installed: ApiServer) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": NAMESPACE, "name": "miwen"}}
    installed.apply(account).ok()
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "elsewhere-miwen"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "jiemi-miwen"},
        "subjects": [{"kind": "ServiceAccount", "name": "miwen", "namespace": NAMESPACE}],
    }
    installed.apply(binding).ok()
    elsewhere = installed.service_account(NAMESPACE, "miwen")
    until("the binding holds", lambda: elsewhere.may("patch", "jiemi.cr", "decryptors"))
    installed.apply(decryptor("overlaid")).ok()
    changed = elsewhere.call("PATCH", f"{PATH}/overlaid", CHANGES["the repository"], JSON_PATCH)
    assert is_refused(changed, "jiemi-miwen-decryptors")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "y", "namespace": NAMESPACE}}
    assert is_refused(elsewhere.apply(secret), "jiemi-miwen-objects")
    installed.call("DELETE", f"/apis/{RBAC}/v1/clusterrolebindings/elsewhere-miwen").ok()


def test_every_object_of_deploy_without_a_namespace_has_a_name_that_is_protected(
    manifests: list[dict[str, Any]],
) -> None:
    groups = (RBAC, "admissionregistration.k8s.io")
    names = [
        each["metadata"]["name"]
        for each in manifests
        if each["apiVersion"].split("/")[0] in groups and "namespace" not in each["metadata"]
    ]
    assert len(names) >= 8
    assert [name for name in names if not name.startswith(_OWN_PREFIXES)] == []
