"""cert-manager's own controllers (tests/data/cert-manager), as a process beside an API server of the tests'.

Its webhook does not run, so what only that one refuses is accepted: a duration below an hour for example, which lets
tests see a renewal.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import subprocess
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from ruamel.yaml import YAML
from support.e2e.lab import until
from support.kubernetes.api_server import ApiServer, Manifest
from support.kubernetes.go_programs import Embedded, go_program

from jiemi.certificates import Issued

GROUP = "cert-manager.io"
VERSION = f"{GROUP}/v1"
END_SECONDS = 15


@pytest.fixture(scope="session")
def cert_manager_program() -> Path:
    """cert-manager; the first run on a machine builds it."""
    return trio.run(build_cert_manager)


async def build_cert_manager() -> Path:
    """cert-manager, from the cache of tools or built into it."""
    definitions = Embedded("github.com/cert-manager/cert-manager", f"deploy/crds/{GROUP}_*.yaml")
    return await go_program("cert-manager", embedded=definitions)


@attrs.frozen
class CertManager:
    """cert-manager, while it runs.

    Attributes:
        admin: its API server.
        log: the file that it writes to.
    """

    admin: ApiServer
    log: Path

    def put(self, *manifests: Manifest) -> None:
        """Apply manifests. What the API server does not know in them is an error, not a warning."""
        for manifest in manifests:
            self.admin.apply(manifest, query="&fieldValidation=Strict").ok()

    def until_ready(self, *manifests: Manifest) -> None:
        """Wait until Issuers can be used and Certificates are issued, as they are asked for now."""
        for manifest in manifests:
            until(
                f"{manifest['kind']} {manifest['metadata']['name']} is ready",
                partial(self._is_ready, manifest),
                on_failure=lambda: self.log.read_text()[-3000:],
            )

    def _is_ready(self, manifest: Manifest) -> bool:
        found = self.admin.call("GET", self.admin.path_of(manifest)).ok()
        conditions = _conditions(found)
        ready = conditions.get("Ready", {})
        current = ready.get("observedGeneration") == found["metadata"]["generation"]
        return current and ready["status"] == "True" and "Issuing" not in conditions

    def renew(self, manifest: Manifest) -> None:
        """Have a Certificate that is ready issued again, as `cmctl renew` does, and wait until it is."""
        path, before = self.admin.path_of(manifest), 0

        def ask() -> bool:
            nonlocal before
            found = self.admin.call("GET", path).ok()
            if "Issuing" in _conditions(found) or "revision" not in found["status"]:
                return False
            before = found["status"]["revision"]
            asked = _condition("Issuing", "ManuallyTriggered", "Certificate re-issuance manually triggered")
            found["status"]["conditions"].append({**asked, "observedGeneration": found["metadata"]["generation"]})
            return self._is_written(f"{path}/status", found)

        def is_issued() -> bool:
            found = self.admin.call("GET", path).ok()
            return found["status"]["revision"] > before and "Issuing" not in _conditions(found)

        name = manifest["metadata"]["name"]
        until(f"{name} is to be issued again", ask)
        until(f"{name} is issued again", is_issued, on_failure=lambda: self.log.read_text()[-3000:])

    def issue_as_acme_does(self, namespace: str, group: str, authority: Issued) -> None:
        """Be an issuer of another API group: sign what is asked of it next, and hand out no authority.

        Args:
            group: of the issuer.
            authority: signs.
        """
        path = f"/apis/{VERSION}/namespaces/{namespace}/certificaterequests"

        def sign() -> bool:
            for each in self.admin.call("GET", path).ok()["items"]:
                # cert-manager has approved it, and nobody has signed it.
                if each["spec"]["issuerRef"]["group"] == group and set(_conditions(each)) == {"Approved"}:
                    signed = _signed(base64.b64decode(each["spec"]["request"]), authority)
                    each["status"]["certificate"] = base64.b64encode(signed).decode()
                    each["status"]["conditions"].append(_condition("Ready", "Issued", "signed"))
                    return self._is_written(f"{path}/{each['metadata']['name']}/status", each)
            return False

        until("a certificate was asked for and signed", sign, on_failure=lambda: self.log.read_text()[-3000:])

    def _is_written(self, path: str, manifest: Manifest) -> bool:
        """Whether nobody else wrote it meanwhile."""
        answer = self.admin.call("PUT", path, manifest)
        if answer.status != HTTPStatus.CONFLICT:
            answer.ok()
        return answer.status != HTTPStatus.CONFLICT


def _conditions(found: Manifest) -> dict[str, dict[str, Any]]:
    """The conditions of an object, by their types."""
    return {each["type"]: each for each in found.get("status", {}).get("conditions", ())}


def _condition(kind: str, reason: str, message: str) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now}


def _signed(request: bytes, authority: Issued) -> bytes:
    """The certificate that was asked for (PKCS #10), for an hour."""
    csr, now = x509.load_pem_x509_csr(request), datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(csr.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(csr.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(hours=1))
    )
    for extension in csr.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@contextlib.contextmanager
def open_cert_manager(program: Path, admin: ApiServer, kubeconfig: Path, folder: Path) -> Iterator[CertManager]:
    """Install the definitions of its kinds, and run it while the context lasts.

    Args:
        kubeconfig: of the API server, with all rights.
        folder: for its log.
    """
    printed = subprocess.run([program, "-definitions"], capture_output=True, text=True, check=True).stdout
    for definition in YAML(typ="safe").load_all(printed):
        if definition is not None:
            admin.apply(definition).ok()
    for resource in ("issuers", "clusterissuers", "certificates", "certificaterequests"):
        path = f"/apis/{VERSION}/{resource}"
        until(f"{resource} are served", lambda: admin.call("GET", path).status == 200)  # noqa: B023 - called here
    log = folder / "cert-manager.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "-kubeconfig", kubeconfig], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield CertManager(admin, log)
        assert process.poll() is None, log.read_text()[-3000:]
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        finally:
            process.kill()  # does nothing to one that has ended
            process.wait()


def issuer(namespace: str, name: str, **spec: Any) -> Manifest:
    """An Issuer."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": VERSION, "kind": "Issuer", "metadata": metadata, "spec": spec}


def certificate(namespace: str, name: str, issuer_name: str, **spec: Any) -> Manifest:
    """A Certificate for the Secret of the same name."""
    metadata = {"name": name, "namespace": namespace}
    ref = {"name": issuer_name, "kind": "Issuer", "group": GROUP}
    return {
        "apiVersion": VERSION,
        "kind": "Certificate",
        "metadata": metadata,
        "spec": {"secretName": name, "issuerRef": ref, **spec},
    }


def secret_parts(admin: ApiServer, namespace: str, name: str) -> dict[str, bytes]:
    """What a Secret holds; empty where there is none."""
    found = admin.call("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
    data = (found.body.get("data") or {}) if found.status == 200 else {}
    return {key: base64.b64decode(value) for key, value in data.items()}
