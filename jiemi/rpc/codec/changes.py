"""`changes`: two revisions, and where they differ."""

from __future__ import annotations

from jiemi.core.errors import Failure, JiemiError
from jiemi.rpc.codec.failures import read_failure, unknown_result, write_failure
from jiemi.rpc.codec.fields import Builder, Reader, get_text, get_texts, member_of, put_text, put_texts
from jiemi.rpc.contract import Changes, is_revision

_TEXT_OVERHEAD_BYTES = 16
"""A text's pointer, and its padding to whole words, at most."""


def write_changes_request(builder: Builder, before: str, after: str) -> None:
    put_text(builder, "before", before)
    put_text(builder, "after", after)


def read_changes_request(reader: Reader) -> tuple[str, str]:
    """The two revisions.

    Raises:
        JiemiError: RevisionNotFound for what is no full commit hash.
    """
    before, after = get_text(reader, "before"), get_text(reader, "after")
    if not (is_revision(before) and is_revision(after)):
        raise JiemiError("RevisionNotFound", "a revision is no full commit hash")
    return before, after


def changes_bytes(changes: Changes) -> int:
    """About how many bytes the message for it takes."""
    return sum(
        len(each.encode("utf-8", "replace")) + _TEXT_OVERHEAD_BYTES for each in (*changes.paths, *changes.folders)
    )


def write_changes_result(builder: Builder, result: Changes | Failure, receipt: object = None) -> None:
    """Write it; `receipt` as for `render.write_render_result`."""
    if isinstance(result, Failure):
        write_failure(builder.init("failure"), result)
        return
    changes = builder.init("changes")
    put_texts(changes, "paths", result.paths)
    put_texts(changes, "folders", result.folders)
    if receipt is not None:
        changes.receipt = receipt


def read_changes_result(reader: Reader) -> Changes:
    """Raises the JiemiError that the result holds; InternalError for a folder that is none."""
    match member_of(reader):
        case "changes":
            changes = Changes(get_texts(reader.changes, "paths"), get_texts(reader.changes, "folders"))
            if any(folder and not folder.endswith("/") for folder in changes.folders):
                raise JiemiError("InternalError", "Krapao answered with a folder that is none")
            return changes
        case "failure":
            raise JiemiError.of(read_failure(reader.failure))
    raise unknown_result()
