"""Packs written by hand, as only an attacker writes them (gitformat-pack(5))."""

from __future__ import annotations

import hashlib
import zlib

from jiemi.krapao.git.packs import BLOB, OFS_DELTA, REF_DELTA


def head(kind: int, size: int) -> bytes:
    """What an object begins with."""
    first = (kind << 4) | (size & 15)
    size >>= 4
    out = []
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    return bytes([*out, first])


def number(value: int) -> bytes:
    """A size, as deltas have them."""
    out = []
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def pack(*objects: bytes, count: int | None = None, version: int = 2) -> bytes:
    """A pack with the right hash at its end; says that it has `count` objects where that is given."""
    total = len(objects) if count is None else count
    return ended(b"PACK" + version.to_bytes(4) + total.to_bytes(4) + b"".join(objects))


def ended(data: bytes) -> bytes:
    """With the hash of all before at the end."""
    return data + hashlib.sha1(data, usedforsecurity=False).digest()


def blob(data: bytes, *, says: int | None = None) -> bytes:
    return head(BLOB, len(data) if says is None else says) + zlib.compress(data)


def distance(value: int) -> bytes:
    """How far before a delta that begins which it builds upon."""
    out = [value & 0x7F]
    while value := value >> 7:
        value -= 1
        out.insert(0, value & 0x7F | 0x80)
    return bytes(out)


def on_name(base: bytes, delta: bytes) -> bytes:
    """A delta upon an object by its name."""
    return head(REF_DELTA, len(delta)) + base + zlib.compress(delta)


def on_offset(back: int, delta: bytes) -> bytes:
    """A delta upon an object that begins so many bytes before it."""
    return head(OFS_DELTA, len(delta)) + distance(back) + zlib.compress(delta)


def appending(size: int, more: bytes) -> bytes:
    """A delta that appends at most 127 bytes to an object of fewer than 2**24."""
    copied = b"\xf0" + size.to_bytes(3, "little") if size else b""
    return number(size) + number(size + len(more)) + copied + bytes([len(more)]) + more
