"""Private keys for ssh: RSA, ECDSA and Ed25519, in OpenSSH or PEM form, with a passphrase or without.

A key is read once for as long as its credentials are held, because a passphrase is slow to use by intent.

Who may write a Decryptor gives the key, so reading one must not take long. What the file says about how often the
passphrase is hashed is read first and bounded. An RSA key is not searched for divisors of its primes, which takes
seconds in which no other thread of the process runs; that its numbers fit one another is checked, which is what
OpenSSL counts on.
"""

from __future__ import annotations

import base64
import binascii
import enum
import io
import re
import weakref
from collections.abc import Iterator

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from jiemi.core.errors import JiemiError
from jiemi.core.urls import CREDENTIALS_FIELD
from jiemi.krapao.git.rsa_keys import MAX_RSA_BITS, fits
from jiemi.rpc.source import GitCredentials

_KEY = f"{CREDENTIALS_FIELD}.ssh"
_PASSPHRASE = f"{CREDENTIALS_FIELD}.passphrase"

_MAX_CHARACTERS = 16 * 1024
"""Of a key's file: RSA with 8,192 bits takes about 6,500."""

_MAX_BCRYPT_ROUNDS = 256
"""Each takes about 10 ms. `ssh-keygen` uses 24, and `ssh-keygen -a 100` is common advice."""

_MAX_PBKDF2_ITERATIONS = 2_000_000
"""A million takes about half a second."""

_ARMOR = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n(.*?)\n-----END \1-----", re.DOTALL)
_OPENSSH_MAGIC = b"openssh-key-v1\0"  # PROTOCOL.key of OpenSSH
_PBES2 = bytes.fromhex("2a864886f70d01050d")  # RFC 8018, appendix A.4
_PBKDF2 = bytes.fromhex("2a864886f70d01050c")  # appendix A.2
_CURVES = ("secp256r1", "secp384r1", "secp521r1")

_READ: weakref.WeakKeyDictionary[GitCredentials, paramiko.PKey] = weakref.WeakKeyDictionary()


def private_key(credentials: GitCredentials) -> paramiko.PKey:
    """The private key of credentials.

    Raises:
        JiemiError: RepositoryAccessDenied, which says what is wrong with the key or its passphrase.
    """
    found = _READ.get(credentials)
    if found is None:
        found = _READ[credentials] = _read(credentials)
    return found


def _read(credentials: GitCredentials) -> paramiko.PKey:
    if credentials.ssh is None:
        raise _refused(
            f"spec.source.repository.url is an ssh URL, and {_KEY} gives no private key",
            f"Put a private key that the host knows into {_KEY}, or use the repository's https:// URL.",
        )
    text = credentials.ssh.reveal().strip().replace("\r\n", "\n") + "\n"
    armor = _ARMOR.search(text) if len(text) <= _MAX_CHARACTERS else None
    if armor is None or not armor[1].endswith("PRIVATE KEY"):
        raise _no_key(text)
    if _openssh_type(armor[1], armor[2]).startswith(b"sk-"):
        raise _refused(
            f"{_KEY} is the key of a hardware token, which a person must touch at each use",
            "Make a key without a token: `ssh-keygen -t ed25519`.",
        )
    passphrase, needed = None, _passphrase_of(armor[1], armor[2])
    if needed is not _Passphrase.NONE:
        if credentials.passphrase is None:
            raise _refused(
                f"{_KEY} is protected by a passphrase, and {_PASSPHRASE} gives none",
                f"Put the key's passphrase into {_PASSPHRASE}, or give a key without one.",
            )
        if needed is _Passphrase.SLOW:
            raise _refused(
                f"{_KEY} is protected by a passphrase in a way that takes too long, or that is not known here",
                "Protect it again as `ssh-keygen -p -a 24 -f KEY` does, and put the new file there.",
            )
        passphrase = credentials.passphrase.reveal().encode("utf-8", "surrogatepass")
    return _usable(_load(armor[1], armor[0], passphrase))


def _load(label: str, text: str, passphrase: bytes | None) -> object:
    load = serialization.load_ssh_private_key if label.startswith("OPENSSH") else serialization.load_pem_private_key
    try:
        return load(text.encode(), passphrase, unsafe_skip_rsa_key_validation=True)
    except Exception as error:  # noqa: BLE001 - the bytes lead it to whatever they like
        # Not chained: what the library says may hold parts of the key.
        if passphrase is not None and not isinstance(error, UnicodeError):
            raise _refused(
                f"{_PASSPHRASE} is not the passphrase of {_KEY}, or the key is damaged",
                f"Correct the passphrase in {_PASSPHRASE}. `ssh-keygen -y -f KEY` shows whether it is right.",
            ) from None
        raise _no_key(text) from None


def _usable(key: object) -> paramiko.PKey:
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size > MAX_RSA_BITS:
            raise _refused(
                f"{_KEY} is an RSA key with more than {MAX_RSA_BITS} bits",
                "Make a shorter one, or one of another type: `ssh-keygen -t ed25519`.",
            )
        if not fits(key):
            raise _no_key("")
        return paramiko.RSAKey(key=key)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return paramiko.ECDSAKey(vals=(key, key.public_key()))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        openssh = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        return paramiko.Ed25519Key.from_private_key(io.StringIO(openssh.decode()))
    raise _refused(
        f"{_KEY} is a private key of a type that is not used for ssh here",
        "Make a key of one of the types Ed25519, ECDSA (NIST curves) and RSA: `ssh-keygen -t ed25519`.",
    )


def _no_key(text: str) -> JiemiError:
    if text.startswith("PuTTY-User-Key-File"):
        return _refused(
            f"{_KEY} is a key of PuTTY's own form",
            "Put what `puttygen KEY -O private-openssh -o NEW` writes there.",
        )
    return _refused(
        f"{_KEY} is no private key of Ed25519, ECDSA or RSA in OpenSSH or PEM form",
        "Put the whole file of the private key there (not the .pub beside it), with its line breaks.",
    )


def _refused(message: str, remedy: str) -> JiemiError:
    return JiemiError("RepositoryAccessDenied", message, remedy)


class _Passphrase(enum.Enum):
    """Whether a key is protected by one."""

    NONE = enum.auto()
    QUICK = enum.auto()
    SLOW = enum.auto()
    """Using it takes too long, or is not known to take less."""


def _passphrase_of(label: str, body: str) -> _Passphrase:
    """NONE for a key that can't be read, too."""
    if label == "OPENSSH PRIVATE KEY":
        return _openssh(_decoded(body))
    if label == "ENCRYPTED PRIVATE KEY":
        is_quick = _pkcs8_iterations(_decoded(body)) <= _MAX_PBKDF2_ITERATIONS
        return _Passphrase.QUICK if is_quick else _Passphrase.SLOW
    # OpenSSL's traditional form hashes the passphrase once or twice (EVP_BytesToKey).
    return _Passphrase.QUICK if "Proc-Type: 4,ENCRYPTED" in body else _Passphrase.NONE


def _decoded(body: str) -> bytes:
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _openssh(data: bytes) -> _Passphrase:
    """By the header of OpenSSH's form: the cipher's name, the KDF's name, its options (a salt, and rounds)."""
    if not data.startswith(_OPENSSH_MAGIC):
        return _Passphrase.NONE
    (cipher, kdf, options), _ = _strings(data[len(_OPENSSH_MAGIC) :], 3)
    if cipher == b"none":
        return _Passphrase.NONE
    rounds = options[4 + int.from_bytes(options[:4], "big") :]
    is_quick = kdf == b"bcrypt" and len(rounds) == 4 and int.from_bytes(rounds, "big") <= _MAX_BCRYPT_ROUNDS
    return _Passphrase.QUICK if is_quick else _Passphrase.SLOW


def _openssh_type(label: str, body: str) -> bytes:
    """The type of a key in OpenSSH's form, by its public half, which is never encrypted; b"" for any other."""
    data = _decoded(body) if label == "OPENSSH PRIVATE KEY" else b""
    if not data.startswith(_OPENSSH_MAGIC):
        return b""
    _, rest = _strings(data[len(_OPENSSH_MAGIC) :], 3)
    (public,), _ = _strings(rest[4:], 1)  # after the number of keys
    (kind,), _ = _strings(public, 1)
    return kind


def _strings(data: bytes, count: int) -> tuple[list[bytes], bytes]:
    """So many strings (RFC 4251, section 5), cut short where the data is, and what follows them."""
    found = []
    for _ in range(count):
        size = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found, data


def _pkcs8_iterations(data: bytes) -> float:
    """Of an EncryptedPrivateKeyInfo (RFC 5958) that is encrypted by PBES2 with PBKDF2 (RFC 8018); else infinite."""
    try:
        [(_, info)] = _der(data)
        (_, algorithm), *_ = _der(info)
        (_, scheme), (_, parameters) = _der(algorithm)
        (_, derivation), *_ = _der(parameters)
        (_, function), (_, options) = _der(derivation)
        (_, _salt), (tag, iterations), *_ = _der(options)
    except ValueError:
        return float("inf")
    is_known = (scheme, function, tag) == (_PBES2, _PBKDF2, 0x02)
    return int.from_bytes(iterations, "big") if is_known else float("inf")


def _der(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The tags and contents of the elements in a row (X.690, the distinguished rules).

    Raises:
        ValueError: it is none.
    """
    while data:
        if len(data) < 2:
            raise ValueError("an element without a length")
        tag, size, begin = data[0], data[1], 2
        if size > 0x7F:
            begin += size & 0x7F
            size = int.from_bytes(data[2:begin], "big")
        if begin + size > len(data):
            raise ValueError("an element that is cut short")
        yield tag, data[begin : begin + size]
        data = data[begin + size :]
