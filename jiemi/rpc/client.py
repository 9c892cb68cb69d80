"""A `Krapao` that is another process, reached over Cap'n Proto. `jiemi.rpc.krapaos` has several of them.

One task keeps one connection: it connects when the first call wants it, and again, with exponential backoff and jitter,
whenever it has ended while a repository was open on it. With TLS, another connection takes its place long before one of
the certificates ends. Krapao closes a session in which nothing is open; then the next call connects again. A call takes
the connection that there is, or waits a little for one. The end of a connection cancels the scope of each call that is
on it (`jiemi.rpc.client_connection`), which then raises KrapaoUnavailable.

No more than `ClientSettings.calls` are under way at once. Krapao cuts off a client that has thousands.

A repository's handle (`jiemi.rpc.remote_repository`) outlives connections.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import structlog
import trio

from jiemi.core.backoff import doubled_seconds
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc import codec
from jiemi.rpc.address import ANY_HOST, Address, TcpAddress
from jiemi.rpc.bridge import Bridge
from jiemi.rpc.capability import BridgeError, Remote
from jiemi.rpc.channel import Channel, ClientTls, open_channel
from jiemi.rpc.client_connection import Connection
from jiemi.rpc.client_pulse import Pulse, end_when_silent
from jiemi.rpc.contract import Repository
from jiemi.rpc.remote_repository import CallTimeouts, RemoteRepository
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.tls import TlsError

_log = structlog.get_logger("jiemi.rpc")

SecretSource = Callable[[], Awaitable[SensitiveText]]
"""Gives the secret that Krapao asks for. May raise JiemiError; then there is no connection, and calls raise it."""


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
        renewal_least_seconds: how long a connection stays in use at least, however soon its certificates end.
        pulse: how it is noticed that Krapao does not answer.
    """

    connect_timeout_seconds: float = 5
    wait_for_connection_seconds: float = 2
    head_timeout_seconds: float = 60
    files_timeout_seconds: float = 120
    render_timeout_seconds: float = 120
    calls: int = 3_000
    backoff_first_seconds: float = 0.1
    backoff_most_seconds: float = 10
    renewal_least_seconds: float = 60
    pulse: Pulse = Pulse()

    @property
    def call_timeouts(self) -> CallTimeouts:
        """The timeouts of the three calls."""
        return CallTimeouts(self.head_timeout_seconds, self.files_timeout_seconds, self.render_timeout_seconds)


@contextlib.asynccontextmanager
async def connect(
    address: Address,
    *,
    bridge: Bridge,
    settings: ClientSettings | None = None,
    secret: SecretSource | None = None,
    tls: ClientTls | None = None,
) -> AsyncIterator[KrapaoClient]:
    """The Krapao at an address, for as long as the context lasts. Connects with the first call; fails only in calls.

    Args:
        secret: gives the session secret, again for each connection; None sends none.
        tls: how to do TLS on TCP; None talks plain TCP.

    Raises:
        ValueError: the address is one to listen on only.
    """
    if isinstance(address, TcpAddress) and (address.host == ANY_HOST or address.port == 0):
        raise ValueError(f"{address} is an address to listen on; name Krapao's host and port")
    client = KrapaoClient(address, bridge, settings or ClientSettings(), secret, tls)
    async with beside(client.keep_connected):
        yield client


@contextlib.asynccontextmanager
async def beside(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run something for as long as the context lasts. An exception of the context's leaves it as it is, not in a
    group."""
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            try:
                yield
            except BaseException as caught:  # noqa: BLE001  raised below, where the nursery does not wrap it into a group
                error = caught
            nursery.cancel_scope.cancel()
    finally:
        if error is not None:
            try:
                raise error
            finally:
                error = None


class KrapaoClient:
    """The `Krapao` of `connect`.

    Args:
        on_change: called when `connection` or `failing` may be another; it must not block or raise.

    Attributes:
        connection: the connection that there is, or None.
        failing: whether there is none and the last attempt failed, or the last connection was lost in use.
        attempts: how many attempts to connect have begun.
    """

    def __init__(
        self,
        address: Address,
        bridge: Bridge,
        settings: ClientSettings,
        secret: SecretSource | None,
        tls: ClientTls | None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = address
        self.connection: Connection | None = None
        self.failing = False
        self.calls = trio.CapacityLimiter(settings.calls)
        self.timeouts = settings.call_timeouts
        self._secret = secret
        self._tls = tls
        self._on_change = on_change
        self._refused: Failure | None = None
        self.attempts = 0
        self._refused_attempt = 0
        self._warned_of_unchecked = False
        self._bridge = bridge
        self._settings = settings
        self._wanted = trio.Event()
        self._hurried = trio.Event()
        self._closing = False
        self._connection_made = trio.Event()
        self._trouble = "no attempt has ended yet"

    @contextlib.asynccontextmanager
    async def open(self, source: Source, credentials: GitCredentials, tenant: str = "") -> AsyncIterator[Repository]:
        """A repository. See `jiemi.rpc.contract.Krapao`."""
        repository = RemoteRepository(self, self._bridge, source, credentials, tenant)
        try:
            yield repository
        finally:
            repository.close()

    async def connected(self) -> Connection:
        """The connection, waited for a little.

        Raises:
            JiemiError: KrapaoUnavailable; KrapaoAccessDenied, or what keeps the secret from being had.
        """
        self.want()
        earlier = self.attempts
        with trio.move_on_after(self._settings.wait_for_connection_seconds):
            while self.connection is None:
                await self._connection_made.wait()
                if self.is_refused_since(earlier):
                    break
            else:
                return self.connection
        raise JiemiError.of(self.failure())

    async def connected_elsewhere(self, lost: Connection) -> Connection | None:
        """None: there is no other."""
        return None

    def has_another(self, lost: Connection) -> bool:
        """There is no other."""
        return False

    def following(self, connection: Connection) -> contextlib.AbstractContextManager[None]:
        """See `jiemi.rpc.remote_repository.Route`."""
        return connection.scope(watch=True)

    def want(self) -> None:
        """See that there is a connection, or an attempt is made for one. Does not wait."""
        self._wanted.set()

    def hurry(self) -> None:
        """Have the next attempt made now, however many have failed: something says that it may be there again."""
        self._hurried.set()

    def is_refused_since(self, attempts: int) -> bool:
        """Whether the last attempt found somebody, but no session was had. What the first so many `attempts` were made
        with, a certificate say, may have been mended since, so these do not count."""
        return self._refused is not None and self._refused_attempt > attempts

    def failure(self) -> Failure:
        """Why there is no connection."""
        if self._refused is not None:
            return self._refused.at(f"no session with Krapao at {self.address}")
        return Failure("KrapaoUnavailable", f"no connection to Krapao at {self.address}: {self._trouble}")

    async def keep_connected(self) -> None:
        """Keep a connection while one is wanted, until cancelled."""
        # A connection that is due lives on beside the one that takes its place, until its calls have ended.
        async with trio.open_nursery() as nursery:
            failures = 0
            while True:
                await self._wanted.wait()  # without a deadline: until a call needs a connection
                self._hurried = trio.Event()
                due = self.connection
                made: Connection | None = await nursery.start(self._connect_once)
                if made is None:
                    self._fail()
                else:
                    failures = 0
                    if due is not None:
                        due.retire()
                    await made.spent.wait()  # as long as the connection lasts
                    if not made.ended and made.repositories:
                        continue
                    made.end()
                    if not made.ended_in_use:
                        self._wanted = trio.Event()
                # Full jitter, so that many clients do not all come back to a restarted server at once.
                failures += 1
                longest = doubled_seconds(
                    self._settings.backoff_first_seconds, failures, most_seconds=self._settings.backoff_most_seconds
                )
                with trio.move_on_after(random.uniform(0, longest)):  # noqa: S311
                    await self._hurried.wait()

    async def _connect_once(self, *, task_status: trio.TaskStatus[Connection | None]) -> None:
        """Connect, and stay until the connection ends. Reports the connection, or None where there is no session."""
        self.attempts += 1
        channel = await self._reach()
        if channel is None:
            task_status.started(None)
            return
        bootstrap: Remote | None = None
        ready = trio.Event()

        def got(remote: Remote) -> None:
            nonlocal bootstrap
            bootstrap = remote
            ready.set()

        async def talk() -> None:
            with contextlib.suppress(BridgeError):
                await self._bridge.connect(channel.socket, "Krapao", receive_bytes=codec.MAX_MESSAGE_BYTES, ready=got)
            nursery.cancel_scope.cancel()

        def forget(ended: Connection) -> None:
            self._forget(ended)
            nursery.cancel_scope.cancel()

        connection: Connection | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.run)
                nursery.start_soon(talk)
                with trio.move_on_after(self._settings.connect_timeout_seconds):
                    await ready.wait()
                    session = await self._open_session(bootstrap, channel.shown)
                    if session is not None:
                        self._refused = None
                        _log.debug("session_opened", address=str(self.address))
                        connection = self.connection = Connection(session, self, self.address, forget)
                        self.failing = False
                        self._connection_made.set()
                        self._on_change()
                        task_status.started(connection)
                        nursery.start_soon(end_when_silent, connection, lambda: channel.heard, self._settings.pulse)
                if connection is not None:
                    await self._until_due(channel.not_after)
                    connection.spent.set()
                    await trio.sleep_forever()  # talk ends it, or who retires it, or a call that finds it ended
                nursery.cancel_scope.cancel()
        finally:
            self._closing = trio.current_effective_deadline() == -math.inf
            if connection is not None:
                connection.end()
        if connection is None:
            self._trouble = self._no_session(channel.shown)
            task_status.started(None)

    def _forget(self, ended: Connection) -> None:
        if self.connection is not ended:
            return  # another one has its place
        self.connection = None
        self._connection_made = trio.Event()  # nobody waits for the old one, which was set
        self._trouble = ended.why
        if not self._closing:  # where this end goes nothing is lost
            self.failing = ended.ended_in_use
            self._on_change()

    def _fail(self) -> None:
        """An attempt failed. The connection that there may be is as good as before."""
        if self.connection is None:
            self.failing = True
            self._on_change()

    async def _reach(self) -> Channel | None:
        """The way to Krapao, where there is one."""
        patience = self._settings.connect_timeout_seconds
        try:
            with trio.fail_after(patience):
                return await open_channel(self.address, self._tls)
        except trio.TooSlowError:
            self._refused, self._trouble = None, f"no answer within {patience} s"
        except OSError as error:
            self._refused, self._trouble = None, error.strerror or "it can't be reached"
        except TlsError as error:
            self._refuse(Failure("KrapaoNotTrusted", str(error), error.remedy))
        except JiemiError as error:
            self._refuse(error.failure)
        return None

    async def _until_due(self, not_after: datetime.datetime | None) -> None:
        """Wait until half of the time has passed that was left of the certificates."""
        if not_after is None:
            await trio.sleep_forever()
        left = (not_after - datetime.datetime.now(datetime.UTC)).total_seconds()
        await trio.sleep(max(left / 2, self._settings.renewal_least_seconds))

    def _no_session(self, shown: str) -> str:
        if not isinstance(self.address, TcpAddress):
            return "it opened no session"
        if self._tls is None:
            return "it opened no session; if it was started with --tls-dir, give Miwen --tls-secret or --tls-dir"
        return f"it ended the connection after the TLS handshake; its log says why it refused {shown}"

    def _refuse(self, failure: Failure) -> None:
        """Have calls fail with this until there is a session."""
        if self._refused != failure:
            _log.warning("session_refused", reason=failure.reason, message=failure.text)
        self._refused = failure
        self._refused_attempt = self.attempts
        self._connection_made.set()
        self._connection_made = trio.Event()

    async def _open_session(self, bootstrap: Remote | None, shown: str) -> Remote | None:
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
            self._refuse(_with_certificate(error.failure, shown))
            return None
        if secret is not None and not checked and not self._warned_of_unchecked:
            self._warned_of_unchecked = True
            _log.warning(
                "session_secret_not_checked",
                why="Krapao is of an older release, or was started without --session-secret-file: anyone who reaches "
                "its port is served",
            )
        return session


def _with_certificate(failure: Failure, shown: str) -> Failure:
    """Krapao knows no more of the certificate that it was shown than the names in it."""
    if failure.reason != "KrapaoAccessDenied" or not shown:
        return failure
    return attrs.evolve(failure, message=f"{failure.message} (Miwen showed {shown})")


def _read_session(answer: Any, bridge: Bridge) -> tuple[Remote, bool]:
    """The session, and whether Krapao compared the secret. Raises the JiemiError that the answer holds."""
    checked = codec.read_session_checked(answer)
    return bridge.hold(answer.session), checked
