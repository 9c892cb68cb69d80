"""`head`: how old an answer may be, and the revision."""

from __future__ import annotations

import math

from jiemi.core.errors import Failure, JiemiError
from jiemi.rpc.codec.failures import read_failure, unknown_result, write_failure
from jiemi.rpc.codec.fields import Builder, Reader, get_optional, get_text, member_of, put_text
from jiemi.rpc.contract import Head, is_revision


def write_max_age(builder: Builder, max_age_seconds: float) -> None:
    builder.maxAgeSeconds = float(max_age_seconds)


def read_max_age(reader: Reader) -> float:
    """Raises JiemiError InvalidSpec for a negative number or NaN."""
    seconds = float(reader.maxAgeSeconds)
    if math.isnan(seconds) or seconds < 0:
        raise JiemiError("InvalidSpec", "maxAgeSeconds must be zero or more")
    return seconds


def write_head(builder: Builder, head: Head) -> None:
    put_text(builder, "revision", head.revision)
    put_text(builder, "ref", head.ref)


def read_head(reader: Reader) -> Head:
    """Raises JiemiError InternalError for what is no full commit hash."""
    revision = get_text(reader, "revision")
    if not is_revision(revision):
        raise JiemiError("InternalError", "Krapao answered with a revision that is no full commit hash")
    return Head(revision, get_optional(reader, "ref"))


def write_head_result(builder: Builder, result: Head | Failure) -> None:
    if isinstance(result, Failure):
        write_failure(builder.init("failure"), result)
    else:
        write_head(builder.init("head"), result)


def read_head_result(reader: Reader) -> Head:
    """Raises the JiemiError that the result holds."""
    match member_of(reader):
        case "head":
            return read_head(reader.head)
        case "failure":
            raise JiemiError.of(read_failure(reader.failure))
    raise unknown_result()
