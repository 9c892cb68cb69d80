"""A smart-HTTP git server on loopback, for the demo and the tests: fetch and push, over bare repositories in one
folder.

It is Python's own threading HTTP server with `git http-backend` behind it as a CGI program (RFC 3875,
git-http-backend(1)). One thread accepts; each connection has a thread of its own. Leaving the context shuts down
every connection that is open, so those threads end, and waits for them.

Each request is kept in `hits`, with what it asks of git, so that a test can count clones and fetches:
protocol version 2 sends both its listing and its fetch as a POST to the same address (gitprotocol-v2(5)). A `fault`
stands in for the answer to the requests that it matches. Nothing is written to a log; credentials are compared and
forgotten.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import hmac
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import trio

from jiemi.core.sensitive import SensitiveText
from jiemi.demo.http_messages import MAX_BODY_BYTES, as_chunks, read_body, read_cgi_answer


class Asked(enum.Enum):
    """What a request asks of git."""

    REFS = "info/refs"
    """The first request of every conversation, for the capabilities and, before protocol version 2, the refs."""
    LS_REFS = "ls-refs"
    FETCH = "fetch"
    PUSH = "push"
    OTHER = "other"


class Framing(enum.Enum):
    """How an answer's body ends (RFC 9112, section 6)."""

    LENGTH = "Content-Length"
    CHUNKED = "chunked"
    CLOSE = "the connection's end"


@attrs.frozen
class Hit:
    """One request that was answered (or not, by a fault).

    Attributes:
        path: of the request, without the query.
        service: `git-upload-pack`, `git-receive-pack` or the empty text.
        status: the HTTP status that was sent; 0 where none was.
    """

    method: str
    path: str
    service: str
    asked: Asked
    status: int


@attrs.frozen
class Fault:
    """What happens in place of the answer.

    Attributes:
        status: HTTP status of an answer that is not git's.
        location: Location header of an answer with a 3xx status.
        hang: whether there is no answer at all; the connection stays open until the client or the server ends it.
        cut_after_bytes: number of bytes of the true answer's body after which the connection ends.
        body: bytes that are answered in place of git's: with `status`, or else with 200 and git's content type.
        asked: requests that the fault is for; None is all.
    """

    status: int | None = None
    location: str | None = None
    hang: bool = False
    cut_after_bytes: int | None = None
    body: bytes | None = None
    asked: frozenset[Asked] | None = None


Intercept = Callable[[str, str, dict[str, str], bytes], tuple[int, dict[str, str], bytes] | None]
"""Called with a request's method, path with query, headers and body; gives an answer's status, headers and body."""


@attrs.define
class GitServer:
    """A server that runs. Its attributes may be changed at any time by any thread.

    Attributes:
        root: folder of the bare repositories.
        url: URL of the server, without a slash at its end.
        fault: fault of all answers from now on, or None.
        framing: framing of all answers from now on.
        on_asked: called in the connection's thread before each request is answered, or None.
        intercept: may answer a request in place of git, or None.
    """

    root: Path
    url: str
    git: str
    fault: Fault | None = None
    framing: Framing = Framing.LENGTH
    on_asked: Callable[[Asked], None] | None = None
    intercept: Intercept | None = None
    _hits: list[Hit] = attrs.field(factory=list)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    @property
    def hits(self) -> list[Hit]:
        """The requests so far, oldest first."""
        with self._lock:
            return list(self._hits)

    def count(self, asked: Asked) -> int:
        """How many requests asked that."""
        return sum(hit.asked is asked for hit in self.hits)

    def forget_hits(self) -> None:
        with self._lock:
            self._hits.clear()

    def create(self, name: str, *, default_branch: str = "main") -> str:
        """Make an empty bare repository; returns its URL.

        Raises:
            subprocess.CalledProcessError: git refused.
        """
        path = self.root / name
        run = [self.git, "init", "--quiet", "--bare", f"--initial-branch={default_branch}", str(path)]
        subprocess.run(run, check=True, env=git_environment(self.git, self.root), capture_output=True)
        return self.url_of(name)

    def url_of(self, name: str) -> str:
        return f"{self.url}/{name}"

    def _add(self, hit: Hit) -> None:
        with self._lock:
            self._hits.append(hit)


def git_environment(git: str, home: Path) -> dict[str, str]:
    """An environment in which git reads only the repository's configuration and asks nobody anything."""
    return {
        "PATH": f"{Path(git).parent}:/usr/bin:/bin",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config-of-nobody"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "LC_ALL": "C",
    }


@contextlib.asynccontextmanager
async def serve_git(
    root: Path,
    *,
    username: str | None = None,
    token: SensitiveText | None = None,
    bearer: SensitiveText | None = None,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[GitServer]:
    """Serve the bare repositories under `root` for as long as the context lasts.

    Args:
        root: folder that exists.
        username: name that every request must give with `token` by basic authentication; None asks for nothing.
        bearer: token that every request must give as `Authorization: Bearer`, in place of these.
        tls: how https is served, and which client certificates it asks for; None serves http.
        host: address of this machine.

    Raises:
        FileNotFoundError: there is no git program.
        OSError: there is no such address.
    """
    program = shutil.which("git")
    if program is None:
        raise FileNotFoundError("no git program on the PATH")
    expected = None
    if token is not None:
        expected = b"Basic " + base64.b64encode(f"{username or ''}:{token.reveal()}".encode())
    if bearer is not None:
        expected = b"Bearer " + bearer.reveal().encode()
    httpd = _Server((host, 0), _Handler)
    httpd.expected_authorization = expected
    if tls is not None:
        # The handshake is made by the connection's own thread, as it reads the first request.
        httpd.socket = tls.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if tls is None else "https"
    httpd.git_server = GitServer(root, f"{scheme}://{host}:{httpd.server_address[1]}", program)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, name="git-server")
    thread.start()
    try:
        yield httpd.git_server
    finally:
        with trio.CancelScope(shield=True):  # bounded: shutting the connections down ends every thread's wait
            await trio.to_thread.run_sync(httpd.stop, limiter=trio.CapacityLimiter(1))
            await trio.to_thread.run_sync(thread.join, limiter=trio.CapacityLimiter(1))


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128
    git_server: GitServer
    expected_authorization: bytes | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._open_lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients may go away, and the handler's own faults show as missing hits."""

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        with self._open_lock:
            for request in self._open:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)
            for process in self._running:
                process.kill()
        self.server_close()

    def run(self, argv: list[str], env: dict[str, str], body: bytes) -> bytes:
        """Run the program and return what it answers. It ends with the server."""
        with subprocess.Popen(
            argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            with self._open_lock:
                self._running.add(process)
            try:
                if self.stopping.is_set():
                    process.kill()
                return process.communicate(body)[0]
            finally:
                with self._open_lock:
                    self._running.discard(process)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_GET  # noqa: N815 - http.server's naming

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a log would hold what the client sent."""

    def _answer(self) -> None:
        server = self.server.git_server
        address = urlsplit(self.path)
        body = read_body(self.headers, self.rfile)
        asked, service = _what_is_asked(self.command, address.path, address.query, body)
        if server.on_asked is not None:
            server.on_asked(asked)
        status, headers, answer, cut = 0, dict[str, str](), b"", None
        try:
            fault = server.fault
            if fault is not None and fault.asked is not None and asked not in fault.asked:
                fault = None
            if fault is not None and fault.hang:
                self.close_connection = True
                self._wait_for_the_end()
                return
            if not self._authorized():
                kind = (self.server.expected_authorization or b"").partition(b" ")[0].decode()
                status, headers = HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": f'{kind} realm="git"'}
            elif (answered := self._intercepted(body)) is not None:
                status, headers, answer = answered
            elif fault is not None and fault.status is not None:
                status, answer = fault.status, fault.body or b""
                headers = {"Location": fault.location} if fault.location is not None else {}
            else:
                status, headers, answer = self._run_git(address.path, address.query, body)
                if fault is not None and fault.body is not None:
                    status, answer = HTTPStatus.OK, fault.body
                cut = fault.cut_after_bytes if fault is not None else None
        finally:
            # Before the answer is sent, so that a client that has it finds the request among the hits.
            server._add(Hit(self.command, address.path, service, asked, int(status)))
        self._send(status, headers, answer, cut=cut)

    def _intercepted(self, body: bytes) -> tuple[int, dict[str, str], bytes] | None:
        intercept = self.server.git_server.intercept
        return intercept(self.command, self.path, dict(self.headers.items()), body) if intercept is not None else None

    def _authorized(self) -> bool:
        expected = self.server.expected_authorization
        if expected is None:
            return True
        return hmac.compare_digest(self.headers.get("Authorization", "").encode(), expected)

    def _wait_for_the_end(self) -> None:
        """Wait until the client goes or the server stops. What else the client sends is thrown away."""
        self.connection.settimeout(0.05)
        while not self.server.stopping.is_set():
            try:
                if self.connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def _run_git(self, path: str, query: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        server = self.server.git_server
        env = git_environment(server.git, server.root) | {
            "GIT_PROJECT_ROOT": str(server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_HTTP_MAX_REQUEST_BUFFER": str(MAX_BODY_BYTES),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": "git",  # git-http-backend(1): with a user, receive-pack is on
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        # uploadpack.*: the big hosts allow this too; a revision that a force push left behind can still be asked for.
        options = ["-c", "http.receivepack=true", "-c", "uploadpack.allowFilter=true", "-c", "safe.directory=*"]
        return read_cgi_answer(self.server.run([server.git, *options, "http-backend"], env, body))

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, cut: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        framing = self.server.git_server.framing if cut is None else Framing.LENGTH
        if framing is Framing.LENGTH:
            self.send_header("Content-Length", str(len(body)))
        elif framing is Framing.CHUNKED:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if cut is not None:
            body = body[:cut]
            self.close_connection = True
        if framing is Framing.CHUNKED:
            for piece in as_chunks(body):
                self.wfile.write(piece)
        else:
            self.wfile.write(body)


def _what_is_asked(method: str, path: str, query: str, body: bytes) -> tuple[Asked, str]:
    if path.endswith("/info/refs"):
        return Asked.REFS, (parse_qs(query).get("service") or [""])[0]
    if method == "POST" and path.endswith("/git-receive-pack"):
        return Asked.PUSH, "git-receive-pack"
    if method == "POST" and path.endswith("/git-upload-pack"):
        return (Asked.LS_REFS if b"command=ls-refs" in body[:64] else Asked.FETCH), "git-upload-pack"
    return Asked.OTHER, ""
