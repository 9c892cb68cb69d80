"""Bodies that the demo's git server reads and sends, and what it reads of git's answers."""

from __future__ import annotations

import gzip
import io
from email.message import Message

import pytest

from jiemi.demo.http_messages import MAX_BODY_BYTES, as_chunks, read_body, read_cgi_answer


def headers(**values: str) -> Message:
    message = Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 10_000])
def test_a_body_in_chunks_is_read_as_it_was(size: int) -> None:
    body = bytes(each % 251 for each in range(size))
    stream = io.BytesIO(b"".join(as_chunks(body)) + b"next")
    assert read_body(headers(Transfer_Encoding="chunked"), stream) == body
    assert stream.read() == b"next"


def test_a_body_is_as_long_as_its_headers_say() -> None:
    assert read_body(headers(Content_Length="3"), io.BytesIO(b"abcdef")) == b"abc"
    assert read_body(headers(), io.BytesIO(b"abcdef")) == b""


def test_a_packed_body_is_unpacked() -> None:
    packed = gzip.compress(b"want")
    assert read_body(headers(Content_Length=str(len(packed)), Content_Encoding="gzip"), io.BytesIO(packed)) == b"want"


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ({"Content_Length": str(MAX_BODY_BYTES + 1)}, b""),
        ({"Transfer_Encoding": "chunked"}, f"{MAX_BODY_BYTES + 1:x}\r\n".encode()),
    ],
)
def test_a_body_that_is_too_large_is_refused_before_it_is_read(given: dict[str, str], start: bytes) -> None:
    stream = io.BytesIO(start + b"x" * 100)
    with pytest.raises(ValueError, match="too large"):
        read_body(headers(**given), stream)
    assert stream.read() == b"x" * 100


def test_a_cgi_answer_has_a_status_headers_and_a_body() -> None:
    answer = b"Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno\r\n\r\nsuch"
    assert read_cgi_answer(answer) == (404, {"Content-Type": "text/plain"}, b"no\r\n\r\nsuch")
    assert read_cgi_answer(b"Content-Type: text/plain\r\n\r\n") == (200, {"Content-Type": "text/plain"}, b"")


def test_a_program_that_wrote_nothing_is_an_error_of_the_server() -> None:
    assert read_cgi_answer(b"") == (500, {}, b"")
