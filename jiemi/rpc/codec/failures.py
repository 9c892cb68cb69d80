"""Failures in messages, and answers that hold one in place of a value."""

from __future__ import annotations

import re

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.reasons import REASONS
from jiemi.rpc.codec.fields import Builder, Reader, get_text

_REASON = re.compile(r"[A-Z][A-Za-z]{0,63}")


def write_failure(builder: Builder, failure: Failure) -> None:
    # A message may quote a path, and a path in git is any bytes: no lone surrogate may keep a failure from its reader.
    builder.reason = failure.reason
    builder.message = failure.message.encode("utf-8", "replace").decode()
    builder.remedy = failure.own_remedy.encode("utf-8", "replace").decode()
    builder.path = failure.path.encode("utf-8", "replace").decode()
    builder.retry = failure.kind.value


def read_failure(reader: Reader) -> Failure:
    """The failure. A reason that is not known here becomes InternalError, which is tried again, with its name kept."""
    reason, message, remedy, path = (get_text(reader, name) for name in ("reason", "message", "remedy", "path"))
    if reason in REASONS:
        return Failure(reason, message, remedy, path)
    name = reason if _REASON.fullmatch(reason) else "a reason without a name"
    return Failure(
        "InternalError",
        f"Krapao reported {name}, which this Miwen does not know: {message}",
        remedy or "Bring Miwen to the release of Krapao.",
    )


def unknown_result() -> JiemiError:
    """The error for a result whose member is not known here."""
    return JiemiError("InternalError", "Krapao answered in a way that this Miwen does not know; upgrade Miwen")
