"""Signatures as an attacker makes them: by hand, with any key, of any payload, in any armor."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from collections.abc import Callable

from jiemi.krapao.signatures.objects import read_commit
from support.krapao.work_tree import Work
from support.signing.signers import raw_object, write_object

PGP_SIGNATURE = "PGP SIGNATURE"


def with_signature(work: Work, signature: bytes) -> str:
    """The newest commit with another signature; its hash."""
    raw = raw_object(work, "commit", "HEAD")
    commit = read_commit(raw, "1" * 40)
    header = b"gpgsig " + signature.strip(b"\n").replace(b"\n", b"\n ") + b"\n"
    head, _, rest = commit.payload.partition(b"\n\n")
    return write_object(work, "commit", head + b"\n" + header + b"\n" + rest)


def armored(packets: bytes, kind: str = PGP_SIGNATURE) -> bytes:
    body = b"\n".join(base64.b64encode(packets[place : place + 48]) for place in range(0, len(packets), 48))
    return f"-----BEGIN {kind}-----\n\n".encode() + body + f"\n-----END {kind}-----\n".encode()


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 255]) + struct.pack(">I", len(body)) + body


BOMB = packet(8, b"\x02" + zlib.compress(bytes(20_000_000)))
"""A compressed packet of 20 MB."""


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1))


def sshsig(
    key: bytes, sign: Callable[[bytes], bytes], payload: bytes, *, hash: bytes = b"sha512", namespace: bytes = b"git"
) -> bytes:
    digest = hashlib.new(hash.decode(), payload).digest()
    message = b"SSHSIG" + string(namespace) + string(b"") + string(hash) + string(digest)
    data = b"SSHSIG" + struct.pack(">I", 1) + string(key) + string(namespace) + string(b"") + string(hash)
    body = base64.encodebytes(data + string(sign(message)))
    return b"-----BEGIN SSH SIGNATURE-----\n" + body + b"-----END SSH SIGNATURE-----\n"


def line(kind: bytes, key: bytes) -> str:
    return f"ann {kind.decode()} {base64.b64encode(key).decode()}"
