"""TLS at Krapao's port: who gets in, whom a client talks to, and certificates that change meanwhile."""

from __future__ import annotations

import contextlib
import datetime
import gc
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import pytest
import structlog
import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fakes.krapao import FakeKrapao, FakeOrigin
from rpc import hostile_peer
from rpc.rpc_helpers import DEADLINE_SECONDS, QUICK, SOURCE, URL, until
from support.network.tls_folders import HOUR, TestAuthority, TlsPair, now, tls_pair, write_parts

from jiemi.certificates import SERVER_AUTH
from jiemi.cli.tls_identities import identity_of_folder
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.address import TcpAddress
from jiemi.rpc.admission import Admission, Refusal
from jiemi.rpc.bridge import Bridge, open_bridge
from jiemi.rpc.channel import ClientTls
from jiemi.rpc.client import ClientSettings, KrapaoClient, connect
from jiemi.rpc.contract import Head
from jiemi.rpc.krapaos import Peer, connect_all
from jiemi.rpc.limits import Limits
from jiemi.rpc.server import serve
from jiemi.rpc.source import GitCredentials
from jiemi.rpc.tls import IdentitySource, ServerTls, TlsError, TlsFolder, TlsIdentity, read_identity
from jiemi.rpc.tls_names import KRAPAO_NAME, MIWEN_NAME, PARTS

CANARY = "canary-token-of-the-tls-tests"
CREDENTIALS = GitCredentials(username=SensitiveText("u"), token=SensitiveText(CANARY))
IMPATIENT = ClientSettings(connect_timeout_seconds=10, wait_for_connection_seconds=DEADLINE_SECONDS)
BRIEF = ClientSettings(wait_for_connection_seconds=1, backoff_first_seconds=0.05)


@attrs.define
class Port:
    """A fake Krapao behind TLS."""

    fake: FakeKrapao
    origin: FakeOrigin
    revision: str
    bridge: Bridge
    address: TcpAddress
    pair: TlsPair
    folder: Path
    refused: list[Refusal] = attrs.field(factory=list)

    @contextlib.asynccontextmanager
    async def client(
        self,
        identity: Path | None,
        *,
        settings: ClientSettings = QUICK,
        name: str = KRAPAO_NAME,
        looks_at_its_own: bool = True,
    ) -> AsyncIterator[KrapaoClient]:
        source = identity_of_folder if looks_at_its_own else _any_identity
        tls = ClientTls(source(identity), name) if identity is not None else None
        async with connect(self.address, bridge=self.bridge, settings=settings, tls=tls) as client:
            yield client

    async def head(self, client: KrapaoClient) -> Head:
        async with client.open(SOURCE, CREDENTIALS) as repository:
            with trio.fail_after(DEADLINE_SECONDS):
                return await repository.head(max_age_seconds=0)

    async def serves(self) -> bool:
        """Whether an honest client is served."""
        async with self.client(self.pair.miwen) as client:
            return await self.head(client) == Head(self.revision, "HEAD")


def _any_identity(folder: Path) -> IdentitySource:
    """Without asking whether a client may use it."""
    read = TlsFolder(folder).read

    async def identity() -> TlsIdentity:
        return read()

    return identity


@contextlib.asynccontextmanager
async def port(
    folder: Path, *, limits: Limits | None = None, usage: x509.ObjectIdentifier | None = SERVER_AUTH
) -> AsyncIterator[Port]:
    """Args: usage: what Krapao asks of its own certificate; None asks nothing, as if it did not look."""
    pair = tls_pair(folder)
    fake = FakeKrapao()
    origin = fake.add_origin(URL)
    revision = origin.commit({"f.yaml": []})
    refused: list[Refusal] = []
    admission = Admission(tls=ServerTls(TlsFolder(pair.krapao, usage)), refused=refused.append)
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        bound = await nursery.start(
            lambda **kw: serve(
                fake,
                TcpAddress("127.0.0.1", 0),
                bridge=bridge,
                limits=limits,
                admission=admission,
                **kw,
            )
        )
        yield Port(fake, origin, revision, bridge, bound, pair, folder, refused)
        nursery.cancel_scope.cancel()


async def failure_of(it: Port, client: KrapaoClient) -> tuple[str, str]:
    with pytest.raises(JiemiError) as caught:
        await it.head(client)
    assert CANARY not in str(caught.value)
    return caught.value.failure.reason, caught.value.failure.text


async def test_who_has_the_right_certificate_is_served_and_the_wire_shows_nothing(tmp_path: Path) -> None:
    async with port(tmp_path) as it:
        heard = bytearray()
        async with relay(it.address, heard) as through:
            tls = ClientTls(identity_of_folder(it.pair.miwen))
            async with connect(through, bridge=it.bridge, settings=QUICK, tls=tls) as client:
                assert await it.head(client) == Head(it.revision, "HEAD")
        assert ("head", URL) in it.fake.calls
        assert len(heard) > 1_000
        assert CANARY.encode() not in heard
        assert URL.encode() not in heard


@contextlib.asynccontextmanager
async def relay(target: TcpAddress, heard: bytearray) -> AsyncIterator[TcpAddress]:
    """Something between the two that hears all."""

    async def passed(source: trio.abc.ReceiveStream, to: trio.abc.SendStream) -> None:
        async for data in source:
            heard.extend(data)
            await to.send_all(data)

    async def connected(client: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream(target.host, target.port) as server:
            with contextlib.suppress(BaseExceptionGroup):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(passed, client, server)
                    await passed(server, client)
                    nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, connected, [listener])
        yield TcpAddress("127.0.0.1", listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


Strangers = Callable[[Port], Path]


def _of_another_authority(it: Port) -> Path:
    return TestAuthority().write(it.folder / "stranger", MIWEN_NAME, accepts=[it.pair.authority])


def _of_the_same_name_of_authority(it: Port) -> Path:
    """Another authority that calls itself the same, and a chain that claims it."""
    other = TestAuthority()
    folder = other.write(it.folder / "stranger", MIWEN_NAME, accepts=[it.pair.authority])
    chained = {name: (folder / name).read_bytes() for name in PARTS}
    chained["tls.crt"] += it.pair.authority.issued.certificate_pem()
    write_parts(folder, chained)
    return folder


def _krapaos_own(it: Port) -> Path:
    return it.pair.krapao


def _not_yet_valid(it: Port) -> Path:
    return it.pair.authority.write(it.folder / "stranger", MIWEN_NAME, made_at=now() + HOUR, lifetime=2 * HOUR)


@pytest.mark.parametrize(
    "stranger", [_of_another_authority, _of_the_same_name_of_authority, _krapaos_own, _not_yet_valid]
)
async def test_no_other_certificate_gets_in(tmp_path: Path, stranger: Strangers) -> None:
    with structlog.testing.capture_logs() as logs:
        async with port(tmp_path) as it:
            folder = stranger(it)
            async with it.client(folder, settings=BRIEF, looks_at_its_own=False) as client:
                reason, text = await failure_of(it, client)
            assert reason == "KrapaoUnavailable"
            assert "ended the connection after the TLS handshake" in text
            assert f"its log says why it refused {folder / 'tls.crt'}" in text
            assert it.fake.calls == []
            assert await it.serves()
    refusals = [line for line in logs if line["event"] == "peer_refused"]
    assert refusals
    assert all("certificate" in line["why"] for line in refusals)


@pytest.mark.parametrize("hosts", [("somebody",), ("krapao", "miwen.example"), (), ("10.0.0.1",), ("MIWEN2",)])
async def test_a_certificate_for_another_name_is_refused_with_the_name(tmp_path: Path, hosts: tuple[str, ...]) -> None:
    async with port(tmp_path) as it:
        stranger = it.pair.authority.write(tmp_path / "stranger", MIWEN_NAME, hosts=hosts)
        async with it.client(stranger, settings=IMPATIENT) as client:
            reason, text = await failure_of(it, client)
        assert reason == "KrapaoAccessDenied"
        assert "takes one for miwen" in text
        assert f"(Miwen showed {stranger / 'tls.crt'})" in text
        assert "--tls-client-name" in text
        assert it.refused == ["identity"] * len(it.refused) != []
        assert it.fake.calls == []
        assert await it.serves()


async def test_an_expired_certificate_gets_in_nowhere_and_the_client_says_so_itself(tmp_path: Path) -> None:
    async with port(tmp_path) as it:
        expired = it.pair.authority.write(
            tmp_path / "expired", MIWEN_NAME, made_at=now() - 2 * HOUR, lifetime=HOUR - datetime.timedelta(seconds=1)
        )
        async with it.client(expired, settings=IMPATIENT) as client:
            reason, text = await failure_of(it, client)
        assert reason == "KrapaoNotTrusted"
        assert "has expired" in text
        # A client that does not look at its own.
        with contextlib.suppress(trio.BrokenResourceError, ssl.SSLError):
            await _raw(it, _raw_context(it.pair.authority, expired))
        assert it.fake.calls == []
        assert await it.serves()


async def test_a_certificate_that_a_client_may_not_use_is_named_by_the_client_itself(tmp_path: Path) -> None:
    async with port(tmp_path) as it:
        async with it.client(it.pair.krapao, settings=IMPATIENT) as client:
            reason, text = await failure_of(it, client)
        assert reason == "KrapaoNotTrusted"
        assert (
            f"the certificate in {it.pair.krapao / 'tls.crt'} lacks the usage client auth. Have it issued for" in text
        )
        assert it.fake.calls == []


def _raw_context(
    authority: TestAuthority, folder: Path | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.issued.certificate_pem().decode())
    context.maximum_version = version
    if folder is not None:
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


async def _raw(it: Port, context: ssl.SSLContext) -> bytes:
    """What a client of another kind hears after it asked for a session."""
    with trio.fail_after(DEADLINE_SECONDS):
        async with await trio.open_tcp_stream(it.address.host, it.address.port) as plain:
            stream: trio.SSLStream[trio.SocketStream] = trio.SSLStream(plain, context, server_hostname=KRAPAO_NAME)
            await stream.do_handshake()
            await stream.send_all(hostile_peer.bootstrap() + hostile_peer.open_session())
            return bytes(await stream.receive_some(1))


async def test_without_a_certificate_or_with_an_older_tls_nobody_gets_in(tmp_path: Path) -> None:
    async with port(tmp_path) as it:
        assert await _raw(it, _raw_context(it.pair.authority, it.pair.miwen)) != b"", "the test's client can"
        for context in (
            _raw_context(it.pair.authority, None),
            _raw_context(it.pair.authority, it.pair.miwen, ssl.TLSVersion.TLSv1_2),
        ):
            with pytest.raises(trio.BrokenResourceError):
                await _raw(it, context)
        assert await it.serves()


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        hostile_peer.bootstrap() + hostile_peer.open_session(),
        b"\x16\x03\x01\x40\x00" + b"\x01" * 16_384,
        b"\x16\x03\x03\x00\x02\x01\x00",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\xff" * 100_000,
        b"\0",
    ],
    ids=["http", "plain capnp", "a large hello", "half a hello", "an alert", "a lot", "a byte"],
)
async def test_plain_bytes_end_their_own_connection(tmp_path: Path, said: bytes) -> None:
    async with port(tmp_path, limits=Limits(handshake_seconds=1)) as it:
        with trio.fail_after(DEADLINE_SECONDS):
            async with await trio.open_tcp_stream(it.address.host, it.address.port) as stream:
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(said)
                    while await stream.receive_some():
                        pass
        assert it.fake.calls == []
        assert await it.serves()
        assert it.refused == ["handshake"]


async def test_who_says_nothing_after_the_handshake_or_too_much_is_counted_once(tmp_path: Path) -> None:
    async with port(tmp_path, limits=Limits(handshake_seconds=1)) as it:
        assert await it.serves()
        assert it.refused == []
        for said, why in ((b"", "session"), (b"\xff" * 1_000, "message")):
            it.refused.clear()
            with trio.fail_after(DEADLINE_SECONDS):
                async with await trio.open_tcp_stream(it.address.host, it.address.port) as plain:
                    context = _raw_context(it.pair.authority, it.pair.miwen)
                    stream = trio.SSLStream(plain, context, server_hostname=KRAPAO_NAME)
                    await stream.do_handshake()
                    with contextlib.suppress(trio.BrokenResourceError):
                        await stream.send_all(said)
                        while await stream.receive_some():
                            pass
            await until(lambda: bool(it.refused))
            assert it.refused == [why]


async def test_a_client_without_tls_learns_what_to_give(tmp_path: Path) -> None:
    async with port(tmp_path) as it, it.client(None, settings=BRIEF) as client:
        reason, text = await failure_of(it, client)
        assert reason == "KrapaoUnavailable"
        assert "--tls-secret or --tls-dir" in text


async def test_two_hundred_connections_that_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    async with port(tmp_path) as it:
        idle = []
        try:
            for _ in range(200):
                idle.append(await trio.open_tcp_stream(it.address.host, it.address.port))
                if len(idle) % 50 == 0:
                    assert await it.serves()
            assert len(it.refused) >= 200 - Limits().newcomers
            assert set(it.refused) == {"place"}
        finally:
            for stream in idle:
                await stream.aclose()


# Whom a client talks to


def _plain_server(heard: bytearray) -> Callable[[trio.SocketStream], Awaitable[object]]:
    async def listen(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            heard.extend(await stream.receive_some())
            await stream.send_all(b"\0" * 64)
            heard.extend(await stream.receive_some())

    return listen


async def test_a_client_says_nothing_to_who_speaks_no_tls(tmp_path: Path) -> None:
    pair, heard = tls_pair(tmp_path), bytearray()
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, _plain_server(heard), [listener])
        address = TcpAddress("127.0.0.1", listener.socket.getsockname()[1])
        it = Port(FakeKrapao(), FakeKrapao().add_origin(URL), "", bridge, address, pair, tmp_path)
        async with it.client(pair.miwen, settings=IMPATIENT) as client:
            reason, text = await failure_of(it, client)
        assert reason == "KrapaoNotTrusted"
        assert "it does not speak TLS" in text
        assert heard.startswith(b"\x16\x03"), "a hello of TLS"
        assert CANARY.encode() not in heard
        nursery.cancel_scope.cancel()


async def _closes_at_once(stream: trio.SocketStream) -> None:
    """As one whose places are taken, or that is about to end."""


async def _closes_after_the_hello(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def _resets(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("end", [_closes_at_once, _closes_after_the_hello, _resets])
async def test_a_connection_that_ends_in_the_handshake_is_no_lack_of_trust(
    tmp_path: Path, end: Callable[[trio.SocketStream], Awaitable[object]]
) -> None:
    pair = tls_pair(tmp_path)
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, end, [listener])
        address = TcpAddress("127.0.0.1", listener.socket.getsockname()[1])
        it = Port(FakeKrapao(), FakeKrapao().add_origin(URL), "", bridge, address, pair, tmp_path)
        async with it.client(pair.miwen, settings=BRIEF) as client:
            reason, text = await failure_of(it, client)
        assert (reason, "ended the connection during the TLS handshake" in text) == ("KrapaoUnavailable", True), text
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("another authority", "unable to get local issuer certificate (accepted are the authorities in {}/ca.crt)"),
        ("another name", "not valid for 'krapao'"),
        ("a client's certificate", "unsuitable certificate purpose"),
        ("not yet valid", "not yet valid"),
    ],
)
async def test_a_client_says_nothing_to_who_is_not_krapao(tmp_path: Path, change: str, words: str) -> None:
    async with port(tmp_path, usage=None) as it:
        authority, krapao = it.pair.authority, it.pair.krapao
        if change == "another authority":
            TestAuthority().write(krapao, KRAPAO_NAME, accepts=[authority])
        elif change == "another name":
            authority.write(krapao, KRAPAO_NAME, hosts=("krapao2", "127.0.0.1"))
        elif change == "a client's certificate":
            authority.write(krapao, MIWEN_NAME, hosts=(KRAPAO_NAME,))
        else:
            authority.write(krapao, KRAPAO_NAME, made_at=now() + HOUR, lifetime=2 * HOUR)
        async with it.client(it.pair.miwen, settings=IMPATIENT) as client:
            reason, text = await failure_of(it, client)
        assert reason == "KrapaoNotTrusted"
        assert words.format(it.pair.miwen) in text
        assert "`krapao-tls`" in text
        assert it.fake.calls == []


async def test_of_several_krapaos_one_that_is_somebody_else_is_passed_over_and_learns_nothing(tmp_path: Path) -> None:
    """As where a Pod has Krapao's labels, or an EndpointSlice names somebody's address."""
    async with port(tmp_path / "ours") as it, port(tmp_path / "theirs") as stranger:
        there = [Peer("repository-0", it.address), Peer("repository-1", stranger.address)]
        here = [Peer("repository-0", stranger.address), Peer("repository-1", it.address)]
        for peers in (there, here):
            tls = ClientTls(identity_of_folder(it.pair.miwen))
            async with (
                connect_all(peers, bridge=it.bridge, settings=QUICK, tls=tls) as krapaos,
                krapaos.open(SOURCE, CREDENTIALS) as repository,
            ):
                with trio.fail_after(DEADLINE_SECONDS):
                    assert await repository.head(max_age_seconds=0) == Head(it.revision, "HEAD")
        assert len(it.fake.calls) == 2
        assert (stranger.fake.credentials, stranger.fake.calls) == ([], [])


async def test_the_names_are_the_operators_choice(tmp_path: Path) -> None:
    pair = tls_pair(tmp_path)
    pair.authority.write(pair.krapao, KRAPAO_NAME, hosts=("k.example",))
    pair.authority.write(pair.miwen, MIWEN_NAME, hosts=("m.example",))
    fake = FakeKrapao()
    origin = fake.add_origin(URL)
    revision = origin.commit({"f.yaml": []})
    admission = Admission(tls=ServerTls(TlsFolder(pair.krapao), "m.example"))
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        bound = await nursery.start(
            lambda **kw: serve(fake, TcpAddress("127.0.0.1", 0), bridge=bridge, admission=admission, **kw)
        )
        it = Port(fake, origin, revision, bridge, bound, pair, tmp_path)
        async with it.client(pair.miwen, name="k.example") as client:
            assert await it.head(client) == Head(revision, "HEAD")
        nursery.cancel_scope.cancel()


# Certificates that change


async def another_connection(client: KrapaoClient) -> None:
    """Wait until the client uses another connection than now."""
    before = client.connection
    await until(lambda: client.connection not in (before, None), "another connection")


@attrs.define
class Churn:
    """Calls and a watch without a pause, and what became of them."""

    client: KrapaoClient
    calls: int = 0
    moves: int = 0
    failures: list[str] = attrs.field(factory=list)

    async def call(self) -> None:
        async with self.client.open(SOURCE, CREDENTIALS) as repository:
            while True:
                try:
                    await repository.head(max_age_seconds=0)
                except JiemiError as error:
                    self.failures.append(str(error))
                self.calls += 1
                await trio.sleep(0.01)

    async def watch(self) -> None:
        async with self.client.open(SOURCE, CREDENTIALS) as repository:
            try:
                await repository.watch(self._moved)
            except JiemiError as error:
                self.failures.append(str(error))

    def _moved(self, _: Head) -> None:
        self.moves += 1

    async def sees(self, origin: FakeOrigin, number: int) -> None:
        seen = self.moves
        origin.commit({"f.yaml": [], f"{number}.yaml": []})
        await until(lambda: self.moves > seen, "the watch says that it moved")


async def test_certificates_are_renewed_ten_times_and_no_call_and_no_watch_fails(tmp_path: Path) -> None:
    """Each renewal is of both ends, every second time of the authority too, which is made known first."""
    short = datetime.timedelta(seconds=4)
    settings = attrs.evolve(QUICK, renewal_least_seconds=0.05)
    async with port(tmp_path) as it:
        authorities = [it.pair.authority]

        def write(signer: TestAuthority) -> None:
            for folder, name in ((it.pair.krapao, KRAPAO_NAME), (it.pair.miwen, MIWEN_NAME)):
                signer.write(folder, name, lifetime=short, accepts=authorities[-2:])

        write(authorities[0])
        async with it.client(it.pair.miwen, settings=settings) as client, trio.open_nursery() as nursery:
            churn = Churn(client)
            for _ in range(8):
                nursery.start_soon(churn.call)
            nursery.start_soon(churn.watch)
            connections = set()
            for number in range(10):
                if number % 2:
                    authorities.append(TestAuthority())
                # A new authority is made known first; it signs with the next renewal.
                write(authorities[-2 if number % 2 else -1])
                await another_connection(client)
                connections.add(client.connection)
                await until(lambda: it.fake.watching == 1, "the watch is on one of them")
                await churn.sees(it.origin, number)
            nursery.cancel_scope.cancel()
        assert churn.failures == []
        assert churn.calls > 100
        assert len(connections) == 10


async def test_a_call_that_is_under_way_ends_on_the_connection_that_it_began_on(tmp_path: Path) -> None:
    short = datetime.timedelta(seconds=2)
    settings = attrs.evolve(QUICK, renewal_least_seconds=0.05)
    async with port(tmp_path) as it:
        it.pair.authority.write(it.pair.miwen, MIWEN_NAME, lifetime=short)
        async with (
            it.client(it.pair.miwen, settings=settings) as client,
            trio.open_nursery() as nursery,
            client.open(SOURCE, CREDENTIALS) as repository,
        ):
            it.fake.gate = trio.Event()
            answers = []

            async def call() -> None:
                answers.append(await repository.head(max_age_seconds=0))

            nursery.start_soon(call)
            await until(lambda: it.fake.running == 1, "the call is under way")
            first = client.connection
            assert first is not None
            begun_on = first
            it.pair.authority.write(it.pair.miwen, MIWEN_NAME)
            await another_connection(client)
            assert not begun_on.ended
            it.fake.gate.set()
            await until(lambda: len(answers) == 1, "the answer")
            await until(lambda: begun_on.ended, "the end of the first connection")


async def test_a_session_ends_with_its_certificate_and_with_its_authority(tmp_path: Path) -> None:
    limits = Limits(idle_seconds=0.4)
    patient = attrs.evolve(QUICK, renewal_least_seconds=1_000)
    async with port(tmp_path, limits=limits) as it:
        short = it.pair.authority.write(tmp_path / "short", MIWEN_NAME, lifetime=datetime.timedelta(seconds=1))
        with structlog.testing.capture_logs() as logs:
            async with it.client(short, settings=patient) as client, client.open(SOURCE, CREDENTIALS) as repository:
                await repository.head(max_age_seconds=0)
                connection = client.connection
                assert connection is not None
                await until(lambda: connection.ended, "the end of an expired session")
            async with (
                it.client(it.pair.miwen, settings=patient) as client,
                client.open(SOURCE, CREDENTIALS) as repository,
            ):
                await repository.head(max_age_seconds=0)
                second = client.connection
                assert second is not None
                # Made again with the same key, an authority is the same one.
                it.pair.authority.renewed().write(it.pair.krapao, KRAPAO_NAME)
                await trio.sleep(4 * limits.idle_seconds)
                assert not second.ended
                another = TestAuthority()
                another.write(it.pair.krapao, KRAPAO_NAME)
                await until(lambda: second.ended, "the end of a session of an authority that is gone")
                another.write(it.pair.miwen, MIWEN_NAME)
                assert await repository.head(max_age_seconds=0) == Head(it.revision, "HEAD")
        said = [line["why"] for line in logs if line["event"] == "connection_closed"]
        assert said == ["its certificate has expired", "an authority is no longer trusted"]


@pytest.mark.parametrize("krapaos", [1, 2, 3])
async def test_a_call_fails_with_no_attempt_that_began_before_it(tmp_path: Path, krapaos: int) -> None:
    # Certificates that are right again while an attempt with the wrong ones is under way, and others have failed.
    async with port(tmp_path) as it:
        wrong = TlsFolder(TestAuthority().write(tmp_path / "wrong", MIWEN_NAME)).read()
        looked, go_on = trio.Event(), trio.Event()
        held = mended = False

        async def identity() -> TlsIdentity:
            if mended:
                return TlsFolder(it.pair.miwen).read()
            if held:
                looked.set()
                await go_on.wait()
            return wrong

        peers = [Peer(f"repository-{number}", it.address) for number in range(krapaos)]
        async with (
            connect_all(peers, bridge=it.bridge, settings=QUICK, tls=ClientTls(identity)) as client,
            client.open(SOURCE, CREDENTIALS) as repository,
            trio.open_nursery() as nursery,
        ):
            with pytest.raises(JiemiError, match="KrapaoNotTrusted"):
                await repository.head(max_age_seconds=0)
            held = True
            await looked.wait()
            mended = True
            nursery.start_soon(_set_when_blocked, go_on)
            assert await repository.head(max_age_seconds=0) == Head(it.revision, "HEAD")


async def _set_when_blocked(event: trio.Event) -> None:
    await trio.testing.wait_all_tasks_blocked(0.1)
    event.set()


@pytest.mark.parametrize("damage", ["gone", "a key of another", "half written", "no usage for it"])
async def test_while_krapaos_folder_cant_be_used_the_last_identity_serves_and_the_log_says_why(
    tmp_path: Path, damage: str
) -> None:
    async with port(tmp_path) as it:
        assert await it.serves()
        parts = {name: (it.pair.krapao / name).read_bytes() for name in PARTS}
        if damage == "gone":
            del parts["tls.key"]
        elif damage == "a key of another":
            parts["tls.key"] = (it.pair.miwen / "tls.key").read_bytes()
        elif damage == "no usage for it":
            parts = {name: (it.pair.miwen / name).read_bytes() for name in PARTS}
        else:
            parts["tls.crt"] = parts["tls.crt"][:100]
        write_parts(it.pair.krapao, parts)
        with structlog.testing.capture_logs() as logs:
            assert await it.serves()
        [line] = [line for line in logs if line["event"] == "tls_identity_unusable"]
        assert str(it.pair.krapao) in line["error"]


# Identities


def _parts(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in PARTS}


def _encrypted(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("tls.crt", lambda _: None, "tls.crt of the test is missing or empty"),
        ("ca.crt", lambda _: b" \n", "ca.crt of the test is missing or empty"),
        ("tls.key", lambda _: b"x", "tls.key of the test is no private key"),
        ("tls.key", _encrypted, "encrypted with a passphrase"),
        ("tls.key", lambda data: data + b"\0" * 300_000, "larger than 262144 bytes"),
        ("tls.crt", lambda data: data[:-80], "tls.crt of the test is no certificate"),
        ("ca.crt", lambda _: None, "ca.crt of the test is missing or empty"),
        ("ca.crt", lambda data: data.replace(b"CERTIFICATE", b"PRIVATE KEY"), "ca.crt of the test is no certificate"),
        ("tls.key", lambda data: data.upper(), "tls.key of the test is no private key"),
    ],
)
def test_an_identity_that_cant_be_used_is_named_and_none_of_its_key_is_said(
    tmp_path: Path, part: str, change: Callable[[bytes], bytes | None], words: str
) -> None:
    parts = _parts(tls_pair(tmp_path).miwen)
    key = parts["tls.key"].decode().splitlines()[1]
    changed = change(parts[part])
    if changed is None:
        del parts[part]
    else:
        parts[part] = changed
    with pytest.raises(TlsError) as caught:
        read_identity(parts, lambda name: f"{name} of the test", now())
    assert words in str(caught.value)
    assert ("of kind CA" in caught.value.remedy) == (words == "ca.crt of the test is missing or empty")
    assert key[:16] not in str(caught.value)
    assert key[:16].upper() not in str(caught.value)


def _open_files() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


def test_an_identity_shows_its_key_to_nobody_and_leaves_no_file_open(tmp_path: Path) -> None:
    pair = tls_pair(tmp_path)
    identity = read_identity(_parts(pair.miwen), str, now())
    key = _parts(pair.miwen)["tls.key"].decode().splitlines()[1]
    assert key not in repr(identity)
    gc.collect()
    before = _open_files()
    server = ServerTls(TlsFolder(pair.krapao))
    assert server.refresh()
    assert _open_files() == before


async def test_a_handshake_that_is_cancelled_leaves_no_socket(tmp_path: Path) -> None:
    pair = tls_pair(tmp_path)
    tls = ClientTls(identity_of_folder(pair.miwen))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = TcpAddress("127.0.0.1", silent.getsockname()[1])
        gc.collect()
        before = len(_open_files())
        async with open_bridge() as bridge:
            quick = ClientSettings(connect_timeout_seconds=0.2, wait_for_connection_seconds=1)
            async with (
                connect(address, bridge=bridge, settings=quick, tls=tls) as client,
                client.open(SOURCE, CREDENTIALS) as repository,
            ):
                with pytest.raises(JiemiError, match="no answer within"):
                    await repository.head(max_age_seconds=0)
        gc.collect()
        assert len(_open_files()) == before
