"""A collector's double: OTLP over HTTP on loopback, decoded with OpenTelemetry's own classes."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

_SERVER, _CLIENT = WireSpan.SPAN_KIND_SERVER, WireSpan.SPAN_KIND_CLIENT


@attrs.frozen
class Seen:
    """A span as it came.

    Attributes:
        service: of which process.
        attributes: of the span alone.
        reason: what the status says of a failure; "" for none.
        links: the trace ids of its links.
    """

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    kind: int
    attributes: Mapping[str, Any]
    reason: str
    links: tuple[str, ...]
    began_ns: int
    ended_ns: int


def spans_of(body: bytes) -> list[Seen]:
    """The spans of a request, which must be one."""
    request = ExportTraceServiceRequest.FromString(body)
    assert request.SerializeToString() == body, (
        "it is as the classes would write it, with nothing that they do not know"
    )
    found = []
    for resource_spans in request.resource_spans:
        resource = _values(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            assert scope_spans.scope.name == "jiemi"
            found += [_seen(str(resource["service.name"]), each) for each in scope_spans.spans]
    return found


def is_whole(spans: Sequence[Seen]) -> bool:
    """Whether all spans of a trace have come: the parent of each, and of each call the span of who answered it, which
    comes after all that it has in it."""
    ids, answered = {each.span_id for each in spans}, {each.parent for each in spans if each.kind == _SERVER}
    calls = {each.span_id for each in spans if each.kind == _CLIENT}
    return all(each.parent in ids for each in spans if each.parent) and bool(calls) and calls <= answered


def paths(spans: Sequence[Seen]) -> set[str]:
    """Each span with those around it, each with its service: `miwen:tick miwen:head`."""
    by_id = {each.span_id: each for each in spans}

    def path(each: Seen) -> str:
        name = f"{each.service.removeprefix('jiemi-')}:{each.name}"
        return name if not each.parent else f"{path(by_id[each.parent])} {name}"

    return {path(each) for each in spans}


def _seen(service: str, span: WireSpan) -> Seen:
    assert (len(span.trace_id), len(span.span_id), len(span.parent_span_id)) in ((16, 8, 8), (16, 8, 0))
    return Seen(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        _values(span.attributes),
        span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else "",
        tuple(each.trace_id.hex() for each in span.links),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


class Collector:
    """What came.

    Attributes:
        url: for --traces-endpoint.
        bodies: of all requests, in their order.
        requests: method, path and headers of each.
        answer: takes a request's handler and answers it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: list[bytes] = []
        self.requests: list[tuple[str, str, Mapping[str, str]]] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = answer_well
        self.ending = threading.Event()

    @property
    def spans(self) -> list[Seen]:
        return [span for body in list(self.bodies) for span in spans_of(body)]

    def traces(self) -> Mapping[str, list[Seen]]:
        """The spans by the ids of their traces."""
        found: defaultdict[str, list[Seen]] = defaultdict(list)
        for span in self.spans:
            found[span.trace_id].append(span)
        return found


def answer_well(handler: BaseHTTPRequestHandler) -> None:
    answer_with(200)(handler)


def answer_with(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = ExportTraceServiceResponse().SerializeToString()
        handler.send_response(status)
        usual = {"Content-Type": "application/x-protobuf", "Content-Length": str(len(body))}
        for name, value in {**usual, **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def answer_bytes(data: bytes, *, again_seconds: float | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    """Send these, once or again and again until the client goes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(data)
            while again_seconds is not None:
                time.sleep(again_seconds)
                handler.wfile.write(data)

    return answer


@contextlib.contextmanager
def collector(tls: Path | None = None, *, host: str = "127.0.0.1") -> Iterator[Collector]:
    """A collector, for as long as the context lasts.

    Args:
        host: the address that it listens on.
        tls: a folder with tls.crt and tls.key, for localhost or another `host`; None for http.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            it.requests.append((self.command, self.path, dict(self.headers)))
            it.bodies.append(body)
            it.answer(self)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Not in the output of the tests."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that is gone is a part of the tests."""

    with Server((host, 0), Handler) as server:
        it = Collector(f"http://{host}:{server.server_address[1]}")
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            name = "localhost" if host == "127.0.0.1" else host
            it.url = f"https://{name}:{server.server_address[1]}"
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
        thread.start()
        try:
            yield it
        finally:
            it.ending.set()
            server.shutdown()
            thread.join()


def hang(it: Collector) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer nothing until the collector ends."""

    def answer(_: BaseHTTPRequestHandler) -> None:
        it.ending.wait(60)

    return answer
