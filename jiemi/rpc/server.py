"""Serve any `Krapao` to the clients that connect.

Each connection is a trio task with a nursery. capnp's side of it runs in the bridge's thread: the targets
(`_Bootstrap`, `_Session`, `_Repository`, `_Subscription`, `_Receipt`) decode, hand over, and encode. The trio side of
an open repository is a `Holder` (jiemi.rpc.holder), which runs its calls until the client releases it. The end of the
connection cancels its nursery, and so every call and every repository of it.

Nothing that goes wrong leaves as an exception: a JiemiError becomes a Failure in the result, anything else a Failure
InternalError with a number to look for in the log.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
import structlog
import trio

from jiemi.core.errors import Failure, JiemiError
from jiemi.rpc import codec
from jiemi.rpc.address import Address
from jiemi.rpc.bridge import Bridge
from jiemi.rpc.capability import BridgeError, PeerLostError, Remote, where
from jiemi.rpc.contract import (
    MAX_DOCUMENTS,
    MAX_FILES,
    MAX_RENDERED_BYTES,
    MEBIBYTE,
    Files,
    FilesRequest,
    Head,
    Krapao,
    Rendered,
    RenderRequest,
    Repository,
)
from jiemi.rpc.holder import Budget, Holder, Permit, Refused, internal_error
from jiemi.rpc.sockets import detach, open_listeners

T = TypeVar("T")

_CALL_BYTES = 1_024
"""What a call takes up beside the text that it carries, about."""

_TELL_END_SECONDS = 5
"""How long a watcher is given to hear that there will be no more news."""

_log = structlog.get_logger("jiemi.rpc")


@attrs.frozen
class Limits:
    """What clients may take up.

    Attributes:
        connections: at once; more are closed as they come.
        repositories: open at once on one connection; each one more tells LimitExceeded.
        bytes_in_flight: of one connection, each way. A request beyond it is told KrapaoUnavailable; an answer beyond it
            waits until the client has taken earlier ones.
        handshake_seconds: a connection that opens no session in this time is closed.
    """

    connections: int = 32
    repositories: int = 20_000
    bytes_in_flight: int = 64 * MEBIBYTE
    handshake_seconds: float = 10


async def serve(
    krapao: Krapao,
    address: Address,
    *,
    bridge: Bridge,
    limits: Limits | None = None,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled.

    Args:
        address: a unix socket is made with mode 0600, in place of one that nobody listens on, and removed at the end.
        limits: None for the usual ones.
        task_status: `started` tells the address, with the real port, when connections are accepted.

    Raises:
        ListenError: the address can't be listened on; the text says why.
    """
    limits = limits or Limits()
    count = 0

    async def connected(stream: trio.SocketStream) -> None:
        nonlocal count
        if count >= limits.connections:
            _log.warning("a connection was refused: there are too many", connections=limits.connections)
            await trio.aclose_forcefully(stream)
            return
        count += 1
        try:
            await _Connection(krapao, bridge, limits).run(stream)
        except* Exception as errors:  # noqa: BLE001
            # One connection must not take the others down.
            _log.error("a connection failed", error=[where(error) for error in errors.exceptions])
        finally:
            count -= 1

    async with open_listeners(address) as (listeners, bound), trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, connected, listeners)
        task_status.started(bound)


class _Connection:
    """One client. The trio side of it, and what its targets share."""

    def __init__(self, krapao: Krapao, bridge: Bridge, limits: Limits) -> None:
        self.krapao = krapao
        self.bridge = bridge
        self.limits = limits
        self.answers = Budget(limits.bytes_in_flight, bridge)
        self._nursery: trio.Nursery
        self._session_opened = trio.Event()
        # Of the loop's thread:
        self.repositories = 0
        self.request_bytes = 0

    async def run(self, stream: trio.SocketStream) -> None:
        """Serve it until it ends."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._expect_session)
            sock = detach(stream)
            await self.bridge.answer(sock, "Krapao", _Bootstrap(self), receive_bytes=codec.MAX_MESSAGE_BYTES)
            nursery.cancel_scope.cancel()

    async def _expect_session(self) -> None:
        with trio.move_on_after(self.limits.handshake_seconds):
            await self._session_opened.wait()
            return
        _log.info("a connection was closed: it opened no session", seconds=self.limits.handshake_seconds)
        self._nursery.cancel_scope.cancel()

    def session_opened(self) -> None:
        """In the loop's thread."""
        self.bridge.to_trio(self._session_opened.set)

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(function)


class _Bootstrap:
    """The target of the interface Krapao."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def open_session(self, call: Any) -> None:
        # There is one version yet, so the client's needs no look; the later one of the two ends adapts.
        call.results.protocolVersion = codec.PROTOCOL_VERSION
        call.results.session = self._connection.bridge.serve("Session", _Session(self._connection))
        self._connection.session_opened()

    def released(self) -> None:
        """Nothing ends with it."""


class _Session:
    """The target of the interface Session."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def open_repository(self, call: Any) -> None:
        repository = _Repository(self._connection)
        repository.open(call.params)
        call.release_params()
        call.results.repository = self._connection.bridge.serve("Repository", repository)

    def released(self) -> None:
        """Its repositories live on, each until its own release."""


class _Repository:
    """The target of the interface Repository. Its `Holder` is the trio side of it."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._bridge = connection.bridge
        self._holder = Holder(connection.start_soon)
        connection.repositories += 1

    def open(self, params: Any) -> None:
        limit = self._connection.limits.repositories
        try:
            if self._connection.repositories > limit:
                raise JiemiError("LimitExceeded", f"the connection has {limit} repositories open, which is its limit")
            source, credentials = codec.read_source(params.source), codec.read_credentials(params.credentials)
            tenant = codec.read_tenant(params)
        except JiemiError as error:
            failure = error.failure
            self._bridge.to_trio(self._holder.begin, lambda: contextlib.nullcontext(Refused(failure)))
        else:
            self._bridge.to_trio(self._holder.begin, lambda: self._connection.krapao.open(source, credentials, tenant))

    def released(self) -> None:
        self._connection.repositories -= 1
        self._bridge.to_trio(self._holder.close)

    async def head(self, call: Any) -> None:
        def read(params: Any) -> tuple[Callable[[], Awaitable[Head]], int]:
            max_age_seconds = codec.read_max_age(params)
            return lambda: self._holder.repository.head(max_age_seconds=max_age_seconds), 0

        codec.write_head_result(call.results.result, await self._answer(call, read))

    async def files(self, call: Any) -> None:
        def read(params: Any) -> tuple[Callable[[], Awaitable[tuple[Files, Permit]]], int]:
            request = codec.read_files_request(params.request)
            return lambda: self._files(request), codec.files_request_bytes(request)

        await self._answer_with_receipt(call, read, codec.write_files_result)

    async def render(self, call: Any) -> None:
        def read(params: Any) -> tuple[Callable[[], Awaitable[tuple[Rendered, Permit]]], int]:
            request = codec.read_render_request(params.request)
            return lambda: self._render(request), codec.request_bytes(request)

        await self._answer_with_receipt(call, read, codec.write_render_result)

    async def watch(self, call: Any) -> None:
        watcher = self._bridge.hold(call.params.watcher)
        holder = self._holder
        cancel = self._bridge.spawn(holder.start_soon, lambda: _watch(holder.repository, watcher))
        call.results.subscription = self._bridge.serve("Subscription", _Subscription(cancel))

    async def _files(self, request: FilesRequest) -> tuple[Files, Permit]:
        """In trio's thread."""
        files = await self._holder.repository.files(request)
        size = codec.files_bytes(files)
        if len(files.entries) > MAX_FILES or size > codec.MAX_RENDERED_MESSAGE_BYTES:
            raise JiemiError("LimitExceeded", f"more files match than the {MAX_FILES} that one answer may hold")
        return files, await self._connection.answers.acquire(size)

    async def _render(self, request: RenderRequest) -> tuple[Rendered, Permit]:
        """In trio's thread."""
        rendered = await self._holder.repository.render(request)
        size = codec.rendered_bytes(rendered)
        if len(rendered.documents) > MAX_DOCUMENTS or size > codec.MAX_RENDERED_MESSAGE_BYTES:
            raise JiemiError(
                "LimitExceeded",
                f"{request.path} decrypts to more than {MAX_RENDERED_BYTES} bytes or {MAX_DOCUMENTS} documents",
            )
        return rendered, await self._connection.answers.acquire(size)

    async def _answer_with_receipt(
        self,
        call: Any,
        read: Callable[[Any], tuple[Callable[[], Awaitable[tuple[T, Permit]]], int]],
        write: Callable[[Any, T | Failure, object], None],
    ) -> None:
        """As `_answer`, and write what came of it, with a receipt: until it is released, the answer's bytes count."""
        answer = await self._answer(call, read)
        if isinstance(answer, Failure):
            write(call.results.result, answer, None)
        else:
            value, permit = answer
            write(call.results.result, value, self._bridge.serve("Receipt", _Receipt(permit)))

    async def _answer(self, call: Any, read: Callable[[Any], tuple[Callable[[], Awaitable[T]], int]]) -> T | Failure:
        """Do the work on the trio side, and make a Failure of what goes wrong.

        Args:
            read: decodes the parameters; gives the work and how many bytes the request is.
        """
        connection = self._connection
        try:
            work, size = read(call.params)
        except JiemiError as error:
            return error.failure
        call.release_params()
        size += _CALL_BYTES
        if connection.request_bytes + size > connection.limits.bytes_in_flight:
            return Failure("KrapaoUnavailable", "Krapao has as many requests in hand as it takes")
        connection.request_bytes += size
        try:
            return await self._bridge.in_trio(self._holder.start_soon, lambda: _value_or_failure(work))
        except PeerLostError:
            return Failure("KrapaoUnavailable", "Krapao is about to end")
        finally:
            connection.request_bytes -= size


class _Subscription:
    """The target of the interface Subscription."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel

    def released(self) -> None:
        self._cancel()


class _Receipt:
    """The target of the interface Receipt."""

    def __init__(self, permit: Permit) -> None:
        self._permit = permit

    def released(self) -> None:
        """Its permit goes with it."""


async def _watch(repository: Repository, watcher: Remote) -> None:
    """Tell the watcher, one call at a time and always the newest, until cancelled or the watch fails."""
    newest: Head | None = None
    moved = trio.Event()

    def on_moved(head: Head) -> None:
        nonlocal newest
        newest = head
        moved.set()

    async def tell() -> None:
        nonlocal moved
        with contextlib.suppress(BridgeError):
            while True:
                await moved.wait()
                moved = trio.Event()
                assert newest is not None  # noqa: S101  on_moved sets it first
                await watcher.call("moved", functools.partial(_write_moved, head=newest), _nothing)
        nursery.cancel_scope.cancel()

    failure: Failure | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        ended = await _value_or_failure(lambda: repository.watch(on_moved))
        failure = ended or Failure("InternalError", "Krapao's watch ended by itself")
        nursery.cancel_scope.cancel()
    if failure is not None:
        with trio.move_on_after(_TELL_END_SECONDS), contextlib.suppress(BridgeError):
            await watcher.call("ended", functools.partial(_write_ended, failure=failure), _nothing)


def _write_ended(call: Any, *, failure: Failure) -> None:
    codec.write_failure(call.failure, failure)


def _write_moved(call: Any, *, head: Head) -> None:
    codec.write_head(call.head, head)


def _nothing(_: Any) -> None:
    """What is read of an answer that holds nothing."""


async def _value_or_failure(work: Callable[[], Awaitable[T]]) -> T | Failure:
    try:
        return await work()
    except JiemiError as error:
        return error.failure
    except Exception as error:  # noqa: BLE001  the client learns that it is a fault, and the log what
        return internal_error(error)
