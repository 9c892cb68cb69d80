"""Patterns and files come out of a message as they went in."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from rpc.codec.messages import FILES, FILES_REQUESTS, SCHEMA, through

from jiemi.core.errors import JiemiError
from jiemi.rpc import codec
from jiemi.rpc.contract import FileEntry, Files, FilesRequest


@given(FILES_REQUESTS)
def test_a_request_for_files_comes_back(request: FilesRequest) -> None:
    back = through("FilesRequest", lambda b: codec.write_files_request(b, request), codec.read_files_request)
    assert back == request
    assert codec.files_request_bytes(request) >= sum(map(len, request.patterns + request.exclude))


@given(FILES)
def test_files_come_back_and_take_no_more_room_than_is_counted(files: Files) -> None:
    back = through("FilesResult", lambda b: codec.write_files_result(b, files), codec.read_files_result)
    assert back == files
    empty = SCHEMA.FilesResult.new_message()
    codec.write_files_result(empty, attrs.evolve(files, entries=()))
    full = SCHEMA.FilesResult.new_message()
    codec.write_files_result(full, files)
    assert (full.total_size.word_count - empty.total_size.word_count) * 8 <= codec.files_bytes(files) + 8


@pytest.mark.parametrize(("blob", "config"), [("", None), ("a" * 40, ""), ("A" * 40, None), ("a" * 41, None)])
def test_a_hash_of_a_file_that_is_none_is_refused(blob: str, config: str | None) -> None:
    files = Files("a" * 40, (FileEntry("x", blob, config),))
    with pytest.raises(JiemiError, match="InternalError: Krapao answered with a file's hash that is none"):
        through("FilesResult", lambda b: codec.write_files_result(b, files), codec.read_files_result)
