"""Signatures by public keys: of messages of SNS by a certificate, of tokens by a JSON Web Key (RFC 7517, RFC 7518)."""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from jiemi.core.webhooks.oidc import OidcToken
from jiemi.core.webhooks.sns import SnsMessage

_MIN_RSA_BITS, _MAX_RSA_BITS = 2_048, 8_192
_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVES: Mapping[str, tuple[str, ec.EllipticCurve, int]] = {
    "ES256": ("P-256", ec.SECP256R1(), 32),
    "ES384": ("P-384", ec.SECP384R1(), 48),
}


def is_signed_by_certificate(message: SnsMessage, pem: bytes, now: datetime.datetime) -> bool:
    """Whether a certificate's key signed a message. Whose certificate it is, is known by where it was found."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
        is_valid = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    except (ValueError, UnsupportedAlgorithm):
        return False
    if not is_valid or not isinstance(key, rsa.RSAPublicKey) or key.key_size > _MAX_RSA_BITS:
        return False
    # SHA-1 is what version 1 of SNS's signature has. Finding another message of the same hash for one that Amazon wrote
    # (a second preimage) is not feasible.
    algorithm = hashes.SHA1() if message.hash == "sha1" else hashes.SHA256()  # noqa: S303
    try:
        key.verify(message.signature, message.signed, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


def is_signed_by_key(token: OidcToken, key: Mapping[str, Any]) -> bool:
    """Whether a JSON Web Key signed a token. Its type is that of the token's algorithm already."""
    try:
        if token.algorithm.startswith("ES"):
            _verify_by_curve(token, key)
        elif token.algorithm == "EdDSA":
            if key.get("crv") != "Ed25519":
                return False
            ed25519.Ed25519PublicKey.from_public_bytes(_bytes(key, "x")).verify(token.signature, token.signed)
        else:
            _verify_by_rsa(token, key)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _verify_by_rsa(token: OidcToken, key: Mapping[str, Any]) -> None:
    modulus, exponent = (int.from_bytes(_bytes(key, name), "big") for name in ("n", "e"))
    # What is longer takes long, and what is shorter can be factored.
    if not _MIN_RSA_BITS <= modulus.bit_length() <= _MAX_RSA_BITS or not 3 <= exponent < 1 << 33:
        raise ValueError("no key of a usual size")
    algorithm = _HASHES[token.algorithm[2:]]
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if token.algorithm.startswith("PS"):
        scheme = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
    rsa.RSAPublicNumbers(exponent, modulus).public_key().verify(token.signature, token.signed, scheme, algorithm)


def _verify_by_curve(token: OidcToken, key: Mapping[str, Any]) -> None:
    name, curve, size = _CURVES[token.algorithm]
    if key.get("crv") != name or len(token.signature) != 2 * size:
        raise ValueError("a key of another curve")
    x, y = (int.from_bytes(_bytes(key, each), "big") for each in ("x", "y"))
    r, s = (int.from_bytes(part, "big") for part in (token.signature[:size], token.signature[size:]))
    public = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    public.verify(encode_dss_signature(r, s), token.signed, ec.ECDSA(_HASHES[token.algorithm[2:]]))


def _bytes(key: Mapping[str, Any], name: str) -> bytes:
    """Raises ValueError for a part that is missing or no base64url."""
    value = key.get(name)
    if not isinstance(value, str) or not value.isascii() or len(value) > 2_048:
        raise ValueError("a part of the key is missing")
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except binascii.Error as error:
        raise ValueError("a part of the key is no base64url") from error
