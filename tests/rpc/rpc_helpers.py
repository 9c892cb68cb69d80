"""What the tests of the RPC share: a running server and client, a proxy that holds bytes back, a wait with an end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import trio
from fakes.krapao import FakeKrapao, FakeOrigin

from jiemi.rpc.address import Address, UnixAddress
from jiemi.rpc.bridge import Bridge, open_bridge
from jiemi.rpc.client import ClientSettings, KrapaoClient, connect
from jiemi.rpc.contract import Krapao
from jiemi.rpc.server import Limits, serve
from jiemi.rpc.source import Source

DEADLINE_SECONDS = 30
"""For what must happen, on a machine that is busy with other things."""

URL = "https://git.example/app.git"
SOURCE = Source(URL)

QUICK = ClientSettings(
    wait_for_connection_seconds=DEADLINE_SECONDS, backoff_first_seconds=0.01, backoff_most_seconds=0.05
)
"""Comes back soon after a restart, and waits long for it."""


def credential_path(name: str) -> str:
    """Where a Decryptor has what the contract calls `name` in its credentials."""
    at = "spec.source.repository.credentials."
    if name.startswith("proxy_"):
        at, name = "spec.source.repository.proxy.", name.removeprefix("proxy_")
    if name.startswith("github_app_"):
        at, name = f"{at}githubApp.", name.removeprefix("github_app_" if name != "github_app_id" else "github_")
    first, *more = name.split("_")
    return f"{at}{first}{''.join(each.title() for each in more)}"


async def until(condition: Callable[[], bool], what: str = "it") -> None:
    """Wait until the condition holds, and fail where it does not in time."""
    with trio.move_on_after(DEADLINE_SECONDS) as scope:
        while not condition():  # noqa: ASYNC110  of another thread's doing, often
            await trio.sleep(0.002)
    assert not scope.cancelled_caught, f"{what} did not happen within {DEADLINE_SECONDS} s"


@attrs.define
class Running:
    """A server that can be stopped and started again, on one address and one bridge."""

    krapao: Krapao
    address: Address
    bridge: Bridge
    nursery: trio.Nursery
    limits: Limits | None = None
    _scope: trio.CancelScope | None = None
    _ended: trio.Event = attrs.field(factory=trio.Event)

    async def start(self) -> None:
        async def run(*, task_status: trio.TaskStatus[Address]) -> None:
            with trio.CancelScope() as self._scope:
                await serve(self.krapao, self.address, bridge=self.bridge, limits=self.limits, task_status=task_status)
            self._ended.set()

        self._ended = trio.Event()
        self.address = await self.nursery.start(run)

    async def stop(self) -> None:
        assert self._scope is not None
        self._scope.cancel()
        with trio.fail_after(DEADLINE_SECONDS):
            await self._ended.wait()


@contextlib.asynccontextmanager
async def running(
    directory: Path, krapao: Krapao, *, address: Address | None = None, limits: Limits | None = None
) -> AsyncIterator[Running]:
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        where = address or UnixAddress(str(directory / "krapao.sock"))
        server = Running(krapao, where, bridge, nursery, limits)
        await server.start()
        try:
            yield server
        finally:
            nursery.cancel_scope.cancel()


@attrs.define
class Pair:
    """A fake with one origin, a server of it, and a client."""

    fake: FakeKrapao
    origin: FakeOrigin
    server: Running
    client: KrapaoClient

    @property
    def bridge(self) -> Bridge:
        return self.server.bridge

    @property
    def idle(self) -> bool:
        return not (self.fake.running or self.fake.watching or self.fake.opened)


@contextlib.asynccontextmanager
async def pair(
    directory: Path,
    *,
    settings: ClientSettings = QUICK,
    limits: Limits | None = None,
    through: Callable[[Running], Awaitable[Address]] | None = None,
) -> AsyncIterator[Pair]:
    fake = FakeKrapao()
    origin = fake.add_origin(URL)
    async with running(directory, fake, limits=limits) as server:
        address = server.address if through is None else await through(server)
        async with connect(address, bridge=server.bridge, settings=settings) as client:
            yield Pair(fake, origin, server, client)


class Proxy:
    """Between a client and a server on unix sockets. Holds back what the server says while `held`."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._open = trio.Event()
        self._open.set()
        self.from_client = 0
        self.from_server = 0

    def hold(self) -> None:
        self._open = trio.Event()

    def let_go(self) -> None:
        self._open.set()

    async def run(self, path: str, *, task_status: trio.TaskStatus[None]) -> None:
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.bind(path)
        sock.listen(10)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._connected, [trio.SocketListener(sock)])
            task_status.started()

    async def _connected(self, client: trio.SocketStream) -> None:
        async with await trio.open_unix_socket(self._target) as server, trio.open_nursery() as nursery:

            async def up() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    async for data in client:
                        self.from_client += len(data)
                        await server.send_all(data)
                nursery.cancel_scope.cancel()

            async def down() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    async for data in server:
                        await self._open.wait()
                        self.from_server += len(data)
                        await client.send_all(data)
                nursery.cancel_scope.cancel()

            nursery.start_soon(up)
            nursery.start_soon(down)
