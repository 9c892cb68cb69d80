"""Miwen under its ServiceAccount's token and the rights that deploy/ gives it, RBAC enforced."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.e2e.lab import Lab, until
from support.kubernetes.api_server import ApiServer
from support.network.addresses import LOOPBACK_FLAGS

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


def test_on_tcp_miwen_makes_the_session_secret_and_only_who_has_it_is_served(lab: Lab, installed: ApiServer) -> None:
    """As deploy/ has it: the Secret does not exist, Miwen makes it, Krapao mounts it."""
    namespace = lab.namespace("e2e-session")
    path = "/api/v1/namespaces/jiemi/secrets/krapao-session"
    installed.call("DELETE", path)
    kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
    # Krapao is not there yet: its Pod waits for the Secret's volume, which Miwen's start brings.
    listen = lab.folder / "session-port"
    miwen_arguments = ("--kubeconfig", kubeconfig, "--namespace", namespace, "--interval", "1s")
    port = _free_port()
    miwen = lab.start(
        "miwen", "--krapao", f"tcp:127.0.0.1:{port}", *miwen_arguments, "--session-secret", "jiemi/krapao-session"
    )
    until("Miwen makes the Secret", lambda: installed.call("GET", path).status == 200, on_failure=miwen.log_text)
    token = base64.b64decode(installed.call("GET", path).body["data"]["token"]).decode()
    assert re.fullmatch("[0-9a-f]{64}", token)

    mounted = lab.folder / "token"
    mounted.write_text(token)
    krapao = lab.start(
        *("krapao", "--listen", f"tcp:127.0.0.1:{port}", "--session-secret-file", mounted),
        *("--state-dir", listen, "--runtime-dir", lab.folder, "--sops", lab.tools["sops"], *LOOPBACK_FLAGS),
    )
    repository = lab.repository()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "session"}, "stringData": {"k": "v"}}
    revision = repository.commit({"secret.enc.yaml": lab.encrypt(json.dumps(secret))})
    lab.admin.apply(lab.decryptor(namespace, "session", repository.url)).ok()
    lab.until_synced(namespace, "session", revision)
    assert lab.data(namespace, "session") == {"k": "v"}

    for more, exit_status in (((), 1), (("--session-secret-file", str(mounted)), 0)):
        command = [sys.executable, "-m", "jiemi", "probe", "krapao", "--address", f"tcp:127.0.0.1:{port}", *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == exit_status, done.stderr

    # Another secret: Decryptors say so, what is deployed stays, and once both have it they go on.
    mounted.write_text("another-session-secret-of-the-operator")
    krapao.end()
    krapao = lab.start(
        *("krapao", "--listen", f"tcp:127.0.0.1:{port}", "--session-secret-file", mounted),
        *("--state-dir", listen, "--runtime-dir", lab.folder, "--sops", lab.tools["sops"], *LOOPBACK_FLAGS),
    )
    status = lab.until_reason(namespace, "session", "KrapaoAccessDenied")
    assert lab.data(namespace, "session") == {"k": "v"}
    changed = base64.b64encode(mounted.read_bytes()).decode()
    installed.call("PATCH", path, {"data": {"token": changed}}, "application/merge-patch+json").ok()
    again = repository.commit({"secret.enc.yaml": lab.encrypt(json.dumps({**secret, "stringData": {"k": "w"}}))})
    lab.until_synced(namespace, "session", again)
    everything = lab.logs() + json.dumps(status) + json.dumps(lab.status(namespace, "session"))
    assert token not in everything
    assert "another-session-secret" not in everything
    for service in (miwen, krapao):
        assert token.encode() not in Path(f"/proc/{service.process.pid}/cmdline").read_bytes()
    lab.delete_decryptor(namespace, "session")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
