"""An API server that answers what a test wrote: pauses, faults, lies, and connections that break."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any

import attrs

from jiemi.miwen.kubernetes.connection import KubernetesSettings

CANARY = "canary-5f1e9c"
CUT = b"[cut here]"


class ScriptedServer:
    """Answers each request with the next of `answers`, as raw bytes.

    After one that ends with `CUT`, and in place of None, it closes the connection.

    Attributes:
        seen, headers, bodies: of the requests: method and path, headers by small name, and bodies.
    """

    def __init__(self) -> None:
        self.answers: list[bytes | None] = []
        self.seen: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def say(self, status: int, body: object = None, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.answers.append("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._open.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as file, contextlib.suppress(OSError):
            while first := file.readline():
                headers = {}
                while (line := file.readline().strip()) != b"":
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                self.headers.append(headers)
                self.bodies.append(file.read(int(headers.get("content-length", 0))))
                self.seen.append(first.decode().rpartition(" ")[0])
                answer = self.answers.pop(0) if self.answers else b""
                sock.sendall(answer or b"")
                if answer is None or answer.endswith(CUT):
                    return


def refusal(reason: str = "", *, policy: bool = False, **details: Any) -> dict[str, Any]:
    """A Status whose message may not be shown.

    Args:
        policy: whether an admission policy gives it.
    """
    by = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: " if policy else ""
    return {"kind": "Status", "status": "Failure", "message": f"{by}{CANARY}", "reason": reason, "details": details}


def settings_for(server: ScriptedServer, tmp_path: Path, **more: Any) -> KubernetesSettings:
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "current-context": "it",
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}],
                "users": [{"name": "it", "user": {"token": CANARY}}],
            }
        )
    )
    return attrs.evolve(KubernetesSettings(kubeconfig=path, request_timeout_seconds=10), **more)
