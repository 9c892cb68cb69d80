"""Authorities, and the certificates that they sign: X.509 (RFC 5280), with ECDSA keys on P-256.

An authority signs end entities only, no further authorities. Every certificate is valid from five minutes before it was
made, because clocks differ.
"""

from __future__ import annotations

import datetime
import ipaddress

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH

CLOCK_SKEW = datetime.timedelta(minutes=5)


@attrs.frozen(eq=False)
class Issued:
    """A certificate with its private key, which repr does not show.

    Attributes:
        certificate: it, signed.
        key: its private key.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = attrs.field(repr=False)

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The private key: PKCS #8, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


@attrs.frozen
class Subject:
    """Whom a certificate is made out to.

    Attributes:
        name: the common name; an identity is checked by `hosts`, not by this.
        usages: what it may be used for (RFC 5280, 4.2.1.12).
        hosts: DNS names and IP addresses.
        organization: for the API server, a group.
    """

    name: str
    usages: tuple[x509.ObjectIdentifier, ...]
    hosts: tuple[str, ...] = ()
    organization: str | None = None


def make_authority(name: str, now: datetime.datetime, lifetime: datetime.timedelta) -> Issued:
    """A new authority.

    Args:
        now: the time, with its zone.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name, None)
    certificate = (
        _builder(subject, subject, key, key, now, lifetime)
        # It signs end entities only: no path below it.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Issued(certificate, key)


def issue(authority: Issued, subject: Subject, now: datetime.datetime, lifetime: datetime.timedelta) -> Issued:
    """A new certificate with a new key.

    Args:
        now: the time, with its zone.
        lifetime: it never outlives the authority.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    lifetime = min(lifetime, authority.certificate.not_valid_after_utc - now)
    issuer = authority.certificate.subject
    builder = (
        _builder(_name(subject.name, subject.organization), issuer, key, authority.key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(subject.usages), critical=False)
    )
    if subject.hosts:
        names = x509.SubjectAlternativeName([alternative_name(host) for host in subject.hosts])
        builder = builder.add_extension(names, critical=False)
    return Issued(builder.sign(authority.key, hashes.SHA256()), key)


def alternative_name(host: str) -> x509.GeneralName:
    """A DNS name or an IP address, as a certificate has it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def alternative_names(certificate: x509.Certificate) -> frozenset[x509.GeneralName]:
    """Whom a certificate is for; empty where it names nobody."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(found.value)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    lifetime: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
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
