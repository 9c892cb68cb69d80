"""Bodies of HTTP messages and answers of CGI programs, as `jiemi.demo.git_server` needs them (RFC 9112, RFC 3875)."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from email.message import Message
from io import BufferedIOBase

MAX_BODY_BYTES = 256 * 1024 * 1024
"""The largest request or answer that is carried: each is held in memory once."""

_CHUNK_BYTES = 4096


def read_body(headers: Message, stream: BufferedIOBase) -> bytes:
    """A request's body: by its length or in chunks, and unpacked where it is packed.

    Args:
        headers: the request's.
        stream: what follows them.

    Raises:
        ValueError: it is larger than `MAX_BODY_BYTES`, or its framing is broken.
    """
    if "chunked" in headers.get("Transfer-Encoding", ""):
        body = _read_chunks(stream)
    else:
        size = int(headers.get("Content-Length") or 0)
        if size > MAX_BODY_BYTES:
            raise ValueError("the request is too large")
        body = stream.read(size)
    if headers.get("Content-Encoding") in ("gzip", "x-gzip"):
        with contextlib.suppress(OSError, EOFError, zlib.error):
            body = gzip.decompress(body)
    return body


def as_chunks(body: bytes) -> Iterator[bytes]:
    """The body as it is sent with `Transfer-Encoding: chunked`."""
    for at in range(0, len(body), _CHUNK_BYTES):
        piece = body[at : at + _CHUNK_BYTES]
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


def read_cgi_answer(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """What a CGI program wrote: the status, the headers without it, and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    headers = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name:
            headers[name.strip()] = value.strip()
    status = headers.pop("Status", "200 OK" if headers else "500 no answer")
    return int(status.split(" ")[0]), headers, body


def _read_chunks(stream: BufferedIOBase) -> bytes:
    parts, total = [], 0
    while size := int(stream.readline(64).split(b";")[0], 16):
        total += size
        if total > MAX_BODY_BYTES:
            raise ValueError("the request is too large")
        parts.append(stream.read(size))
        stream.readline(64)
    while stream.readline(4096).strip():
        pass
    return b"".join(parts)
