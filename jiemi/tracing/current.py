"""The trace that a task works for, handed down to the tasks that it starts (context variables), and its spans.

    with new_trace(tracer, "tick", shown={"name": "demo"}):     # Miwen: each tick begins one
        with span("head"):                                      # a part of it
            ...
    with in_trace(read_traceparent(text)):                      # Krapao: each call belongs to its caller's
        ...

Every log line that is written meanwhile has the trace's id (`add_trace`, a processor of structlog), whether traces are
collected or not. Where they are not, or this trace is not among those that are, `span` looks at one context variable,
and makes nothing. A task that outlives what started it is started `in_trace(None)`.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import attrs

from jiemi.core.trace_context import TraceContext
from jiemi.tracing.spans import OFF, AnySpan, Kind, Span, Tracer

_NOTHING: Mapping[str, object] = MappingProxyType({})


@attrs.frozen
class _Scope:
    """What a task works for.

    Attributes:
        context: the trace, with the innermost span.
        shown: what log lines show beside it.
        span: the innermost span; None where nothing is recorded.
    """

    context: TraceContext
    shown: Mapping[str, object] = _NOTHING
    span: Span | None = None


_scope: ContextVar[_Scope | None] = ContextVar("trace", default=None)


def current() -> TraceContext | None:
    """The trace that this task works for, or None."""
    scope = _scope.get()
    return None if scope is None else scope.context


@contextlib.contextmanager
def in_trace(context: TraceContext | None) -> Iterator[None]:
    """While it lasts, this task works for a trace of somebody else's; None: for none."""
    token = _scope.set(None if context is None else _Scope(context))
    try:
        yield
    finally:
        _scope.reset(token)


@contextlib.contextmanager
def new_trace(
    tracer: Tracer | None,
    name: str,
    *,
    shown: Mapping[str, object],
    attributes: Mapping[str, object] = _NOTHING,
    link: TraceContext | None = None,
    parent: TraceContext | None = None,
) -> Iterator[AnySpan]:
    """Begin a trace, or a further part of one whose task has ended, for as long as the context lasts.

    Args:
        tracer: where its spans go; None where no traces are collected.
        name: of its first span.
        shown: fields of every log line meanwhile.
        attributes: of that span.
        link: another trace that led to this one.
        parent: the part of a trace that this one goes on with; None: it is a trace of its own.
    """
    trace_id = _new_id(16) if parent is None else parent.trace_id
    sampled = tracer is not None and tracer.samples(trace_id) and (parent is None or parent.sampled)
    context = TraceContext(trace_id, _new_id(8), sampled)
    if tracer is None or not sampled:
        with _entered(_Scope(context, shown)):
            yield OFF
        return
    above = parent.span_id if parent is not None else None
    first = Span(tracer, name, context, above, Kind.INTERNAL, dict(attributes))
    if link is not None:
        first.link(link)
    with _entered(_Scope(context, shown, first)), first:
        yield first


def span(name: str, *, kind: Kind = Kind.INTERNAL, **attributes: object) -> AbstractContextManager[AnySpan]:
    """A part of what this task does, for as long as the context lasts. Costs nothing where nothing is recorded.

    Args:
        name: of a small number of names.
        attributes: names and numbers, never contents. None is left out.
    """
    scope = _scope.get()
    if scope is None or scope.span is None:
        return OFF
    return _child(scope, scope.span.tracer, name, kind, attributes)


def link(context: TraceContext) -> None:
    """Name another trace that does what this task waits for."""
    scope = _scope.get()
    if scope is not None and scope.span is not None:
        scope.span.link(context)


def span_of_call(tracer: Tracer, name: str, **attributes: object) -> AbstractContextManager[AnySpan]:
    """The part of a trace that a peer's call is; nothing where the peer names no trace that is recorded here too."""
    scope = _scope.get()
    if scope is None or not scope.context.sampled or not tracer.samples(scope.context.trace_id):
        return OFF
    return _child(scope, tracer, name, Kind.SERVER, attributes)


def add_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add to a log line what it was written for. A processor of structlog."""
    scope = _scope.get()
    if scope is not None:
        for name, value in scope.shown.items():
            event.setdefault(name, value)
        event.setdefault("trace_id", scope.context.trace_id)
    return event


@contextlib.contextmanager
def _child(scope: _Scope, tracer: Tracer, name: str, kind: Kind, attributes: Mapping[str, object]) -> Iterator[AnySpan]:
    context = attrs.evolve(scope.context, span_id=_new_id(8))
    made = Span(tracer, name, context, scope.context.span_id, kind, dict(attributes))
    with _entered(attrs.evolve(scope, context=context, span=made)), made:
        yield made


@contextlib.contextmanager
def _entered(scope: _Scope) -> Iterator[None]:
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def _new_id(size: int) -> str:
    """Random, and not all zeros, which stands for none."""
    return secrets.token_hex(size - 1) + f"{1 + secrets.randbelow(255):02x}"
