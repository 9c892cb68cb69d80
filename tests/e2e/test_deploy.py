"""Miwen under its ServiceAccount's token and the rights that deploy/ gives it, RBAC enforced."""

from __future__ import annotations

import json

import pytest
from api_server import ApiServer
from e2e_lab import Lab, until

pytestmark = pytest.mark.e2e


def test_with_the_shipped_rights_secrets_and_configmaps_follow_and_the_rest_is_refused_by_name(
    lab: Lab, installed: ApiServer
) -> None:
    """All namespaces, as deploy/ runs it; so nothing else may be followed here meanwhile."""
    namespace = lab.namespace("e2e-deploy")
    for item in installed.call("GET", "/apis/jiemi.cr/v1alpha1/decryptors").ok()["items"]:
        metadata = item["metadata"]
        path = f"/apis/jiemi.cr/v1alpha1/namespaces/{metadata['namespace']}/decryptors/{metadata['name']}"
        installed.call("DELETE", path).ok()
    kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
    _, address = lab.start_krapao(name="deploy")
    lab.start("miwen", "--krapao", address, "--kubeconfig", kubeconfig, "--interval", "1s")

    lab.secret(namespace, "age-key", privateKey=str(lab.identity))
    provider = {"age": {"privateKey": {"secretName": "age-key", "key": "privateKey"}}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shipped"}, "stringData": {"k": "v"}}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shipped"}, "data": {"k": "v"}}
    both = {"apiVersion": "v1", "kind": "List", "items": [secret, config]}
    repository = lab.repository()
    revision = repository.commit({"secret.enc.yaml": lab.encrypt(json.dumps(both))})
    lab.admin.apply(lab.decryptor(namespace, "shipped", repository.url, provider=provider)).ok()
    lab.until_synced(namespace, "shipped", revision)
    assert lab.data(namespace, "shipped") == {"k": "v"}

    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "more"}, "rules": []}
    forbidden = repository.commit({"secret.enc.yaml": lab.encrypt(json.dumps({**both, "items": [secret, role]}))})
    status = lab.until_reason(namespace, "shipped", "ApplyForbidden")
    assert status["current"]["revision"] == revision
    assert status["lastAttemptedRevision"] == forbidden
    message = status["current"]["error_message"]
    assert "Role" in message
    assert "roles" in message
    assert lab.data(namespace, "shipped") == {"k": "v"}

    # Granting what the message asks for is enough.
    grant = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "e2e-more"},
        "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create", "patch"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "e2e-more"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "e2e-more"},
        "subjects": [{"kind": "ServiceAccount", "name": "miwen", "namespace": "jiemi"}],
    }
    for manifest in (grant, binding):
        installed.apply(manifest).ok()
    lab.until_synced(namespace, "shipped", forbidden)
    until(
        "the Role is there",
        lambda: (
            installed.call("GET", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/more").status == 200
        ),
    )
    for kind in ("clusterrolebindings", "clusterroles"):
        installed.call("DELETE", f"/apis/rbac.authorization.k8s.io/v1/{kind}/e2e-more").ok()
