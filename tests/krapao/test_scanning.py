"""What a Decryptor's author learns of hosts and ports that Krapao can reach and that person can't. The spellings of
each address that is refused are rows of tests/hostile."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

import attrs
import pytest
import structlog.testing
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from support.network.addresses import LOOPBACK
from support.network.listening import listening

from jiemi.core.address_rules import AddressRules, read_address, read_network
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import GitServer
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.network import connecting
from jiemi.krapao.network.connecting import require_destination
from jiemi.krapao.network.proxy import read_proxy
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

NOBODY = GitCredentials()
CLIENT_KEY = (
    ed25519.Ed25519PrivateKey.generate()
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    .decode()
)
WITH_KEY = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=SensitiveText("x ssh-ed25519 AAAA"))


async def told(settings: KrapaoSettings, url: str) -> tuple[str, str]:
    """The reason and message of a listing that must fail."""
    credentials = WITH_KEY if url.startswith("ssh") else NOBODY
    async with Clones(settings).open(parse_url(url), credentials) as store:
        with pytest.raises(JiemiError) as caught:
            await store.advertised(Ref())
    return caught.value.failure.reason, caught.value.failure.text


@pytest.fixture
def strict(settings: KrapaoSettings) -> KrapaoSettings:
    """As Krapao is without flags."""
    return attrs.evolve(settings, addresses=AddressRules(), connect_timeout_seconds=0.5)


@pytest.mark.parametrize("scheme", ["http", "https", "git", "ssh"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_loopback_is_refused_with_one_answer_whether_or_not_something_listens(
    strict: KrapaoSettings, scheme: str, host: str
) -> None:
    with listening() as (port, came), listening(host="::1") as (port6, came6):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            closed_port = closed.getsockname()[1]
        answers = {await told(strict, f"{scheme}://{host}:{each}/r") for each in (port, port6, closed_port)}
        assert came == came6 == []
    [(reason, message)] = answers
    assert reason == "AddressNotAllowed"
    assert "--allow-address" in message
    assert "spec.source.repository.url" in message


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]"])
async def test_link_local_and_metadata_addresses_are_refused_at_once(strict: KrapaoSettings, host: str) -> None:
    began = time.monotonic()
    assert (await told(strict, f"http://{host}/latest/meta-data"))[0] == "AddressNotAllowed"
    assert time.monotonic() - began < 0.4


def resolves_to(monkeypatch: pytest.MonkeyPatch, *answers: tuple[str, ...]) -> list[str]:
    """Names resolve to these addresses, at each lookup to the next ones; gives the names that were looked up."""
    asked: list[str] = []
    left = list(answers)

    def look_up(host: str, port: int, *rest: object, **named: object) -> list[object]:
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(families[":" in each], socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize("scheme", ["http", "git", "ssh"])
async def test_the_address_that_was_judged_is_the_one_that_is_connected_to(
    settings: KrapaoSettings, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """A name that changes between two lookups (DNS rebinding) finds only one lookup."""
    rules = AddressRules(allowed=(read_network("127.0.0.2"),))
    asked = resolves_to(monkeypatch, ("127.0.0.2",), ("127.0.0.1",))
    with listening() as (port, at_first), listening(host="127.0.0.2") as (port2, at_second):
        assert (await told(attrs.evolve(settings, addresses=rules), f"{scheme}://git.example:{port2}/r"))[
            0
        ] == "HostUnreachable"
        assert len(at_second) == 1
        assert at_first == []
        # The next lookup gives the other address, which no rule allows.
        assert (await told(attrs.evolve(settings, addresses=rules), f"{scheme}://git.example:{port}/r"))[
            0
        ] == "AddressNotAllowed"
        assert at_first == []
    assert asked == ["git.example"] * 2


def send(data: bytes) -> Callable[[socket.socket], object]:
    def answer(connection: socket.socket) -> None:
        connection.recv(4_096)
        connection.sendall(data)

    return answer


HTTP = b"HTTP/1.1 %s\r\nContent-Length: 2\r\nContent-Type: text/html\r\n\r\nhi"
NO_GIT_SERVERS: dict[str, Callable[[socket.socket], object]] = {
    "closes": lambda connection: None,
    "silent": lambda connection: connection.recv(4_096) and connection.recv(1),
    # Once something came: a reset before that leaves Python's ssl module with a socket that only its collector closes.
    "resets": lambda connection: (
        connection.recv(1) and connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ),
    "http 200": send(HTTP % b"200 OK"),
    "http 204": send(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "http 400": send(HTTP % b"400 Bad Request"),
    "http 418": send(HTTP % b"418 Teapot"),
    "http 500": send(HTTP % b"500 Oops"),
    "http 503": send(HTTP % b"503 Later"),
    "http 302 to itself": send(
        b"HTTP/1.1 302 Found\r\nLocation: /r/info/refs\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ),
    "http 103": send(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "http of another version": send(b"HTTP/3.0 200 OK\r\n\r\n"),
    "redis": send(b"-ERR wrong number of arguments for 'get' command\r\n"),
    "smtp": lambda connection: connection.sendall(b"220 mail.example ESMTP\r\n"),
    "ssh": lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "tls alert": send(b"\x15\x03\x01\x00\x02\x02\x28"),
    "zeros": send(b"\0" * 5_000),
    "a megabyte of headers": send(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200_000),
}


@pytest.mark.parametrize("scheme", ["http", "https", "git", "ssh"])
async def test_whatever_is_no_git_server_is_reported_in_one_message(
    settings: KrapaoSettings, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    quick = attrs.evolve(settings, connect_timeout_seconds=0.3, git_timeout_seconds=3)
    messages = {}
    with structlog.testing.capture_logs() as logs:
        for name, answer in NO_GIT_SERVERS.items():
            with listening(answer) as (port, came):
                reason, message = await told(quick, f"{scheme}://127.0.0.1:{port}/r")
                assert came
            messages[name] = reason, message.replace(str(port), "PORT")
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        reason, message = await told(quick, f"{scheme}://127.0.0.1:{port}/r")
        messages["closed"] = reason, message.replace(str(port), "PORT")
        # A port behind a firewall: its queue is full, and what comes is dropped.
        with socket.socket() as full, contextlib.ExitStack() as stack:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            reason, message = await told(quick, f"{scheme}://127.0.0.1:{port}/r")
            messages["filtered"] = reason, message.replace(str(port), "PORT")
        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", _unknown)
            reason, message = await told(quick, f"{scheme}://nothing.example:1234/r")
            messages["no name"] = reason, message.replace("nothing.example:1234", "127.0.0.1:PORT")
    assert set(messages.values()) == {messages["closed"]}, messages
    assert messages["closed"][0] == "HostUnreachable"
    # The operator learns which it was.
    details = [each["detail"] for each in logs if each["event"] == "no_git_server"]
    assert len(details) == len(messages)
    assert any("refused" in each for each in details)
    assert any("the name is not known" in each for each in details)


def _unknown(*_: object, **__: object) -> list[object]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def test_what_a_user_must_mend_is_reported_all_the_same(settings: KrapaoSettings) -> None:
    for status, reason in (
        (b"401 Who", "RepositoryAccessDenied"),
        (b"403 No", "RepositoryAccessDenied"),
        (b"404 Not", "RepositoryNotFound"),
        (b"410 Gone", "RepositoryNotFound"),
        (b"301 There\r\nLocation: https://git.example/r", "InvalidUrl"),
    ):
        with listening(send(HTTP % status)) as (port, _):
            assert (await told(settings, f"http://127.0.0.1:{port}/r"))[0] == reason


async def test_a_host_that_wants_credentials_is_said_to_want_them(settings: KrapaoSettings) -> None:
    with listening(send(HTTP % b"401 Who")) as (port, _):
        _, message = await told(settings, f"http://127.0.0.1:{port}/r")
    assert "answered 401: it wants credentials, and spec.source.repository.credentials gives none. Put a" in message


async def test_hosts_that_are_denied_are_refused_like_the_forbidden_ones(
    git_server: GitServer, settings: KrapaoSettings
) -> None:
    url = git_server.create("r.git")
    denied = attrs.evolve(settings.addresses, denied=(read_network("127.0.0.1"),))
    assert (await told(attrs.evolve(settings, addresses=denied), url))[0] == "AddressNotAllowed"
    assert git_server.hits == []


async def test_a_proxy_may_be_anywhere_and_is_asked_for_no_forbidden_host(strict: KrapaoSettings) -> None:
    with listening(send(HTTP % b"502 No")) as (port, came):
        proxied = attrs.evolve(strict, proxy=read_proxy(f"http://127.0.0.1:{port}", credentials=False))
        for url in (
            "http://127.0.0.1/r",
            "http://localhost/r",
            "https://[::1]/r",
            "http://169.254.169.254/r",
            "http://metadata.google.internal/r",
        ):
            assert (await told(proxied, url))[0] == "AddressNotAllowed"
        assert came == []
        assert (await told(proxied, "http://git.example/r"))[0] == "HostUnreachable"
        assert len(came) == 1


def own_addresses() -> list[str]:
    """This machine's addresses, as far as its routes to others tell; nothing is sent."""
    found = ["127.0.0.1"]
    for family, there in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((there, 9))
            found.append(probe.getsockname()[0])
    return found


def test_only_this_machines_addresses_are_its_own() -> None:
    assert all(connecting.is_own(read_address(each)) for each in own_addresses())
    assert not connecting.is_own(read_address("192.0.2.1"))
    assert not connecting.is_own(read_address("2001:db8::1"))


async def test_this_machines_own_addresses_are_refused_like_loopback(strict: KrapaoSettings) -> None:
    for own in own_addresses():
        with listening(host=own) as (port, came):
            shown = f"[{own}]" if ":" in own else own
            assert (await told(strict, f"http://{shown}:{port}/r"))[0] == "AddressNotAllowed"
            assert came == []


async def test_a_server_for_another_program_is_judged_by_what_it_resolves_to_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look_up(host: str, *_: object, **__: object) -> list[object]:
        await trio.lowlevel.checkpoint()
        if host == "nothing.example":
            raise socket.gaierror(socket.EAI_NONAME, "x")
        address = {"evil.example": "127.0.0.1", "good.example": "192.0.2.7"}.get(host, host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", look_up)
    for url in (
        "http://evil.example:1",
        "http://127.0.0.1:8200",
        "https://[::1]",
        "http://localhost:1",
        "http://169.254.169.254",
    ):
        with pytest.raises(JiemiError, match="AddressNotAllowed: field: "):
            await require_destination(url, AddressRules(), "field")
    for url in ("https://good.example", "https://nothing.example", "https://10.0.0.1:8200"):
        await require_destination(url, AddressRules(), "field")
    await require_destination("http://evil.example:1", LOOPBACK, "field")
