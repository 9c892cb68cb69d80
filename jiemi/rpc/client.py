"""A `Krapao` that is another process, reached over Cap'n Proto.

One task keeps one connection: it connects when the first call wants it, and again, with exponential backoff and jitter,
whenever it has ended while a repository is open. With TLS, another connection takes its place long before one of the
certificates ends. Krapao closes a session in which nothing is open; then the next call connects again. A call takes the
connection that there is, or waits a little for one. The end of a connection cancels the scope of each call that is on
it (`jiemi.rpc.client_connection`), which then raises KrapaoUnavailable.

No more than `ClientSettings.calls` are under way at once. Krapao cuts off a client that has thousands.

A repository's handle (`jiemi.rpc.remote_repository`) outlives connections.
"""

from __future__ import annotations

import contextlib
import datetime
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
from jiemi.rpc.contract import GitCredentials, Repository, Source
from jiemi.rpc.remote_repository import CallTimeouts, RemoteRepository
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


class KrapaoClient:
    """The `Krapao` of `connect`."""

    def __init__(
        self,
        address: Address,
        bridge: Bridge,
        settings: ClientSettings,
        secret: SecretSource | None,
        tls: ClientTls | None,
    ) -> None:
        self._secret = secret
        self._tls = tls
        self._refused: Failure | None = None
        self._refusals = 0
        self._open_repositories = 0
        self._warned_of_unchecked = False
        self.calls = trio.CapacityLimiter(settings.calls)
        self._address = address
        self._bridge = bridge
        self._settings = settings
        self.timeouts = CallTimeouts(
            settings.head_timeout_seconds, settings.files_timeout_seconds, settings.render_timeout_seconds
        )
        self._wanted = trio.Event()
        self._connection: Connection | None = None
        self._connection_made = trio.Event()
        self._trouble = "no attempt has ended yet"

    @contextlib.asynccontextmanager
    async def open(self, source: Source, credentials: GitCredentials, tenant: str = "") -> AsyncIterator[Repository]:
        """A repository. See `jiemi.rpc.contract.Krapao`."""
        repository = RemoteRepository(self, self._bridge, source, credentials, tenant)
        self._open_repositories += 1
        try:
            yield repository
        finally:
            self._open_repositories -= 1
            repository.close()

    async def connected(self) -> Connection:
        """The connection, waited for a little.

        Raises:
            JiemiError: KrapaoUnavailable; KrapaoAccessDenied, or what keeps the secret from being had.
        """
        self._wanted.set()
        with trio.move_on_after(self._settings.wait_for_connection_seconds):
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
        # A connection that is due lives on beside the one that takes its place, until its calls have ended.
        async with trio.open_nursery() as nursery:
            failures = 0
            while True:
                await self._wanted.wait()  # without a deadline: until a call needs a connection
                due = self._connection
                made: Connection | None = await nursery.start(self._connect_once)
                if made is not None:
                    failures = 0
                    if due is not None:
                        due.retire()
                    await made.spent.wait()  # as long as the connection lasts
                    if not made.ended and self._open_repositories:
                        continue
                    made.end()
                    if not self._open_repositories:
                        self._wanted = trio.Event()
                # Full jitter, so that many clients do not all come back to a restarted server at once.
                failures += 1
                longest = doubled_seconds(
                    self._settings.backoff_first_seconds, failures, most_seconds=self._settings.backoff_most_seconds
                )
                await trio.sleep(random.uniform(0, longest))  # noqa: S311

    async def _connect_once(self, *, task_status: trio.TaskStatus[Connection | None]) -> None:
        """Connect, and stay until the connection ends. Reports the connection, or None where there is no session."""
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

        def forget() -> None:
            if self._connection is connection:
                self._connection = None
                self._connection_made = trio.Event()  # nobody waits for the old one, which was set
            nursery.cancel_scope.cancel()

        connection: Connection | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.run)
                nursery.start_soon(talk)
                with trio.move_on_after(self._settings.connect_timeout_seconds):
                    await ready.wait()
                    session = await self._open_session(bootstrap)
                    if session is not None:
                        self._refused = None
                        _log.debug("session_opened", address=str(self._address))
                        connection = self._connection = Connection(session, forget)
                        self._connection_made.set()
                        task_status.started(connection)
                if connection is not None:
                    await self._until_due(channel.not_after)
                    connection.spent.set()
                    await trio.sleep_forever()  # talk ends it, or who retires it, or a call that finds it ended
                nursery.cancel_scope.cancel()
        finally:
            if connection is not None:
                self._trouble = "the connection ended"
                connection.end()
        if connection is None:
            self._trouble = self._no_session()
            task_status.started(None)

    async def _reach(self) -> Channel | None:
        """The way to Krapao, where there is one."""
        patience = self._settings.connect_timeout_seconds
        try:
            with trio.fail_after(patience):
                return await open_channel(self._address, self._tls)
        except trio.TooSlowError:
            self._trouble = f"no answer within {patience} s"
        except OSError as error:
            self._trouble = error.strerror or "it can't be reached"
        except TlsError as error:
            self._refuse(Failure("KrapaoNotTrusted", str(error)))
        except JiemiError as error:
            self._refuse(error.failure)
        return None

    async def _until_due(self, not_after: datetime.datetime | None) -> None:
        """Wait until half of the time has passed that was left of the certificates."""
        if not_after is None:
            await trio.sleep_forever()
        left = (not_after - datetime.datetime.now(datetime.UTC)).total_seconds()
        await trio.sleep(max(left / 2, self._settings.renewal_least_seconds))

    def _no_session(self) -> str:
        if not isinstance(self._address, TcpAddress):
            return "it opened no session"
        if self._tls is None:
            return "it opened no session; if it was started with --tls-dir, give Miwen --tls-secret or --tls-dir"
        return "it ended the connection after the TLS handshake; its log says why it refused this certificate"

    def _refuse(self, failure: Failure) -> None:
        """Have calls fail with this until there is a session."""
        if self._refused != failure:
            _log.warning("session_refused", reason=failure.reason, message=failure.text)
        self._refused = failure
        self._refusals += 1
        self._connection_made.set()
        self._connection_made = trio.Event()

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
            self._refuse(error.failure)
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
