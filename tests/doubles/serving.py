"""HTTP and HTTPS on loopback for the doubles, and a CONNECT proxy in front of host names that they play.

A double says what it answers (`Double.answer`); the server here has the threads, the sockets and the switches that are
the same for all: broken, silent, overloaded, unavailable. Each connection has a thread; all of them, and all sockets,
end with the context `serving()`. What goes wrong in a double itself, rather than on the wire, is raised there.
"""

from __future__ import annotations

import http.server
import json
import socket
import socketserver
import struct
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
from doubles.authority import Authority

LOOPBACK = "127.0.0.1"
# A connection that says nothing for so long is given up, so that no thread can be left over.
_IDLE_SECONDS = 60
_POLL_SECONDS = 0.05


@attrs.frozen
class Request:
    """One request, as it came.

    Attributes:
        host: the host that was asked: of the CONNECT where there was one, else of the Host header, without a port.
        path: still percent-encoded, without the query.
        headers: names in lower case.
    """

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty where it is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def form(self) -> dict[str, str]:
        """The body as an HTML form."""
        return dict(urllib.parse.parse_qsl(self.body.decode("latin-1"), keep_blank_values=True))

    @property
    def bearer(self) -> str | None:
        """The token of an `Authorization: Bearer …`."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else None


@attrs.frozen
class Answer:
    """What is sent back."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(status: int, value: object, *headers: tuple[str, str]) -> Answer:
    return Answer(status, json.dumps(value).encode(), (("Content-Type", "application/json; charset=utf-8"), *headers))


class Double:
    """A service that is played.

    Attributes:
        requests: all that came, in order; those that were answered by a switch too.
        refused_hosts: HOST:PORT of all that a proxy was asked for and refused.
        deny: whoever asks for a key is told that it may not.
        throttle: all requests are told to come later.
        unavailable: all requests get a 503.
        break_connection: connections are reset once a request came.
        silent: requests get no answer until the double ends.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.refused_hosts: list[str] = []
        self.deny = False
        self.throttle = False
        self.unavailable = False
        self.break_connection = False
        self.silent = False

    def answer(self, request: Request) -> Answer:
        """The answer to a request, by the double's own rules."""
        raise NotImplementedError

    def throttle_answer(self, request: Request) -> Answer:
        """How the service says that it is asked too often."""
        raise NotImplementedError

    def unavailable_answer(self, request: Request) -> Answer:
        """How the service says that it is down."""
        raise NotImplementedError

    def plays(self, host: str) -> bool:
        """Whether a proxy leads there rather than refusing."""
        del host
        return False


@contextmanager
def serving(double: Double, *, authority: Authority | None = None, tls: bool = False) -> Iterator[int]:
    """Serves the double; gives the port.

    Args:
        authority: signs certificates for the hosts that CONNECT asks for, if the double plays any.
        tls: speak TLS from the first byte on, as LOOPBACK.
    """
    server = _Server(double, authority, tls)
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name=type(double).__name__)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.ending.set()
        server.shutdown()
        server.close_connections()
        server.server_close()
        thread.join()
    if server.failures:
        raise ExceptionGroup(f"{type(double).__name__} failed", server.failures)


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port that refuses connections, held so that nobody else comes to listen there."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        yield held.getsockname()[1]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, double: Double, authority: Authority | None, tls: bool) -> None:
        self.double = double
        self.authority = authority
        self.tls = tls
        self.ending = threading.Event()
        self.failures: list[Exception] = []
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        super().__init__((LOOPBACK, 0), _Handler)

    def track(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)

    def untrack(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)

    def close_connections(self) -> None:
        """Ends the reads that threads wait in; the threads close the sockets."""
        with self._lock:
            for connection in self._connections:
                try:
                    # Not the method of ssl.SSLSocket, which another thread may be in the middle of.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps what is the double's fault; what is the peer's, or of a broken connection, is part of the play."""
        del request, client_address
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self.failures.append(error)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    # An answer goes out in one piece: the AWS client now and then loses a body that comes after its headers.
    wbufsize = -1
    server: _Server
    connection: socket.socket

    def setup(self) -> None:
        super().setup()
        self.tunnel: str | None = None
        self.server.track(self.connection)

    def handle(self) -> None:
        if self.server.tls:
            self._start_tls(LOOPBACK)
        super().handle()

    def finish(self) -> None:
        self.server.untrack(self.connection)
        try:
            super().finish()
        finally:
            # A wrapped socket is another than the one that the server closes.
            self.connection.close()

    def _start_tls(self, host: str) -> None:
        assert self.server.authority is not None
        context = self.server.authority.server_context(host)
        self.server.untrack(self.connection)
        self.rfile.close()
        self.wfile.close()
        self.connection = context.wrap_socket(self.connection, server_side=True, do_handshake_on_connect=False)
        self.server.track(self.connection)
        self.connection.do_handshake()
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        if self.tunnel is not None or port != "443" or not self.server.double.plays(host):
            self._refuse(self.path)
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.wfile.flush()
        self._start_tls(host)
        self.tunnel = host
        self.close_connection = False

    def _refuse(self, address: str) -> None:
        self.server.double.refused_hosts.append(address)
        self.close_connection = True
        self._send(Answer(403, b"refused by the double\n"))

    def _serve(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if url.netloc and self.tunnel is None:
            self._refuse(f"{url.hostname}:{url.port or 80}")
            return
        double = self.server.double
        request = Request(
            method=self.command,
            host=self.tunnel or urllib.parse.urlsplit(f"//{self.headers.get('Host', '')}").hostname or "",
            path=url.path,
            query=dict(urllib.parse.parse_qsl(url.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
        )
        double.requests.append(request)
        if double.silent:
            self.server.ending.wait()
            self.close_connection = True
        elif double.break_connection:
            self.close_connection = True
            # Closing then sends a reset rather than an end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif double.throttle:
            self._send(double.throttle_answer(request))
        elif double.unavailable:
            self._send(double.unavailable_answer(request))
        else:
            self._send(double.answer(request))

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815 - http.server's names

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed; `Double.requests` has it all."""
