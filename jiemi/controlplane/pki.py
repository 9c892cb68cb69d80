"""The certificates of one embedded control plane.

One authority, whose key never leaves the directory, signs: the API server's certificate, etcd's, the one that the API
server shows to etcd, the controllers' (user system:kube-controller-manager, to whom Kubernetes' own roles give what
they need), and the administrator's (organization system:masters). They are made together in one directory
that appears by a rename, so a crash leaves none or all, and are recreated when one of them is about to expire. The key
pair that signs ServiceAccount tokens lies apart: it stays, and so tokens stay valid.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from jiemi.certificates import (
    CLIENT_AUTH,
    SERVER_AUTH,
    Issued,
    Subject,
    alternative_name,
    alternative_names,
    issue,
    make_authority,
)
from jiemi.controlplane.private_files import make_private_directory, write_private

LIFETIME = datetime.timedelta(days=365)
RENEWAL = datetime.timedelta(days=60)
"""Certificates are recreated at a start if less than this is left, so that a control plane may run for two months."""


@attrs.frozen
class KeyPair:
    """Paths of a certificate and its private key, both PEM."""

    certificate: Path
    key: Path

    @classmethod
    def of(cls, directory: Path, name: str) -> KeyPair:
        return cls(directory / f"{name}.crt", directory / f"{name}.key")


@attrs.frozen
class Pki:
    """Paths of all certificates and keys of a control plane."""

    authority: KeyPair
    api_server: KeyPair
    etcd: KeyPair
    etcd_client: KeyPair
    controller_manager: KeyPair
    admin: KeyPair
    service_account_key: Path
    service_account_public_key: Path

    @classmethod
    def of(cls, directory: Path) -> Pki:
        """Their paths in a directory, whether the files are there or not."""
        certificates = directory / "certificates"
        return cls(
            authority=KeyPair.of(certificates, "ca"),
            api_server=KeyPair.of(certificates, "kube-apiserver"),
            etcd=KeyPair.of(certificates, "etcd"),
            etcd_client=KeyPair.of(certificates, "kube-apiserver-etcd-client"),
            controller_manager=KeyPair.of(certificates, "kube-controller-manager"),
            admin=KeyPair.of(certificates, "admin"),
            service_account_key=directory / "service-account.key",
            service_account_public_key=directory / "service-account.pub",
        )


_API_SERVER = "kube-apiserver"
_SERVER_HOSTS = ("localhost", "127.0.0.1")
_SUBJECTS: Mapping[str, Subject] = {
    _API_SERVER: Subject("kube-apiserver", (SERVER_AUTH,), (*_SERVER_HOSTS, "kubernetes.default.svc")),
    # etcd also shows it to itself, as a client.
    "etcd": Subject("etcd", (SERVER_AUTH, CLIENT_AUTH), _SERVER_HOSTS),
    "kube-apiserver-etcd-client": Subject("kube-apiserver-etcd-client", (CLIENT_AUTH,)),
    # It serves its health too.
    "kube-controller-manager": Subject("system:kube-controller-manager", (SERVER_AUTH, CLIENT_AUTH), _SERVER_HOSTS),
    "admin": Subject("admin", (CLIENT_AUTH,), organization="system:masters"),
}
"""By the names of their files."""


def ensure_pki(directory: Path, now: datetime.datetime, hosts: Sequence[str] = ()) -> Pki:
    """The certificates and keys in a directory; made again if they are missing, damaged or about to expire.

    Args:
        directory: folder of mode 0700; made if it is not there.
        now: the time, with its zone.
        hosts: further names and addresses of the API server.

    Raises:
        OSError: the directory can't be read or written.
    """
    make_private_directory(directory)
    pki = Pki.of(directory)
    if not _is_fresh(pki, now, hosts):
        making = directory / ".certificates.new"
        shutil.rmtree(making, ignore_errors=True)
        make_private_directory(making)
        _make_certificates(making, now, hosts)
        final = pki.authority.certificate.parent
        if final.exists():
            shutil.rmtree(final)
        making.rename(final)
    if not (pki.service_account_key.exists() and pki.service_account_public_key.exists()):
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(pki.service_account_key, private)
        write_private(pki.service_account_public_key, public)
    return pki


def _is_fresh(pki: Pki, now: datetime.datetime, hosts: Sequence[str]) -> bool:
    try:
        authority = x509.load_pem_x509_certificate(pki.authority.certificate.read_bytes())
        for pair in (pki.authority, *(KeyPair.of(pki.authority.certificate.parent, name) for name in _SUBJECTS)):
            certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
            key = serialization.load_pem_private_key(pair.key.read_bytes(), password=None)
            if key.public_key() != certificate.public_key():
                return False
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - RENEWAL:
                return False
            certificate.verify_directly_issued_by(authority)
        server = x509.load_pem_x509_certificate(pki.api_server.certificate.read_bytes())
        if not {alternative_name(host) for host in hosts} <= alternative_names(server):
            return False
    except Exception:  # noqa: BLE001  # whatever is wrong with a file, the answer is to recreate it
        return False
    return True


def _make_certificates(directory: Path, now: datetime.datetime, hosts: Sequence[str]) -> None:
    authority = make_authority("jiemi control plane", now, LIFETIME)
    _write_pair(KeyPair.of(directory, "ca"), authority)
    server = _SUBJECTS[_API_SERVER]
    subjects = {**_SUBJECTS, _API_SERVER: attrs.evolve(server, hosts=(*server.hosts, *hosts))}
    for name, subject in subjects.items():
        _write_pair(KeyPair.of(directory, name), issue(authority, subject, now, LIFETIME))


def _write_pair(pair: KeyPair, issued: Issued) -> None:
    write_private(pair.certificate, issued.certificate_pem())
    write_private(pair.key, issued.key_pem())
