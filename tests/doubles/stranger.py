"""A listener that nobody should talk to: it records every byte, and answers as a Vault that says yes to everything.

For tests that no credential reaches whoever a hostile file names. What a client says before it hears an answer is the
least that it gives away; so that it goes on and says the rest, the stranger plays along: a login gets a token, a data
key is "decrypted" to zeros.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from doubles.serving import LOOPBACK

_CHUNK_BYTES = 65536
_IDLE_SECONDS = 60
_DATA_KEY_BYTES = 32


class Stranger:
    """Who listens.

    Attributes:
        port: where, on loopback.
        connections: how many came.
        received: every byte of all of them.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._received = bytearray()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        """As a URL in the clear."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def received(self) -> bytes:
        with self._lock:
            return bytes(self._received)

    def saw(self, secret: str) -> bool:
        """Whether the secret came, as it is or in an encoding that HTTP's clients use."""
        raw = secret.encode()
        forms = {
            raw,
            urllib.parse.quote(secret, safe="").encode(),
            urllib.parse.quote_plus(secret).encode(),
            json.dumps(secret)[1:-1].encode(),
        }
        # In base64 a text looks different at each of three offsets; what depends on its neighbours is cut off.
        for offset in range(3):
            encoded = base64.b64encode(bytes(offset) + raw)
            inner = encoded[(0, 2, 3)[offset] : len(encoded) // 4 * 4 - 4]
            if len(inner) >= len(raw):
                forms |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
        received = self.received
        return any(form in received for form in forms)

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # the end
                return
            thread = threading.Thread(target=self._talk, args=(connection,))
            with self._lock:
                self.connections += 1
                self._open.add(connection)
                self._threads.append(thread)
            thread.start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(_IDLE_SECONDS)
            pending = b""
            while data := connection.recv(_CHUNK_BYTES):
                with self._lock:
                    self._received += data
                pending = self._answer(connection, pending + data)
        with self._lock:
            self._open.discard(connection)

    def _answer(self, connection: socket.socket, pending: bytes) -> bytes:
        """Answers a request if it is whole and one of HTTP; returns what is left over."""
        head, separator, body = pending.partition(b"\r\n\r\n")
        if not separator:
            return pending
        line, *headers = head.decode("latin-1").split("\r\n")
        length = next(
            (
                int(value)
                for name, _, value in (each.partition(":") for each in headers)
                if name.lower() == "content-length"
            ),
            0,
        )
        if len(body) < length:
            return pending
        said = json.dumps(_YES).encode()
        if line.startswith("connect "):
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)
            )
        return body[length:]

    def _end(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def open_stranger() -> Iterator[Stranger]:
    """Listens on loopback."""
    stranger = Stranger()
    listening = threading.Thread(target=stranger._listen)
    listening.start()
    try:
        yield stranger
    finally:
        stranger._end()
        listening.join()
        for thread in stranger._threads:
            thread.join()


_YES = {
    "request_id": "00000000-0000-0000-0000-000000000000",
    "lease_id": "",
    "renewable": False,
    "lease_duration": 0,
    "data": {"plaintext": base64.b64encode(bytes(_DATA_KEY_BYTES)).decode(), "ciphertext": "vault:v1:AAAA"},
    "auth": {"client_token": "hvs.a-strangers-token", "lease_duration": 3600, "renewable": True},
}
