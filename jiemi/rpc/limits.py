"""What the peers of Krapao's port may take up: the numbers, and the accounts that hold them to these.

Everything that a peer makes Krapao hold is charged to the peer's account before it is made, in bytes: what it brought
(credentials, requests), what it is owed (answers that it has not taken), and a flat sum for each thing whose cost is
Krapao's own (a repository, a watch, a call). An account has a limit and a parent: the connection's is part of its
host's, and that of the whole process's. So no connection, and no host by many connections, can take all that there is.

The flat sums were measured on the running process, with a repository of its own each (jiemi krapao, 3,000 to 20,000 of
each): 30 KiB for a repository, 25 KiB for a watch, 29 KiB for a call that waits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import attrs

from jiemi.rpc.contract import MEBIBYTE

REPOSITORY_BYTES = 32 * 1024
"""What an open repository costs beside its URL and credentials."""

WATCH_BYTES = 28 * 1024
"""What a watch costs."""

CALL_BYTES = 32 * 1024
"""What a call costs, from its arrival until its answer has been taken, beside its message."""


@attrs.frozen
class Limits:
    """What peers may take up.

    Attributes:
        connections: with a session, at once. The idlest makes way for a new one (`jiemi.rpc.places`).
        newcomers: connections without a session yet, at once; the oldest makes way.
        local_places: of each of the two, how many are kept for this machine's own peers, such as a health probe.
        handshake_seconds: a connection that opens no session in this time is closed.
        handshake_bytes: what a connection may send before it has a session; the rest of it waits.
        idle_seconds: a session that has nothing open and asks nothing for so long is closed.

        repositories: open at once on one connection; each one more gets LimitExceeded.
        watches: at once on one connection; each one more gets LimitExceeded. One for each repository.
        refused: how many of both may be refused before the connection is closed.
        calls: of one connection that are not answered yet, or whose answers were not taken; one more closes it. The
            client of this package has a quarter of them in hand at most.
        bytes_in_flight: of one connection, each way. A request beyond it gets KrapaoUnavailable; an answer beyond it
            waits until the client has taken earlier ones.
        call_bytes: of the messages of those `calls`; one more closes the connection.
        message_bytes: of one message of a peer's.
        message_seconds: for a message that has begun to arrive to be complete, and for the peer to take a piece of what
            it is sent.
        capabilities: that one message may carry.

        host_bytes: what the peers of one host may have charged together; all of this machine's own are one.
        process_bytes: what all peers may have charged together.
    """

    connections: int = 32
    newcomers: int = 16
    local_places: int = 4
    handshake_seconds: float = 10
    handshake_bytes: int = 16 * 1024
    idle_seconds: float = 120

    repositories: int = 8_000
    watches: int = 8_000
    refused: int = 2_000
    calls: int = 4_096
    bytes_in_flight: int = 64 * MEBIBYTE
    call_bytes: int = 128 * MEBIBYTE
    message_bytes: int = 4 * MEBIBYTE + 64 * 1024
    message_seconds: float = 30
    capabilities: int = 4

    host_bytes: int = 640 * MEBIBYTE
    process_bytes: int = 896 * MEBIBYTE


class Account:
    """What is charged to someone, and to the larger account that it is part of. For any thread.

    Args:
        limit_bytes: what may be charged at once.
        parent: the larger account; its limit holds too.
    """

    def __init__(self, limit_bytes: int, parent: Account | None = None) -> None:
        self._limit = limit_bytes
        self._parent = parent
        self._lock: threading.Lock = threading.Lock() if parent is None else parent._lock
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes that are charged now."""
        return self._used

    def charge(self, size: int, *, lasting: bool = False) -> bool:
        """Charge so many bytes. False, and nothing is charged, where this or a larger account would go over.

        Args:
            lasting: it is kept for as long as the peer likes. Then an eighth of each account stays free for calls:
                one that an account has no room for ends its connection, so opening too much would do that too.
        """
        with self._lock:
            accounts = list(self._line())
            if any(each._used + size > (each._limit * 7 // 8 if lasting else each._limit) for each in accounts):
                return False
            for each in accounts:
                each._used += size
            return True

    def give_back(self, size: int) -> None:
        """Take bytes off that were charged."""
        with self._lock:
            for each in self._line():
                each._used -= size

    def close(self) -> None:
        """Give everything back. What is given back later no longer concerns the larger account."""
        with self._lock:
            for each in list(self._line())[1:]:
                each._used -= self._used
            self._parent = None

    def _line(self) -> Iterator[Account]:
        account: Account | None = self
        while account is not None:
            yield account
            account = account._parent
