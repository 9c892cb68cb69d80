"""Packs that say or hold too much are found out before dulwich sees them."""

from __future__ import annotations

import contextlib
import io
import subprocess
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.packs import BLOB, OFS_DELTA, REF_DELTA, PackDamaged, check_pack, declared_size


def head(kind: int, size: int) -> bytes:
    first = (kind << 4) | (size & 15)
    size >>= 4
    out = []
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    return bytes([*out, first])


def number(value: int) -> bytes:
    out = []
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def pack(*objects: bytes, count: int | None = None) -> io.BytesIO:
    total = len(objects) if count is None else count
    return io.BytesIO(b"PACK" + (2).to_bytes(4) + total.to_bytes(4) + b"".join(objects) + b"\0" * 20)


def blob(data: bytes, *, says: int | None = None) -> bytes:
    return head(BLOB, len(data) if says is None else says) + zlib.compress(data)


def check(file: io.BytesIO, max_object_bytes: int = 1_000_000, max_unpacked_bytes: int = 2_000_000) -> int:
    return check_pack(file, max_object_bytes=max_object_bytes, max_unpacked_bytes=max_unpacked_bytes)


def test_a_pack_that_git_made_is_read_to_its_end(work: Work) -> None:
    work.commit({f"d/{number}": b"x" * number * 100 for number in range(200)})
    work.commit({"d/199": b"x" * 19_901})
    run = ["git", "pack-objects", "--stdout", "--all", "--delta-base-offset"]
    data = subprocess.run(run, cwd=work.path, check=True, capture_output=True, input=b"").stdout
    assert check(io.BytesIO(data), max_unpacked_bytes=10_000_000) == int.from_bytes(data[8:12]) > 200


@pytest.mark.parametrize(
    "file",
    [
        pack(blob(b"x" * 1_000_001)),
        pack(*[blob(b"\0" * 900_000)] * 3),
        pack(head(BLOB, 10**12)),
        pack(head(REF_DELTA, 20) + b"b" * 20 + zlib.compress((number(1) + number(10**10)).ljust(20, b"\0"))),
        pack(head(OFS_DELTA, 20) + b"\x81\x01" + zlib.compress((number(1) + number(10**10)).ljust(20, b"\0"))),
        pack(count=2**32 - 1),
    ],
)
def test_what_would_unpack_to_too_much_is_refused(file: io.BytesIO) -> None:
    with pytest.raises(JiemiError) as caught:
        check(file)
    assert caught.value.failure.reason == "LimitExceeded"


@pytest.mark.parametrize(
    "file",
    [
        io.BytesIO(),
        io.BytesIO(b"PACK"),
        io.BytesIO(b"JUNK" * 20),
        pack(count=1),
        pack(blob(b"x", says=2)),
        pack(blob(b"xx", says=1)),
        pack(head(0, 1) + zlib.compress(b"x")),
        pack(head(5, 1) + zlib.compress(b"x")),
        pack(head(BLOB, 1) + b"no zlib"),
        pack(head(REF_DELTA, 1) + b"b" * 20 + zlib.compress(b"\xff")),
        pack(b"\xff" * 30),
    ],
)
def test_what_is_no_pack_is_reported(file: io.BytesIO) -> None:
    with pytest.raises(PackDamaged):
        check(file)


def test_a_size_is_reported_without_unpacking() -> None:
    plain = pack(blob(b"x" * 70_000))
    assert declared_size(plain, 12) == 70_000
    delta = (number(3) + number(90_000)).ljust(500, b"\0")
    assert declared_size(pack(head(REF_DELTA, 500) + b"b" * 20 + zlib.compress(delta)), 12) == 90_000
    assert declared_size(pack(), 12 + 19) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_counted_or_refused(data: bytes) -> None:
    for file in (io.BytesIO(data), pack(data, count=3)):
        with contextlib.suppress(PackDamaged, JiemiError):
            check(file)
    declared_size(io.BytesIO(data), 0)
