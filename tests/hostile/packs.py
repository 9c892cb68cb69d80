"""Packs as an attacker makes them (gitformat-pack(5)): each with a right checksum, whatever is in it."""

from __future__ import annotations

import zlib

from support.krapao.packs import blob, number, on_offset, pack

_MAX_PACKET_BYTES = 65_515


def delta(base: int, result: int) -> bytes:
    """The sizes that a delta begins with."""
    return number(base) + number(result)


def _copy(offset: int, size: int) -> bytes:
    return b"\xb3" + offset.to_bytes(2, "little") + size.to_bytes(2, "little")


def copied_again() -> bytes:
    base = blob(b"\0" * 60_000)
    return pack(base, on_offset(len(base), delta(60_000, 3_000_000) + _copy(0, 60_000) * 50))


def copied_from_beyond() -> bytes:
    base = blob(b"x" * 10)
    return pack(base, on_offset(len(base), delta(10, 100) + _copy(5, 100)))


def chain(length: int) -> bytes:
    """A blob, and deltas each of which makes another small one of the one before."""
    objects = [blob(b"x" * 10)]
    for at in range(length):
        objects.append(on_offset(len(objects[-1]), delta(10, 10) + _copy(0, 5) + b"\5" + at.to_bytes(5)))
    return pack(*objects)


def packet(payload: bytes) -> bytes:
    """A pkt-line (gitprotocol-common(5))."""
    return b"%04x" % (len(payload) + 4) + payload


def in_packets(data: bytes) -> bytes:
    """A pack in the first side band."""
    pieces = (data[at : at + _MAX_PACKET_BYTES - 1] for at in range(0, len(data), _MAX_PACKET_BYTES - 1))
    return b"".join(packet(b"\1" + piece) for piece in pieces)


def out_of_packets(body: bytes) -> bytes:
    """The pack in an answer: what comes in the first side band."""
    data, at = b"", 0
    while at + 4 <= len(body):
        length = int(body[at : at + 4], 16)
        if length > 4 and body[at + 4 : at + 5] == b"\1":
            data += body[at + 5 : at + length]
        at += max(length, 4)
    return data


def without(data: bytes, kind: int) -> bytes:
    """A pack of whole objects, without those of a kind."""
    kept, at = [], 12
    while at < len(data) - 20:
        began, found = at, data[at] >> 4 & 7
        while data[at] & 0x80:
            at += 1
        reader = zlib.decompressobj()
        reader.decompress(data[at + 1 :])
        at = len(data) - len(reader.unused_data)
        if found != kind:
            kept.append(data[began:at])
    return pack(*kept)
