"""Looks through a pack before anything else does, so that a small download can't become a large memory.

A pack (gitformat-pack(5)) says before each object how large it is unpacked, and zlib data can be a thousand times
larger than it looks; a delta can say in ten bytes that it makes gigabytes. dulwich believes the sizes that it reads
(it stops at them), so checking them here, object by object and unpacking into nothing, bounds what dulwich does
afterwards.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import BinaryIO

from jiemi.core.errors import JiemiError

COMMIT, TREE, BLOB, TAG, OFS_DELTA, REF_DELTA = 1, 2, 3, 4, 6, 7
_PLAIN = frozenset({COMMIT, TREE, BLOB, TAG})

_HEADER_BYTES = 12
_CHUNK_BYTES = 64 * 1024
_SLICE_BYTES = 2 * 1024
_MAX_OBJECTS = 5_000_000
_MAX_DELTA_HEAD_BYTES = 20
"""Two sizes of at most 10 bytes each: 7 bits a byte, 64 bits."""


class PackDamaged(Exception):
    """The bytes are no pack. The text is safe to show."""


MAX_STRUCTURE_BYTES = 8 * 1024 * 1024
"""The largest commit, folder or tag: a folder of some 200,000 files. Reading one takes many times its size."""

_STRUCTURE = frozenset({1, 2, 4})
"""Commit, tree and tag, as gitformat-pack(5) numbers them."""


class PackReader:
    """Reads a file from where it is, in chunks, and can give back what was too much."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = b""
        self._at = 0
        self._before = 0

    @property
    def taken(self) -> int:
        """How many bytes were read and not given back."""
        return self._before + self._at

    def byte(self) -> int:
        if self._at == len(self._buffer):
            self._before += self._at
            self._buffer, self._at = self._file.read(_CHUNK_BYTES), 0
            if not self._buffer:
                raise PackDamaged("the pack ends in the middle of an object")
        value = self._buffer[self._at]
        self._at += 1
        return value

    def skip(self, count: int) -> None:
        if self._at + count <= len(self._buffer):
            self._at += count
            return
        for _ in range(count):
            self.byte()

    def chunk(self) -> bytes:
        """What comes next, at least one byte and few, so that many small objects are not copied again and again."""
        self.byte()
        begin, self._at = self._at - 1, min(self._at - 1 + _SLICE_BYTES, len(self._buffer))
        return self._buffer[begin : self._at]

    def give_back(self, count: int) -> None:
        self._at -= count


def check_pack(
    file: BinaryIO,
    *,
    max_object_bytes: int,
    max_unpacked_bytes: int,
    hash_bytes: int = 20,
    on_object: Callable[[], None] = lambda: None,
) -> int:
    """Read a pack from the file's beginning, and refuse what would unpack to too much.

    Args:
        file: its position is changed.
        max_object_bytes: the largest object, deltas counted as what they make.
        max_unpacked_bytes: all of them together.
        hash_bytes: 20 for SHA-1, 32 for SHA-256.
        on_object: called before each object; what it raises is passed on.

    Returns:
        The number of objects.

    Raises:
        PackDamaged: no pack, or cut short.
        JiemiError: LimitExceeded.
    """
    file.seek(0)
    header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or header[:4] != b"PACK" or int.from_bytes(header[4:8]) not in (2, 3):
        raise PackDamaged("the data is no pack")
    count = int.from_bytes(header[8:])
    if count > _MAX_OBJECTS:
        raise JiemiError("LimitExceeded", f"the repository has more than {_MAX_OBJECTS} objects in one revision")
    reader = PackReader(file)
    total = 0
    for _ in range(count):
        on_object()
        kind, size = read_object_start(reader, hash_bytes)
        _check_size(size, max_object_bytes)
        if kind in _STRUCTURE and size > MAX_STRUCTURE_BYTES:
            raise JiemiError("LimitExceeded", f"the repository holds a folder larger than {MAX_STRUCTURE_BYTES} bytes")
        head = unpack_into_nothing(reader, size)
        made = 0
        if kind not in _PLAIN:
            made = _delta_result_size(head)
            _check_size(made, max_object_bytes)
        total += max(size, made)
        if total > max_unpacked_bytes:
            raise JiemiError(
                "LimitExceeded",
                f"the repository unpacks to more than Krapao's limit of {max_unpacked_bytes} bytes",
            )
    reader.skip(hash_bytes)
    return count


def read_object_start(reader: PackReader, hash_bytes: int) -> tuple[int, int]:
    """The kind and the unpacked size of an object, with all that comes before its zlib stream.

    Raises:
        PackDamaged: it has no known kind, or ends before.
    """
    kind, size = read_object_head(reader.byte)
    if kind == OFS_DELTA:
        while reader.byte() & 0x80:
            pass
    elif kind == REF_DELTA:
        reader.skip(hash_bytes)
    elif kind not in _PLAIN:
        raise PackDamaged("the pack holds an object of no known kind")
    return kind, size


def read_object_head(read_byte: Callable[[], int]) -> tuple[int, int]:
    """The kind and the unpacked size at the beginning of an object in a pack."""
    byte = read_byte()
    kind, size, shift = (byte >> 4) & 7, byte & 15, 4
    while byte & 0x80:
        byte = read_byte()
        size |= (byte & 0x7F) << shift
        shift += 7
        if shift > 64:
            raise PackDamaged("the pack holds a size beyond all measure")
    return kind, size


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise JiemiError(
            "LimitExceeded", f"the repository holds a file larger than Krapao's limit of {limit} bytes for one object"
        )


def unpack_into_nothing(reader: PackReader, size: int) -> bytes:
    """Read one zlib stream that must make `size` bytes.

    Returns:
        Its first few.

    Raises:
        PackDamaged: it makes another number of bytes, or can't be unpacked.
    """
    unpacker = zlib.decompressobj()
    made, head = 0, b""
    data = b""
    try:
        while not unpacker.eof:
            if not data:
                data = reader.chunk()
            out = unpacker.decompress(data, _CHUNK_BYTES)
            made += len(out)
            if len(head) < _MAX_DELTA_HEAD_BYTES:
                head += out[: _MAX_DELTA_HEAD_BYTES - len(head)]
            if made > size:
                raise PackDamaged("the pack holds an object larger than it says")
            data = unpacker.unconsumed_tail
    except zlib.error as error:
        raise PackDamaged("the pack holds data that can't be unpacked") from error
    if made != size:
        raise PackDamaged("the pack holds an object smaller than it says")
    reader.give_back(len(unpacker.unused_data))
    return head


def _delta_result_size(head: bytes) -> int:
    """The size that a delta says it makes: the second of the two numbers that it begins with."""
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


def declared_size(file: BinaryIO, offset: int, *, hash_bytes: int = 20) -> int | None:
    """The size of the object at an offset of a pack as the pack declares it, without unpacking it.

    Returns:
        None where it can't be known.
    """
    file.seek(offset)
    reader = PackReader(file)
    try:
        kind, size = read_object_start(reader, hash_bytes)
        if kind in _PLAIN:
            return size
        return _delta_result_size(zlib.decompressobj().decompress(reader.chunk(), _MAX_DELTA_HEAD_BYTES))
    except (PackDamaged, zlib.error):
        return None
