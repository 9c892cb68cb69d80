"""Clones over http: a pinned commit, and certificates. test_clones.py has what else is asked of a host over http."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from krapao.git.following import NOBODY, fails, pin
from support.krapao.work_tree import Work

from jiemi.demo.git_server import GitServer
from jiemi.krapao.settings import KrapaoSettings


async def test_a_commit_is_pinned_over_http(git_server: GitServer, work: Work, settings: KrapaoSettings) -> None:
    url = git_server.create("r.git")
    await pin(settings, url, NOBODY, work, git_server.root / "r.git")


def serve_once(answer: Callable[[socket.socket], None]) -> tuple[socket.socket, threading.Thread]:
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            answer(connection)

    thread = threading.Thread(target=run)
    thread.start()
    return listener, thread


async def test_a_certificate_that_nobody_signed_is_refused(settings: KrapaoSettings, tmp_path: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    pem = tmp_path / "pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    for answer, reason in (
        (lambda sock: context.wrap_socket(sock, server_side=True).close(), "TlsVerificationFailed"),
        (lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), "HostUnreachable"),
    ):
        listener, thread = serve_once(answer)
        with listener:
            await fails(reason, settings, f"https://127.0.0.1:{listener.getsockname()[1]}/r.git")
            thread.join()
