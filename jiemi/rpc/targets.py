"""What the capabilities that a client of Krapao's port holds stand for.

The targets (`Bootstrap`, `_Session`, `_Repository`, `_Subscription`, `_Receipt`) run in the bridge's thread: they
decode, charge what they take up, hand over to the trio side, and encode. The trio side of an open repository is a
`RepositoryTask` (jiemi.rpc.open_repositories), which runs its calls until the client releases it.

What goes over a bound that an honest client may reach is refused with a Failure. Refusing costs a little too, so a
client that is refused thousands of times and holds on to all of it is cut off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from jiemi.core.errors import Failure, JiemiError
from jiemi.rpc import codec
from jiemi.rpc.capability import PeerLostError
from jiemi.rpc.contract import (
    MAX_DOCUMENTS,
    MAX_FILES,
    MAX_RENDERED_BYTES,
    Changes,
    Files,
    FilesRequest,
    Head,
    Rendered,
    RenderRequest,
    Repository,
)
from jiemi.rpc.limits import REPOSITORY_BYTES, WATCH_BYTES
from jiemi.rpc.notifying import notify_end, notify_of_moves
from jiemi.rpc.open_repositories import Permit, RepositoryTask, value_or_failure
from jiemi.rpc.served_connection import Connection, Owned
from jiemi.rpc.verification import Verified

T = TypeVar("T")

_CALL_BYTES = 1_024
"""What a request takes up beside the text that it carries, about."""


class Bootstrap:
    """The target of the interface Krapao."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._owned = Owned(connection)

    @property
    def owned(self) -> int:
        """How many repositories and watches the client has. For any thread."""
        return self._owned.repositories + self._owned.watches

    async def open_session(self, call: Any) -> None:
        # There is one version yet, so the client's needs no look; the later one of the two ends adapts.
        connection = self._connection
        try:
            secret = codec.read_secret(call.params)
        except JiemiError:
            secret = ""  # which is wrong too
        call.release_params()
        failure, checked = await connection.bridge.in_trio(
            connection.start_soon, lambda: connection.open_session(secret)
        )
        session = _Session(connection, self._owned) if failure is None else _RefusedSession(connection, failure)
        codec.write_session(call.results, connection.bridge.serve("Session", session), failure, checked=checked)

    def released(self) -> None:
        """Nothing ends with it."""


class _Session:
    """The target of the interface Session."""

    def __init__(self, connection: Connection, owned: Owned) -> None:
        self._connection = connection
        self._owned = owned

    async def open_repository(self, call: Any, *, requiring: bool = False) -> None:
        connection, owned = self._connection, self._owned
        target: _Repository | _RefusedRepository
        try:
            if owned.repositories >= (limit := connection.limits.repositories):
                raise JiemiError("LimitExceeded", f"the connection has {limit} repositories open, which is its limit")
            opening = codec.read_opening(call.params, requiring=requiring)
            if not connection.account.charge(size := REPOSITORY_BYTES + opening.size, lasting=True):
                raise JiemiError("LimitExceeded", "Krapao holds as much for its clients as it may")
        except JiemiError as error:
            target = _RefusedRepository(connection, owned, error.failure)
        else:
            target = _Repository(connection, owned, size)
            target.begin(lambda: connection.krapao.open(opening.source, opening.credentials, opening.tenant))
        call.release_params()
        call.results.repository = connection.bridge.serve("Repository", target)

    async def open_repository_requiring(self, call: Any) -> None:
        await self.open_repository(call, requiring=True)

    async def ping(self, call: Any) -> None:
        """The answer is empty."""

    def released(self) -> None:
        """Its repositories live on, each until its own release."""


class _RefusedSession:
    """The session of a client that gets none: for those that only look at what its repositories answer."""

    def __init__(self, connection: Connection, failure: Failure) -> None:
        self._connection = connection
        self._failure = failure

    async def open_repository(self, call: Any) -> None:
        target = _RefusedRepository(self._connection, Owned(self._connection), self._failure)
        call.results.repository = self._connection.bridge.serve("Repository", target)

    open_repository_requiring = open_repository

    async def ping(self, call: Any) -> None:
        """The answer is empty."""

    def released(self) -> None:
        """Nothing ends with it."""


class _RefusedRepository:
    """The target of a repository that can't be had: every method answers with the reason."""

    def __init__(self, connection: Connection, owned: Owned, failure: Failure) -> None:
        self._connection = connection
        self._owned = owned
        self._failure = failure
        owned.note_refused()

    async def head(self, call: Any) -> None:
        codec.write_head_result(call.results.result, self._failure)

    async def verify(self, call: Any) -> None:
        codec.write_verify_result(call.results.result, self._failure)

    async def files(self, call: Any) -> None:
        codec.write_files_result(call.results.result, self._failure)

    async def changes(self, call: Any) -> None:
        codec.write_changes_result(call.results.result, self._failure)

    async def render(self, call: Any) -> None:
        codec.write_render_result(call.results.result, self._failure)

    async def watch(self, call: Any) -> None:
        _refuse_watch(self._connection, self._owned, call, self._failure)

    def released(self) -> None:
        self._owned.refused -= 1


class _Repository:
    """The target of the interface Repository. Its `RepositoryTask` is the trio side of it."""

    def __init__(self, connection: Connection, owned: Owned, size: int) -> None:
        self._connection = connection
        self._bridge = connection.bridge
        self._owned = owned
        self._size = size
        self._holder = RepositoryTask(connection.start_soon)
        owned.repositories += 1

    def begin(self, open_repository: Callable[[], contextlib.AbstractAsyncContextManager[Repository]]) -> None:
        self._bridge.to_trio(self._holder.begin, open_repository)

    def released(self) -> None:
        self._owned.repositories -= 1
        self._connection.account.give_back(self._size)
        self._bridge.to_trio(self._connection.retire, self._holder.close)

    async def head(self, call: Any) -> None:
        def read(params: Any) -> tuple[Callable[[], Awaitable[Head]], int]:
            max_age_seconds = codec.read_max_age(params)
            return lambda: self._holder.repository.head(max_age_seconds=max_age_seconds), 0

        codec.write_head_result(call.results.result, await self._answer(call, read))

    async def verify(self, call: Any) -> None:
        def read(params: Any) -> tuple[Callable[[], Awaitable[Verified]], int]:
            request = codec.read_files_request(params.request)
            return lambda: self._holder.repository.verify(request), codec.files_request_bytes(request)

        codec.write_verify_result(call.results.result, await self._answer(call, read))

    async def files(self, call: Any) -> None:
        def read(params: Any) -> tuple[Callable[[], Awaitable[tuple[Files, Permit]]], int]:
            request = codec.read_files_request(params.request)
            return lambda: self._files(request), codec.files_request_bytes(request)

        await self._answer_with_receipt(call, read, codec.write_files_result)

    async def changes(self, call: Any) -> None:
        def read(params: Any) -> tuple[Callable[[], Awaitable[tuple[Changes, Permit]]], int]:
            before, after = codec.read_changes_request(params.request)
            return lambda: self._changes(before, after), 0

        await self._answer_with_receipt(call, read, codec.write_changes_result)

    async def render(self, call: Any) -> None:
        def read(params: Any) -> tuple[Callable[[], Awaitable[tuple[Rendered, Permit]]], int]:
            request = codec.read_render_request(params.request)
            return lambda: self._render(request), codec.request_bytes(request)

        await self._answer_with_receipt(call, read, codec.write_render_result)

    async def watch(self, call: Any) -> None:
        connection, owned = self._connection, self._owned
        limit = connection.limits.watches
        if owned.watches >= limit or not connection.account.charge(WATCH_BYTES, lasting=True):
            failure = Failure("LimitExceeded", f"Krapao keeps no more watches ({limit} for a connection at most)")
            _refuse_watch(connection, owned, call, failure)
            return
        owned.watches += 1
        watcher = self._bridge.hold(call.params.watcher)
        holder = self._holder
        cancel = self._bridge.spawn(holder.start_soon, lambda: notify_of_moves(holder.repository, watcher))

        def ended() -> None:
            owned.watches -= 1
            connection.account.give_back(WATCH_BYTES)
            connection.bridge.to_trio(connection.retire, cancel)

        call.results.subscription = self._bridge.serve("Subscription", _Subscription(ended))

    async def _files(self, request: FilesRequest) -> tuple[Files, Permit]:
        """In trio's thread."""
        files = await self._holder.repository.files(request)
        size = codec.files_bytes(files)
        if len(files.entries) > MAX_FILES or size > codec.MAX_RENDERED_MESSAGE_BYTES:
            raise JiemiError("LimitExceeded", f"more files match than the {MAX_FILES} that one answer may hold")
        return files, await self._connection.answers.acquire(size)

    async def _changes(self, before: str, after: str) -> tuple[Changes, Permit]:
        """In trio's thread."""
        changes = await self._holder.repository.changes(before, after)
        return changes, await self._connection.answers.acquire(codec.changes_bytes(changes))

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
        connection, owned = self._connection, self._owned
        try:
            work, size = read(call.params)
            trace = codec.read_trace(call.params)
        except JiemiError as error:
            return error.failure
        call.release_params()
        size += _CALL_BYTES
        if owned.request_bytes + size > connection.limits.bytes_in_flight:
            return Failure("KrapaoUnavailable", "Krapao has as many requests in hand as it takes")
        owned.request_bytes += size
        try:
            return await self._bridge.in_trio(self._holder.start_soon, lambda: value_or_failure(work, trace))
        except PeerLostError:
            return Failure("KrapaoUnavailable", "Krapao is about to end")
        finally:
            owned.request_bytes -= size


class _Subscription:
    """The target of the interface Subscription."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended

    def released(self) -> None:
        self._ended()


def _refuse_watch(connection: Connection, owned: Owned, call: Any, failure: Failure) -> None:
    """Notify the watcher why there is no watch. In the loop's thread."""
    owned.note_refused()
    watcher = connection.bridge.hold(call.params.watcher)
    cancel = connection.bridge.spawn(connection.start_soon, lambda: notify_end(watcher, failure))

    def ended() -> None:
        owned.refused -= 1
        cancel()

    call.results.subscription = connection.bridge.serve("Subscription", _Subscription(ended))


class _Receipt:
    """The target of the interface Receipt."""

    def __init__(self, permit: Permit) -> None:
        self._permit = permit

    def released(self) -> None:
        """Its permit goes with it."""
