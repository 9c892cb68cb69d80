"""A `Krapao` that is another process, reached over Cap'n Proto.

One task keeps one connection: it connects when the first call wants it, and again, with exponential backoff and jitter,
whenever it has ended while a repository is open. Krapao closes a session in which nothing is open; then the next call
connects again. A call takes the connection that there is, or waits a little for one. The end of a connection cancels
the scope of each call that is on it, which then raises KrapaoUnavailable.

No more than `ClientSettings.calls` are under way at once. Krapao cuts off a client that has thousands.

A repository's handle outlives connections. It remembers its source and credentials, and opens itself again with the
first call on each connection; that costs no round trip, because the opening travels in front of the call.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import attrs
import structlog
import trio

from jiemi.core.backoff import doubled_seconds
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc import codec
from jiemi.rpc.address import ANY_HOST, Address, TcpAddress
from jiemi.rpc.bridge import Bridge
from jiemi.rpc.capability import (
    BridgeError,
    MessageTooLargeError,
    PeerLostError,
    PeerTooOldError,
    Remote,
    request,
)
from jiemi.rpc.contract import (
    Files,
    FilesRequest,
    GitCredentials,
    Head,
    Rendered,
    RenderRequest,
    Repository,
    Source,
)
from jiemi.rpc.sockets import detach, open_connection

T = TypeVar("T")

_log = structlog.get_logger("jiemi.rpc")

SecretSource = Callable[[], Awaitable[SensitiveText]]
"""Gives the secret that Krapao asks for. May raise JiemiError; then there is no connection, and calls tell it."""


@attrs.frozen
class ClientSettings:
    """How patient the client is.

    Attributes:
        connect_timeout_seconds: for one attempt to connect and open a session.
        wait_for_connection_seconds: how long a call waits where there is no connection.
        head_timeout_seconds: for one `head`, the waiting included.
        files_timeout_seconds: for one `files`, likewise.
        render_timeout_seconds: for one `render`, likewise.
        calls: how many calls are under way at once; others wait for one of them, and their deadlines run meanwhile.
        backoff_first_seconds: the longest wait after the first attempt that failed; doubled after each more.
        backoff_most_seconds: the longest wait after many.
    """

    connect_timeout_seconds: float = 5
    wait_for_connection_seconds: float = 2
    head_timeout_seconds: float = 60
    files_timeout_seconds: float = 120
    render_timeout_seconds: float = 120
    calls: int = 3_000
    backoff_first_seconds: float = 0.1
    backoff_most_seconds: float = 10


@contextlib.asynccontextmanager
async def connect(
    address: Address, *, bridge: Bridge, settings: ClientSettings | None = None, secret: SecretSource | None = None
) -> AsyncIterator[KrapaoClient]:
    """The Krapao at an address, for as long as the context lasts. Connects with the first call; fails only in calls.

    Args:
        secret: gives the session secret, again for each connection; None sends none.

    Raises:
        ValueError: the address is one to listen on only.
    """
    if isinstance(address, TcpAddress) and (address.host == ANY_HOST or address.port == 0):
        raise ValueError(f"{address} is an address to listen on; name Krapao's host and port")
    client = KrapaoClient(address, bridge, settings or ClientSettings(), secret)
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client._keep_connected)
            try:
                yield client
            except BaseException as caught:  # noqa: BLE001  raised below, where the nursery does not wrap it into a group
                error = caught
            nursery.cancel_scope.cancel()
    finally:
        if error is not None:
            try:
                raise error
            finally:
                error = None


class _Connection:
    """A connection with its session.

    Attributes:
        session: the capability.
        ended: whether it is of no further use.
    """

    def __init__(self, session: Remote, on_end: Callable[[], None]) -> None:
        self.session = session
        self.ended = False
        self._on_end = on_end
        self._scopes: set[trio.CancelScope] = set()

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """What runs in it is cancelled when the connection ends; and that it ended is often known here first.

        Raises:
            PeerLostError: then.
        """
        with trio.CancelScope() as scope:
            if self.ended:
                scope.cancel()
            self._scopes.add(scope)
            try:
                yield
            except PeerLostError:
                self.end()  # so that the next call waits for another
                raise
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            raise PeerLostError("the connection ended")

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self._on_end()
            for scope in self._scopes:
                scope.cancel()


class KrapaoClient:
    """The `Krapao` of `connect`."""

    def __init__(
        self, address: Address, bridge: Bridge, settings: ClientSettings, secret: SecretSource | None = None
    ) -> None:
        self._secret = secret
        self._refused: Failure | None = None
        self._refusals = 0
        self._open_repositories = 0
        self._warned_of_unchecked = False
        self.calls = trio.CapacityLimiter(settings.calls)
        self._address = address
        self._bridge = bridge
        self.settings = settings
        self._wanted = trio.Event()
        self._connection: _Connection | None = None
        self._connection_made = trio.Event()
        self._trouble = "no attempt has ended yet"

    @contextlib.asynccontextmanager
    async def open(self, source: Source, credentials: GitCredentials, tenant: str = "") -> AsyncIterator[Repository]:
        """A repository. See `jiemi.rpc.contract.Krapao`."""
        repository = _Repository(self, self._bridge, source, credentials, tenant)
        self._open_repositories += 1
        try:
            yield repository
        finally:
            self._open_repositories -= 1
            repository.close()

    async def connected(self) -> _Connection:
        """The connection, waited for a little.

        Raises:
            JiemiError: KrapaoUnavailable; KrapaoAccessDenied, or what keeps the secret from being had.
        """
        self._wanted.set()
        with trio.move_on_after(self.settings.wait_for_connection_seconds):
            while self._connection is None:
                refusals = self._refusals
                await self._connection_made.wait()
                if self._refusals != refusals:
                    break
            else:
                return self._connection
        if self._refused is not None:
            raise JiemiError.of(self._refused.at(f"no session with Krapao at {self._address}"))
        raise JiemiError("KrapaoUnavailable", f"no connection to Krapao at {self._address}: {self._trouble}")

    def lost(self) -> JiemiError:
        """What a call raises whose connection ended."""
        return JiemiError("KrapaoUnavailable", f"the connection to Krapao at {self._address} ended during the call")

    async def _keep_connected(self) -> None:
        failures = 0
        while True:
            await self._wanted.wait()  # without a deadline: until a call needs a connection
            if await self._connect_once():
                failures = 0
                if not self._open_repositories:
                    self._wanted = trio.Event()
            # Full jitter, so that many clients do not all come back to a restarted server at once.
            failures += 1
            longest = doubled_seconds(
                self.settings.backoff_first_seconds, failures, most_seconds=self.settings.backoff_most_seconds
            )
            await trio.sleep(random.uniform(0, longest))  # noqa: S311

    async def _connect_once(self) -> bool:
        """Connect, and stay until the connection ends. Whether there was a session."""
        patience = self.settings.connect_timeout_seconds
        try:
            with trio.fail_after(patience):
                stream = await open_connection(self._address)
        except trio.TooSlowError:
            self._trouble = f"no answer within {patience} s"
            return False
        except OSError as error:
            self._trouble = error.strerror or "it can't be reached"
            return False
        bootstrap: Remote | None = None
        ready = trio.Event()

        def got(remote: Remote) -> None:
            nonlocal bootstrap
            bootstrap = remote
            ready.set()

        async def talk() -> None:
            with contextlib.suppress(BridgeError):
                await self._bridge.connect(detach(stream), "Krapao", receive_bytes=codec.MAX_MESSAGE_BYTES, ready=got)
            nursery.cancel_scope.cancel()

        def forget() -> None:
            self._connection = None
            self._connection_made = trio.Event()  # nobody waits for the old one, which was set
            nursery.cancel_scope.cancel()

        connection: _Connection | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk)
                with trio.move_on_after(patience):
                    await ready.wait()
                    session = await self._open_session(bootstrap)
                    if session is not None:
                        self._refused = None
                        connection = self._connection = _Connection(session, forget)
                        self._connection_made.set()
                if connection is not None:
                    await trio.sleep_forever()  # talk ends it, or a call that finds it ended
                nursery.cancel_scope.cancel()
        finally:
            if connection is not None:
                connection.end()
        self._trouble = "the connection ended" if connection is not None else "it opened no session"
        return connection is not None

    async def _open_session(self, bootstrap: Remote | None) -> Remote | None:
        if bootstrap is None:
            return None
        try:
            secret = await self._secret() if self._secret is not None else None
            session, checked = await bootstrap.call(
                "openSession",
                lambda call: codec.write_session_request(call, secret),
                lambda answer: _read_session(answer, self._bridge),
            )
        except BridgeError:
            return None
        except JiemiError as error:
            if self._refused != error.failure:
                _log.warning("session_refused", reason=error.failure.reason, message=error.failure.text)
            self._refused = error.failure
            self._refusals += 1
            self._connection_made.set()
            self._connection_made = trio.Event()
            return None
        if secret is not None and not checked and not self._warned_of_unchecked:
            self._warned_of_unchecked = True
            _log.warning(
                "session_secret_not_checked",
                why="Krapao is of an older release, or was started without --session-secret-file: anyone who reaches "
                "its port is served",
            )
        return session


def _read_session(answer: Any, bridge: Bridge) -> tuple[Remote, bool]:
    """The session, and whether Krapao compared the secret. Raises the JiemiError that the answer holds."""
    checked = codec.read_session_checked(answer)
    return bridge.hold(answer.session), checked


class _Repository:
    """The `Repository` of `KrapaoClient.open`."""

    def __init__(
        self, client: KrapaoClient, bridge: Bridge, source: Source, credentials: GitCredentials, tenant: str
    ) -> None:
        self._client = client
        self._bridge = bridge
        self._source = source
        self._credentials = credentials
        self._tenant = tenant
        self._opened: tuple[_Connection, Remote] | None = None
        self._closed = False

    def close(self) -> None:
        self._closed = True
        if self._opened is not None:
            self._opened[1].release()
            self._opened = None

    async def head(self, *, max_age_seconds: float) -> Head:
        return await self._call(
            "head",
            lambda call: codec.write_max_age(call, max_age_seconds),
            codec.read_head_result,
            "tell the newest revision",
            self._client.settings.head_timeout_seconds,
        )

    async def files(self, request: FilesRequest) -> Files:
        return await self._call(
            "files",
            lambda call: codec.write_files_request(call.request, request),
            codec.read_files_result,
            "tell which files match",
            self._client.settings.files_timeout_seconds,
        )

    async def render(self, request: RenderRequest) -> Rendered:
        return await self._call(
            "render",
            lambda call: codec.write_render_request(call.request, request),
            codec.read_render_result,
            "decrypt the file",
            self._client.settings.render_timeout_seconds,
        )

    async def _call(
        self, method: str, write: Callable[[Any], None], read: Callable[[Any], T], what: str, timeout_seconds: float
    ) -> T:
        """Call a method whose answer is a result, on the connection that there is."""
        with self._translated_errors(), _deadline(what, timeout_seconds):
            async with self._client.calls:
                connection = await self._client.connected()
                with connection.scope():
                    return await self._on(connection).call(method, write, lambda answer: read(answer.result))

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        # Without a deadline: a watch lasts until it is cancelled or its connection ends.
        watcher = _Watcher(self._bridge)

        def write(call: Any) -> None:
            call.watcher = self._bridge.serve("Watcher", watcher)

        with self._translated_errors():
            connection = await self._client.connected()
            with connection.scope():
                subscription = await self._on(connection).call(
                    "watch", write, lambda answer: self._bridge.hold(answer.subscription)
                )
                try:
                    while True:
                        on_moved(await watcher.next_head())
                finally:
                    subscription.release()

    def _on(self, connection: _Connection) -> Remote:
        """The capability on that connection; the opening of a new one travels in front of its first call."""
        if self._closed:
            raise JiemiError("InternalError", "a repository was used after it was closed")
        if self._opened is None or self._opened[0] is not connection:
            session, source, credentials, tenant = connection.session, self._source, self._credentials, self._tenant

            def write(call: Any) -> None:
                codec.write_source(call.source, source)
                codec.write_credentials(call.credentials, credentials)
                codec.write_tenant(call, tenant)

            def opened() -> Any:
                return request(session.capability(), "openRepository", write).send().repository

            self._opened = connection, Remote(self._bridge, opened)
        return self._opened[1]

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except PeerLostError as error:
            raise self._client.lost() from error
        except MessageTooLargeError as error:
            raise JiemiError("LimitExceeded", f"the credentials, keys or patterns are too large: {error}") from error
        except PeerTooOldError as error:
            raise JiemiError(
                "ProviderNotSupportedYet", "Krapao is of an older release than Miwen and does not know this: upgrade it"
            ) from error
        except BridgeError as error:
            raise JiemiError("InternalError", f"the call to Krapao failed: {error}") from error


@contextlib.contextmanager
def _deadline(what: str, seconds: float) -> Iterator[None]:
    """Raises JiemiError Timeout when what is in it takes longer."""
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise JiemiError("Timeout", f"Krapao did not {what} within {seconds} s")


class _Watcher:
    """The target of the interface Watcher: keeps the newest revision until it is taken."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._news = trio.Event()
        self._head: Head | None = None
        self._failure: Failure | None = None

    async def next_head(self) -> Head:
        """The newest revision that was not taken yet. Raises JiemiError when the watch has ended."""
        await self._news.wait()
        self._news = trio.Event()
        head, self._head = self._head, None
        if head is not None:
            if self._failure is not None:
                self._news.set()
            return head
        assert self._failure is not None  # noqa: S101  one of the two makes news
        raise JiemiError.of(self._failure)

    # In the loop's thread:

    async def moved(self, call: Any) -> None:
        self._bridge.to_trio(self._set_head, codec.read_head(call.params.head))

    async def ended(self, call: Any) -> None:
        self._bridge.to_trio(self._set_failure, codec.read_failure(call.params.failure))

    def released(self) -> None:
        """The watch is over, which the connection or `ended` tells."""

    # In trio's:

    def _set_head(self, head: Head) -> None:
        self._head = head
        self._news.set()

    def _set_failure(self, failure: Failure) -> None:
        self._failure = failure
        self._news.set()
