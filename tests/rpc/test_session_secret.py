"""Who may open a session on Krapao's port: by the secret on TCP, by the user on a unix socket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import capnp
import pytest
import structlog
import trio
from fakes.krapao import FakeKrapao
from hypothesis import given
from hypothesis import strategies as st
from rpc import hostile_peer
from rpc.rpc_helpers import DEADLINE_SECONDS, QUICK, SOURCE, URL, until

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc import server as server_module
from jiemi.rpc.address import Address, TcpAddress, UnixAddress
from jiemi.rpc.admission import Admission
from jiemi.rpc.bridge import Bridge, open_bridge
from jiemi.rpc.capability import Remote
from jiemi.rpc.client import ClientSettings, KrapaoClient, SecretSource, connect
from jiemi.rpc.contract import Head
from jiemi.rpc.server import Limits, serve
from jiemi.rpc.session_secret import SessionSecretError, digest, is_one_of, make_secret, parse_secrets, read_secret_file
from jiemi.rpc.sockets import Peer
from jiemi.rpc.source import GitCredentials

NOBODY = GitCredentials()
RIGHT = "canary-session-secret-that-is-right"
WRONG = "canary-session-secret-that-is-wrong"
IMPATIENT = attrs.evolve(QUICK, wait_for_connection_seconds=3, backoff_most_seconds=0.2)


@attrs.define
class Port:
    """A server on TCP that wants a secret, and clients of it."""

    fake: FakeKrapao
    revision: str
    bridge: Bridge
    address: Address
    file: Path

    @contextlib.asynccontextmanager
    async def client(self, secret: str | None, *, settings: ClientSettings = QUICK) -> AsyncIterator[KrapaoClient]:
        source = shows(secret) if secret is not None else None
        async with connect(self.address, bridge=self.bridge, settings=settings, secret=source) as client:
            yield client

    async def head(self, client: KrapaoClient) -> Head:
        async with client.open(SOURCE, NOBODY) as repository:
            with trio.fail_after(DEADLINE_SECONDS):
                return await repository.head(max_age_seconds=0)


def shows(secret: str) -> SecretSource:
    async def give() -> SensitiveText:
        return SensitiveText(secret)

    return give


@contextlib.asynccontextmanager
async def port(
    folder: Path, *, limits: Limits | None = None, secrets: str = RIGHT, address: Address | None = None
) -> AsyncIterator[Port]:
    file = folder / "secret"
    file.write_text(secrets)
    fake = FakeKrapao()
    revision = fake.add_origin(URL).commit({"f.yaml": []})
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        bound = await nursery.start(
            lambda **kw: serve(
                fake,
                address or TcpAddress("127.0.0.1", 0),
                bridge=bridge,
                limits=limits,
                admission=Admission(file),
                **kw,
            )
        )
        yield Port(fake, revision, bridge, bound, file)
        nursery.cancel_scope.cancel()


async def refused(doing: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(JiemiError) as caught:
        await doing()
    assert caught.value.failure.reason == "KrapaoAccessDenied", str(caught.value)
    return caught.value.failure.text


async def test_who_shows_the_secret_is_served_and_who_shows_another_or_none_learns_why(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with port(tmp_path) as it:
            async with it.client(RIGHT) as client:
                assert await it.head(client) == Head(it.revision, "HEAD")
            async with it.client(WRONG, settings=IMPATIENT) as client:
                wrong = await refused(lambda: it.head(client))
            async with it.client(None, settings=IMPATIENT) as client:
                none = await refused(lambda: it.head(client))
            async with it.client(RIGHT) as client:
                assert await it.head(client) == Head(it.revision, "HEAD")
    assert "is not the one that Krapao has" in wrong
    assert "--session-secret" in none
    assert it.fake.calls.count(("head", URL)) == 2
    # Both ends tell of it, a few times at most, and neither says the secret.
    assert 1 <= sum(line["event"] == "session_refused" for line in logs if "peer" in line) <= 2
    assert "canary" not in repr(logs) + wrong + none


@pytest.mark.parametrize(
    "shown", [RIGHT[:-1], RIGHT + "x", RIGHT.upper(), "", " ", RIGHT + "\0", "ü" * 40, "x" * 5_000]
)
async def test_what_is_nearly_the_secret_is_none(tmp_path: Path, shown: str) -> None:
    async with port(tmp_path) as it, it.client(shown, settings=IMPATIENT) as client:
        await refused(lambda: it.head(client))
        assert it.fake.calls == []


async def test_a_changed_file_is_taken_up_and_in_between_both_secrets_are_good(tmp_path: Path) -> None:
    async with port(tmp_path) as it, it.client(RIGHT) as old, old.open(SOURCE, NOBODY) as held:
        await held.head(max_age_seconds=0)
        it.file.write_text(f"{WRONG}\n{RIGHT}\n")
        for secret in (WRONG, RIGHT):
            async with it.client(secret) as client:
                assert await it.head(client) == Head(it.revision, "HEAD")
        it.file.write_text(WRONG)
        async with it.client(RIGHT, settings=IMPATIENT) as client:
            await refused(lambda: it.head(client))
        it.file.unlink()
        async with it.client(WRONG, settings=IMPATIENT) as client:
            assert "its own session secret" in await refused(lambda: it.head(client))


async def test_a_session_ends_once_its_secret_is_taken_out_and_not_before(tmp_path: Path) -> None:
    """Not where the file can't be read either. Who has the new secret by then goes on without a word."""
    shown = [RIGHT]

    async def give() -> SensitiveText:
        return SensitiveText(shown[0])

    with structlog.testing.capture_logs() as logs:
        async with (
            port(tmp_path, limits=Limits(idle_seconds=0.4)) as it,
            connect(it.address, bridge=it.bridge, settings=QUICK, secret=give) as honest,
            it.client(RIGHT, settings=IMPATIENT) as thief,
            honest.open(SOURCE, NOBODY) as repository,
            thief.open(SOURCE, NOBODY) as stolen,
        ):
            for each in (repository, stolen):
                assert await each.head(max_age_seconds=0) == Head(it.revision, "HEAD")
            sessions = honest.connection, thief.connection
            for content in (f"{WRONG}\n{RIGHT}\n", "short", None):
                if content is None:
                    it.file.unlink()
                else:
                    it.file.write_text(content)
                await trio.sleep(0.5)  # five looks
                assert (honest.connection, thief.connection) == sessions
            shown[0] = WRONG
            it.file.write_text(WRONG)
            await until(lambda: thief.connection is None, "the end of the session whose secret is no longer one")
            # At once, because it had a repository open. Until that is used again, the new session owns nothing.
            await until(lambda: honest.connection not in (None, sessions[0]), "a session by the new secret")
            await refused(lambda: stolen.head(max_age_seconds=0))
            assert await repository.head(max_age_seconds=0) == Head(it.revision, "HEAD")
    assert any("is no longer Krapao's" in line.get("why", "") for line in logs)
    assert "canary" not in repr(logs)


async def test_a_client_that_was_refused_gets_in_by_itself_once_its_secret_is_right(tmp_path: Path) -> None:
    shown = [WRONG]

    async def give() -> SensitiveText:
        return SensitiveText(shown[0])

    async with port(tmp_path) as it, connect(it.address, bridge=it.bridge, settings=IMPATIENT, secret=give) as client:
        await refused(lambda: it.head(client))
        shown[0] = RIGHT
        with trio.fail_after(DEADLINE_SECONDS):
            while True:
                try:
                    assert await it.head(client) == Head(it.revision, "HEAD")
                except JiemiError:
                    continue
                return


async def test_a_secret_that_can_not_be_had_is_reported_by_its_own_reason(tmp_path: Path) -> None:
    async def forbidden() -> SensitiveText:
        raise JiemiError("SecretForbidden", "reading Secret jiemi/krapao-session: not allowed")

    async with (
        port(tmp_path) as it,
        connect(it.address, bridge=it.bridge, settings=IMPATIENT, secret=forbidden) as client,
    ):
        with pytest.raises(JiemiError, match=r"SecretForbidden: no session with Krapao at tcp:.*krapao-session"):
            await it.head(client)


# Releases that do not know the secret


def _older_schema(folder: Path) -> Path:
    text = hostile_peer.SCHEMA.read_text()
    older = re.sub(
        r"openSession @0 .*?;\n",
        "openSession @0 (protocolVersion :UInt16) -> (session :Session, protocolVersion :UInt16);\n",
        text,
        flags=re.DOTALL,
    )
    assert older != text
    path = folder / "older.capnp"
    path.write_text(older)
    return path


async def test_a_client_of_an_older_release_is_asked_to_upgrade_and_holds_no_place(tmp_path: Path) -> None:
    older = capnp.SchemaParser().load(str(_older_schema(tmp_path)))
    async with port(tmp_path) as it, open_bridge() as bridge:
        bridge._schema = older
        ready = trio.Event()
        remotes: list[Remote] = []

        def got(remote: Remote) -> None:
            remotes.append(remote)
            ready.set()

        assert isinstance(it.address, TcpAddress)
        stream = await trio.open_tcp_stream(it.address.host, it.address.port)
        sock = socket.socket(fileno=stream.socket.detach())

        async def talk() -> tuple[str, str]:
            session = (await remotes[0].capability().openSession(1)).session
            answer = await session.openRepository({"url": URL}, {}).repository.head(0)
            failure = answer.result.failure
            return failure.reason, f"{failure.message}. {failure.remedy}"

        async with trio.open_nursery() as nursery:
            ended = trio.Event()

            async def connection() -> None:
                await bridge.connect(sock, "Krapao", receive_bytes=10_000_000, ready=got)
                ended.set()

            nursery.start_soon(connection)
            with trio.fail_after(DEADLINE_SECONDS):
                await ready.wait()
                reason, message = await bridge.run(talk)
                assert reason == "KrapaoAccessDenied"
                assert "upgrade it" in message
                await ended.wait()  # a moment later
        assert it.fake.calls == []


async def test_a_client_with_a_secret_works_with_a_krapao_that_does_not_ask_and_says_so_once(tmp_path: Path) -> None:
    older = capnp.SchemaParser().load(str(_older_schema(tmp_path)))
    fake = FakeKrapao()
    revision = fake.add_origin(URL).commit({"f.yaml": []})

    class Older:
        def __init__(self, connection: Any) -> None:
            self._new = Bootstrap(connection)

        owned = 0

        async def open_session(self, call: Any) -> None:
            connection: Any = self._new._connection
            call.results.session = bridge.serve("Session", _Session(connection, self._new._owned))
            bridge.to_trio(connection._session_opened.set)
            bridge.to_trio(connection._gate.open)

        def released(self) -> None: ...

    from jiemi.rpc.targets import Bootstrap, _Session

    with structlog.testing.capture_logs() as logs, pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "Bootstrap", Older)
        async with open_bridge() as bridge, open_bridge() as newer, trio.open_nursery() as nursery:
            bridge._schema = older
            address = UnixAddress(str(tmp_path / "s"))
            await nursery.start(lambda **kw: serve(fake, address, bridge=bridge, **kw))
            for _ in range(2):
                async with (
                    connect(address, bridge=newer, secret=shows(RIGHT)) as client,
                    client.open(SOURCE, NOBODY) as repository,
                ):
                    assert await repository.head(max_age_seconds=0) == Head(revision, "HEAD")
            nursery.cancel_scope.cancel()
    told = [line for line in logs if line["event"] == "session_secret_not_checked"]
    assert len(told) == 2  # one for each client
    assert "canary" not in repr(logs)


# Strangers on TCP


async def test_strangers_without_the_secret_keep_nobody_out_and_hold_a_place_for_the_handshake_only(
    tmp_path: Path,
) -> None:
    limits = Limits(newcomers=8, local_places=2, connections=4, handshake_seconds=1)
    async with port(tmp_path, limits=limits) as it, contextlib.AsyncExitStack() as stack:
        assert isinstance(it.address, TcpAddress)
        strangers = []
        for number in range(40):
            stream = await stack.enter_async_context(await trio.open_tcp_stream(it.address.host, it.address.port))
            with contextlib.suppress(trio.BrokenResourceError):
                said = hostile_peer.bootstrap() + hostile_peer.open_session(secret=WRONG)
                await stream.send_all(said[: len(said) * (number % 3) // 2])
            strangers.append(stream)
        async with it.client(RIGHT) as client:
            assert await it.head(client) == Head(it.revision, "HEAD")
        for stream in strangers:
            with trio.fail_after(DEADLINE_SECONDS), contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    pass
        assert it.fake.calls.count(("head", URL)) == 1


async def test_before_there_is_a_session_nothing_much_is_read_and_no_repository_is_opened(tmp_path: Path) -> None:
    async with port(tmp_path, limits=Limits(handshake_seconds=1)) as it:
        assert isinstance(it.address, TcpAddress)
        async with await trio.open_tcp_stream(it.address.host, it.address.port) as stream:
            sent = 0
            with trio.move_on_after(DEADLINE_SECONDS), contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(hostile_peer.bootstrap() + hostile_peer.open_session(secret=WRONG))
                for number in range(2, 200_000):
                    await stream.send_all(hostile_peer.open_repository(number, URL))
                    sent += 1
        assert sent < 199_000
        assert it.fake.opened == 0
        assert it.fake.credentials == []


async def test_a_second_session_on_a_connection_ends_it(tmp_path: Path) -> None:
    async with port(tmp_path) as it:
        assert isinstance(it.address, TcpAddress)
        async with await trio.open_tcp_stream(it.address.host, it.address.port) as stream:
            await stream.send_all(
                hostile_peer.bootstrap()
                + hostile_peer.open_session(1, secret=WRONG)
                + hostile_peer.open_session(2, secret=RIGHT)
            )
            with trio.fail_after(DEADLINE_SECONDS), contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    pass
        assert it.fake.opened == 0


async def test_a_peer_of_another_user_is_refused_on_a_unix_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = UnixAddress(str(tmp_path / "s"))
    async with port(tmp_path, address=address) as it:
        for uid, is_served in ((os.geteuid(), True), (0, True), (os.geteuid() + 1, False), (65_534, False)):
            monkeypatch.setattr(server_module, "peer_of", lambda _, uid=uid: Peer("unix", is_local=True, uid=uid))
            settings = attrs.evolve(IMPATIENT, wait_for_connection_seconds=DEADLINE_SECONDS if is_served else 0.5)
            async with it.client(RIGHT, settings=settings) as client:
                if is_served:
                    assert await it.head(client) == Head(it.revision, "HEAD")
                else:
                    with pytest.raises(JiemiError, match="KrapaoUnavailable"):
                        await it.head(client)


# Idle sessions


async def test_a_session_with_nothing_open_ends_and_the_next_call_opens_another_without_a_word(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with port(tmp_path, limits=Limits(idle_seconds=0.2)) as it, it.client(RIGHT) as client:
            for _ in range(3):
                assert await it.head(client) == Head(it.revision, "HEAD")
                await until(lambda: client.connection is None, "the end of the idle session")
                # Its task learns of the end a moment later.
                await until(lambda: not client._wanted.is_set(), "that it connects again only when a call wants it")
            # With a repository open it stays.
            async with client.open(SOURCE, NOBODY) as repository:
                await repository.head(max_age_seconds=0)
                connection = client.connection
                await trio.sleep(0.6)
                assert client.connection is connection
    assert [line for line in logs if line["log_level"] in ("warning", "error")] == []


# The file


def test_a_secret_is_made_of_chance() -> None:
    made = {make_secret().reveal() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in made)
    assert "canary" not in repr(SensitiveText("canary"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n \n",
        b"short",
        b"x" * 1_025,
        b"\xff\xfe" * 20,
        b"a" * 9_000,
        b"with\0zero" * 4,
        b"\n".join([b"x" * 20] * 5),
    ],
)
def test_a_file_without_a_usable_secret_is_refused_without_saying_what_is_in_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(SessionSecretError) as caught:
        read_secret_file(path)
    assert str(path) in str(caught.value)
    assert content[:5].decode("latin-1") not in str(caught.value).replace(str(path), "") or not content.strip()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SessionSecretError, match="No such file"):
        read_secret_file(tmp_path / "none")


@given(st.binary(max_size=200))
def test_any_content_gives_secrets_or_the_one_error(content: bytes) -> None:
    try:
        found = parse_secrets(content, "file")
    except SessionSecretError:
        return
    assert all(16 <= len(each.reveal()) <= 1_024 for each in found)
    assert all(is_one_of(digest(each.reveal()), found) for each in found)
    assert not is_one_of(digest(hashlib.sha256(content).hexdigest()), found)


# The commands


def _krapao(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jiemi", "krapao", "--state-dir", str(folder / "state"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


AMBIENT = ("--allow-ambient-identity", "aws")
BOUNDS = ("--ambient-key", "aws=**", "--ambient-repository", "**")
PLAIN = ("--listen", "tcp:127.0.0.1:0", "--insecure-plain-tcp")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--listen", "tcp:127.0.0.1:0"), "give --tls-dir"),
        ((), "give --tls-dir"),
        (("--listen", "tcp:*:0", "--session-secret-file", "/nowhere"), "give --tls-dir"),
        (("--listen", "tcp:*:0", "--insecure-no-session-secret"), "give --tls-dir"),
        (("--listen", "tcp:127.0.0.1:0", "--tls-dir", "/nowhere"), "/nowhere/tls.crt can't be read"),
        ((*PLAIN, "--tls-dir", "/nowhere"), "--insecure-plain-tcp and --tls-dir exclude each other"),
        (PLAIN, "--session-secret-file"),
        (PLAIN, "--insecure-no-session-secret"),
        ((*PLAIN, "--insecure-no-session-secret", *AMBIENT, *BOUNDS), "needs --tls-dir"),
        ((*PLAIN, *AMBIENT, *BOUNDS), "needs --tls-dir"),
        (("--listen", "unix:/x/y", *AMBIENT), "--ambient-key aws=PATTERN"),
        (("--listen", "unix:/x/y", *AMBIENT, "--ambient-key", "aws=**"), "--ambient-repository PATTERN"),
        (("--listen", "unix:/x/y", *AMBIENT, "--ambient-key", "gcp=**"), "--ambient-key 'gcp=**'"),
        (("--listen", "unix:/x/y", *AMBIENT, "--ambient-key", "aws"), "PROVIDER=PATTERN"),
        (("--listen", "unix:/x/y", "--ambient-repository", "**"), "no use without"),
        ((*PLAIN, "--session-secret-file", "/nowhere"), "/nowhere can't be read"),
        ((*PLAIN, "--session-secret-file", "/nowhere", "--insecure-no-session-secret"), "exclude each other"),
    ],
)
def test_krapao_does_not_start_for_whoever_comes(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = _krapao(tmp_path, *arguments)
    assert done.returncode == 1, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_commands_on_tcp_with_a_secret_file_and_none_of_them_says_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(RIGHT + "\n")
    wrong = tmp_path / "wrong"
    wrong.write_text(WRONG + "\n")
    log = tmp_path / "log"
    command = [
        sys.executable,
        "-m",
        "jiemi",
        "krapao",
        "--state-dir",
        tmp_path / "state",
        "--listen",
        "tcp:127.0.0.1:0",
        "--insecure-plain-tcp",
    ]
    with log.open("wb") as output:
        krapao = subprocess.Popen(
            [*map(str, command), "--session-secret-file", str(secret)], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (found := re.search(r"tcp:127\.0\.0\.1:\d+", log.read_text())) is None:
            assert time.monotonic() < deadline
            assert krapao.poll() is None, log.read_text()
            time.sleep(0.05)

        def probe(*more: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "jiemi", "probe", "krapao", "--address", found[0], *more]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        done = probe("--session-secret-file", str(secret))
        assert done.returncode == 0, done.stderr
        for more in ((), ("--session-secret-file", str(wrong)), ("--session-secret-file", str(tmp_path / "none"))):
            done = probe(*more)
            assert done.returncode == 1
            assert "KrapaoAccessDenied" in done.stderr
            assert "canary" not in done.stderr + done.stdout
        told = Path(f"/proc/{krapao.pid}/cmdline").read_bytes() + Path(f"/proc/{krapao.pid}/environ").read_bytes()
        assert b"canary" not in told
    finally:
        krapao.terminate()
        krapao.wait(30)
    assert "session_refused" in log.read_text()
    assert "plain_tcp" in log.read_text(), "the operator is warned"
    assert "canary" not in log.read_text()
    # Nor anywhere that Krapao wrote.
    written = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert all(b"canary" not in path.read_bytes() for path in written)
