"""The format of packs (gitformat-pack(5)): where objects begin and end, and how large they say they are.

The bytes are a host's, and zlib data can be a thousand times larger than it looks, so nothing here makes more than the
pack says beforehand, and whoever calls compares that with a limit first.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Callable

COMMIT, TREE, BLOB, TAG, OFS_DELTA, REF_DELTA = 1, 2, 3, 4, 6, 7
PLAIN = frozenset({COMMIT, TREE, BLOB, TAG})
KIND_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}

MAX_STRUCTURE_BYTES = 8 * 1024 * 1024
"""The largest commit, folder or tag: a folder of some 200,000 files. Reading one takes many times its size."""

Buffer = bytes | mmap.mmap

_SLICE_BYTES = 16 * 1024
_MADE_BYTES = 64 * 1024
_WHOLE_BYTES = 64 * 1024
"""What is not larger is unpacked in one step, where that is possible."""

_CRC_BYTES = 1024 * 1024

_MAX_DELTA_HEAD_BYTES = 20
"""Two sizes of at most 10 bytes each: 7 bits a byte, 64 bits."""


class PackDamaged(Exception):
    """The bytes are no pack. The text is safe to show."""


def read_object_start(data: Buffer, at: int, hash_bytes: int) -> tuple[int, int, int | bytes | None, int]:
    """What an object begins with.

    Args:
        at: where it begins, in bytes.
        hash_bytes: 20 for SHA-1, 32 for SHA-256.

    Returns:
        Its kind; its unpacked size in bytes (of a delta: that of the delta); of a delta what it builds upon, as a place
        in the same pack or as a name; and where its zlib stream begins.

    Raises:
        PackDamaged: it has no known kind, or ends before.
    """
    began = at
    try:
        byte = data[at]
        at += 1
        kind, size, shift = (byte >> 4) & 7, byte & 15, 4
        while byte & 0x80:
            byte = data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if shift > 64:
                raise PackDamaged("the pack holds a size beyond all measure")
        if kind in PLAIN:
            return kind, size, None, at
        if kind == OFS_DELTA:
            byte = data[at]
            at += 1
            distance = byte & 0x7F
            while byte & 0x80:
                byte = data[at]
                at += 1
                distance = ((distance + 1) << 7) | (byte & 0x7F)
                if distance > began:
                    break
            if not 0 < distance <= began:
                raise PackDamaged("the pack holds an object that builds on what is not in it")
            return kind, size, began - distance, at
    except IndexError:
        raise _cut_short() from None
    if kind != REF_DELTA:
        raise PackDamaged("the pack holds an object of no known kind")
    base = data[at : at + hash_bytes]
    if len(base) < hash_bytes:
        raise _cut_short()
    return kind, size, base, at + hash_bytes


def unpack(data: Buffer, at: int, size: int) -> tuple[bytes, int]:
    """Unpack one zlib stream that must make `size` bytes.

    Returns:
        What it makes, and where it ends.

    Raises:
        PackDamaged: it makes another number of bytes, or can't be unpacked.
    """
    if size <= _WHOLE_BYTES:
        # What was compressed with ordinary settings is not much larger than before.
        piece = data[at : at + size + (size >> 3) + 64]
        unpacker = zlib.decompressobj()
        try:
            made = unpacker.decompress(piece, size + 1)
        except zlib.error:
            raise _not_unpacked() from None
        if unpacker.eof and len(made) == size:
            return made, at + len(piece) - len(unpacker.unused_data)
    pieces: list[bytes] = []
    end = unpack_in_pieces(data, at, size, pieces.append)
    return b"".join(pieces), end


def unpack_in_pieces(data: Buffer, at: int, size: int, take: Callable[[bytes], object]) -> int:
    """Unpack one zlib stream that must make `size` bytes, a piece at a time.

    Args:
        take: called with each piece.

    Returns:
        Where it ends.

    Raises:
        PackDamaged: it makes another number of bytes, or can't be unpacked.
    """
    unpacker = zlib.decompressobj()
    left = size
    try:
        while not unpacker.eof:
            packed = data[at : at + _SLICE_BYTES]
            if not packed:
                raise _cut_short()
            made = unpacker.decompress(packed, _MADE_BYTES)
            # What follows the stream is in both at its end.
            at += len(packed) - len(unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail)
            left -= len(made)
            if left < 0:
                raise PackDamaged("the pack holds an object larger than it says")
            take(made)
    except zlib.error:
        raise _not_unpacked() from None
    if left:
        raise PackDamaged("the pack holds an object smaller than it says")
    return at


def crc_of(data: Buffer, begin: int, end: int) -> int:
    """The CRC32 of some of a pack's bytes, as its index has it."""
    crc = 0
    for at in range(begin, end, _CRC_BYTES):
        crc = zlib.crc32(data[at : min(at + _CRC_BYTES, end)], crc)
    return crc


def delta_result_size(head: bytes) -> int:
    """The size that a delta says it makes: the second of the two numbers that it begins with.

    Raises:
        PackDamaged: it can't be read.
    """
    at = 0
    size = 0
    for _ in range(2):
        size, shift = 0, 0
        while True:
            if at >= len(head) or shift > 63:
                raise PackDamaged("the pack holds a delta that can't be read")
            byte = head[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
    return size


def declared_size(data: Buffer, offset: int, *, hash_bytes: int = 20) -> int | None:
    """The size of the object at an offset of a pack as the pack declares it, without unpacking it.

    Returns:
        None where it can't be known.
    """
    try:
        kind, size, _, at = read_object_start(data, offset, hash_bytes)
        if kind in PLAIN:
            return size
        head = zlib.decompressobj().decompress(data[at : at + _SLICE_BYTES], _MAX_DELTA_HEAD_BYTES)
        return delta_result_size(head)
    except (PackDamaged, zlib.error):
        return None


def _cut_short() -> PackDamaged:
    return PackDamaged("the pack ends in the middle of an object")


def _not_unpacked() -> PackDamaged:
    return PackDamaged("the pack holds data that can't be unpacked")
