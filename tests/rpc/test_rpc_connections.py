"""Connections that break, strangers that connect, servers that restart: who is served goes on being served."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import random
import signal
import socket
import struct
import subprocess
import sys
import termios
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
from fakes.krapao import RIGHT_KEY, FakeKrapao
from rpc.rpc_helpers import DEADLINE_SECONDS, QUICK, SOURCE, URL, Running, pair, running, until
from support.processes.threads import own_threads

from jiemi.core.errors import JiemiError
from jiemi.rpc import codec
from jiemi.rpc.address import TcpAddress, UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.capability import Remote
from jiemi.rpc.client import ClientSettings, connect
from jiemi.rpc.contract import MEBIBYTE, RenderRequest, Repository
from jiemi.rpc.server import Limits
from jiemi.rpc.sockets import detach
from jiemi.rpc.source import GitCredentials

NOBODY = GitCredentials()


@contextlib.asynccontextmanager
async def stranger(server: Running) -> AsyncIterator[trio.SocketStream]:
    assert isinstance(server.address, UnixAddress)
    async with await trio.open_unix_socket(server.address.path) as stream:
        yield stream


async def is_closed(stream: trio.SocketStream) -> bool:
    """Wait until the server has closed the connection; what it says before that is passed over."""
    with trio.fail_after(DEADLINE_SECONDS), contextlib.suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass
    return True


async def works(repository: Repository) -> bool:
    with trio.fail_after(DEADLINE_SECONDS):
        return bool((await repository.head(max_age_seconds=0)).revision)


# Restarts


async def test_a_call_in_flight_fails_at_once_when_the_server_goes_and_the_next_one_works(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, it.client.open(SOURCE, NOBODY) as repository:
        it.origin.commit({"f.yaml": []})
        reasons: list[str] = []

        async def call(work: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(JiemiError, match=r"unix:/.* ended during the call") as caught:
                await work()
            reasons.append(caught.value.failure.reason)

        for _ in range(3):
            it.fake.gate = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, lambda: repository.head(max_age_seconds=0))
                nursery.start_soon(
                    call, lambda: repository.render(RenderRequest("0" * 40, "f.yaml", None, (RIGHT_KEY,)))
                )
                nursery.start_soon(call, lambda: repository.watch(lambda _: None))
                await until(lambda: it.fake.running == 2 and it.fake.watching == 1)
                await it.server.stop()
                assert it.idle
            it.fake.gate.set()
            await it.server.start()
            # The same handle, on a new connection.
            assert await works(repository)
        assert reasons == ["KrapaoUnavailable"] * 9


async def test_without_a_server_calls_wait_a_little_and_then_name_its_address(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "nobody.sock"))
    settings = ClientSettings(wait_for_connection_seconds=0.1)
    async with (
        open_bridge() as bridge,
        connect(address, bridge=bridge, settings=settings) as client,
        client.open(SOURCE, NOBODY) as repository,
    ):
        with trio.fail_after(DEADLINE_SECONDS):
            with pytest.raises(JiemiError) as caught:
                await repository.head(max_age_seconds=0)
            with pytest.raises(JiemiError, match="KrapaoUnavailable"):
                await repository.watch(lambda _: None)
    assert caught.value.failure.reason == "KrapaoUnavailable"
    assert f"no connection to Krapao at {address}: " in caught.value.failure.text
    assert "No such file" in caught.value.failure.text


async def test_a_call_that_came_before_the_server_is_answered_once_it_is_there(tmp_path: Path) -> None:
    fake = FakeKrapao()
    fake.add_origin(URL).commit({"f.yaml": []})
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        server = Running(fake, UnixAddress(str(tmp_path / "late.sock")), bridge, nursery)
        async with (
            connect(server.address, bridge=bridge, settings=QUICK) as client,
            client.open(SOURCE, NOBODY) as repository,
            trio.open_nursery() as calls,
        ):
            calls.start_soon(works, repository)
            await until(lambda: client._trouble.startswith("No such file"), "the first attempt")
            await server.start()
        nursery.cancel_scope.cancel()


async def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = TcpAddress("127.0.0.1", silent.getsockname()[1])
        settings = ClientSettings(connect_timeout_seconds=0.1, wait_for_connection_seconds=0.3)
        async with (
            open_bridge() as bridge,
            connect(address, bridge=bridge, settings=settings) as client,
            client.open(SOURCE, NOBODY) as repository,
        ):
            with pytest.raises(JiemiError, match=r"KrapaoUnavailable: .*it opened no session"):
                await repository.head(max_age_seconds=0)


async def test_what_is_no_krapao_is_given_up(tmp_path: Path) -> None:
    async def says_http(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            trio.serve_tcp,
            says_http,
            0,
        )
        address = TcpAddress("127.0.0.1", listeners[0].socket.getsockname()[1])
        settings = ClientSettings(wait_for_connection_seconds=0.3)
        async with (
            open_bridge() as bridge,
            connect(address, bridge=bridge, settings=settings) as client,
            client.open(SOURCE, NOBODY) as repository,
        ):
            with pytest.raises(JiemiError, match=r"KrapaoUnavailable: .*it opened no session"):
                await repository.head(max_age_seconds=0)
        nursery.cancel_scope.cancel()


_SERVER = """
    import sys, trio
    from fakes.krapao import FakeKrapao
    from jiemi.rpc.address import UnixAddress
    from jiemi.rpc.bridge import open_bridge
    from jiemi.rpc.server import serve

    async def main():
        krapao = FakeKrapao()
        origin = krapao.add_origin("https://git.example/app.git")
        origin.commit({"f.yaml": []})
        if sys.argv[2] == "hang":
            krapao.gate = trio.Event()
        async with open_bridge() as bridge, trio.open_nursery() as nursery:
            await nursery.start(lambda **kw: serve(krapao, UnixAddress(sys.argv[1]), bridge=bridge, **kw))
            print("ready", flush=True)

    trio.run(main)
"""


@contextlib.contextmanager
def server_process(path: str, how: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_SERVER), path, how],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_a_server_killed_in_the_middle_of_a_call_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "krapao.sock")
    async with (
        open_bridge() as bridge,
        connect(UnixAddress(path), bridge=bridge, settings=QUICK) as client,
        client.open(SOURCE, NOBODY) as repository,
    ):
        with server_process(path, "hang") as process:
            async with trio.open_nursery() as nursery:

                async def fails() -> None:
                    with pytest.raises(JiemiError, match=r"KrapaoUnavailable: .* ended during the call"):
                        await repository.head(max_age_seconds=0)

                nursery.start_soon(fails)
                await until(lambda: client.connection is not None)
                process.send_signal(signal.SIGKILL)
        # It could not remove its socket; the next one takes its place.
        assert Path(path).is_socket()  # noqa: ASYNC240
        with server_process(path, "answer"):
            assert await works(repository)


# Strangers


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: krapao\r\n\r\n",
    "tls": bytes.fromhex("16030100a5010000a10303") + b"\x5a" * 150,
    "too many segments": struct.pack("<I", 1_000_000) + b"\0" * 64,
    "too large": struct.pack("<II", 0, 0x7FFF_FFFF) + b"\0" * 64,
    "empty message": struct.pack("<II", 0, 0),
    "a pointer beyond the message": struct.pack("<IIQ", 0, 1, 0x0000_0001_7FFF_FFFC),
    "random": random.Random(2).randbytes(10_000),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_closes_its_connection_only(name: str, tmp_path: Path) -> None:
    async with pair(tmp_path) as it, it.client.open(SOURCE, NOBODY) as repository:
        it.origin.commit({"f.yaml": []})
        assert await works(repository)
        connection = it.client.connection
        async with stranger(it.server) as stream:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(GARBAGE[name])
                await stream.send_eof()
            assert await is_closed(stream)
        assert await works(repository)
        assert it.client.connection is connection


async def test_damaged_messages_of_a_real_client_hurt_no_other(tmp_path: Path) -> None:
    """A recorded conversation, replayed many times with bytes changed at random."""
    chance = random.Random(3)
    async with pair(tmp_path) as it, it.client.open(SOURCE, NOBODY) as repository:
        it.origin.commit({"f.yaml": []})
        conversation = await _recorded_conversation(it.server)
        assert len(conversation) > 300
        for _ in range(150):
            damaged = bytearray(conversation)
            for _ in range(chance.choice([1, 2, 8])):
                damaged[chance.randrange(len(damaged))] = chance.choice([0, 1, 255, chance.randrange(256)])
            async with stranger(it.server) as stream:
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(bytes(damaged))
                    with trio.move_on_after(0.005):  # for its calls to be run, before the end of it cancels them
                        while await stream.receive_some():
                            pass
                    await stream.send_eof()
                assert await is_closed(stream)
        assert await works(repository)
        await until(lambda: it.fake.opened == 1 and it.fake.running == 0, "the end of their work")


async def test_the_bridge_ends_though_a_peer_takes_nothing_and_stays(tmp_path: Path) -> None:
    fake = FakeKrapao()
    revision = fake.add_origin(URL).commit({"f.yaml": ["x" * (6 * MEBIBYTE)]})
    async with open_bridge():  # the first one of a process reads the schema, whose files pycapnp keeps open
        pass
    gc.collect()  # what the tests before left to it is none of this one
    threads, files = own_threads(), len(list(Path("/proc/self/fd").iterdir()))  # noqa: ASYNC240
    async with contextlib.AsyncExitStack() as stack:
        with trio.fail_after(DEADLINE_SECONDS):
            async with running(tmp_path, fake) as server:
                stream = await stack.enter_async_context(stranger(server))
                ours, theirs = socket.socketpair()
                client_end = stack.enter_context(ours)
                client_end.setblocking(False)

                async def up() -> None:
                    client = trio.SocketStream(trio.socket.from_stdlib_socket(client_end))
                    async for data in client:
                        await stream.send_all(data)

                async def client() -> None:
                    bootstrap = await _bootstrap(server, theirs, nursery)
                    await server.bridge.run(lambda: _talk(bootstrap, revision))

                async with trio.open_nursery() as nursery:
                    # A client that asks for an answer that no socket's buffer holds, whose connection takes nothing of
                    # what the server says, and stays open when all else has ended.
                    nursery.start_soon(up)
                    nursery.start_soon(client)
                    await until(lambda: ("render", URL, "f.yaml") in fake.calls and fake.running == 0)
                    await until(lambda: _unread_bytes(stream) > 10_000, "the beginning of the answer")
                    nursery.cancel_scope.cancel()
    gc.collect()
    assert own_threads() - threads == set()
    assert len(list(Path("/proc/self/fd").iterdir())) == files  # noqa: ASYNC240


def _unread_bytes(stream: trio.SocketStream) -> int:
    waiting = fcntl.ioctl(stream.socket.fileno(), termios.FIONREAD, bytes(4))
    return int(struct.unpack("i", waiting)[0])


async def _bootstrap(server: Running, sock: socket.socket, nursery: trio.Nursery) -> Remote:
    """Be a client on a socket, until the nursery is cancelled."""
    ready = trio.Event()
    remotes: list[Remote] = []

    def got(remote: Remote) -> None:
        remotes.append(remote)
        ready.set()

    nursery.start_soon(lambda: server.bridge.connect(sock, "Krapao", receive_bytes=10 * MEBIBYTE, ready=got))
    await ready.wait()
    return remotes[0]


async def _talk(bootstrap: Remote, revision: str = "0" * 40) -> None:
    """Open, head and render, all pipelined. In the bridge's thread."""
    session = bootstrap.capability().openSession(1).session
    repository = session.openRepository({"url": URL}, {"token": "t"}).repository
    head = repository.head(0)
    keys = [{"age": RIGHT_KEY.private_key.reveal()}]
    await repository.render({"revision": revision, "path": "f.yaml", "keys": keys})
    await head


async def _recorded_conversation(server: Running) -> bytes:
    """The bytes that a client says."""
    recorded = bytearray()
    ours, theirs = socket.socketpair()
    async with trio.open_nursery() as nursery, stranger(server) as upstream:
        client_end = trio.SocketStream(trio.socket.from_stdlib_socket(ours))

        async def up() -> None:
            async for data in client_end:
                recorded.extend(data)
                await upstream.send_all(data)

        async def down() -> None:
            async for data in upstream:
                await client_end.send_all(data)

        nursery.start_soon(up)
        nursery.start_soon(down)
        bootstrap = await _bootstrap(server, theirs, nursery)
        await server.bridge.run(lambda: _talk(bootstrap))
        nursery.cancel_scope.cancel()
    ours.close()
    return bytes(recorded)


async def test_a_message_over_the_limit_closes_its_connection_only(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, it.client.open(SOURCE, NOBODY) as repository:
        it.origin.commit({"f.yaml": []})
        conversation = await _recorded_conversation(it.server)
        assert await works(repository)
        connection = it.client.connection
        async with stranger(it.server) as stream:
            # In the middle of a good conversation, one message of one segment, as rpc.capnp frames it.
            await stream.send_all(conversation)
            with contextlib.suppress(trio.BrokenResourceError):  # it may be closed before the last byte is sent
                await stream.send_all(struct.pack("<II", 0, 3 * codec.MAX_MESSAGE_BYTES // 8) + bytes(100_000))
            assert await is_closed(stream)
        assert await works(repository)
        assert it.client.connection is connection
        await until(lambda: it.fake.opened == 1, "the end of the stranger's work")


async def test_a_connection_that_opens_no_session_is_closed(tmp_path: Path) -> None:
    async with pair(tmp_path, limits=Limits(handshake_seconds=0.1)) as it, it.client.open(SOURCE, NOBODY) as repository:
        it.origin.commit({"f.yaml": []})
        assert await works(repository)
        connection = it.client.connection
        async with stranger(it.server) as stream:
            assert await is_closed(stream)
        assert await works(repository)
        assert it.client.connection is connection


async def test_a_session_beyond_the_limit_is_refused_until_one_has_nothing_open_which_then_makes_way(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path, limits=Limits(connections=1, local_places=0)) as it:
        it.origin.commit({"f.yaml": []})
        async with connect(it.server.address, bridge=it.bridge, settings=QUICK) as second:
            async with it.client.open(SOURCE, NOBODY) as repository, second.open(SOURCE, NOBODY) as other:
                assert await works(repository)
                with pytest.raises(JiemiError, match=r"KrapaoUnavailable: no session .* as many sessions open"):
                    await other.head(max_age_seconds=0)
                assert await works(repository)
            await until(lambda: it.fake.opened == 0)
            async with second.open(SOURCE, NOBODY) as other:
                with trio.fail_after(DEADLINE_SECONDS):
                    while True:  # it was told to wait between its attempts
                        with contextlib.suppress(JiemiError):
                            await other.head(max_age_seconds=0)
                            break
            await until(lambda: it.client.connection is None, "the end of the first, which made way")


async def test_strangers_beyond_the_places_for_newcomers_drive_out_their_own_oldest(tmp_path: Path) -> None:
    limits = Limits(newcomers=2, local_places=0)
    async with pair(tmp_path, limits=limits) as it, it.client.open(SOURCE, NOBODY) as repository:
        it.origin.commit({"f.yaml": []})
        assert await works(repository)
        async with stranger(it.server) as first, stranger(it.server) as second:
            await second.send_all(bytes(4))
            async with stranger(it.server):
                assert await is_closed(first)
                await second.send_all(bytes(4))
                assert await works(repository)


async def test_a_tcp_connection_notices_a_peer_that_is_gone(tmp_path: Path) -> None:
    # That the kernel then ends it can't be tried without dropping packets; that it is told to look can.
    async with running(tmp_path, FakeKrapao(), address=TcpAddress("127.0.0.1", 0)) as server:
        assert isinstance(server.address, TcpAddress)
        sock = detach(await trio.open_tcp_stream(server.address.host, server.address.port))
        with sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 30
            assert 0 < sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 60_000
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
