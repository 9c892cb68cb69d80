"""dulwich's store of packs, with what is ours about it.

A pack that has arrived is looked through and hashed by `jiemi.krapao.git.received_pack`: dulwich reads it three times,
believes its sizes, and reads its objects into classes which refuse commits that git itself serves and shows (a time
zone without its sign, a header without a value), of which nothing but the tree matters here. What is read later is
hashed again and read by our own reader (`jiemi.krapao.git.revision`, `jiemi.krapao.git.trees`).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import traceback
from bisect import bisect_left
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import BinaryIO

import attrs
from dulwich.file import GitFile
from dulwich.object_format import ObjectFormat
from dulwich.object_store import PACK_MODE, DiskObjectStore
from dulwich.objects import ObjectID, RawObjectID
from dulwich.pack import FilePackIndex, Pack, PackIndex, extend_pack, write_pack_index

from jiemi.krapao.git.packs import Buffer, declared_size
from jiemi.krapao.git.soundness import check_object


@contextlib.contextmanager
def open_packs(path: Path, *, object_format: ObjectFormat) -> Iterator[PackStore]:
    """A store of packs, for as long as the context lasts.

    dulwich maps the files into memory, and a mapping that something still looks at can't be closed. After an error in
    the middle of one, what was looking are the frames of its traceback, so these let go of what they hold first.
    """
    objects = PackStore(path, object_format=object_format)
    try:
        yield objects
    except BaseException as error:
        for each in _chain(error):
            traceback.clear_frames(each.__traceback__)
        raise
    finally:
        objects.close()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it, each once."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            left += [each.__cause__, each.__context__]
            yield each


@attrs.frozen
class NewPack:
    """A pack that is being written.

    Attributes:
        file: takes its bytes.
        path: where they go, under a name that does not last.
    """

    file: BinaryIO
    path: Path

    def size(self) -> int:
        """How many bytes were written. Their position is the end then."""
        return self.file.seek(0, os.SEEK_END)

    @contextlib.contextmanager
    def mapped(self) -> Iterator[Buffer]:
        """All that was written, while the context lasts."""
        if not self.size():
            yield b""  # no mapping can be empty
            return
        with mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


class PackStore(DiskObjectStore):
    """Packs in a folder, as `jiemi.krapao.git.revision` reads them."""

    def __init__(self, path: Path, *, object_format: ObjectFormat) -> None:
        super().__init__(str(path), object_format=object_format, fsync_object_files=True)

    def raw(self, sha: str) -> tuple[int, bytes]:
        """An object's kind, as packs number it, and its bytes."""
        return self.get_raw(ObjectID(sha.encode()))

    def read_by_name(self, name: bytes) -> tuple[int, bytes]:
        """The same, by the bytes of the name; KeyError where it is not here."""
        return self.get_raw(RawObjectID(name))

    def has(self, sha: str) -> bool:
        """Whether an object is in one of the packs."""
        return ObjectID(sha.encode()) in self

    def count(self) -> int:
        """How many objects there are; one that is in several packs counts for each."""
        return sum(len(pack.index) for pack in self._iter_cached_packs())

    def names(self) -> set[bytes]:
        """The hashes of all objects."""
        return {entry[0] for pack in self._in_order() for entry in pack.index.iterentries()}

    def size(self, sha: str) -> int | None:
        """An object's size without unpacking it, where that can be known."""
        name = ObjectID(sha.encode())
        for pack in self._in_order():
            try:
                offset = pack.index.object_offset(name)
            except KeyError:
                continue
            with _mapped(pack) as data:
                return declared_size(data, offset, hash_bytes=len(sha) // 2)
        return None

    def _in_order(self) -> Iterator[Pack]:
        """The packs, as objects are looked for in them. Looking for packs that came meanwhile takes as long as all the
        rest, so it comes last."""
        yield from self._iter_cached_packs()
        yield from self._update_pack_cache()

    def vouch(self, sha: str) -> None:
        """Make sure that an object is as it was written, before its size is believed.

        Raises:
            LookupError: it is damaged, or not here.
        """
        name = bytes.fromhex(sha)
        for pack in self._in_order():
            found = _entry(pack.index, name)
            if found is not None:
                offset, crc = found
                with _mapped(pack) as data:
                    return check_object(data, offset, crc, hash_bytes=len(name))
        raise LookupError("an object is not here")

    def _update_pack_cache(self) -> list[Pack]:
        """Packs that are new here.

        The newest is looked into first: what is asked for is mostly what came last, and each pack that is looked into
        has its index opened.
        """
        new = {id(pack) for pack in super()._update_pack_cache()}
        if new:
            ordered = sorted(self._pack_cache.items(), key=lambda item: self._made_at(item[0]), reverse=True)
            self._pack_cache.clear()
            self._pack_cache.update(ordered)
        return [pack for pack in self._pack_cache.values() if id(pack) in new]

    def _made_at(self, name: str) -> int:
        try:
            return Path(self.pack_dir, f"{name}.pack").stat().st_mtime_ns
        except OSError:
            return 0  # it has just gone

    @contextlib.contextmanager
    def new_pack(self) -> Iterator[NewPack]:
        """A pack that is to be written. At the end of the context it is gone, unless `keep` put it in its place."""
        handle, name = tempfile.mkstemp(dir=self.pack_dir, suffix=".pack")
        file = os.fdopen(handle, "w+b")
        try:
            os.fchmod(handle, PACK_MODE)
            yield NewPack(file, Path(name))
        finally:
            with contextlib.suppress(OSError):  # closing flushes; the first error is the one to report
                file.close()
            Path(name).unlink(missing_ok=True)

    def keep(self, pack: NewPack, entries: list[tuple[bytes, int, int]], external: AbstractSet[bytes]) -> None:
        """Put a pack in its place, with the objects that it builds upon and does not hold.

        Args:
            entries: (hash, offset, CRC) of the objects in it.
            external: the hashes of those that are missing in it.
        """
        missing = {RawObjectID(name) for name in external}
        checksum, more = extend_pack(pack.file, missing, get_raw=self.get_raw, object_format=self.object_format)
        pack.file.flush()
        os.fsync(pack.file.fileno())
        entries = sorted([*entries, *more])
        base = self._get_pack_basepath(entries)
        if Path(f"{base}.idx").exists():
            return  # the same objects are here, perhaps at other places in the file, and others may be reading it
        pack.path.rename(f"{base}.pack")
        # A pack counts once its index is there.
        with GitFile(f"{base}.idx", "wb", fsync=True) as index:
            write_pack_index(index, entries, checksum, version=self.pack_index_version)


@contextlib.contextmanager
def _mapped(pack: Pack) -> Iterator[Buffer]:
    """The bytes of a pack's file, as they are now."""
    with (
        Path(os.fsdecode(pack.data.path)).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        yield data


def _entry(index: PackIndex, name: bytes) -> tuple[int, int] | None:
    """Where an object is in a pack, and the CRC32 of its bytes there; None where it is not in it."""
    if not isinstance(index, FilePackIndex):
        return None

    def entry(number: int) -> tuple[bytes, int, int | None]:
        return index._unpack_entry(number)

    at = bisect_left(range(len(index)), name, key=lambda number: entry(number)[0])
    if at == len(index):
        return None
    found, offset, crc = entry(at)
    return (offset, crc) if found == name and crc is not None else None
