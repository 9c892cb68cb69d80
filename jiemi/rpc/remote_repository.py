"""A repository that is open in another process, over whichever connection there is.

It outlives connections. It remembers its source and credentials, and opens itself again with the first call on each
connection; that costs no round trip, because the opening travels in front of the call. On a connection that another
has taken the place of it is closed with the last call there. What keeps a call from being answered becomes a
JiemiError here.

A server that it moves to may know of an older revision than the last one did. So what was known there before it came
counts as too old.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import attrs
import structlog
import trio

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.trace_context import TraceContext
from jiemi.rpc import codec
from jiemi.rpc.bridge import Bridge
from jiemi.rpc.capability import (
    BridgeError,
    MessageTooLargeError,
    PeerLostError,
    PeerTooOldError,
    Remote,
    request,
)
from jiemi.rpc.client_connection import Connection
from jiemi.rpc.contract import Changes, Files, FilesRequest, Head, Rendered, RenderRequest
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.verification import Verified
from jiemi.tracing.current import current, in_trace

_log = structlog.get_logger("jiemi.rpc")

T = TypeVar("T")

_KNOWN_SECONDS = 600.0
"""How old what Krapao knows may be, where a watch moves to another connection."""

_LOSSES_APART_SECONDS = 60.0
"""A watch that loses its server again so soon ends."""


@attrs.frozen
class CallTimeouts:
    """How long one call of each method may take, the waiting for a connection included."""

    head_seconds: float
    files_seconds: float
    render_seconds: float


class Route(Protocol):
    """What a repository needs of its client: the way to whoever serves it."""

    @property
    def calls(self) -> trio.CapacityLimiter:
        """Bounds how many calls are under way at once."""
        ...

    @property
    def timeouts(self) -> CallTimeouts:
        """Of the calls."""
        ...

    async def connected(self) -> Connection:
        """The connection, waited for a little. Raises JiemiError where there is none."""
        ...

    async def connected_elsewhere(self, lost: Connection) -> Connection | None:
        """A connection to another server than the one that was lost during a call; None: a call is not begun again."""
        ...

    def has_another(self, lost: Connection) -> bool:
        """Whether there is another server than the one that was lost, connected or not."""
        ...

    def following(self, connection: Connection) -> contextlib.AbstractContextManager[None]:
        """What lasts runs in it. It is left, without an exception, when another connection takes its place.

        Raises:
            PeerLostError: the connection has ended.
        """
        ...


class _Opening:
    """A repository that is open on a connection, or will be with the first call."""

    def __init__(self, connection: Connection, remote: Remote) -> None:
        self.connection = connection
        self.remote = remote
        self.users = 0
        connection.repositories += 1

    def release(self) -> None:
        self.connection.repositories -= 1
        self.remote.release()


class RemoteRepository:
    """The `Repository` of a client's `open`."""

    def __init__(self, route: Route, bridge: Bridge, source: Source, credentials: GitCredentials, tenant: str) -> None:
        self._route = route
        self._bridge = bridge
        self._opening = codec.Opening(source, credentials, tenant)
        self._openings: dict[Connection, _Opening] = {}
        self._newest: Connection | None = None
        self._server: object | None = None
        self._came_at = -math.inf
        self._closed = False

    def close(self) -> None:
        self._closed = True
        while self._openings:
            self._openings.popitem()[1].release()

    async def head(self, *, max_age_seconds: float) -> Head:
        return await self._call(
            "head",
            lambda call, served_seconds: codec.write_max_age(call, min(max_age_seconds, served_seconds)),
            codec.read_head_result,
            "report the newest revision",
            self._route.timeouts.head_seconds,
        )

    async def verify(self, request: FilesRequest) -> Verified:
        return await self._call(
            "verify",
            lambda call, _: codec.write_files_request(call.request, request),
            codec.read_verify_result,
            "verify the revision",
            self._route.timeouts.files_seconds,  # the revision is fetched for it, too
        )

    async def files(self, request: FilesRequest) -> Files:
        return await self._call(
            "files",
            lambda call, _: codec.write_files_request(call.request, request),
            codec.read_files_result,
            "say which files match",
            self._route.timeouts.files_seconds,
        )

    async def changes(self, before: str, after: str) -> Changes:
        return await self._call(
            "changes",
            lambda call, _: codec.write_changes_request(call.request, before, after),
            codec.read_changes_result,
            "say where the revisions differ",
            self._route.timeouts.files_seconds,
        )

    async def render(self, request: RenderRequest) -> Rendered:
        return await self._call(
            "render",
            lambda call, _: codec.write_render_request(call.request, request),
            codec.read_render_result,
            "decrypt the file",
            self._route.timeouts.render_seconds,
        )

    async def _call(
        self,
        method: str,
        write: Callable[[Any, float], None],
        read: Callable[[Any], T],
        what: str,
        timeout_seconds: float,
    ) -> T:
        """Call a method whose answer is a result, on the connection that there is.

        Args:
            write: fills the request, given for how many seconds the repository has been with that server.
        """
        trace = current()

        async def call_on(connection: Connection) -> T:
            with connection.scope(), self._open_on(connection) as remote:
                served_seconds = trio.current_time() - self._came_at

                def write_all(call: Any) -> None:
                    write(call, served_seconds)
                    codec.write_trace(call, trace)

                return await remote.call(method, write_all, lambda answer: read(answer.result))

        with _logged(method), self._translated_errors(), _deadline(what, timeout_seconds):
            async with self._route.calls:
                connection = await self._route.connected()
                try:
                    return await call_on(connection)
                except PeerLostError:
                    # Once: a call that ends every Krapao which takes it must not go to all of them in a row.
                    other = await self._route.connected_elsewhere(connection)
                    if other is None:
                        raise
                return await call_on(other)

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        # Without a deadline: a watch lasts until it is cancelled or its connection ends.
        moved_over, lost_at = False, -math.inf
        with self._translated_errors():
            while True:
                connection = await self._route.connected()
                try:
                    with self._route.following(connection), self._open_on(connection) as remote:
                        await self._watch_on(remote, on_moved, moved_over=moved_over)
                except PeerLostError:
                    # Once, as for a call. Whoever watches comes back after a while.
                    now = trio.current_time()
                    if now - lost_at < _LOSSES_APART_SECONDS or not self._route.has_another(connection):
                        raise
                    lost_at = now
                moved_over = True

    async def _watch_on(self, remote: Remote, on_moved: Callable[[Head], None], *, moved_over: bool) -> None:
        watcher = _Watcher(self._bridge)

        def write(call: Any) -> None:
            call.watcher = self._bridge.serve("Watcher", watcher)

        def report(news: _News) -> None:
            head, trace = news
            with in_trace(trace):  # of whoever saw it move
                on_moved(head)

        subscription = await remote.call("watch", write, lambda answer: self._bridge.hold(answer.subscription))
        try:
            if moved_over:
                # What happened between the two subscriptions. The same server mostly knows it without asking the host.
                with contextlib.suppress(JiemiError):
                    on_moved(await self.head(max_age_seconds=_KNOWN_SECONDS))
            while True:
                report(await watcher.next_head())
        finally:
            subscription.release()
            if (untaken := watcher.untaken()) is not None:
                report(untaken)

    @contextlib.contextmanager
    def _open_on(self, connection: Connection) -> Iterator[Remote]:
        """The capability on that connection, for one call; the opening of a new one travels in front of it."""
        if self._closed:
            raise JiemiError("InternalError", "a repository was used after it was closed")
        opening = self._openings.get(connection)
        if opening is None:
            opening = self._openings[connection] = _Opening(connection, Remote(self._bridge, self._opener(connection)))
        if connection.server is not self._server:
            self._came_at = trio.current_time() if self._server is not None else -math.inf
            self._server = connection.server
        self._newest = connection
        opening.users += 1
        try:
            yield opening.remote
        finally:
            opening.users -= 1
            self._release_old_ones()

    def _opener(self, connection: Connection) -> Callable[[], Any]:
        session, opening = connection.session, self._opening

        def write(call: Any) -> None:
            codec.write_opening(call, opening)

        return lambda: request(session.capability(), opening.method, write).send().repository

    def _release_old_ones(self) -> None:
        """Close the repository where no call of it is under way any more and none will be."""
        for connection, opening in list(self._openings.items()):
            if not opening.users and (connection is not self._newest or connection.ended):
                del self._openings[connection]
                opening.release()

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except PeerLostError as error:
            raise JiemiError("KrapaoUnavailable", str(error)) from error
        except MessageTooLargeError as error:
            raise JiemiError("LimitExceeded", f"the credentials, keys or patterns are too large: {error}") from error
        except PeerTooOldError as error:
            if self._opening.required:
                raise codec.too_old(self._opening.required) from error
            raise JiemiError(
                "ProviderNotSupportedYet", "Krapao is of an older release than Miwen and does not know this: upgrade it"
            ) from error
        except BridgeError as error:
            raise JiemiError("InternalError", f"the call to Krapao failed: {error}") from error


@contextlib.contextmanager
def _logged(method: str) -> Iterator[None]:
    """Log (debug) what came of a call, and how long it took."""
    began, outcome = trio.current_time(), "cancelled"
    try:
        yield
        outcome = "ok"
    except JiemiError as error:
        outcome = error.failure.reason
        raise
    finally:
        duration_ms = round((trio.current_time() - began) * 1000)
        _log.debug("call_ended", method=method, outcome=outcome, duration_ms=duration_ms)


@contextlib.contextmanager
def _deadline(what: str, seconds: float) -> Iterator[None]:
    """Raises JiemiError Timeout when what is in it takes longer."""
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise JiemiError("Timeout", f"Krapao did not {what} within {seconds} s")


_News = tuple[Head, TraceContext | None]
"""A revision, and the trace of the call that saw it."""


class _Watcher:
    """The target of the interface Watcher: keeps the newest revision until it is taken."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._news = trio.Event()
        self._head: _News | None = None
        self._failure: Failure | None = None

    async def next_head(self) -> _News:
        """The newest revision that was not taken yet, and the trace of the call that saw it.

        Raises:
            JiemiError: the watch has ended.
        """
        await self._news.wait()
        self._news = trio.Event()
        head = self.untaken()
        if head is not None:
            if self._failure is not None:
                self._news.set()
            return head
        assert self._failure is not None  # noqa: S101  one of the two makes news
        raise JiemiError.of(self._failure)

    def untaken(self) -> _News | None:
        """Take what `next_head` would give at once, if there is that."""
        head, self._head = self._head, None
        return head

    # In the loop's thread:

    async def moved(self, call: Any) -> None:
        self._bridge.to_trio(self._set_head, codec.read_head(call.params.head), codec.read_trace(call.params))

    async def ended(self, call: Any) -> None:
        self._bridge.to_trio(self._set_failure, codec.read_failure(call.params.failure))

    def released(self) -> None:
        """The watch is over; the end of the connection or `ended` says so."""

    # In trio's:

    def _set_head(self, head: Head, trace: TraceContext | None) -> None:
        self._head = head, trace
        self._news.set()

    def _set_failure(self, failure: Failure) -> None:
        self._failure = failure
        self._news.set()
