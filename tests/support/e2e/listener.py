"""A stranger's server: it asks each client for a password, and records all that it hears."""

from __future__ import annotations

import base64
import contextlib
import http.server
import threading
from collections.abc import Iterator

import attrs


@attrs.define
class Listener:
    """What was heard.

    Attributes:
        url: of the server.
        requests: the first line and all headers of each request, and its body.
    """

    url: str = ""
    requests: list[str] = attrs.field(factory=list)

    def heard(self, *canaries: str) -> list[str]:
        """Those of the texts that came, as they are or as base64 (HTTP's Basic authentication, RFC 7617)."""
        said = "\n".join(self.requests)
        for request in tuple(self.requests):
            for word in request.split():
                with contextlib.suppress(ValueError, UnicodeDecodeError):
                    said += "\n" + base64.b64decode(word, validate=True).decode()
        return [canary for canary in canaries if canary in said]


@contextlib.contextmanager
def listener() -> Iterator[Listener]:
    """One on loopback, for as long as the context lasts."""
    found = Listener()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
            found.requests.append(f"{self.requestline}\n{self.headers}\n{body}")
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="stranger"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = do_LIST = _answer  # noqa: N815 - the library's names

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
