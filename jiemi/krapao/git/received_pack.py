"""A pack that has arrived from a host: looked through, hashed, and turned into the entries of its index.

A small download must not become a large memory. So each size is compared with a limit before anything is unpacked to
it, what is not needed again is unpacked piece by piece into its hash, and of the objects that others build upon only
so much is kept as is bounded here; what was let go of is made once more when it is needed again.

    look_through    reads the pack once: sizes, hashes of what is no delta, and the hash at its end
    resolve         makes what the deltas make, from the objects they build upon downwards, and hashes it

The second is apart because it reads the clone too: a pack may build upon what is there already (a thin pack).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import attrs
from dulwich.errors import ApplyDeltaError
from dulwich.pack import apply_delta

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.packs import (
    BLOB,
    KIND_NAMES,
    MAX_STRUCTURE_BYTES,
    Buffer,
    PackDamaged,
    crc_of,
    delta_result_size,
    read_object_start,
    unpack,
    unpack_in_pieces,
)

_HEADER_BYTES = 12
_MAX_OBJECTS = 5_000_000
_KEPT_BYTES = 64 * 1024 * 1024
"""How much is kept of objects that others build upon, the one in use aside."""

_CHUNK_BYTES = 1024 * 1024

ReadObject = Callable[[bytes], tuple[int, bytes]]
"""Gives the kind and the bytes of an object by its name; KeyError where it is not there."""


@attrs.frozen
class PackLimits:
    """What a pack may hold.

    Attributes:
        object_bytes: the largest object, deltas counted as what they make.
        unpacked_bytes: all of them together.
    """

    object_bytes: int
    unpacked_bytes: int


@attrs.define
class _Base:
    """An object that others build upon.

    Attributes:
        offset: where it is; 0 where it is not in the pack.
        content: None where it was let go of.
        children: where those are that are still to be made of it.
    """

    offset: int
    content: bytes | None
    children: list[int]


class ReceivedPack:
    """See the module.

    Attributes:
        entries: of each object its name, where it begins, and the CRC32 of its bytes in the pack.
        count: how many objects the pack says it has.
    """

    def __init__(self, data: Buffer, *, hash_bytes: int = 20, check: Callable[[], None] = lambda: None) -> None:
        """Args:
        data: all of the pack.
        hash_bytes: 20 for SHA-1, 32 for SHA-256.
        check: called before each object; what it raises is passed on.
        """
        self.entries: list[tuple[bytes, int, int]] = []
        self.count = 0
        self._data = data
        self._hash_bytes = hash_bytes
        self._check = check
        self._new_hash = hashlib.sha256 if hash_bytes == 32 else _sha1
        self._at_offset: dict[int, list[int]] = {}
        self._at_name: dict[bytes, list[int]] = {}
        self._crcs: dict[int, int] = {}

    # --- the first time

    def look_through(self, limits: PackLimits) -> None:
        """Read all of it, and refuse what would unpack to too much.

        Raises:
            PackDamaged: no pack, cut short, or not as it was sent.
            JiemiError: LimitExceeded.
        """
        data, end = self._data, len(self._data) - self._hash_bytes
        header = data[:_HEADER_BYTES]
        if end < _HEADER_BYTES or header[:4] != b"PACK" or int.from_bytes(header[4:8]) not in (2, 3):
            raise PackDamaged("the data is no pack")
        self.count = int.from_bytes(header[8:])
        if self.count > _MAX_OBJECTS:
            raise JiemiError("LimitExceeded", f"the repository has more than {_MAX_OBJECTS} objects in one revision")
        at, total = _HEADER_BYTES, 0
        for _ in range(self.count):
            self._check()
            at, size = self._look_at(at, limits.object_bytes)
            total += size
            if total > limits.unpacked_bytes:
                raise JiemiError(
                    "LimitExceeded",
                    f"the repository unpacks to more than Krapao's limit of {limits.unpacked_bytes} bytes",
                )
        if at > end:
            raise PackDamaged("the pack ends in the middle of an object")
        if at < end:
            raise PackDamaged("the pack goes on after its last object")
        if self._hash_until(end) != data[end:]:
            raise PackDamaged("the pack is not as it was sent: the hash at its end is another one")

    def _look_at(self, offset: int, max_bytes: int) -> tuple[int, int]:
        """Where the object at an offset ends, and how large it is, or what it makes."""
        data = self._data
        kind, size, base, at = read_object_start(data, offset, self._hash_bytes)
        _require_size(size, max_bytes)
        if base is None:
            if kind != BLOB and size > MAX_STRUCTURE_BYTES:
                raise JiemiError(
                    "LimitExceeded", f"the repository holds a folder larger than {MAX_STRUCTURE_BYTES} bytes"
                )
            hash = self._new_hash(_header(kind, size))
            end = _unpack_into(data, at, size, hash.update)
            self.entries.append((hash.digest(), offset, crc_of(data, offset, end)))
            return end, size
        head: list[bytes] = []
        end = _unpack_into(data, at, size, lambda made: head.append(made[:20]) if not head else None)
        made = delta_result_size(b"".join(head))
        _require_size(made, max_bytes)
        if isinstance(base, int):
            self._at_offset.setdefault(base, []).append(offset)
        else:
            self._at_name.setdefault(base, []).append(offset)
        self._crcs[offset] = crc_of(data, offset, end)
        return end, max(size, made)

    def _hash_until(self, end: int) -> bytes:
        hash = self._new_hash()
        for at in range(0, end, _CHUNK_BYTES):
            self._check()
            hash.update(self._data[at : min(at + _CHUNK_BYTES, end)])
        return hash.digest()

    # --- deltas

    def resolve(self, read: ReadObject) -> set[bytes]:
        """Make and hash what the deltas make.

        Args:
            read: for objects that the pack builds upon and has not.

        Returns:
            The names of those.

        Raises:
            PackDamaged: a delta does not fit to what it builds upon, or that is nowhere.
        """
        external: set[bytes] = set()
        for name, offset, _ in list(self.entries):
            children = self._take(offset, name)
            if children:
                self._follow(offset, partial(self._plain, offset), children)
        for name in sorted(self._at_name):
            self._check()
            if name not in self._at_name:
                continue  # it was made of another one meanwhile
            try:
                found = read(name)
            except KeyError:
                continue  # it may be made of one that comes later
            external.add(name)
            self._follow(0, lambda found=found: found, self._at_name.pop(name))  # type: ignore[misc]
        if self._at_offset or self._at_name:
            raise PackDamaged("the pack holds an object that builds on what is not in it")
        return external

    def _take(self, offset: int, name: bytes) -> list[int]:
        """Where those are that build upon an object."""
        return self._at_offset.pop(offset, []) + self._at_name.pop(name, [])

    def _follow(self, offset: int, root: Callable[[], tuple[int, bytes]], children: list[int]) -> None:
        """Make all that builds upon an object, and upon what is made of it, and so on.

        Args:
            offset: where it is; 0 where it is not in the pack.
            root: gives its kind and its content.
        """
        kind, content = root()
        line = _Line(content, [_Base(offset, content, children)])
        while line.bases:
            self._check()
            top = line.bases[-1]
            if not top.children:
                line.leave()
                continue
            if top.content is None:
                self._restore(line, root()[1])
            child = top.children.pop()
            made = self._apply(top.content or b"", child)
            if kind != BLOB and not made:
                raise PackDamaged("the pack holds an empty commit, folder or tag")
            hash = self._new_hash(_header(kind, len(made)))
            hash.update(made)
            name = hash.digest()
            self.entries.append((name, child, self._crcs.pop(child)))
            grandchildren = self._take(child, name)
            if grandchildren:
                line.enter(_Base(child, made, grandchildren))

    def _plain(self, offset: int) -> tuple[int, bytes]:
        """The kind and content of an object that is no delta."""
        kind, size, _, at = read_object_start(self._data, offset, self._hash_bytes)
        return kind, unpack(self._data, at, size)[0]

    def _apply(self, base: bytes, offset: int) -> bytes:
        """What the delta at an offset makes of an object."""
        _, size, _, at = read_object_start(self._data, offset, self._hash_bytes)
        delta, _ = unpack(self._data, at, size)
        try:
            return b"".join(apply_delta(base, delta))
        except ApplyDeltaError:
            raise PackDamaged("the pack holds a delta that does not fit to what it builds upon") from None

    def _restore(self, line: _Line, content: bytes) -> None:
        """Make the last object of a line once more, from the first one on."""
        line.put(0, content)
        for number, base in enumerate(line.bases[1:], 1):
            self._check()
            content = self._apply(content, base.offset)
            line.put(number, content)


class _Line:
    """An object, one that is made of it, one that is made of that, and so on, of which the last ones are kept."""

    def __init__(self, content: bytes, bases: list[_Base]) -> None:
        self.bases = bases
        self._kept = len(content)
        self._first_kept = 0

    def enter(self, base: _Base) -> None:
        """One more is the last one."""
        self.bases.append(base)
        self._kept += len(base.content or b"")
        self._let_go(len(self.bases) - 1, _KEPT_BYTES)

    def leave(self) -> None:
        """Nothing is to be made of the last one any more."""
        self._kept -= len(self.bases.pop().content or b"")
        self._first_kept = min(self._first_kept, len(self.bases))

    def put(self, number: int, content: bytes) -> None:
        """One was made once more. Fewer are kept than otherwise, so that it does not happen for each of them."""
        self._first_kept = min(self._first_kept, number)
        self.bases[number].content = content
        self._kept += len(content)
        self._let_go(number, _KEPT_BYTES // 2)

    def _let_go(self, last: int, most: int) -> None:
        """Let go of the first ones, but not of the last."""
        while self._kept > most and self._first_kept < last:
            base = self.bases[self._first_kept]
            self._kept -= len(base.content or b"")
            base.content = None
            self._first_kept += 1


def _sha1(data: bytes = b"") -> hashlib._Hash:
    return hashlib.sha1(data, usedforsecurity=False)


def _header(kind: int, size: int) -> bytes:
    """What is hashed before an object's bytes."""
    return b"%s %d\0" % (KIND_NAMES[kind], size)


def _unpack_into(data: Buffer, at: int, size: int, take: Callable[[bytes], object]) -> int:
    """Unpack, at once where it is small, and pass on what is made; returns where it ends."""
    if size <= _CHUNK_BYTES:
        made, end = unpack(data, at, size)
        take(made)
        return end
    return unpack_in_pieces(data, at, size, take)


def _require_size(size: int, limit: int) -> None:
    if size > limit:
        raise JiemiError(
            "LimitExceeded", f"the repository holds a file larger than Krapao's limit of {limit} bytes for one object"
        )
