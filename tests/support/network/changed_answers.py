"""A reverse proxy in front of a git server that changes its answers, as hosts and what is before them really do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import urllib3

from jiemi.concurrency.http import close_pool
from jiemi.demo.git_server import GitServer


@attrs.frozen
class Answer:
    """An answer.

    Attributes:
        endless: sent behind the body again and again, until the other end is gone; nothing where it is empty.
        pause_seconds: between two of them.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    endless: bytes = b""
    pause_seconds: float = 0


Change = Callable[[str, Answer], Answer]


@contextlib.contextmanager
def between(
    git_server: GitServer, change: Change, *, forgets: frozenset[str] = frozenset(), host: str = "127.0.0.1"
) -> Iterator[str]:
    """A reverse proxy in front of the git server that changes its answers; gives its address.

    Args:
        forgets: names of headers, in lower case, that it does not pass on.
        host: its own address.
    """

    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if self.command == "POST" else None
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = b"".join(iter(self._chunk, b""))
            passed = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in {"host", "content-length", "transfer-encoding", "connection", *forgets}
            }
            true = pool.request(self.command, git_server.url + self.path, headers=passed, body=body, redirect=False)
            kind = {"Content-Type": true.headers.get("Content-Type", "")}
            answer = change(self.path, Answer(true.status, kind, true.data))
            self.send_response(answer.status)
            length = {"Connection": "close"} if answer.endless else {"Content-Length": str(len(answer.body))}
            for name, value in {**length, **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(answer.body)
                while answer.endless and not stop.wait(answer.pause_seconds):
                    self.wfile.write(answer.endless)

        do_POST = do_GET  # noqa: N815 - http.server's naming

        def _chunk(self) -> bytes:
            data = self.rfile.read(int(self.rfile.readline(), 16))
            self.rfile.readline()
            return data

        def log_message(self, format: str, *args: Any) -> None:
            pass

    pool = urllib3.PoolManager()
    with contextlib.ExitStack() as stack, ThreadingHTTPServer((host, 0), Handler) as server:
        stack.callback(close_pool, pool)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            stop.set()
            server.shutdown()
            thread.join()
