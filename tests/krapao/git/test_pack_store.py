"""The store of packs: what arrives again, and what it builds upon."""

from __future__ import annotations

import contextlib
import os
from io import BytesIO
from pathlib import Path

from dulwich.object_format import SHA1
from dulwich.objects import Blob
from dulwich.pack import write_pack_objects

from jiemi.krapao.git.pack_store import PackStore
from jiemi.krapao.git.received_pack import PackLimits, ReceivedPack


def _store(path: Path) -> PackStore:
    (path / "pack").mkdir(parents=True)
    (path / "info").mkdir()
    return PackStore(path, object_format=SHA1)


def _add(store: PackStore, blobs: list[Blob], *, level: int) -> None:
    packed = BytesIO()
    write_pack_objects(packed, blobs, compression_level=level, object_format=SHA1)
    with store.new_pack() as new:
        new.file.write(packed.getvalue())
        new.file.flush()
        with new.mapped() as data:
            received = ReceivedPack(data)
            received.look_through(PackLimits(1_000_000, 1_000_000))
            external = received.resolve(store.read_by_name)
        store.keep(new, received.entries, external)


def test_objects_that_arrive_again_in_another_form_leave_the_pack_that_is_read(tmp_path: Path) -> None:
    store = _store(tmp_path / "objects")
    blobs = [Blob.from_string(f"{number} ".encode() * 1_000) for number in range(5)]
    _add(store, blobs, level=9)
    [pack] = (tmp_path / "objects" / "pack").glob("*.pack")
    before = pack.stat().st_ino, pack.read_bytes()
    _add(store, blobs, level=0)
    assert (pack.stat().st_ino, pack.read_bytes()) == before
    assert sorted(each.suffix for each in pack.parent.iterdir()) == [".idx", ".pack"]
    for blob in blobs:
        assert store.raw(blob.id.decode()) == (3, blob.data)
    store.close()


def test_what_came_last_is_found_without_looking_into_the_packs_before_it(tmp_path: Path) -> None:
    store = _store(tmp_path / "objects")
    blobs = [Blob.from_string(str(number).encode()) for number in range(20)]
    for age, blob in enumerate(blobs):
        before = set((tmp_path / "objects" / "pack").glob("*.pack"))
        _add(store, [blob], level=9)
        [made] = set((tmp_path / "objects" / "pack").glob("*.pack")) - before
        os.utime(made, (1_000 + age, 1_000 + age))
    store.close()
    with contextlib.closing(PackStore(tmp_path / "objects", object_format=SHA1)) as again:
        for count, blob in ((1, blobs[-1]), (2, blobs[-2]), (20, blobs[0])):
            assert again.size(blob.id.decode()) == len(blob.data)
            assert again.raw(blob.id.decode()) == (3, blob.data)
            assert sum(pack._idx is not None for pack in again.packs) == count
