"""`files`: patterns, and the files that match them."""

from __future__ import annotations

import sys

from jiemi.core.errors import Failure, JiemiError
from jiemi.rpc.codec.failures import read_failure, unknown_result, write_failure
from jiemi.rpc.codec.fields import Builder, Reader, get_optional, get_text, get_texts, member_of, put_text, put_texts
from jiemi.rpc.contract import MAX_FILES, FileEntry, Files, FilesRequest, is_revision

_ENTRY_OVERHEAD_BYTES = 48
"""A file's three pointers, and the padding of three texts to whole words, at most."""


def write_files_request(builder: Builder, request: FilesRequest) -> None:
    put_text(builder, "revision", request.revision)
    put_texts(builder, "patterns", request.patterns)
    put_texts(builder, "exclude", request.exclude)


def read_files_request(reader: Reader) -> FilesRequest:
    """Raises JiemiError LimitExceeded for too many patterns."""
    return FilesRequest(
        revision=get_text(reader, "revision"),
        patterns=get_texts(reader, "patterns"),
        exclude=get_texts(reader, "exclude"),
    )


def files_request_bytes(request: FilesRequest) -> int:
    """About how many bytes of memory the request takes."""
    return sum(map(sys.getsizeof, (*request.patterns, *request.exclude)))


def files_bytes(files: Files) -> int:
    """About how many bytes the message for it takes."""
    return sum(
        len(each.path.encode("utf-8", "replace")) + len(each.blob) + len(each.config or "") + _ENTRY_OVERHEAD_BYTES
        for each in files.entries
    )


def write_files_result(builder: Builder, result: Files | Failure, receipt: object = None) -> None:
    """Write it; `receipt` as for `render.write_render_result`."""
    if isinstance(result, Failure):
        write_failure(builder.init("failure"), result)
        return
    files = builder.init("files")
    put_text(files, "revision", result.revision)
    files.direct = result.direct
    entries = files.init("entries", len(result.entries))
    for entry, each in zip(entries, result.entries, strict=True):
        put_text(entry, "path", each.path)
        put_text(entry, "blob", each.blob)
        put_text(entry, "config", each.config)
    if receipt is not None:
        files.receipt = receipt


def read_files_result(reader: Reader) -> Files:
    """Raises the JiemiError that the result holds."""
    match member_of(reader):
        case "files":
            files = reader.files
            entries = files.entries
            if len(entries) > MAX_FILES:
                raise JiemiError("LimitExceeded", f"Krapao gave more than {MAX_FILES} files")
            found = tuple(_read_entry(each) for each in entries)
            return Files(get_text(files, "revision"), found, bool(files.direct))
        case "failure":
            raise JiemiError.of(read_failure(reader.failure))
    raise unknown_result()


def _read_entry(reader: Reader) -> FileEntry:
    blob, config = get_text(reader, "blob"), get_optional(reader, "config")
    if not is_revision(blob) or (config is not None and not is_revision(config)):
        raise JiemiError("InternalError", "Krapao answered with a file's hash that is none")
    return FileEntry(get_text(reader, "path"), blob, config)
