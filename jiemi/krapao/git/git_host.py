"""Conversations with the host of one repository, within bounds: bytes, rate and time.

A conversation runs on a thread of its own. It ends when its task is cancelled, at its deadline, or as soon as the meter
has seen too much; what it raises is a JiemiError that says what the host did (`host_failures`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs
import trio
from dulwich.client import GitClient

from jiemi.concurrency.calls import Interrupter, run_blocking
from jiemi.concurrency.fair_limiter import Slot
from jiemi.core.errors import JiemiError
from jiemi.core.urls import Location
from jiemi.krapao.git.github_app import AppLogin
from jiemi.krapao.git.host_failures import HostBusyError, no_git_server, translating
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.transports import open_client
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials
from jiemi.tracing.current import span

T = TypeVar("T")

_SLOW_BYTES_A_SECOND = 64 * 1024
"""A host that sends less makes room where other tenants wait for slots (`jiemi.concurrency.fair_limiter`)."""


_MAY_BE_THE_TOKEN = frozenset({"RepositoryAccessDenied", "RepositoryNotFound"})
"""How a host refuses a token; GitHub does not say that a repository exists which the token may not read."""


_MAX_PAUSE_SECONDS = 600.0

_now = trio.current_time


@attrs.define
class _Pause:
    """The pause that a host asked for: until it is over, nothing is asked of it with these credentials."""

    _until: float = 0.0

    def begin(self, seconds: float) -> None:
        self._until = _now() + min(seconds, _MAX_PAUSE_SECONDS)

    def require_over(self, host: str) -> None:
        """Raises HostBusyError while it lasts."""
        left = self._until - _now()
        if left > 0:
            raise HostBusyError(
                "GitProtocolError", f"{host} takes no more requests for the moment, and asked for a pause"
            )


@attrs.frozen
class ConversationLimits:
    """The bounds of one conversation.

    Attributes:
        operation: "listing" or "fetch", for the metrics.
        stage: what is being read, for messages.
        bytes: how much may be read.
        grace_seconds: how long the host may be slow.
    """

    operation: str
    stage: str
    bytes: int
    grace_seconds: float


@attrs.frozen
class GitHost:
    """The host of one repository, as one tenant's credentials meet it."""

    location: Location
    credentials: GitCredentials
    settings: KrapaoSettings
    metrics: KrapaoMetrics
    _login: AppLogin | None = attrs.field(
        init=False, eq=False, default=attrs.Factory(lambda host: host._first_login(), takes_self=True)
    )

    _pause: _Pause = attrs.field(init=False, eq=False, factory=_Pause)

    def _first_login(self) -> AppLogin | None:
        if self.credentials.github_app_id is None and self.credentials.github_app_private_key is None:
            return None
        return AppLogin(self.location, self.credentials, self.settings)

    async def converse(self, function: Callable[[Meter], T], what: str, limits: ConversationLimits, slot: Slot) -> T:
        """Call a function that talks to the host, on a thread.

        Args:
            function: gets the meter, to open clients with (`client`).
            what: what it does, for the message of a timeout.
            slot: is given up to other tenants while the host is slow.

        A GitHub App's token that the host no longer takes (its App may be suspended, its installation be another) is
        asked for once more, which also shows why.

        Raises:
            JiemiError: Timeout or HostUnreachable at the deadline, or what the function raises.
        """
        self._pause.require_over(self.location.authority)
        try:
            return await self._converse_as_app(function, what, limits, slot)
        except HostBusyError as error:
            self._pause.begin(error.wait_seconds)
            raise

    async def _converse_as_app(
        self, function: Callable[[Meter], T], what: str, limits: ConversationLimits, slot: Slot
    ) -> T:
        login = self._login
        had_token = login is not None and login.has_token()
        try:
            return await self._converse(function, what, limits, slot)
        except JiemiError as error:
            if error.failure.reason not in _MAY_BE_THE_TOKEN or login is None or not login.forget() or not had_token:
                raise
        return await self._converse(function, what, limits, slot)

    async def _converse(self, function: Callable[[Meter], T], what: str, limits: ConversationLimits, slot: Slot) -> T:
        seconds = self.settings.git_timeout_seconds
        host = self.location.authority
        meter = Meter(
            Interrupter(),
            limits.bytes,
            f"{host}: {limits.stage}",
            self.settings.min_bytes_per_second,
            limits.grace_seconds,
        )
        slot.is_slow = lambda: _is_slow(meter, slot)

        def call(interrupter: Interrupter) -> T:
            meter.interrupter = interrupter
            return function(meter)

        with span(limits.operation), self.metrics.git_request(limits.operation, lambda: meter.received):
            try:
                with trio.fail_after(seconds):
                    return await on_thread(call)
            except trio.TooSlowError as error:
                detail = f"{what} took longer than {seconds:g} s"
                if not meter.is_git:
                    raise no_git_server(self.location, detail) from error
                raise JiemiError("Timeout", f"{host}: {detail}") from error

    @contextlib.contextmanager
    def client(self, meter: Meter) -> Iterator[tuple[GitClient, bytes]]:
        """A dulwich client for one operation, and the path for its methods. For the conversation's thread."""
        credentials = self.credentials
        if self._login is not None:
            with self.translating(meter):
                credentials = self._login.credentials(meter)
        with (
            self._translating(meter, credentials),
            open_client(self.location, credentials, self.settings, meter) as opened,
        ):
            yield opened

    @contextlib.contextmanager
    def translating(self, meter: Meter) -> Iterator[None]:
        """Turn what is raised about what the host sent into a JiemiError."""
        with self._translating(meter, self.credentials):
            yield

    def _translating(self, meter: Meter, credentials: GitCredentials) -> contextlib.AbstractContextManager[None]:
        return translating(self.location, self.settings.connect_timeout_seconds, meter, credentials)


async def on_thread(function: Callable[[Interrupter], T]) -> T:
    """Call a function on a thread. The caller has a slot already, so there is no second queue for all tenants, as
    trio's own limiter of 40 threads would be."""
    return await run_blocking(function, limiter=trio.CapacityLimiter(1))


def _is_slow(meter: Meter, slot: Slot) -> bool:
    """Called in trio's thread, while the meter counts in another."""
    return meter.received < _SLOW_BYTES_A_SECOND * slot.idle_seconds
