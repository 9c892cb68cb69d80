"""Spans in protobuf are what OpenTelemetry's own classes read, and write in the same bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import SpanFlags
from support.traces.collector import spans_of

from jiemi.core.sensitive import SensitiveText
from jiemi.core.trace_context import TraceContext
from jiemi.otlp.wire import encode_request, encode_span
from jiemi.tracing.spans import Kind, Span, Tracer

TRACER = Tracer(lambda _: None)
CONTEXT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
OTHER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def span(**more: object) -> Span:
    made = Span(TRACER, "head", CONTEXT, "1" * 16, Kind.SERVER, {}, began_ns=1, ended_ns=2)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def read(made: Span) -> WireSpan:
    encoded = encode_span(made)
    found = WireSpan.FromString(encoded)
    assert found.SerializeToString() == encoded
    return found


def test_every_field_is_read_back() -> None:
    found = read(span(links=[OTHER], reason="HostUnreachable", began_ns=1_700_000_000_000_000_000, ended_ns=2**63))
    assert (found.trace_id.hex(), found.span_id.hex()) == (CONTEXT.trace_id, CONTEXT.span_id)
    assert (found.parent_span_id.hex(), found.name, found.kind) == ("1" * 16, "head", WireSpan.SPAN_KIND_SERVER)
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (1_700_000_000_000_000_000, 2**63)
    [link] = found.links
    assert (link.trace_id.hex(), link.span_id.hex()) == (OTHER.trace_id, OTHER.span_id)
    assert (found.status.code, found.status.message) == (found.status.STATUS_CODE_ERROR, "HostUnreachable")
    assert found.flags == SpanFlags.Value("SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK") | (
        SpanFlags.Value("SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK") | 1
    )
    assert [(each.key, each.value.string_value) for each in found.attributes] == [("jiemi.reason", "HostUnreachable")]


def test_the_first_span_of_a_trace_has_no_parent_and_a_good_one_no_status() -> None:
    found = read(span(parent=None, kind=Kind.INTERNAL))
    assert found.parent_span_id == b""
    assert not found.HasField("status")
    assert not found.flags & SpanFlags.Value("SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK")


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20),
        st.text(max_size=300) | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
        max_size=8,
    )
)
def test_any_text_number_and_truth_value_is_an_attribute(values: dict[str, str | float]) -> None:
    found = read(span(attributes=dict(values)))
    for (name, value), each in zip(values.items(), found.attributes, strict=True):
        assert each.key == (name if "." in name else f"jiemi.{name}").encode("utf-8", "replace").decode()
        kind = each.value.WhichOneof("value")
        assert kind is not None
        got = getattr(each.value, kind)
        wanted = value[:256].encode("utf-8", "replace").decode() if isinstance(value, str) else value
        assert (got, type(got)) == (wanted, type(wanted))


def test_what_is_neither_is_left_out() -> None:
    values = {"token": SensitiveText("canary"), "none": None, "list": ["canary"], "bytes": b"canary", "kept": 1}
    found = read(span(attributes=values))
    assert [each.key for each in found.attributes] == ["jiemi.kept"]


def test_a_request_names_the_process_and_has_all_spans() -> None:
    spans = [encode_span(span(name=f"s{number}")) for number in range(300)]
    body = encode_request({"service.name": "jiemi-miwen", "service.version": "1"}, ("jiemi", "1"), spans)
    assert ExportTraceServiceRequest.FromString(body).SerializeToString() == body
    found = spans_of(body)
    assert [each.name for each in found] == [f"s{number}" for number in range(300)]
    assert {each.service for each in found} == {"jiemi-miwen"}
