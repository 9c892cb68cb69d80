"""Ports of loopback that children of ours serve on: reserved before they start, and asked whether they are ready."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import trio

from jiemi.controlplane.arguments import LOOPBACK
from jiemi.controlplane.pki import KeyPair

_READY_POLL_SECONDS = 0.05
_PROBE_SECONDS = 5.0
_CHUNK_BYTES = 4_096
_ANSWER_BYTES = 65_536
"""Most that is read of an answer; the longest, of kube-controller-manager's health, has 2 kB."""


@contextlib.contextmanager
def reserve_port(preferred: int) -> Iterator[int]:
    """Bind a loopback port that a child of ours may bind too: the preferred one, or another if that is in use.

    It is bound alone, and opened to processes of this user after that: with SO_REUSEPORT from the start, two control
    planes could take the same one.
    """
    with socket.socket() as sock:
        # Connections of an earlier run that linger in TIME_WAIT must not keep the port from us.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, preferred))
        except OSError:
            sock.bind((LOOPBACK, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield sock.getsockname()[1]


@attrs.frozen
class Answer:
    """What a child answered.

    Attributes:
        status: the HTTP status; 0 where there is none.
        body: what follows the headers.
    """

    status: int
    body: bytes


async def wait_until_ready(
    port: int, path: str, authority: Path, client: KeyPair | None, is_ready: Callable[[Answer], bool]
) -> None:
    """Ask a child by HTTPS until it is ready. The caller sets the deadline.

    Args:
        path: what is asked for.
        authority: certificate of the authority that signed the child's.
        client: with which certificate to ask; None for none.
        is_ready: whether an answer says so.
    """
    context = ssl.create_default_context(cafile=authority)
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    while True:
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.TooSlowError):
            with trio.fail_after(_PROBE_SECONDS):
                if is_ready(await _ask(port, path, context)):
                    return
        await trio.sleep(_READY_POLL_SECONDS)


async def _ask(port: int, path: str, context: ssl.SSLContext) -> Answer:
    # HTTP/1.0: the body ends with the connection, and is not in chunks.
    request = f"GET {path} HTTP/1.0\r\nHost: {LOOPBACK}\r\n\r\n".encode()
    stream = await trio.open_ssl_over_tcp_stream(LOOPBACK, port, ssl_context=context, https_compatible=True)
    answer = b""
    async with stream:
        await stream.send_all(request)
        while len(answer) < _ANSWER_BYTES and (chunk := await stream.receive_some(_CHUNK_BYTES)):
            answer += bytes(chunk)
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0].split(b" ")[1:2]
    return Answer(int(status[0]) if status and status[0].isdigit() else 0, body)
