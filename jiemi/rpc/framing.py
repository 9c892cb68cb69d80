"""The RPC's messages in a stream of bytes: where each ends, and the little that the gate must know of it.

    stream  = message…
    message = segment table, segments           https://capnproto.org/encoding.html#serialization-over-a-stream
    root    = Message of rpc.capnp              https://github.com/capnproto/capnproto/blob/v2/c++/src/capnp/rpc.capnp

Only what counts against a limit is read: the message's kind, the question that it belongs to, and how many capabilities
it carries. kj reads the rest, once the gate has let the message through. The bytes are hostile, so every offset is
checked before it is followed, and no step follows more than one far pointer: the work for a message is bounded.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator

import attrs

MAX_SEGMENTS = 512
"""Of one message; kj takes no more either (serialize-async.c++)."""

_WORD = 8
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class FramingError(Exception):
    """The bytes are no message that is taken. The text says what is wrong, and holds none of them."""


class Kind(enum.IntEnum):
    """What a message is: the members of rpc.capnp's Message by their numbers in its union."""

    UNIMPLEMENTED = 0
    ABORT = 1
    CALL = 2
    RETURN = 3
    FINISH = 4
    RESOLVE = 5
    RELEASE = 6
    OBSOLETE_SAVE = 7
    BOOTSTRAP = 8
    OBSOLETE_DELETE = 9
    PROVIDE = 10
    ACCEPT = 11
    JOIN = 12
    DISEMBARGO = 13


@attrs.frozen
class MessageHead:
    """What the gate knows of a message.

    Attributes:
        kind: what it is; None for what no peer of this schema says.
        question: the number of the question of a bootstrap, call, return or finish; otherwise 0.
        capabilities: how many capabilities a call's parameters or a return's results carry.
        plain: whether it keeps to level 1 of the protocol: every capability is the sender's own, and the results come
            back to the caller.
        no_finish: of a return: no finish will follow it.
    """

    kind: Kind | None
    question: int = 0
    capabilities: int = 0
    plain: bool = True
    no_finish: bool = False


class FrameReader:
    """Cuts a stream into messages. Holds what has arrived of the one that is not complete, and nothing else.

    Args:
        max_bytes: of one message, its segment table included.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    @property
    def held_bytes(self) -> int:
        """How much of an incomplete message is here."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with these bytes.

        Raises:
            FramingError: the stream can't go on.
        """
        self._buffer += data
        while (size := self._size()) is not None and len(self._buffer) >= size:
            frame = bytes(self._buffer[:size])
            del self._buffer[:size]
            yield frame

    def _size(self) -> int | None:
        """Of the next message, in bytes; None where its segment table is not all here."""
        if len(self._buffer) < 4:  # a 32-bit number
            return None
        count = _segment_count(self._buffer)
        table = _table_bytes(count)
        if len(self._buffer) < table:
            return None
        size: int = table + _WORD * sum(struct.unpack_from(f"<{count}I", self._buffer, 4))
        if size > self._max_bytes:
            raise FramingError(f"a message of {size} bytes, of {self._max_bytes} at most")
        return size


def _segment_count(data: bytes | bytearray) -> int:
    count: int = _U32.unpack_from(data, 0)[0] + 1
    if count > MAX_SEGMENTS:
        raise FramingError(f"a message of {count} segments, of {MAX_SEGMENTS} at most")
    return count


def _table_bytes(count: int) -> int:
    return (4 + 4 * count + _WORD - 1) // _WORD * _WORD


def read_head(frame: bytes) -> MessageHead:
    """What a complete message is.

    Raises:
        FramingError: it is none.
    """
    return _Reader(frame).head()


@attrs.frozen
class _Struct:
    """Where a struct is: its segment, the word where it begins, and the sizes of its two sections in words."""

    segment: int
    word: int
    data_words: int
    pointers: int


class _Reader:
    """One message. Words that a struct does not have are zero, as in every Cap'n Proto reader."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        count = _segment_count(frame)
        sizes = struct.unpack_from(f"<{count}I", frame, 4)
        self._segments: list[tuple[int, int]] = []
        offset = _table_bytes(count)
        for words in sizes:
            self._segments.append((offset, words))
            offset += words * _WORD

    def head(self) -> MessageHead:
        message = self._struct(0, 0)
        if message is None:
            raise FramingError("an empty message")
        number = self._data(message, 0) & 0xFFFF
        kind = Kind(number) if number in Kind.__members__.values() else None
        if kind not in (Kind.BOOTSTRAP, Kind.CALL, Kind.RETURN, Kind.FINISH):
            return MessageHead(kind)
        part = self._pointer(message, 0)
        first = self._data(part, 0) if part is not None else 0
        question, last = first & 0xFFFF_FFFF, first >> 48
        if part is None or kind in (Kind.BOOTSTRAP, Kind.FINISH):
            return MessageHead(kind, question)
        if kind is Kind.CALL:
            # `last` is sendResultsTo: the caller.
            count, own = self._capabilities(self._pointer(part, 1))
            return MessageHead(kind, question, count, own and last == 0)
        # A return; `last` is which: results, exception or canceled.
        count, own = self._capabilities(self._pointer(part, 0)) if last == 0 else (0, True)
        return MessageHead(kind, question, count, own and last in (0, 1, 2), no_finish=bool(first >> 33 & 1))

    def _capabilities(self, payload: _Struct | None) -> tuple[int, bool]:
        """How many capabilities are in a payload's table, and whether all are the sender's own."""
        if payload is None or payload.pointers < 2:  # the table is the second
            return 0, True
        segment, word, pointer = self._follow(payload.segment, payload.word + payload.data_words + 1)
        if pointer == 0:
            return 0, True
        if pointer & 3 != 1 or pointer >> 32 & 7 != 7:  # a list, of structs
            raise FramingError("a table of capabilities that is none")
        tag = self._word(segment, word)
        count = tag >> 2 & 0x3FFF_FFFF
        data_words, pointers = tag >> 32 & 0xFFFF, tag >> 48
        step = data_words + pointers
        if count and (step == 0 or count * step > pointer >> 35):
            raise FramingError("a table of capabilities that is longer than its message")
        own = all(
            data_words == 0 or self._word(segment, word + 1 + index * step) & 0xFFFF in (0, 1) for index in range(count)
        )
        return count, own

    def _struct(self, segment: int, word: int) -> _Struct | None:
        """The struct that the pointer at a place points to; None for null."""
        segment, target, pointer = self._follow(segment, word)
        if pointer == 0:
            return None
        if pointer & 3:
            raise FramingError("a pointer that is none to a struct")
        found = _Struct(segment, target, pointer >> 32 & 0xFFFF, pointer >> 48)
        if found.data_words + found.pointers:
            self._word(segment, target + found.data_words + found.pointers - 1)  # all of it is there
        return found

    def _follow(self, segment: int, word: int) -> tuple[int, int, int]:
        """Where the pointer at a place leads: segment, word, and the pointer that describes what is there."""
        pointer = self._word(segment, word)
        if pointer & 3 != 2:  # no far pointer
            return segment, word + 1 + _offset(pointer), pointer
        segment, word = pointer >> 32, pointer >> 3 & 0x1FFF_FFFF
        pad = self._word(segment, word)
        if not pointer & 4:
            if pad & 3 == 2:
                raise FramingError("a far pointer to a far pointer")
            return segment, word + 1 + _offset(pad), pad
        if pad & 7 != 2:  # a far pointer with a landing pad of one word
            raise FramingError("a landing pad that is none")
        return pad >> 32, pad >> 3 & 0x1FFF_FFFF, self._word(segment, word + 1)

    def _pointer(self, of: _Struct, index: int) -> _Struct | None:
        return self._struct(of.segment, of.word + of.data_words + index) if index < of.pointers else None

    def _data(self, of: _Struct, index: int) -> int:
        return self._word(of.segment, of.word + index) if index < of.data_words else 0

    def _word(self, segment: int, word: int) -> int:
        if segment >= len(self._segments) or not 0 <= word < self._segments[segment][1]:
            raise FramingError("a pointer beyond the message")
        value: int = _U64.unpack_from(self._frame, self._segments[segment][0] + word * _WORD)[0]
        return value


def _offset(pointer: int) -> int:
    """The signed 30-bit offset of a struct's or list's pointer, in words."""
    offset = pointer >> 2 & 0x3FFF_FFFF
    return offset - 0x4000_0000 if offset & 0x2000_0000 else offset
