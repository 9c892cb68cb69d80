"""`jiemi krapao` with a proxy and with authorities of its operator's own: as it is started, over real TLS."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio
from doubles.authority import Authority, open_authority
from support.krapao.work_tree import Work
from support.network.addresses import LOOPBACK_FLAGS

from jiemi.core.errors import JiemiError
from jiemi.demo.git_server import GitServer
from jiemi.krapao.network.proxy import Proxy as ItsAddress
from jiemi.krapao.network.proxy import read_proxy
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import connect
from jiemi.rpc.contract import Krapao
from jiemi.rpc.source import GitCredentials, Source

PASSWORD = "canary-päss"
HOST = "git.internal.example"


async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await sink.send_all(data)
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await sink.aclose()


async def join(one: trio.abc.Stream, other: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, one, other)
        await pump(other, one)
        nursery.cancel_scope.cancel()


class Proxy:
    """A CONNECT proxy with a password; every host that is asked for is one port of this machine."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.asked: list[str] = []
        self.refused = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = await stream.receive_some(4_096)
            if not more:
                return
            head += more
        expected = b"Proxy-Authorization: Basic " + base64.b64encode(f"me:{PASSWORD}".encode())
        if expected.lower() not in head.lower():
            self.refused += 1
            await stream.send_all(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n")
            return
        self.asked.append(head.split(b" ")[1].decode())
        async with await trio.open_tcp_stream("127.0.0.1", self.to) as there:
            await stream.send_all(b"HTTP/1.1 200 Here\r\n\r\n")
            await join(stream, there)


@pytest.fixture
def authority() -> object:
    with open_authority() as made:
        yield made


@contextlib.asynccontextmanager
async def over_tls(authority: Authority, host: str, server: GitServer) -> AsyncIterator[int]:
    """The git server behind TLS; gives the port."""

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with await trio.open_tcp_stream("127.0.0.1", int(server.url.rpartition(":")[2])) as there:
                await join(stream, there)

    async with trio.open_nursery() as nursery:
        context = authority.server_context(host)
        listeners = await nursery.start(
            partial(trio.serve_ssl_over_tcp, serve, 0, context, host="127.0.0.1", https_compatible=True)
        )
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def krapao(tmp_path: Path, *flags: object) -> AsyncIterator[tuple[Krapao, Path]]:
    """`jiemi krapao` as a process; gives a client of it, and its log."""
    socket, log = tmp_path / "k.sock", tmp_path / "krapao.log"
    argv = [sys.executable, "-m", "jiemi", "krapao", "--listen", f"unix:{socket}", "--state-dir", tmp_path / "state"]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - a fork and exec
            [*map(str, (*argv, *flags))], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        with trio.fail_after(60):
            while not socket.exists():
                assert process.poll() is None, log.read_text()
                await trio.sleep(0.05)
        async with open_bridge() as bridge, connect(UnixAddress(str(socket)), bridge=bridge) as client:
            yield client, log
    finally:
        process.terminate()
        await trio.to_thread.run_sync(process.wait)


async def head(client: Krapao, url: str) -> str:
    async with client.open(Source(url), GitCredentials()) as repository:
        return (await repository.head(max_age_seconds=0)).revision


@pytest.fixture
def revision(git_server: GitServer, work: Work) -> str:
    git_server.create("r.git")
    made = work.commit({"x": "one"})
    work.push(git_server.root / "r.git")
    return made


async def test_a_host_of_a_private_authority_is_trusted_with_its_bundle_and_not_without(
    git_server: GitServer, revision: str, authority: Authority, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text(authority.pem)
    async with over_tls(authority, "127.0.0.1", git_server) as port:
        url = f"https://127.0.0.1:{port}/r.git"
        async with krapao(tmp_path, *LOOPBACK_FLAGS, "--ca-bundle", bundle) as (client, _):
            assert await head(client, url) == revision
            with open_authority() as other:  # an authority that is renewed is read without a restart
                bundle.write_text(other.pem)
            with pytest.raises(JiemiError, match="TlsVerificationFailed"):
                await head(client, url)
            bundle.write_text("not a certificate")
            with pytest.raises(JiemiError, match=r"TlsVerificationFailed: .*--ca-bundle"):
                await head(client, url)
            bundle.write_text(authority.pem)
            assert await head(client, url) == revision
        async with krapao(tmp_path, *LOOPBACK_FLAGS) as (client, _):
            with pytest.raises(JiemiError, match="TlsVerificationFailed"):
                await head(client, url)


async def test_git_goes_through_the_proxy_but_for_the_hosts_that_need_none(
    git_server: GitServer, revision: str, authority: Authority, tmp_path: Path
) -> None:
    secret = tmp_path / "proxy"
    flags = (*LOOPBACK_FLAGS, "--ca-bundle", authority.path, "--http-proxy-file", secret, "--no-proxy", "127.0.0.0/8,x")
    async with over_tls(authority, HOST, git_server) as port, trio.open_nursery() as nursery:
        proxy = Proxy(port)
        listeners = await nursery.start(partial(trio.serve_tcp, proxy.serve, 0, host="127.0.0.1"))
        secret.write_text(
            f"http://me:{PASSWORD.replace('ä', '%C3%A4')}@127.0.0.1:{listeners[0].socket.getsockname()[1]}\n"
        )
        async with krapao(tmp_path, *flags) as (client, log):
            assert await head(client, f"https://{HOST}/r.git") == revision
            assert proxy.asked == [f"{HOST}:443"] * len(proxy.asked) != []
            before = len(proxy.asked)
            assert await head(client, git_server.url_of("r.git")) == revision
            assert len(proxy.asked) == before
            # The proxy would look it up, so only its name can be refused here.
            for host in ("169.254.169.254", "metadata.google.internal", "0.0.0.0"):  # noqa: S104 - asked for
                with pytest.raises(JiemiError, match="AddressNotAllowed"):
                    await head(client, f"https://{host}/r.git")
            assert len(proxy.asked) == before
        for path in (log, *(tmp_path / "state").rglob("*")):
            if path.is_file():
                assert b"canary" not in path.read_bytes()
        secret.write_text(f"http://me:wrong@127.0.0.1:{listeners[0].socket.getsockname()[1]}\n")
        async with krapao(tmp_path, *flags) as (client, log):
            with pytest.raises(JiemiError, match="ProxyRefused: the proxy that Krapao's operator set") as caught:
                await head(client, f"https://{HOST}/r.git")
            assert "wrong" not in str(caught.value)
            assert proxy.refused == 1
            assert "wrong" not in log.read_text()
        nursery.cancel_scope.cancel()


def test_the_environments_proxies_and_credentials_on_a_command_line_are_not_taken() -> None:
    with pytest.raises(ValueError, match="put it into a file"):
        read_proxy(f"http://me:{PASSWORD}@h:1", credentials=False)
    assert PASSWORD not in repr(read_proxy(f"http://me:{PASSWORD}@h:1", credentials=True))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h:1",
        "http://h",
        "http://h:1/x",
        "http://h:x",
        "http://0x7f.1:1",
        "http://:1",
        "http://h:1?a",
    ],
)
def test_what_is_no_proxy_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_proxy(text, credentials=True)


@pytest.mark.parametrize(
    ("host", "is_for"),
    [
        ("git.example", True),
        ("git.svc", False),
        ("a.git.svc.", False),
        ("xgit.svc", True),
        ("10.1.2.3", False),
        ("11.1.2.3", True),
        ("fd00::1", False),
        ("name.internal", False),
    ],
)
def test_hosts_that_need_no_proxy_are_names_with_all_below_them_and_networks(host: str, is_for: bool) -> None:
    proxy = ItsAddress("http", "h", 1, direct=("git.svc", "10.0.0.0/8", "fd00::/8", "*.internal", ""))
    assert proxy.is_for(host) is is_for
