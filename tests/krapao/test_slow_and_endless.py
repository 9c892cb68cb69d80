"""Hosts that send without end, or so little that they only hold a place."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import attrs
import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from support.krapao.work_tree import Work
from support.network.addresses import LOOPBACK

from jiemi.concurrency.calls import Interrupter
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import GitServer
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

NOBODY = GitCredentials()
CLIENT_KEY = (
    ed25519.Ed25519PrivateKey.generate()
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    .decode()
)


@contextlib.contextmanager
def hostile(answer: Callable[[socket.socket], object]) -> Iterator[tuple[int, list[int]]]:
    """A server that answers each connection; gives its port, and how many bytes each connection took."""
    sent: list[int] = []
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException), listener.accept()[0] as connection:
                    connection.settimeout(10)
                    counted = Counted(connection, sent)
                    answer(counted)  # type: ignore[arg-type]  # it is a socket in all that is used

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], sent
        finally:
            stop.set()
            thread.join()


class Counted:
    """A connection that counts what it could send."""

    def __init__(self, connection: socket.socket, sent: list[int]) -> None:
        self._connection = connection
        self._sent = sent
        sent.append(0)

    def sendall(self, data: bytes) -> None:
        self._connection.sendall(data)
        self._sent[-1] += len(data)

    def recv(self, size: int) -> bytes:
        return self._connection.recv(size)


async def told(settings: KrapaoSettings, url: str, credentials: GitCredentials = NOBODY) -> tuple[str, str, float]:
    """The reason and message of a listing that must fail, and the seconds that it took."""
    began = time.monotonic()
    async with Clones(settings).open(parse_url(url), credentials) as store:
        with pytest.raises(JiemiError) as caught:
            await store.advertised(Ref())
    return caught.value.failure.reason, caught.value.failure.text, time.monotonic() - began


def without_end(first: bytes, again: bytes) -> Callable[[socket.socket], object]:
    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(first)
        while True:
            connection.sendall(again)

    return answer


PKT = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n"
FLOODS = {
    "100 continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "100 continue with headers": (b"", b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n" * 100),
    "a status line": (b"HTTP/1.1 200 ", b"x" * 1_000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 1_000),
    "one header": (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 1_000),
    "chunks of one byte": (PKT + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n0\r\n" * 1_000),
    "chunk extensions": (PKT + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 10_000 + b"\r\n0\r\n"),
    "a chunk's extension": (PKT + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 1_000),
    "a body": (PKT + b"\r\n", b"0" * 1_000),
    "small packets": (PKT + b"\r\n001e# service=git-upload-pack\n0000", b"0005x" * 1_000),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_whatever_a_host_sends_without_end_counts_and_ends(settings: KrapaoSettings, name: str) -> None:
    bounded = attrs.evolve(settings, max_refs_bytes=300_000, git_timeout_seconds=30)
    with hostile(without_end(*FLOODS[name])) as (port, sent):
        reason, _, seconds = await told(bounded, f"http://127.0.0.1:{port}/r")
    assert reason in ("LimitExceeded", "HostUnreachable", "GitProtocolError")
    assert seconds < 15
    assert sent[0] < 12_000_000  # what is under way in the sockets' buffers included


async def test_a_git_host_without_end_counts_and_ends(settings: KrapaoSettings) -> None:
    bounded = attrs.evolve(settings, max_refs_bytes=300_000, git_timeout_seconds=30)
    for flood in ((b"", b"0005x" * 1_000), (b"", b"0008abcd" * 1_000), (b"", b"ffff" * 20_000)):
        with hostile(without_end(*flood)) as (port, sent):
            reason, _, seconds = await told(bounded, f"git://127.0.0.1:{port}/r")
        assert reason in ("LimitExceeded", "HostUnreachable", "GitProtocolError")
        assert seconds < 15
        assert sent[0] < 12_000_000


SSH = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=SensitiveText("x ssh-ed25519 AAAA"))
SSH_IGNORE = (12).to_bytes(4) + b"\x04\x02" + b"\0" * 10
"""A packet before keys are exchanged (RFC 4253, sections 6 and 11.2): SSH_MSG_IGNORE."""


@pytest.mark.parametrize(
    ("first", "again"),
    [(b"SSH-2.0-x\r\n", SSH_IGNORE * 1_000), (b"", b"before the banner\r\n" * 1_000), (b"", b"x" * 10_000)],
)
async def test_an_ssh_host_without_end_counts_and_ends(settings: KrapaoSettings, first: bytes, again: bytes) -> None:
    bounded = attrs.evolve(settings, max_refs_bytes=300_000, git_timeout_seconds=30)
    with hostile(without_end(first, again)) as (port, sent):
        reason, _, seconds = await told(bounded, f"ssh://127.0.0.1:{port}/r", SSH)
    assert reason == "HostUnreachable"
    assert seconds < 15
    assert sent[0] < 12_000_000


def drip(first: bytes, again: bytes, seconds: float = 0.05) -> Callable[[socket.socket], object]:
    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(first)
        while True:
            time.sleep(seconds)
            connection.sendall(again)

    return answer


DRIPS = {
    "http, 100 continue": ("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "http, a status line": ("http", b"HTTP/1.1 200 ", b"x"),
    "http, a header": ("http", b"HTTP/1.1 200 OK\r\nx: ", b"y"),
    "http, headers": ("http", b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
    "http, a body": ("http", PKT + b"\r\n", b"0"),
    "http, chunks": ("http", PKT + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n0\r\n"),
    "http, a chunk's extension": ("http", PKT + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"),
    "http, packets": ("http", PKT + b"\r\n001e# service=git-upload-pack\n0000", b"0005x"),
    "git, a packet": ("git", b"", b"f"),
    "git, packets": ("git", b"000eversion 2\n", b"0005x"),
    "ssh, before its banner": ("ssh", b"", b"x\r\n"),
    "ssh, its banner": ("ssh", b"SSH-2.0-", b"x"),
    "ssh, ignored packets": ("ssh", b"SSH-2.0-x\r\n", SSH_IGNORE),
}


@pytest.mark.parametrize("name", DRIPS)
async def test_a_host_that_drips_holds_no_place_until_the_deadline(
    settings: KrapaoSettings, name: str, threads_before: None
) -> None:
    scheme, first, again = DRIPS[name]
    patient = attrs.evolve(settings, git_timeout_seconds=40, connect_timeout_seconds=20, listing_grace_seconds=0.5)
    with hostile(drip(first, again)) as (port, _):
        url = f"{scheme}://127.0.0.1:{port}/r"
        reason, message, seconds = await told(patient, url, SSH if scheme == "ssh" else GitCredentials())
    assert reason in ("HostUnreachable", "Timeout", "GitProtocolError"), message
    if reason == "Timeout":
        assert "comes too slowly" in message
    assert seconds < 10


async def test_an_honest_host_is_given_time_before_it_must_be_fast(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    git_server.create("r.git")
    work.commit({"x": "one"})
    work.push(git_server.root / "r.git")
    git_server.on_asked = lambda _: time.sleep(0.4)
    assert settings.addresses == LOOPBACK
    patient = attrs.evolve(settings, listing_grace_seconds=5, fetch_grace_seconds=5)
    async with Clones(patient).open(parse_url(git_server.url_of("r.git")), GitCredentials()) as store:
        await store.fetch(await store.advertised(Ref()))


def test_the_rate_is_an_average_that_counts_after_the_grace() -> None:
    now = 100.0
    meter = Meter(Interrupter(), 10**9, "x", 1_000, 20, is_git=True, clock=lambda: now)
    for now, count in ((101.0, 1), (119.9, 1), (121.0, 30_000), (130.0, 1)):  # noqa: B007 - the clock's
        meter.arrived(count)
    now = 131.0
    with pytest.raises(
        JiemiError, match=r"Timeout: x comes too slowly: 30004 bytes in 31 s, less than .* 1000 a second"
    ):
        meter.arrived(1)
    assert meter.failure is not None


def test_what_is_no_git_server_is_heard_for_a_megabyte_only() -> None:
    meter = Meter(Interrupter(), 10**9, "x")
    meter.arrived(1024 * 1024)
    with pytest.raises(JiemiError, match="none of them is git's"):
        meter.arrived(1)
    proven = Meter(Interrupter(), 10**9, "x")
    proven.look_at_packets(b"000e")
    proven.arrived(10**8)
