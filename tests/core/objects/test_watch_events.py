"""A watch's bytes become events, however they are cut, and garbage becomes one clear error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.objects.watch_events import (
    Bookmark,
    Change,
    ChangeType,
    Expired,
    LineSplitter,
    MalformedWatch,
    WatchFailed,
    parse_event,
)

OBJECT = {"metadata": {"name": "a", "resourceVersion": "12"}}


def _line(kind: str, obj: Any) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode()


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (_line("ADDED", OBJECT), Change(ChangeType.ADDED, OBJECT, "12")),
        (_line("MODIFIED", OBJECT), Change(ChangeType.MODIFIED, OBJECT, "12")),
        (_line("DELETED", OBJECT), Change(ChangeType.DELETED, OBJECT, "12")),
        (_line("BOOKMARK", {"metadata": {"resourceVersion": "99"}}), Bookmark("99")),
        (_line("ERROR", {"kind": "Status", "code": 410}), Expired()),
        (_line("ERROR", {"kind": "Status", "code": 500}), WatchFailed(500)),
        (_line("ERROR", {"kind": "Status"}), WatchFailed(0)),
    ],
)
def test_each_type_of_event_is_read(line: bytes, event: object) -> None:
    assert parse_event(line) == event


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        b"[]",
        b"{}",
        b"[" * 100_000,
        _line("ADDED", {}),
        _line("ADDED", {"metadata": {"resourceVersion": ""}}),
        _line("SURPRISE", OBJECT),
        b'{"type": ["ADDED"], "object": {"metadata": {"resourceVersion": "1"}}}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_event_is_malformed(line: bytes) -> None:
    with pytest.raises(MalformedWatch):
        parse_event(line)


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.data())
def test_lines_come_out_whole_however_the_stream_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter()
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += splitter.feed(stream[:size])
        stream = stream[size:]
    assert found == [line.strip() for line in lines if line.strip()]


def test_a_line_without_end_is_refused_at_its_limit() -> None:
    splitter = LineSplitter(max_line_bytes=10)
    assert list(splitter.feed(b"0123456789")) == []
    with pytest.raises(MalformedWatch, match="longer than 10 bytes"):
        list(splitter.feed(b"0"))


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_in_another_way(line: bytes) -> None:
    try:
        parse_event(line)
    except MalformedWatch:
        return
