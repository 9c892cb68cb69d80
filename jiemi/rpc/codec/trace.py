"""Which trace a call belongs to: the same field of each call that has one.

It is the caller's help for readers of logs, and no part of what is asked. So nothing that is wrong with it is an error:
it counts as not given.
"""

from __future__ import annotations

from jiemi.core.errors import JiemiError
from jiemi.core.trace_context import TraceContext, read_traceparent
from jiemi.rpc.codec.fields import Builder, Reader, get_optional, put_text


def write_trace(builder: Builder, context: TraceContext | None) -> None:
    put_text(builder, "traceparent", None if context is None else context.traceparent)


def read_trace(reader: Reader) -> TraceContext | None:
    """None where the peer, perhaps an older one, names none, or what is none."""
    try:
        text = get_optional(reader, "traceparent")
    except JiemiError:
        return None
    return None if text is None else read_traceparent(text)
