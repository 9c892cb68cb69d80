"""Pointers of Git LFS are known by their first line."""

from __future__ import annotations

import pytest

from jiemi.core.errors import JiemiError
from jiemi.krapao.reading.lfs import require_no_pointer

OID = b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
POINTERS = (
    b"version https://git-lfs.github.com/spec/v1\n" + OID + b"size 12345\n",
    b"version https://git-lfs.github.com/spec/v1\next-0-foo sha256:" + b"0" * 64 + b"\n" + OID + b"size 1\n",
    b"version https://hawser.github.com/spec/v1\n" + OID + b"size 12345\n",
)


@pytest.mark.parametrize("data", POINTERS)
def test_a_pointer_is_refused(data: bytes) -> None:
    with pytest.raises(JiemiError) as caught:
        require_no_pointer(data)
    assert caught.value.failure.reason == "LfsPointer"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"version: https://git-lfs.github.com/spec/v1\n",
        b"a: 1\n" + POINTERS[0],
        b"version https://git-lfs.github.com/spec/v1\nsize 1\n",
        POINTERS[0] + b"x" * 1_024,
    ],
)
def test_what_is_no_pointer_is_let_through(data: bytes) -> None:
    require_no_pointer(data)
