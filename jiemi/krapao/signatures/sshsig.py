"""Signatures that `ssh-keygen -Y sign` makes, as git keeps them: OpenSSH's PROTOCOL.sshsig."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct

import attrs

from jiemi.core.errors import JiemiError
from jiemi.krapao.signatures.ssh_keys import Fields, SshFormatError, is_signed

BEGIN, END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
NAMESPACE = b"git"
_MAGIC = b"SSHSIG"
_VERSION = 1
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}


@attrs.frozen
class SshSignature:
    """A signature.

    Attributes:
        public_key: that it says made it.
        namespace: what for.
        reserved: for later versions.
        hash: the name of the hash of the message.
        signature: with its algorithm in front.
    """

    public_key: bytes
    namespace: bytes
    reserved: bytes
    hash: bytes
    signature: bytes


def read_signature(armored: bytes) -> SshSignature:
    """A signature as it is in a commit or tag.

    Raises:
        JiemiError: SignatureInvalid.
    """
    text = armored.strip()
    body = text.removeprefix(BEGIN).removesuffix(END)
    if len(body) != len(text) - len(BEGIN) - len(END) or b"-" in body:
        raise _unreadable("it has something before or behind it")
    try:
        data = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise _unreadable("it is not base64") from None
    fields = Fields(data)
    try:
        if fields.take(len(_MAGIC)) != _MAGIC or fields.number() != _VERSION:
            raise _unreadable("it is of another version than 1")
        found = SshSignature(fields.string(), fields.string(), fields.string(), fields.string(), fields.string())
        fields.end()
    except SshFormatError as error:
        raise _unreadable(str(error)) from None
    return found


def require_good(signature: SshSignature, payload: bytes) -> None:
    """Refuse a signature that its key did not make for these bytes, or not for git.

    Raises:
        JiemiError: SignatureInvalid.
    """
    if signature.namespace != NAMESPACE:
        raise JiemiError(
            "SignatureInvalid",
            "its ssh signature is not for git: it has another namespace",
            "Sign with `git commit -S` or `git tag -s`; a signature of a file or of something else proves nothing.",
        )
    if signature.hash not in _HASHES:
        raise _unreadable("its hash is neither sha256 nor sha512")
    digest = _HASHES[signature.hash](payload).digest()
    message = _MAGIC + b"".join(
        struct.pack(">I", len(each)) + each
        for each in (signature.namespace, signature.reserved, signature.hash, digest)
    )
    try:
        good = is_signed(signature.public_key, signature.signature, message)
    except SshFormatError as error:
        raise _unreadable(str(error)) from None
    if not good:
        raise JiemiError(
            "SignatureInvalid",
            "its ssh signature does not match what it says: it was changed after it was signed, or the signature is "
            "another one's",
            "Sign it again. If nobody on your team made this change, find out who did.",
        )


def _unreadable(why: str) -> JiemiError:
    return JiemiError(
        "SignatureInvalid",
        f"its ssh signature can't be taken: {why}",
        "Sign it with an Ed25519, ECDSA or RSA key (2,048 bits and more), by `git commit -S` or `git tag -s`.",
    )
