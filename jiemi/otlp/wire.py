"""Spans as OTLP has them, in protobuf's wire format. Written by hand: it is one message, and is never read.

Why not by OpenTelemetry's own packages, of which release 1.45 was tried: importing and starting them reads a dozen
`OTEL_…` variables whatever arguments they get (`OTEL_PYTHON_CONTEXT` even names code to load, and the exporter adds
headers and client keys that variables name); their exporter has a thread that waits for a slow endpoint in its own
time; and they would add 9 MB to an image, and protobuf to Miwen's, which has none. The tests read what is written here
with the real classes (opentelemetry-proto).

https://github.com/open-telemetry/opentelemetry-proto/blob/v1.9.0/opentelemetry/proto/trace/v1/trace.proto
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping

from jiemi.core.trace_context import TraceContext
from jiemi.tracing.spans import MAX_ATTRIBUTE_CHARACTERS, Kind, Span

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ERROR = 2
"""StatusCode."""

_HAS_REMOTE, _IS_REMOTE, _SAMPLED = 0x100, 0x200, 0x01
"""SpanFlags."""


def encode_span(span: Span) -> bytes:
    """A message Span. A value that is no text, number or truth value is left out."""
    parts = [
        _bytes(1, bytes.fromhex(span.context.trace_id)),
        _bytes(2, bytes.fromhex(span.context.span_id)),
        _bytes(4, bytes.fromhex(span.parent)) if span.parent is not None else b"",
        _text(5, span.name),
        _number(6, span.kind.value),
        _fixed64(7, span.began_ns),
        _fixed64(8, span.ended_ns),
        *(_bytes(9, each) for each in _attributes(span)),
        *(_bytes(13, _link(each)) for each in span.links),
    ]
    if span.reason is not None:
        parts.append(_bytes(15, _text(2, span.reason) + _number(3, _ERROR)))
    parts.append(_fixed32(16, _SAMPLED | _HAS_REMOTE | (_IS_REMOTE if span.kind is Kind.SERVER else 0)))
    return b"".join(parts)


def encode_request(resource: Mapping[str, str], scope: tuple[str, str], spans: Iterable[bytes]) -> bytes:
    """A message ExportTraceServiceRequest.

    Args:
        resource: attributes of the process.
        scope: the name and the version of what makes the spans.
        spans: as `encode_span` gives them.
    """
    name, version = scope
    described = b"".join(_bytes(1, _attribute(key, value)) for key, value in resource.items())
    scope_spans = _bytes(1, _text(1, name) + _text(2, version)) + b"".join(_bytes(2, each) for each in spans)
    return _bytes(1, _bytes(1, described) + _bytes(2, scope_spans))


def _attributes(span: Span) -> Iterator[bytes]:
    for name, value in span.attributes.items():
        if isinstance(value, (str, int, float)):
            yield _attribute(name if "." in name else f"jiemi.{name}", value)
    if span.reason is not None:
        yield _attribute("jiemi.reason", span.reason)


def _attribute(key: str, value: str | float) -> bytes:
    if isinstance(value, str):
        encoded = _text(1, value[:MAX_ATTRIBUTE_CHARACTERS])
    elif isinstance(value, bool):
        encoded = _number(2, int(value))
    elif isinstance(value, int):
        encoded = _number(3, value)
    else:
        encoded = _tag(4, _FIXED64) + struct.pack("<d", value)
    return _text(1, key) + _bytes(2, encoded)


def _link(context: TraceContext) -> bytes:
    return b"".join(
        (
            _bytes(1, bytes.fromhex(context.trace_id)),
            _bytes(2, bytes.fromhex(context.span_id)),
            _fixed32(6, _HAS_REMOTE | _IS_REMOTE | (_SAMPLED if context.sampled else 0)),
        )
    )


def _tag(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(value: int) -> bytes:
    value &= 2**64 - 1  # a negative number has ten bytes
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _number(field: int, value: int) -> bytes:
    return _tag(field, _VARINT) + _varint(value)


def _fixed64(field: int, value: int) -> bytes:
    return _tag(field, _FIXED64) + struct.pack("<Q", value)


def _fixed32(field: int, value: int) -> bytes:
    return _tag(field, _FIXED32) + struct.pack("<I", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _tag(field, _BYTES) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode("utf-8", "replace"))
