"""A YAML file of several documents that were encrypted one by one -> the files that it was made of.

`cat a.enc.yaml b.enc.yaml`, with `---` between them, is what people make of files that sops encrypted one by one, and
they put plain documents beside encrypted ones. sops itself opens no such file: it takes the first document's `sops`
block for all (LoadEncryptedFile in its stores/yaml), so a document with a data key of its own does not decrypt, and one
that is plain does not match the MAC (https://github.com/getsops/sops/issues/1058 and 2224). Flux decrypts document by
document. A stream that sops has encrypted as one has the same block in each document, and one MAC over all of them.

So documents in a row with the same block are one file, which sops opens as a whole; each other block begins another;
and documents in a row without one are a plain file. Nothing here decides what a part is. Each goes the way of a file of
its own, so a part that is taken for another than it is fails, or is read as what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from jiemi.core.content.ciphertext import ENCRYPTED
from jiemi.core.errors import JiemiError

MAX_PARTS = 100
"""The most parts of one file that have a block of their own. Each takes an opener about 40 ms."""

_MAX_MARKS = 5_000
"""A stream of more documents, empty ones counted, is not taken apart: it is one file, as it is to sops."""

_MARK = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_MARK_LINE = re.compile(rb"---[ \t]*(?:#[^\n]*)?(?:\n|\Z)|---\r\n")
_SPACE = rb"(?:\s++|#[^\n]*+|\.\.\.(?=\s|\Z))*+"
_NOTHING = re.compile(rb"(?:---)?" + _SPACE + rb"(?:null|~|\{\})?+" + _SPACE + rb"\Z")
_BLOCK = re.compile(rb"^[\"']?sops[\"']?[ \t]*:", re.MULTILINE)
"""At the beginning of a line, where no text of a block mapping can be. In JSON it may be anywhere."""

_BLOCK_IN_JSON = re.compile(rb"[{,]\s*[\"']?sops[\"']?\s*:")
_MAC = re.compile(rb"\bmac[\"']?\s*:\s*(?:[>|][-+]?\s*)?[\"']?(ENC\[AES256_GCM,data:[^\]\s]{0,500}+\])")


@attrs.frozen
class Part:
    """A part of a stream.

    Attributes:
        data: its bytes, as they are in the stream, without the line that begins it.
        first, last: numbers of its documents, counting from 1.
        is_encrypted: whether it has a `sops` block.
    """

    data: bytes = attrs.field(repr=False)
    first: int
    last: int
    is_encrypted: bool

    @property
    def place(self) -> str:
        """For messages: "document 2", "documents 2 to 4"."""
        return f"document {self.first}" if self.first == self.last else f"documents {self.first} to {self.last}"


@attrs.frozen
class Stream:
    """A file that is several.

    Attributes:
        parts: in the order of the file.
    """

    parts: tuple[Part, ...]

    @property
    def may_be_one(self) -> bool:
        """Whether sops could open it as one: it has one block, and the first document has it."""
        return self.parts[0].is_encrypted and not any(part.is_encrypted for part in self.parts[1:])


@attrs.define
class _Piece:
    """Where documents in a row are that have the same block, or none."""

    begin: int
    end: int
    first: int
    last: int
    mac: bytes | None


def split_stream(data: bytes) -> Stream | None:
    """Take a YAML file apart where it is several files.

    Args:
        data: which may be hostile.

    Returns:
        None where it is one, be it plain or encrypted.

    Raises:
        JiemiError: LimitExceeded.
    """
    if ENCRYPTED.encode() not in data or data.count(b"\n---") > _MAX_MARKS:
        return None
    pieces: list[_Piece] = []
    for number, (begin, end) in enumerate(_documents(data), start=1):
        document = data[begin:end]
        if _NOTHING.match(document) is not None:
            continue
        mac = _mac(document)
        if pieces and pieces[-1].mac == mac:
            pieces[-1].end, pieces[-1].last = end, number
        else:
            pieces.append(_Piece(begin, end, number, number, mac))
    count = sum(piece.mac is not None for piece in pieces)
    if len(pieces) < 2 or count == 0:
        return None
    if count > MAX_PARTS:
        raise JiemiError("LimitExceeded", f"more than {MAX_PARTS} documents of the file have a sops block of their own")
    return Stream(
        tuple(
            Part(_without_mark(data[each.begin : each.end]), each.first, each.last, each.mac is not None)
            for each in pieces
        )
    )


def _documents(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each document begins and ends."""
    begin, is_first = 0, True
    for mark in _MARK.finditer(data):
        # The first mark ends no document if nothing but comments is before it.
        if not is_first or _NOTHING.match(data[: mark.start()]) is None:
            yield begin, mark.start()
            begin = mark.start()
        is_first = False
    yield begin, len(data)


def _mac(document: bytes) -> bytes | None:
    """What distinguishes its block from another's; b"" where a block has no MAC, None where there is no block."""
    if ENCRYPTED.encode() not in document:
        return None
    block = _BLOCK_IN_JSON if _without_mark(document).lstrip().startswith(b"{") else _BLOCK
    if block.search(document) is None:
        return None
    found = _MAC.findall(document)
    return b"".join(found[-1].split()) if found else b""


def _without_mark(part: bytes) -> bytes:
    """Without the line that begins its first document. What begins with that may have several, to sops's reader."""
    mark = _MARK_LINE.match(part)
    return part[mark.end() :] if mark is not None else part
