"""The store of packs: what arrives again, and what it builds upon."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from dulwich.object_format import SHA1
from dulwich.objects import Blob
from dulwich.pack import write_pack_objects

from jiemi.krapao.git.pack_store import PackStore


def _store(path: Path) -> PackStore:
    (path / "pack").mkdir(parents=True)
    (path / "info").mkdir()
    return PackStore(path, object_format=SHA1)


def _add(store: PackStore, blobs: list[Blob], *, level: int) -> None:
    packed = BytesIO()
    write_pack_objects(packed, blobs, compression_level=level, object_format=SHA1)
    file, commit, _ = store.add_pack()
    file.write(packed.getvalue())
    commit()


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
