"""Spans: how long a part of the work took, for what, and why it failed. Values; where they go is the tracer's affair.

The names and the model are OpenTelemetry's (https://opentelemetry.io/docs/specs/otel/trace/api/). An attribute is a
name or a number. A failure is a reason of `jiemi.core.reasons` or the type of an exception, never a text: texts of
libraries may quote what they were given.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import attrs

from jiemi.core.errors import JiemiError
from jiemi.core.trace_context import TraceContext, is_within_ratio

MAX_ATTRIBUTE_CHARACTERS = 256
"""The longest text of an attribute; what is longer is cut. A path or a name may be a stranger's choice."""

MAX_LINKS = 8
"""The most links of one span; the others are left out."""


class Kind(enum.Enum):
    """Where a span is, seen from its parent. The values are those of OTLP's SpanKind."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class Tracer:
    """Takes the spans of a process.

    Args:
        ended: called with each span that has ended; must not block nor raise.
        ratio: the part of all traces that is recorded, from 0 to 1.
    """

    def __init__(self, ended: Callable[[Span], None], ratio: float = 1.0) -> None:
        self.ended = ended
        self._ratio = ratio

    def samples(self, trace_id: str) -> bool:
        """Whether a trace is recorded. By its id, so that all processes of the same ratio record the same traces."""
        return is_within_ratio(trace_id, self._ratio)


class AnySpan(Protocol):
    """What may be said of a span while it lasts, recorded or not."""

    def set(self, **attributes: object) -> None:
        """Add attributes, as of `current.span`."""
        ...

    def link(self, context: TraceContext) -> None:
        """Name another trace that is behind this."""
        ...

    def fail(self, reason: str) -> None:
        """It failed, though no exception leaves it."""
        ...


@attrs.define(eq=False)
class Span:
    """One that is recorded.

    Attributes:
        tracer: takes it when it has ended.
        name: of a small number of names.
        context: its own id and its trace.
        parent: the id of the span that it is a part of; None for the first of a trace.
        kind: where it is.
        attributes: names and numbers.
        links: other traces that led to it.
        reason: why it failed; None where it did not.
        began_ns: when it began, in nanoseconds since 1970.
        ended_ns: when it ended, likewise; 0 before that.
    """

    tracer: Tracer
    name: str
    context: TraceContext
    parent: str | None
    kind: Kind
    attributes: dict[str, object]
    links: list[TraceContext] = attrs.field(factory=list)
    reason: str | None = None
    began_ns: int = 0
    ended_ns: int = 0
    _began: int = 0

    def set(self, **attributes: object) -> None:
        self.attributes.update(attributes)

    def link(self, context: TraceContext) -> None:
        if len(self.links) < MAX_LINKS and context.trace_id != self.context.trace_id:
            self.links.append(context)

    def fail(self, reason: str) -> None:
        self.reason = reason

    def __enter__(self) -> Self:
        self.began_ns, self._began = time.time_ns(), time.monotonic_ns()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # By the clock that nobody sets: a span never ends before it began.
        self.ended_ns = self.began_ns + time.monotonic_ns() - self._began
        if isinstance(error, JiemiError):
            self.reason = error.failure.reason
        elif isinstance(error, Exception):
            self.reason = type(error).__name__
        elif error is not None:
            self.attributes["cancelled"] = True
        self.tracer.ended(self)


class _Off:
    """The span of what is not recorded: the same one for all."""

    def set(self, **attributes: object) -> None:
        """Nothing is kept."""

    def link(self, context: TraceContext) -> None:
        """Nothing is kept."""

    def fail(self, reason: str) -> None:
        """Nothing is kept."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Nothing has begun."""


OFF = _Off()
"""Stands for every span that is not recorded."""
