"""JSON Web Tokens signed with RSA (RFC 7515, RFC 7519): made, taken apart and verified."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa


class BadTokenError(Exception):
    """What was given is no token, or its signature is another's."""


@attrs.frozen
class Token:
    """A token in its parts; nobody has looked at its signature until `verify` is called."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @classmethod
    def parse(cls, text: str) -> Token:
        """Takes a compact token apart."""
        try:
            header, claims, signature = text.split(".")
            return cls(
                json.loads(from_base64url(header)),
                json.loads(from_base64url(claims)),
                f"{header}.{claims}".encode(),
                from_base64url(signature),
            )
        except (ValueError, binascii.Error) as error:
            raise BadTokenError("not a token") from error

    def verify(self, key: rsa.RSAPublicKey) -> None:
        """Raises BadTokenError where that key didn't sign it; PS256 passes too, as Entra's clients may use it."""
        schemes: dict[object, padding.AsymmetricPadding] = {
            "RS256": padding.PKCS1v15(),
            "PS256": padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH),
        }
        try:
            key.verify(self.signature, self.signed, schemes[self.header.get("alg")], hashes.SHA256())
        except KeyError as error:
            raise BadTokenError("not signed by an algorithm that is known") from error
        except InvalidSignature as error:
            raise BadTokenError("signed by another key") from error


def sign(claims: dict[str, Any], key: rsa.RSAPrivateKey) -> str:
    """A compact token with these claims, by RS256."""
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    signed = ".".join(to_base64url(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{to_base64url(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def to_base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
