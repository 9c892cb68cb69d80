"""Clones through proxies: real ones of both kinds, over every transport; and what a hostile one can send."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import paramiko
import pytest
import structlog
import trio
from cryptography.hazmat.primitives.serialization import PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from krapao.git.clone_checks import NOBODY, files_under
from krapao.git.following import follow, listing_fails
from support.canaries.forms import forms_of, found_in
from support.krapao.ssh_keys import made, public_key, written
from support.krapao.work_tree import Work
from support.network.https import DAY, authority
from support.network.listening import listening
from support.network.proxies import real_proxy
from support.network.ssh_server import ssh_server
from support.network.tls_folders import now

from jiemi.certificates import SERVER_AUTH, Subject, issue
from jiemi.concurrency import calls
from jiemi.core.address_rules import AddressRules
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer, serve_git
from jiemi.krapao.network import tunnel as tunnels
from jiemi.krapao.network.proxy import Proxy
from jiemi.krapao.network.tunnel import TunnelError, open_tunnel
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

HOST = "git.internal.example"
"""Nothing but the proxy knows it."""
PASSWORD = "canary-päss"
LOGIN = ("me", PASSWORD)
FIELD = "spec.source.repository.proxy"


@attrs.frozen
class Hosted:
    """A repository that only the proxy reaches.

    Attributes:
        port: which the URL means, and where it is served.
    """

    url: str
    port: tuple[int, int]
    credentials: GitCredentials
    bare: Path


@asynccontextmanager
async def hosted(scheme: str, folder: Path, daemon: tuple[str, Path]) -> AsyncIterator[Hosted]:
    root = folder / "git"
    root.mkdir()
    if scheme == "git":
        url, daemons = daemon
        yield Hosted(f"git://{HOST}/r.git", (9418, _port(url)), NOBODY, daemons / "r.git")
    elif scheme == "ssh":
        key, host_key = made("ed25519"), paramiko.ECDSAKey.generate()
        async with serve_git(root) as server:
            server.create("r.git")
        with ssh_server(root, [public_key(key)], [host_key]) as (port, _):
            credentials = GitCredentials(
                ssh=SensitiveText(written(key, PrivateFormat.OpenSSH)),
                known_hosts=SensitiveText(f"{HOST} {host_key.get_name()} {host_key.get_base64()}"),
            )
            yield Hosted(f"git@{HOST}:r.git", (22, port), credentials, root / "r.git")
    else:
        signer = authority()
        signed = issue(signer, Subject("git", (SERVER_AUTH,), (HOST,)), now(), DAY)
        (folder / "server.pem").write_bytes(signed.certificate_pem() + signed.key_pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        is_tls = scheme == "https"
        async with serve_git(root, tls=context if is_tls else None) as server:
            server.create("r.git")
            bundle = SensitiveText(signer.certificate_pem().decode()) if is_tls else None
            yield Hosted(
                f"{scheme}://{HOST}/r.git",
                (443 if is_tls else 80, _port(server.url)),
                GitCredentials(ca_bundle=bundle),
                root / "r.git",
            )


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def through(kind: str, port: int, *login: str, of: GitCredentials = NOBODY) -> GitCredentials:
    """Credentials with a proxy of a Decryptor's own."""
    values = dict(zip(("proxy_username", "proxy_password"), map(SensitiveText, login), strict=False))
    return attrs.evolve(of, proxy_url=SensitiveText(f"{kind}://127.0.0.1:{port}"), **values)


@pytest.mark.parametrize("scheme", ["https", "http", "ssh", "git"])
@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_repository_is_followed_through_a_proxy_that_wants_a_login(
    kind: str, scheme: str, tmp_path: Path, work: Work, settings: KrapaoSettings, git_daemon: tuple[str, Path]
) -> None:
    async with hosted(scheme, tmp_path, git_daemon) as host, real_proxy(kind, *LOGIN) as proxy:
        await proxy.lead(*host.port)
        with structlog.testing.capture_logs() as logged:
            await follow(settings, host.url, through(kind, proxy.port, *LOGIN, of=host.credentials), work, host.bare)
            for login in ((), ("me", "wrong"), ("canary", PASSWORD)):
                given = through(kind, proxy.port, *login, of=host.credentials)
                message = await listing_fails("ProxyRefused", settings, host.url, given)
                assert message.startswith(f"{FIELD}: the proxy wants a user name and password, or refuses")
                assert "canary" not in message
            # The operator's proxy is for ssh and git:// where it carries all, and is named as the operator's.
            operators = attrs.evolve(address(kind, proxy.port, *LOGIN), carries_all=True)
            carried = attrs.evolve(settings, proxy=operators)
            await listing_fails("RepositoryNotFound", carried, host.url.replace("r.git", "gone.git"), host.credentials)
            refused = attrs.evolve(carried, proxy=attrs.evolve(operators, password=SensitiveText("wrong")))
            message = await listing_fails("ProxyRefused", refused, host.url, host.credentials)
            assert message.startswith("the proxy that Krapao's operator set wants a login")
    texts = {str(path): path.read_bytes() for path in files_under(tmp_path)}
    texts["log"] = json.dumps(logged, default=str).encode()
    assert found_in(texts, forms_of(PASSWORD, f"me:{PASSWORD}")) == []


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_proxy_without_a_login_may_get_one_and_a_port_that_is_closed_behind_it_is_no_git_server(
    kind: str, settings: KrapaoSettings
) -> None:
    async with real_proxy(kind) as proxy:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        for login in ((), LOGIN):
            for scheme in ("https", "git"):
                url = f"{scheme}://{HOST}:{port}/r.git"
                message = await listing_fails("HostUnreachable", settings, url, through(kind, proxy.port, *login))
                assert f"no git server answers at {HOST}:{port}" in message


async def test_the_operators_http_proxy_is_not_for_ssh_and_a_decryptors_own_goes_before_it(
    tmp_path: Path, work: Work, settings: KrapaoSettings, git_daemon: tuple[str, Path]
) -> None:
    with listening() as (port, came):
        operators = attrs.evolve(settings, proxy=Proxy("http", "127.0.0.1", port))
        await follow(operators, f"{git_daemon[0]}/r.git", NOBODY, work, git_daemon[1] / "r.git")
        async with hosted("http", tmp_path, git_daemon) as host, real_proxy("socks5") as proxy:
            await proxy.lead(*host.port)
            await follow(operators, host.url, through("socks5", proxy.port), work, host.bare)
        assert came == []
        await listing_fails("HostUnreachable", operators, "http://git.example/r.git")
        assert len(came) == 1


async def test_no_proxy_comes_from_the_environment(
    git_server: GitServer, work: Work, settings: KrapaoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = git_server.create("r.git")
    with listening() as (port, came):
        for scheme in ("http", "socks5"):
            for name in ("http_proxy", "https_proxy", "all_proxy", "socks_proxy", "git_proxy"):
                monkeypatch.setenv(name, f"{scheme}://127.0.0.1:{port}")
                monkeypatch.setenv(name.upper(), f"{scheme}://127.0.0.1:{port}")
            monkeypatch.delenv("no_proxy", raising=False)
            await follow(settings, url, NOBODY, work, git_server.root / "r.git")
        assert came == []


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
@pytest.mark.parametrize("url", ["https://git.example/r.git", "http://git.example/r.git", "git@git.example:r.git"])
async def test_a_decryptors_own_proxy_is_judged_as_a_host_is(kind: str, url: str, settings: KrapaoSettings) -> None:
    of_ssh = GitCredentials(ssh=SensitiveText(written(made("ed25519"), PrivateFormat.OpenSSH)))
    given = of_ssh if url.startswith("git@") else NOBODY
    with listening() as (port, came):
        strict = attrs.evolve(settings, addresses=AddressRules())
        proxied = through(kind, port, of=given)
        if kind == "https" and given is of_ssh:
            message = await listing_fails("InvalidSpec", strict, url, proxied)
            assert "is for repositories over https and http alone" in message
        else:
            message = await listing_fails("AddressNotAllowed", strict, url, proxied)
            assert message.startswith(f"{FIELD}: Krapao does not connect to the address of 127.0.0.1")
        # It is asked for no host whose name says that it is forbidden.
        for host in ("169.254.169.254", "metadata.google.internal", "0.0.0.0"):  # noqa: S104 - asked for
            other = url.replace("git.example", host)
            await listing_fails("AddressNotAllowed", settings, other, through("http", port, of=given))
        assert came == []


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        ({"proxy_url": "canary"}, "it is no http://"),
        ({"proxy_url": "ftp://canary:1"}, "it is no http://"),
        ({"proxy_url": "http://u:canary@h:1"}, "it holds a user name or password"),
        ({"proxy_url": "http://h:1/canary"}, "it has more behind"),
        ({"proxy_url": "http://h:canary"}, "it is no URL"),
        ({"proxy_url": "http://h:0"}, "it has the port 0"),
        ({"proxy_url": "http://127.1:1"}, "it is no http://"),
        ({"proxy_url": "http://h:1", "proxy_password": "canary"}, "has a password and no user name"),
        ({"proxy_url": "http://h:1", "proxy_username": "a:canary", "proxy_password": "p"}, "user name with a colon"),
    ],
)
async def test_what_is_no_proxy_is_refused_by_its_field(
    proxy: dict[str, str], says: str, settings: KrapaoSettings
) -> None:
    given = GitCredentials(**{name: SensitiveText(value) for name, value in proxy.items()})
    message = await listing_fails("InvalidSpec", settings, "https://git.example/r.git", given)
    assert message.startswith(FIELD)
    assert says in message
    assert "canary" not in message


@contextmanager
def sending(answer: bytes) -> Iterator[int]:
    """A proxy that sends the same, whatever it gets, and ends; gives its port."""

    def send(connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1_000):  # what is unread as it closes would reset the connection
            pass

    with listening(send) as (port, _):
        yield port


def address(kind: str, port: int, *login: str) -> Proxy:
    name, password = map(SensitiveText, login) if login else (None, None)
    return Proxy(kind, "127.0.0.1", port, name, password)


async def tunnel(kind: str, port: int, *login: str) -> socket.socket:
    proxy = address(kind, port, *login)

    def call(_: calls.Interrupter) -> socket.socket:
        return open_tunnel(proxy, HOST, 22, timeout_seconds=5, permit=None)

    return await calls.run_blocking(call, limiter=trio.CapacityLimiter(1))


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("http", b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n"),
        ("http", b"HTTP/1.0 200 OK\n\n"),
        ("socks5", b"\x05\x00" + b"\x05\x00\x00\x01" + bytes(6)),
        ("socks5", b"\x05\x00" + b"\x05\x00\x00\x04" + bytes(18)),
        ("socks5", b"\x05\x00" + b"\x05\x00\x00\x03\x04host" + bytes(2)),
    ],
)
async def test_what_the_host_says_right_after_the_proxys_answer_is_the_hosts(kind: str, answer: bytes) -> None:
    with sending(answer + b"SSH-2.0-x\r\n") as port, await tunnel(kind, port) as sock:
        assert sock.recv(100) == b"SSH-2.0-x\r\n"


@pytest.mark.parametrize(
    ("kind", "answer", "says"),
    [
        ("http", b"", "ended the connection"),
        ("http", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "at length"),
        ("http", b"SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
        ("http", b"HTTP/1.1 403 No\r\n\r\n", "failed: 403"),
        ("socks5", b"\x04\x00", "does not speak SOCKS 5"),
        ("socks5", b"\x05\x01", "login of another kind"),
        ("socks5", b"\x05\xff", "failed: 407"),
        ("socks5", b"\x05\x02\x01\x01", "login of another kind"),
        ("socks5", b"\x05\x00\x05\x02\x00\x01", "failed: 403"),
        ("socks5", b"\x05\x00\x05\x05\x00\x01", "failed: 502"),
        ("socks5", b"\x05\x00\x05\x00\x00\x09", "does not speak SOCKS 5"),
        ("socks5", b"\x05\x00\x04\x00\x00\x01", "does not speak SOCKS 5"),
        ("socks5", b"\x05\x00\x05\x00\x00\x03\xff", "ended the connection"),
    ],
)
async def test_a_proxy_that_answers_otherwise_is_refused(kind: str, answer: bytes, says: str) -> None:
    with sending(answer) as port, pytest.raises(OSError, match=says):
        await tunnel(kind, port)


@given(st.sampled_from(["http", "socks5"]), st.binary(max_size=80), st.booleans())
def test_any_bytes_of_a_proxy_make_a_tunnel_or_an_error(kind: str, answer: bytes, has_login: bool) -> None:
    begins = {"http": b"HTTP/1.1 200", "socks5": b"\x05\x02\x01\x00\x05\x00\x00" if has_login else b"\x05\x00\x05\x00"}
    for sent in (answer, begins[kind] + answer):
        here, there = socket.socketpair()
        with here, there:
            there.sendall(sent)
            there.shutdown(socket.SHUT_WR)
            speak = tunnels.speak_http if kind == "http" else tunnels.speak_socks
            with contextlib.suppress(TunnelError):
                speak(here, address(kind, 1, *(LOGIN if has_login else ())), HOST, 22)
                assert sent.startswith(begins[kind][:1])


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_proxy_that_says_nothing_is_left_when_the_call_is_cancelled(kind: str) -> None:
    left, heard = threading.Event(), threading.Event()

    def wait(connection: socket.socket) -> None:
        connection.recv(1)
        heard.set()
        while connection.recv(1_000):
            pass
        left.set()

    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of numbers
    with listening(wait) as (port, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tunnel, kind, port)
            assert await trio.to_thread.run_sync(heard.wait, 10)
            nursery.cancel_scope.cancel()
        assert await trio.to_thread.run_sync(left.wait, 10)
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1  # noqa: PTH208 - trio's own for its threads


def test_a_login_that_socks_can_not_say_is_refused() -> None:
    with sending(b"\x05\x02") as port, pytest.raises(TunnelError, match="longer than SOCKS 5 takes"):
        open_tunnel(address("socks5", port, "x" * 256, "p"), HOST, 22, timeout_seconds=5, permit=None)
