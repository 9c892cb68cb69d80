"""Miwen under its ServiceAccount's token and the rights that deploy/ gives it, RBAC enforced."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.e2e.lab import Lab, until
from support.kubernetes.api_server import ApiServer
from support.network.addresses import LOOPBACK_FLAGS
from support.network.tls_folders import write_parts

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


SECRETS = "/api/v1/namespaces/jiemi/secrets"
NAMES = ("jiemi-authorities", "krapao-tls", "miwen-tls")


def _mount(installed: ApiServer, name: str, folder: Path) -> None:
    """Bring a Secret to a folder, as the kubelet does."""
    data = installed.call("GET", f"{SECRETS}/{name}").ok()["data"]
    write_parts(folder, {key: base64.b64decode(value) for key, value in data.items()})


def test_on_tcp_miwen_makes_the_certificates_and_only_who_has_one_is_served(lab: Lab, installed: ApiServer) -> None:
    """As deploy/ has it: the Secrets do not exist, Miwen makes them with its shipped rights, Krapao mounts its own."""
    namespace = lab.namespace("e2e-certificates")
    for name in NAMES:
        installed.call("DELETE", f"{SECRETS}/{name}")
    kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
    # Krapao is not there yet: its Pod waits for the Secret's volume, which Miwen's start brings.
    state, mounted = lab.folder / "tls-state", lab.folder / "mounted"
    port = _free_port()
    krapaos = f"tcp:127.0.0.1:{port}"
    more = ("--kubeconfig", kubeconfig, "--namespace", namespace, "--interval", "1s")
    miwen = lab.start("miwen", "--krapao", krapaos, *more, "--tls-secret", "jiemi/miwen-tls", "--make-certificates")
    until(
        "Miwen makes the Secrets",
        lambda: all(installed.call("GET", f"{SECRETS}/{name}").status == 200 for name in NAMES),
        on_failure=miwen.log_text,
    )
    _mount(installed, "krapao-tls", mounted)
    arguments = (
        *("krapao", "--listen", krapaos, "--tls-dir", mounted, "--state-dir", state),
        *("--runtime-dir", lab.folder, "--sops", lab.tools["sops"], *LOOPBACK_FLAGS),
    )
    krapao = lab.start(*arguments)
    repository = lab.repository()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "session"}, "stringData": {"k": "v"}}
    revision = repository.commit({"secret.enc.yaml": lab.encrypt(json.dumps(secret))})
    lab.admin.apply(lab.decryptor(namespace, "session", repository.url)).ok()
    lab.until_synced(namespace, "session", revision)
    assert lab.data(namespace, "session") == {"k": "v"}

    own = lab.folder / "own"
    _mount(installed, "miwen-tls", own)
    for given, exit_status in (((), 1), (("--tls-dir", str(mounted)), 1), (("--tls-dir", str(own)), 0)):
        command = [sys.executable, "-m", "jiemi", "probe", "krapao", "--address", krapaos, *given]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == exit_status, done.stderr

    # Another authority, of which Krapao does not know yet: Decryptors say so, and what is deployed stays.
    keys = [base64.b64decode(installed.call("GET", f"{SECRETS}/{name}").body["data"]["tls.key"]) for name in NAMES]
    for name in NAMES:
        installed.call("DELETE", f"{SECRETS}/{name}").ok()
    krapao.end()
    krapao = lab.start(*arguments)
    status = lab.until_reason(namespace, "session", "KrapaoNotTrusted")
    assert "its certificate is not accepted" in json.dumps(status)
    assert lab.data(namespace, "session") == {"k": "v"}
    # The kubelet brings it, and it goes on.
    _mount(installed, "krapao-tls", mounted)
    again = repository.commit({"secret.enc.yaml": lab.encrypt(json.dumps({**secret, "stringData": {"k": "w"}}))})
    lab.until_synced(namespace, "session", again)

    # No key is anywhere that can be read without being an administrator.
    everything = lab.logs() + json.dumps(status) + json.dumps(lab.status(namespace, "session"))
    everything += json.dumps(installed.call("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events").ok())
    files = [path for folder in (state, own.parent / "tls-state") for path in folder.rglob("*") if path.is_file()]
    for key in keys:
        line = key.decode().splitlines()[1]
        assert line not in everything
        assert not [path for path in files if line.encode() in path.read_bytes()]
        for service in (miwen, krapao):
            process = Path(f"/proc/{service.process.pid}")
            assert line.encode() not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    lab.delete_decryptor(namespace, "session")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
