"""Packs against the checksums that were written with them. The packs are of the real git."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from dulwich.errors import ChecksumMismatch
from dulwich.object_format import SHA1, SHA256
from support.krapao.work_tree import Work

from jiemi.krapao.git.pack_store import open_packs
from jiemi.krapao.git.soundness import is_sound

DAMAGED = (LookupError, AssertionError, ValueError, struct.error, ChecksumMismatch)
"""What dulwich and `vouch` raise. A BufferError is none of them: files that can't be closed."""


def flip(path: Path, bit: int) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.parametrize("format", [SHA1, SHA256], ids=["sha1", "sha256"])
def test_each_flipped_bit_of_a_pack_and_its_index_is_seen(tmp_path: Path, format: object) -> None:
    hash_bytes, name = (20, "sha1") if format is SHA1 else (32, "sha256")
    work = Work(tmp_path / "work", name)
    made = random.Random(3)
    content = made.randbytes(2_000).hex()
    for number in range(3):
        work.commit({"a/x.yaml": f"{content}{number}", "b.yaml": str(number)})
    work.git("repack", "-a", "-d", "--quiet")
    generation = work.path / ".git"
    objects = generation / "objects"
    shas = work.git("rev-list", "--objects", "--all", "--no-object-names").split()
    with open_packs(objects, object_format=format) as packs:  # type: ignore[arg-type]
        assert {packs.raw(sha)[0] for sha in shas} == {1, 2, 3}
        for sha in shas:
            packs.vouch(sha)
        with pytest.raises(LookupError):
            packs.vouch("0" * len(shas[0]))
    assert is_sound(generation, hash_bytes=hash_bytes, check=lambda: None)
    unseen = 0
    for path in [*(objects / "pack").glob("*.pack"), *(objects / "pack").glob("*.idx")]:
        for bit in made.sample(range(path.stat().st_size * 8), 60):
            flip(path, bit)
            assert not is_sound(generation, hash_bytes=hash_bytes, check=lambda: None), (path.suffix, bit)
            try:
                with open_packs(objects, object_format=format) as packs:  # type: ignore[arg-type]
                    for sha in shas:
                        packs.vouch(sha)
            except DAMAGED:
                pass
            else:
                unseen += 1  # what belongs to no object: the hashes at the end, or the header
            flip(path, bit)
    assert unseen < 60, "most flips change an object or where it is"


def test_a_cancelled_check_ends(tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    work.commit({"x": "one"})
    work.git("repack", "-a", "-d", "--quiet")

    def cancelled() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        is_sound(work.path / ".git", hash_bytes=20, check=cancelled)
