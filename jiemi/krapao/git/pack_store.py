"""dulwich's store of packs, with what is ours about it.

A cancellation ends its indexing. And a pack that has arrived is not read object by object into dulwich's classes:
these refuse commits that git itself serves and shows (a time zone without its sign, a header without a value), of
which nothing but the tree matters here. Nothing is lost by that: indexing hashes every object, and what is read later
is hashed again and read by our own reader (`jiemi.krapao.git.revision`, `jiemi.krapao.git.trees`).
"""

from __future__ import annotations

import contextlib
import os
import traceback
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dulwich.file import GitFile
from dulwich.object_format import ObjectFormat
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.pack import FilePackIndex, Pack, PackIndex, PackIndexer, extend_pack, write_pack_index

from jiemi.krapao.git.packs import declared_size
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


class PackStore(DiskObjectStore):
    """Packs in a folder, as `jiemi.krapao.git.revision` reads them.

    Attributes:
        check: called again and again while a pack is indexed; raises to end that.
    """

    check: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, path: Path, *, object_format: ObjectFormat) -> None:
        super().__init__(str(path), object_format=object_format, fsync_object_files=True)

    def raw(self, sha: str) -> tuple[int, bytes]:
        """An object's kind, as packs number it, and its bytes."""
        return self.get_raw(ObjectID(sha.encode()))

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
            with Path(os.fsdecode(pack.data.path)).open("rb") as file:
                return declared_size(file, offset, hash_bytes=len(sha) // 2)
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
                with Path(os.fsdecode(pack.data.path)).open("rb") as file:
                    return check_object(file, offset, crc, hash_bytes=len(name))
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

    def _index_pack(self, indexer: PackIndexer, num_objects: int, progress: object = None) -> Any:
        return super()._index_pack(indexer, num_objects, progress=lambda _: self.check())

    def _complete_pack(  # type: ignore[override]
        self, f: BinaryIO, path: str, entries: list[Any], ext_refs: set[Any], *_: object
    ) -> None:
        """Put a pack that was indexed in its place, with the objects that it builds upon and does not hold.

        Args:
            f: the pack, open; it is closed.
            path: where it is.
            entries: (hash, offset, CRC) of the objects in it.
            ext_refs: the hashes of those that are missing in it.
        """
        checksum, more = extend_pack(f, ext_refs, get_raw=self.get_raw, object_format=self.object_format)
        f.flush()
        os.fsync(f.fileno())
        f.close()
        entries = sorted([*entries, *more])
        base = self._get_pack_basepath(entries)
        if Path(f"{base}.idx").exists():
            # The same objects are here, perhaps at other places in the file, and others may be reading it.
            Path(path).unlink()
            return
        Path(path).replace(f"{base}.pack")
        # A pack counts once its index is there.
        with GitFile(f"{base}.idx", "wb", fsync=True) as index:
            write_pack_index(index, entries, checksum, version=self.pack_index_version)


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
