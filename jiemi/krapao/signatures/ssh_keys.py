"""Public keys of ssh as they are in signatures, and whether one made a signature.

The forms are those of RFC 4253 (6.6), RFC 5656, RFC 8332, RFC 8709 and OpenSSH's PROTOCOL.u2f. What is refused though
ssh may know it: DSA, RSA below 2,048 bits, RSA signatures over SHA-1, and signatures of a security key that nobody
touched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import attrs
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 16384
_PRESENT = 1
"""The flag of a security key that says that somebody touched it."""

_CURVES: dict[bytes, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    b"nistp256": (ec.SECP256R1(), hashes.SHA256()),
    b"nistp384": (ec.SECP384R1(), hashes.SHA384()),
    b"nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
_RSA_HASHES: dict[bytes, hashes.HashAlgorithm] = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}
_SK_ED25519, _SK_ECDSA = b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"
KEY_TYPES = frozenset(
    {b"ssh-ed25519", b"ssh-rsa", _SK_ED25519, _SK_ECDSA, *(b"ecdsa-sha2-" + curve for curve in _CURVES)}
)
CERTIFICATE = b"-cert-v01@openssh.com"
"""With which the type of a certificate ends."""


class SshFormatError(ValueError):
    """Bytes that are not what they should be. The text is safe to show."""


@attrs.define
class Fields:
    """Reads the fields of an ssh message (RFC 4251, chapter 5) one after the other."""

    data: bytes
    _place: int = attrs.field(default=0, init=False)

    def take(self, count: int) -> bytes:
        """So many bytes. Raises SshFormatError where there are fewer."""
        found = self.data[self._place : self._place + count]
        if len(found) != count:
            raise SshFormatError("it ends too early")
        self._place += count
        return found

    def number(self) -> int:
        """A uint32."""
        return int.from_bytes(self.take(4))

    def string(self) -> bytes:
        """A string."""
        return self.take(self.number())

    def mpint(self) -> int:
        """A positive mpint, in its shortest form."""
        data = self.string()
        if not data or data[0] & 0x80 or (data[0] == 0 and (len(data) == 1 or not data[1] & 0x80)):
            raise SshFormatError("it has a number in another form than ssh's")
        return int.from_bytes(data)

    def end(self) -> None:
        """Raises SshFormatError where something is left."""
        if self._place != len(self.data):
            raise SshFormatError("it has something behind its end")


def type_of(blob: bytes) -> bytes:
    """The type of a public key. Raises SshFormatError."""
    return Fields(blob).string()


def fingerprint(blob: bytes) -> str:
    """As `ssh-keygen -l` shows it: SHA256:…"""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def require_usable(blob: bytes) -> None:
    """Refuse bytes that are no key that can verify.

    Raises:
        SshFormatError: says why.
    """
    _verifier(blob)


def is_signed(blob: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a key made a signature.

    Args:
        blob: the public key.
        signature: with its algorithm in front, as in RFC 4253, 6.6.
        message: that was signed.

    Raises:
        SshFormatError: the key or the signature has no form that is taken here.
    """
    verify = _verifier(blob)
    fields = Fields(signature)
    algorithm = fields.string()
    try:
        verify(algorithm, fields, message)
    except InvalidSignature:
        return False
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, SshFormatError):
            raise
        raise SshFormatError("its signature can't be read") from error
    return True


_Verify = Callable[[bytes, Fields, bytes], None]


def _verifier(blob: bytes) -> _Verify:
    """What verifies signatures of a key: given the algorithm, the signature behind it, and the message."""
    fields = Fields(blob)
    kind = fields.string()
    try:
        if kind in (b"ssh-ed25519", _SK_ED25519):
            verify = _ed25519(fields, kind)
        elif kind == _SK_ECDSA or kind.removeprefix(b"ecdsa-sha2-") in _CURVES:
            verify = _ecdsa(fields, kind)
        elif kind == b"ssh-rsa":
            verify = _rsa(fields)
        else:
            raise SshFormatError("its key is of a type that is not taken here")
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, SshFormatError):
            raise
        raise SshFormatError("its key can't be read") from error
    return verify


def _ed25519(fields: Fields, kind: bytes) -> _Verify:
    key = ed25519.Ed25519PublicKey.from_public_bytes(fields.string())
    application = fields.string() if kind == _SK_ED25519 else None
    fields.end()

    def verify(algorithm: bytes, signature: Fields, message: bytes) -> None:
        _require_algorithm(algorithm, kind)
        made = signature.string()
        key.verify(made, _signed_by_hardware(application, signature, message))

    return verify


def _ecdsa(fields: Fields, kind: bytes) -> _Verify:
    name = fields.string()
    if name not in _CURVES or kind != (
        _SK_ECDSA if kind == _SK_ECDSA and name == b"nistp256" else b"ecdsa-sha2-" + name
    ):
        raise SshFormatError("its key names a curve that it is not of")
    curve, algorithm_of_hash = _CURVES[name]
    point = fields.string()
    if point[:1] != b"\x04":
        raise SshFormatError("its key can't be read")
    key = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    application = fields.string() if kind == _SK_ECDSA else None
    fields.end()

    def verify(algorithm: bytes, signature: Fields, message: bytes) -> None:
        _require_algorithm(algorithm, kind)
        numbers = Fields(signature.string())
        made = encode_dss_signature(numbers.mpint(), numbers.mpint())
        numbers.end()
        key.verify(made, _signed_by_hardware(application, signature, message), ec.ECDSA(algorithm_of_hash))

    return verify


def _rsa(fields: Fields) -> _Verify:
    exponent, modulus = fields.mpint(), fields.mpint()
    fields.end()
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise SshFormatError(f"its RSA key has {modulus.bit_length()} bits, of {MIN_RSA_BITS} at least")
    if exponent.bit_length() > 64:
        raise SshFormatError("its key can't be read")
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    size = (modulus.bit_length() + 7) // 8

    def verify(algorithm: bytes, signature: Fields, message: bytes) -> None:
        if algorithm not in _RSA_HASHES:
            raise SshFormatError("its RSA signature is over SHA-1 or another hash that is not taken here")
        made = signature.string()
        signature.end()
        if len(made) > size:
            raise InvalidSignature
        # Some leave out zeros in front (as OpenSSH's own verifier takes it).
        key.verify(made.rjust(size, b"\0"), message, padding.PKCS1v15(), _RSA_HASHES[algorithm])

    return verify


def _require_algorithm(algorithm: bytes, kind: bytes) -> None:
    if algorithm != kind:
        raise SshFormatError("its signature is of another algorithm than its key")


def _signed_by_hardware(application: bytes | None, signature: Fields, message: bytes) -> bytes:
    """What a security key signs in place of a message (PROTOCOL.u2f); of any other key the message itself."""
    if application is None:
        signature.end()
        return message
    flags = signature.take(1)
    counter = signature.take(4)
    signature.end()
    if not flags[0] & _PRESENT:
        raise SshFormatError("nobody touched the security key that made it (no-touch-required)")
    return hashlib.sha256(application).digest() + flags + counter + hashlib.sha256(message).digest()
