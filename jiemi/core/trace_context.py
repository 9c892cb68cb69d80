"""Which trace a piece of work belongs to, as it travels between processes: W3C Trace Context.

The trace id is also the correlation id of the logs: it is in every line that is written for the work, whether anybody
collects traces or not. What comes from another process is a stranger's input, so it is taken only in the exact form.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re

import attrs

MAX_TRACEPARENT_CHARACTERS = 128
"""The most that is looked at. Version 00 has 55 characters; a later one may add some."""

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@attrs.frozen
class TraceContext:
    """A trace, and the span in it that comes next above.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits, not all 0.
        span_id: 16 of them, likewise.
        sampled: whether spans of the trace are recorded.
    """

    trace_id: str
    span_id: str
    sampled: bool = False

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02x}"


def read_traceparent(text: str) -> TraceContext | None:
    """The context that a traceparent stands for; None for what is none."""
    if len(text) > MAX_TRACEPARENT_CHARACTERS:
        return None
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "00" and rest is not None:
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def is_within_ratio(trace_id: str, ratio: float) -> bool:
    """Whether a trace is among those that are recorded: every process with the same ratio decides alike.

    Args:
        ratio: the part of all traces that is recorded, from 0 to 1.
    """
    return int(trace_id[16:], 16) < ratio * 2**64
