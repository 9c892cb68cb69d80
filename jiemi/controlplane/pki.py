"""The certificates of one embedded control plane.

One authority, whose key never leaves the directory, signs: the API server's certificate, etcd's, the one that the API
server shows to etcd, and the administrator's (organization system:masters). They are made together in one directory
that appears by a rename, so a crash leaves none or all, and are recreated when one of them is about to expire. The key
pair that signs ServiceAccount tokens lies apart: it stays, and so tokens stay valid.
"""

from __future__ import annotations

import datetime
import ipaddress
import shutil
from collections.abc import Sequence
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jiemi.controlplane.private_files import make_private_directory, write_private

LIFETIME = datetime.timedelta(days=365)
RENEWAL = datetime.timedelta(days=60)
"""Certificates are recreated at a start if less than this is left, so that a control plane may run for two months."""

_CLOCK_SKEW = datetime.timedelta(minutes=5)


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
            admin=KeyPair.of(certificates, "admin"),
            service_account_key=directory / "service-account.key",
            service_account_public_key=directory / "service-account.pub",
        )


@attrs.frozen
class _Leaf:
    """A certificate that the authority signs. `usages` says what it may be used for (RFC 5280, 4.2.1.12)."""

    name: str
    organization: str | None
    usages: tuple[x509.ObjectIdentifier, ...]
    hosts: tuple[str, ...] = ()


_SERVER_HOSTS = ("localhost", "127.0.0.1")
_LEAVES: Sequence[_Leaf] = (
    _Leaf("kube-apiserver", None, (ExtendedKeyUsageOID.SERVER_AUTH,), (*_SERVER_HOSTS, "kubernetes.default.svc")),
    # etcd also shows it to itself, as a client.
    _Leaf("etcd", None, (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH), _SERVER_HOSTS),
    _Leaf("kube-apiserver-etcd-client", None, (ExtendedKeyUsageOID.CLIENT_AUTH,)),
    _Leaf("admin", "system:masters", (ExtendedKeyUsageOID.CLIENT_AUTH,)),
)


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
        write_private(pki.service_account_key, _pem(key))
        write_private(pki.service_account_public_key, public)
    return pki


def _is_fresh(pki: Pki, now: datetime.datetime, hosts: Sequence[str]) -> bool:
    try:
        authority = x509.load_pem_x509_certificate(pki.authority.certificate.read_bytes())
        for pair in (pki.authority, pki.api_server, pki.etcd, pki.etcd_client, pki.admin):
            certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
            key = serialization.load_pem_private_key(pair.key.read_bytes(), password=None)
            if key.public_key() != certificate.public_key():
                return False
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - RENEWAL:
                return False
            certificate.verify_directly_issued_by(authority)
        server = x509.load_pem_x509_certificate(pki.api_server.certificate.read_bytes())
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if not {_alternative_name(host) for host in hosts} <= set(names):
            return False
    except Exception:  # noqa: BLE001  # whatever is wrong with a file, the answer is to recreate it
        return False
    return True


def _make_certificates(directory: Path, now: datetime.datetime, hosts: Sequence[str]) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("jiemi control plane", None)
    # A control plane's authority signs its own tree only: no path below it.
    usage = _key_usage(signs_certificates=True)
    authority = (
        _builder(authority_name, authority_name, authority_key, authority_key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    _write_pair(KeyPair.of(directory, "ca"), authority, authority_key)
    for leaf in _LEAVES:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(leaf.name, leaf.organization), authority_name, key, authority_key, now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(leaf.usages), critical=False)
        )
        if leaf.hosts:
            all_hosts = (*leaf.hosts, *hosts) if leaf.name == "kube-apiserver" else leaf.hosts
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative_name(host) for host in all_hosts]), critical=False
            )
        _write_pair(KeyPair.of(directory, leaf.name), builder.sign(authority_key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str, organization: str | None) -> x509.Name:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(names)


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_pair(pair: KeyPair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    write_private(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    write_private(pair.key, _pem(key))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
