"""Private keys for ssh, of each type and form."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

PrivateKey = (
    ed25519.Ed25519PrivateKey
    | ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | dsa.DSAPrivateKey
    | ed448.Ed448PrivateKey
)


_MAKERS: Mapping[str, Callable[[], PrivateKey]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    # Not used for ssh:
    "ecdsa-k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "dsa": lambda: dsa.generate_private_key(2048),
    "ed448": ed448.Ed448PrivateKey.generate,
}


def made(kind: str) -> PrivateKey:
    """A new key."""
    return _MAKERS[kind]()


def written(key: PrivateKey, form: serialization.PrivateFormat, passphrase: str | None = None) -> str:
    """The key's file."""
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, form, protection).decode()


def public_key(key: PrivateKey) -> bytes:
    """The public key as on the wire (RFC 4253, section 6.6)."""
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def key_pair(kind: str, form: serialization.PrivateFormat, passphrase: str | None = None) -> tuple[str, bytes]:
    """A new private key's file, and its public key."""
    key = made(kind)
    return written(key, form, passphrase), public_key(key)
