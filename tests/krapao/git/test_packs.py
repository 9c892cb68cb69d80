"""What a pack says about its objects."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.packs import appending, blob, head, number, on_name, on_offset, pack

from jiemi.krapao.git.packs import (
    BLOB,
    OFS_DELTA,
    REF_DELTA,
    PackDamaged,
    declared_size,
    read_object_start,
    unpack,
    unpack_in_pieces,
)


def test_a_size_is_reported_without_unpacking() -> None:
    assert declared_size(pack(blob(b"x" * 70_000)), 12) == 70_000
    delta = (number(3) + number(90_000)).ljust(500, b"\0")
    assert declared_size(pack(on_name(b"b" * 20, delta)), 12) == 90_000
    assert declared_size(pack(), 12 + 20) is None
    assert declared_size(on_name(b"b" * 19, b"")[:20], 0) is None


@given(st.integers(1, 2**40), st.integers(0, 2**40))
def test_where_a_delta_builds_upon_is_read_as_it_was_written(back: int, size: int) -> None:
    # Nothing of a pack before the delta is read, so it need not be there.
    for wrong in (0, back):
        with pytest.raises(PackDamaged):
            read_object_start(on_offset(wrong, appending(1, b"x")), 0, 20)
    kind, found, base, at = read_object_start(b"\0" * 200 + on_offset(back % 200 + 1, b"delta"), 200, 20)
    assert (kind, found, base) == (OFS_DELTA, 5, 200 - (back % 200 + 1))
    assert read_object_start(head(BLOB, size), 0, 20) == (BLOB, size, None, len(head(BLOB, size)))
    assert read_object_start(on_name(b"n" * 32, b"delta"), 0, 32)[:3] == (REF_DELTA, 5, b"n" * 32)
    assert at > 200


@given(st.binary(max_size=3_000), st.integers(0, 9), st.binary(max_size=30), st.integers(0, 5))
def test_a_stream_is_unpacked_at_once_as_in_pieces(content: bytes, level: int, after: bytes, flushes: int) -> None:
    packer = zlib.compressobj(level)
    packed = packer.compress(content)
    for _ in range(flushes * 40):
        packed += packer.flush(zlib.Z_SYNC_FLUSH)  # five bytes each that make nothing
    packed += packer.flush()
    data = b"before" + packed + after
    assert unpack(data, 6, len(content)) == (content, 6 + len(packed))
    pieces: list[bytes] = []
    assert unpack_in_pieces(data, 6, len(content), pieces.append) == 6 + len(packed)
    assert b"".join(pieces) == content
    for wrong in (len(content) + 1, len(content) - 1):
        if wrong >= 0:
            with pytest.raises(PackDamaged):
                unpack(data, 6, wrong)
            with pytest.raises(PackDamaged):
                unpack_in_pieces(data, 6, wrong, pieces.append)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_have_a_size_or_none(data: bytes, at: int) -> None:
    size = declared_size(data, at)
    assert size is None or size >= 0
