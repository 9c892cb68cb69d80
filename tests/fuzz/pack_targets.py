"""What is fuzzed of the packs that hosts send. An input has no hash at its end: the right one is put there."""

from __future__ import annotations

import zlib

from fuzz.target import Target
from support.krapao.packs import appending, blob, ended, head, on_name, on_offset

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.packs import BLOB, COMMIT, TAG, TREE, PackDamaged
from jiemi.krapao.git.received_pack import PackLimits, ReceivedPack

_OBJECT_BYTES, _UNPACKED_BYTES = 20_000, 50_000
_HERE = {b"h" * 20: (BLOB, b"what is here already")}


def _check(data: bytes) -> str:
    made = 0

    class Counted(ReceivedPack):
        def _apply(self, base: bytes, offset: int) -> bytes:
            nonlocal made
            content = super()._apply(base, offset)
            assert len(content) <= _OBJECT_BYTES
            made += len(content)
            return content

    received = Counted(ended(data))
    try:
        received.look_through(PackLimits(_OBJECT_BYTES, _UNPACKED_BYTES))
        external = received.resolve(_HERE.__getitem__)
    except PackDamaged as error:
        return f"{error} {min(len(received.entries), 3)}"
    except JiemiError as error:
        assert error.failure.reason == "LimitExceeded"
        words = "".join(char for char in error.failure.message if char.isalpha() or char == " ")
        return f"{words} {min(len(received.entries), 3)}"
    assert len(received.entries) == received.count
    assert external <= _HERE.keys()
    assert made <= _UNPACKED_BYTES
    offsets = [offset for _, offset, _ in received.entries]
    assert len(set(offsets)) == len(offsets)
    return f"{min(received.count, 5)} objects, {len(external)} here, {made.bit_length()}"


def _pack(*objects: bytes, count: int | None = None) -> bytes:
    return b"PACK" + (2).to_bytes(4) + (len(objects) if count is None else count).to_bytes(4) + b"".join(objects)


def _object(kind: int, content: bytes) -> bytes:
    return head(kind, len(content)) + zlib.compress(content)


_BLOB = blob(b"some text")
_ON_IT = on_offset(len(_BLOB), appending(9, b", and more"))

PACKS = Target(
    _check,
    (
        _pack(),
        _pack(_BLOB),
        _pack(_BLOB, _ON_IT),
        _pack(_BLOB, _ON_IT, on_offset(len(_ON_IT), appending(19, b" of it"))),
        _pack(_BLOB, _ON_IT, on_offset(len(_BLOB) + len(_ON_IT), appending(9, b" twice"))),
        _pack(on_name(b"h" * 20, appending(20, b", and more"))),
        _pack(on_name(b"n" * 20, appending(20, b", and more"))),
        _pack(_object(COMMIT, b"tree 1\n"), _object(TREE, b"100644 a\0" + b"1" * 20), _object(TAG, b"object 1\n")),
        _pack(_object(COMMIT, b"x"), on_offset(10, b"\1\0")),
        _pack(blob(b"x" * 15_000), blob(b"y" * 15_000), blob(b"z" * 19_999)),
        _pack(blob(b"x" * 15_000), blob(b"y" * 15_000), blob(b"z" * 15_000), blob(b"x" * 15_000)),
        _pack(blob(b"x" * 20_001)),
        _pack(_BLOB, count=2),
        _pack(_BLOB, _BLOB, count=1),
        _pack(blob(b"text", says=5)),
        _pack(blob(b"text", says=3)),
        _pack(_BLOB, on_offset(3, appending(9, b"x"))),
        _pack(_BLOB, on_offset(len(_BLOB), b"\xff" * 30)),
        _pack(_BLOB, on_offset(len(_BLOB), b"\x09\xff\xff\x7f")),
        _pack(head(5, 1) + zlib.compress(b"x")),
        _pack(b"\xff" * 30),
        b"PACK",
        b"JUNK" * 5,
    ),
    (
        b"PACK",
        _BLOB,
        _ON_IT,
        zlib.compress(b""),
        zlib.compress(b"\x09\x0a\x90\x09\1x"),
        on_name(b"h" * 20, appending(20, b"x")),
        head(BLOB, 0),
        head(COMMIT, 1),
        b"\x78\x9c",
        b"\x80\x80",
        b"\0\0\0\2",
    ),
)

TARGETS = {"packs": PACKS}
