"""What the targets of one connection (`jiemi.rpc.targets`) need of it, and what its client has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from jiemi.core.errors import Failure
from jiemi.rpc.bridge import Bridge
from jiemi.rpc.contract import Krapao
from jiemi.rpc.limits import Account, Limits
from jiemi.rpc.open_repositories import Budget


class Connection(Protocol):
    """The trio side of a connection. Attributes and `bridge` may be used in the loop's thread, the methods may not."""

    krapao: Krapao
    bridge: Bridge
    limits: Limits
    account: Account
    answers: Budget

    async def open_session(self, secret: str | None) -> tuple[Failure | None, bool]: ...

    def cut_off(self, reason: str) -> None: ...

    def retire(self, end: Callable[[], None]) -> None: ...

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None: ...


class Owned:
    """What a connection's client has. Of the loop's thread.

    Attributes:
        repositories, watches: that it holds.
        refused: of both, those that it holds and that were refused.
        request_bytes: of its requests that are under way.
    """

    def __init__(self, connection: Connection) -> None:
        self.repositories = 0
        self.watches = 0
        self.refused = 0
        self.request_bytes = 0
        self._connection = connection

    def note_refused(self) -> None:
        self.refused += 1
        if self.refused > self._connection.limits.refused:
            self._connection.bridge.to_trio(
                self._connection.cut_off, "it holds on to thousands of repositories or watches that were refused"
            )
