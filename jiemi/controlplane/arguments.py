"""How the embedded etcd, kube-apiserver and kube-controller-manager are started: their arguments and configuration
files, as pure functions."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import attrs

from jiemi.controlplane.pki import Pki

LOOPBACK = "127.0.0.1"

SERVICES = "10.0.0.0/24"
"""The addresses of Services. The first is that of the API server."""

FIRST_SERVICE = "10.0.0.1"

SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc.cluster.local")
"""Further names of the API server within a cluster."""

ENCRYPTED_RESOURCES = ("secrets", "decryptors.jiemi.cr")
"""What is encrypted in etcd: a Decryptor may hold credentials as literals."""


def etcd_arguments(data: Path, client_port: int, peer_port: int, pki: Pki) -> Sequence[str]:
    """etcd's arguments: one member on loopback that talks to nobody without our authority's certificate."""
    client_url = f"https://{LOOPBACK}:{client_port}"
    peer_url = f"https://{LOOPBACK}:{peer_port}"
    return (
        "--name=jiemi",
        f"--data-dir={data}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=jiemi={peer_url}",
        f"--trusted-ca-file={pki.authority.certificate}",
        f"--cert-file={pki.etcd.certificate}",
        f"--key-file={pki.etcd.key}",
        "--client-cert-auth=true",
        f"--peer-trusted-ca-file={pki.authority.certificate}",
        f"--peer-cert-file={pki.etcd.certificate}",
        f"--peer-key-file={pki.etcd.key}",
        "--peer-client-cert-auth=true",
        # We keep the ports bound while it starts, so that nobody else gets them.
        "--socket-reuse-port=true",
        "--logger=zap",
        "--log-level=warn",
    )


@attrs.frozen(kw_only=True)
class ApiServer:
    """One kube-apiserver.

    Attributes:
        port: where it serves, on loopback.
        etcd_port: where its etcd serves, on loopback.
        encryption_config: file with its EncryptionConfiguration.
        scratch: folder for certificates that it makes itself.
        audit_log: file for its audit log, or None.
        audit_policy: file with the log's policy, or None.
        node_address: address at which the Pods of this cluster reach it; None where there is nobody but this machine.
        service_accounts: whether the controller runs that makes each namespace's default ServiceAccount. Without it,
            no Pod could be made where Pods need one.
        extra: further arguments, which come last and so win.
    """

    port: int
    etcd_port: int
    encryption_config: Path
    scratch: Path
    audit_log: Path | None = None
    audit_policy: Path | None = None
    node_address: str | None = None
    service_accounts: bool = False
    extra: tuple[str, ...] = ()


def api_server_arguments(server: ApiServer, pki: Pki) -> Sequence[str]:
    """kube-apiserver's arguments."""
    audit = () if server.audit_log is None else (f"--audit-log-path={server.audit_log}",)
    policy = () if server.audit_policy is None else (f"--audit-policy-file={server.audit_policy}",)
    admission = () if server.service_accounts else ("--disable-admission-plugins=ServiceAccount",)
    return (
        *_reach(server.node_address, pki),
        f"--secure-port={server.port}",
        "--permit-port-sharing=true",
        f"--etcd-servers=https://{LOOPBACK}:{server.etcd_port}",
        f"--etcd-cafile={pki.authority.certificate}",
        f"--etcd-certfile={pki.etcd_client.certificate}",
        f"--etcd-keyfile={pki.etcd_client.key}",
        f"--tls-cert-file={pki.api_server.certificate}",
        f"--tls-private-key-file={pki.api_server.key}",
        f"--client-ca-file={pki.authority.certificate}",
        f"--cert-dir={server.scratch}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki.service_account_public_key}",
        f"--service-account-signing-key-file={pki.service_account_key}",
        f"--service-cluster-ip-range={SERVICES}",
        f"--encryption-provider-config={server.encryption_config}",
        "--profiling=false",
        *admission,
        *audit,
        *policy,
        *server.extra,
    )


def _reach(node_address: str | None, pki: Pki) -> Sequence[str]:
    """Where the API server is reached, and what goes with it."""
    if node_address is None:
        return (
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            # The default publishes the address as an Endpoint, and refuses a loopback one.
            "--endpoint-reconciler-type=none",
            "--anonymous-auth=false",
        )
    return (
        "--bind-address=0.0.0.0",
        f"--advertise-address={node_address}",
        # For `kubectl logs` and `exec`.
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={pki.admin.certificate}",
        f"--kubelet-client-key={pki.admin.key}",
    )


@attrs.frozen(kw_only=True)
class ControllerManager:
    """One kube-controller-manager.

    Attributes:
        port: where it serves its health, on loopback.
        kubeconfig: file by which it reaches the API server.
        controllers: as `--controllers` takes them.
        extra: further arguments, which come last and so win.
    """

    port: int
    kubeconfig: Path
    controllers: tuple[str, ...]
    extra: tuple[str, ...] = ()


def controller_manager_arguments(manager: ControllerManager, pki: Pki) -> Sequence[str]:
    """kube-controller-manager's arguments."""
    return (
        f"--kubeconfig={manager.kubeconfig}",
        f"--controllers={','.join(manager.controllers)}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={manager.port}",
        "--permit-port-sharing=true",
        f"--tls-cert-file={pki.controller_manager.certificate}",
        f"--tls-private-key-file={pki.controller_manager.key}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki.service_account_key}",
        f"--root-ca-file={pki.authority.certificate}",
        f"--service-cluster-ip-range={SERVICES}",
        # One client asks for the account and the token of each controller: by the default rate that takes 5 s.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
        *manager.extra,
    )


def encryption_config(key: bytes) -> bytes:
    """A kube-apiserver EncryptionConfiguration (JSON is YAML): XSalsa20 and Poly1305 under one key of 32 bytes."""
    keys = [{"name": "key1", "secret": base64.b64encode(key).decode()}]
    config = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [
            {"resources": list(ENCRYPTED_RESOURCES), "providers": [{"secretbox": {"keys": keys}}]},
        ],
    }
    return json.dumps(config, indent=2).encode()


def kubeconfig(server: str, authority: bytes, certificate: bytes, key: bytes, *, user: str = "jiemi-admin") -> bytes:
    """A kubeconfig, which needs no other file.

    Args:
        server: the API server's URL.
        authority, certificate, key: PEM.
        user: what the file calls its user; the API server reads the certificate.
    """

    def inline(pem: bytes) -> str:
        return base64.b64encode(pem).decode()

    return f"""\
apiVersion: v1
kind: Config
current-context: jiemi
clusters:
  - name: jiemi
    cluster:
      server: {server}
      certificate-authority-data: {inline(authority)}
users:
  - name: {user}
    user:
      client-certificate-data: {inline(certificate)}
      client-key-data: {inline(key)}
contexts:
  - name: jiemi
    context:
      cluster: jiemi
      user: {user}
      namespace: default
""".encode()
