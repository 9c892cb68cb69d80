"""An API server with the real cert-manager, whose certificates Miwen and Krapao use, and what users may ask of it."""

from __future__ import annotations

import contextlib
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from support.e2e.lab import Lab, Service, git_server, until
from support.e2e.scene import Scene, secret
from support.kubernetes.api_server import Manifest
from support.kubernetes.cert_manager import CertManager, certificate, issuer, open_cert_manager, secret_parts
from support.kubernetes.installing import free_port
from support.kubernetes.own_control_plane import open_own_control_plane
from support.kubernetes.secret_volume import secret_volume
from support.metrics_pages import samples, total
from support.network.addresses import LOOPBACK_FLAGS

USAGES = {"krapao": "server auth", "miwen": "client auth"}
KEY = {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"}
_ENDS = "jiemi_certificate_not_after_timestamp_seconds"


def leaf(pem: bytes) -> x509.Certificate:
    """The first certificate of a text."""
    return x509.load_pem_x509_certificates(pem)[0]


def is_of(parts: Mapping[str, bytes], authority: x509.Certificate) -> bool:
    """Whether a Secret names this authority."""
    return "ca.crt" in parts and leaf(parts["ca.crt"]) == authority


@attrs.frozen
class CertifiedCluster:
    """An API server with cert-manager, and a lab."""

    lab: Lab
    cert_manager: CertManager

    def parts(self, namespace: str, name: str) -> dict[str, bytes]:
        """What a Secret holds; empty where there is none."""
        return secret_parts(self.lab.admin, namespace, name)

    def metadata(self, namespace: str) -> list[Any]:
        """That of the Secrets of both ends: each write changes it."""
        secrets = f"/api/v1/namespaces/{namespace}/secrets"
        return [self.lab.admin.call("GET", f"{secrets}/{end}-tls").ok()["metadata"] for end in USAGES]

    def delete_secrets(self, namespace: str, *names: str) -> None:
        for name in names:
            self.lab.admin.call("DELETE", f"/api/v1/namespaces/{namespace}/secrets/{name}").ok()

    def authority(self, namespace: str, **key: str) -> Manifest:
        """Make the Issuers `own`, which signs what it is shown with its own key, and `ours`, of the CA that it gives.

        Args:
            key: what is another in the authority's private key.
        """
        self.lab.namespace(namespace)
        made = certificate(
            namespace,
            "ca",
            "own",
            isCA=True,
            commonName="CA",
            duration="26280h",
            privateKey={**KEY, "rotationPolicy": "Never", **key},
        )
        self.cert_manager.put(
            issuer(namespace, "own", selfSigned={}), made, issuer(namespace, "ours", ca={"secretName": "ca"})
        )
        return made

    def certificates(self, namespace: str, /, **more: Mapping[str, Any]) -> dict[str, Manifest]:
        """Make those of both ends, of the Issuer `ours`, and return them by the end's name.

        Args:
            more: what is another in the spec, by the end's name.
        """
        made = {
            end: certificate(
                namespace,
                f"{end}-tls",
                "ours",
                **{
                    "dnsNames": [end],
                    "usages": [usage],
                    "duration": "720h",
                    "privateKey": KEY,
                    **more.get(end, {}),
                },
            )
            for end, usage in USAGES.items()
        }
        self.cert_manager.put(*made.values())
        return made

    @contextlib.contextmanager
    def running(self, namespace: str, *of_miwen: str) -> Iterator[Pair]:
        """Krapao with the Secret krapao-tls as a volume, and Miwen for the Decryptors of the namespace."""
        lab, volume = self.lab, self.lab.folder / namespace
        address, pages = f"tcp:127.0.0.1:{free_port()}", [f"127.0.0.1:{free_port()}" for _ in range(2)]
        with secret_volume(lab.kubeconfig, namespace, "krapao-tls", volume), contextlib.ExitStack() as ending:
            ending.callback(lab.end_services)
            miwen = lab.start_miwen(
                *(address, namespace, "--tls-secret", f"{namespace}/miwen-tls", "--metrics-listen", pages[0]), *of_miwen
            )
            until("krapao-tls is there", volume.exists, on_failure=miwen.log_text)
            krapao = lab.start(
                *("krapao", "--listen", address, "--tls-dir", volume, "--metrics-listen", pages[1]),
                *("--state-dir", f"{volume}-state", "--runtime-dir", lab.folder, "--sops", lab.tools["sops"]),
                *LOOPBACK_FLAGS,
            )
            until("Krapao serves", lambda: '"serving"' in krapao.log_text(), on_failure=krapao.log_text)
            yield Pair(miwen, krapao, *pages)

    def put_decryptor(self, namespace: str) -> str:
        """Make the Decryptor `app` of a Secret with one value; returns the revision that is to be deployed.

        One that there is goes first, so that nothing stands that was deployed before.
        """
        path = f"/apis/jiemi.cr/v1alpha1/namespaces/{namespace}/decryptors/app"
        assert self.lab.admin.call("DELETE", path).status in (200, 404)
        scene, repository = Scene(self.lab, namespace), self.lab.repository()
        revision = scene.commit(repository, secret("app", a="1"))
        scene.put("app", repository.url)
        return revision


@attrs.frozen
class Pair:
    """Both services.

    Attributes:
        miwen_pages, krapao_pages: where their metrics are.
    """

    miwen: Service
    krapao: Service
    miwen_pages: str
    krapao_pages: str

    def page(self, of: str) -> str:
        with urllib.request.urlopen(f"http://{of}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def ends(self) -> tuple[float, float]:
        """When the certificates end that Miwen and Krapao show, in seconds since 1970."""
        return total(self.page(self.miwen_pages), _ENDS), total(self.page(self.krapao_pages), _ENDS)

    def failed_calls(self) -> list[tuple[dict[str, str], float]]:
        found = samples(self.page(self.miwen_pages), "jiemi_krapao_calls_total")
        assert found
        return [each for each in found if each[0]["outcome"] not in ("ok", "cancelled")]


@pytest.fixture(scope="module")
def certified(tools: dict[str, Path], cert_manager_program: Path) -> Iterator[CertifiedCluster]:
    """One for the tests of a module."""
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="jiemi-cert-manager-", dir=parent) as name,
        open_own_control_plane(Path(name)) as (plane, admin),
        git_server(Path(name)) as git,
        open_cert_manager(cert_manager_program, admin, plane.kubeconfig, Path(name)) as cert_manager,
    ):
        lab = Lab(admin, plane.kubeconfig, tools, git, Path(name))
        try:
            yield CertifiedCluster(lab, cert_manager)
        finally:
            lab.end_services()
