"""One connection of the client to Krapao, and the calls that end with it.

New calls use a connection until it has ended, or is due because its certificates do not last much longer. Then another
one takes its place, and the old one is retired: watches move, calls finish, and it ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import trio

from jiemi.rpc.address import Address
from jiemi.rpc.capability import PeerLostError, Remote


class Connection:
    """A connection with its session.

    Attributes:
        session: the capability.
        server: stands for whom it leads to: the connections that take each other's place have the same.
        repositories: how many are open on it.
        ended: whether it is of no further use.
        ended_in_use: whether there were repositories open on it when it ended.
        spent: set when it has ended or is due.
        why: why it ended, in words.
    """

    def __init__(self, session: Remote, server: object, address: Address, on_end: Callable[[Connection], None]) -> None:
        self.session = session
        self.server = server
        self._ending = f"the connection to Krapao at {address} ended during the call"
        self.repositories = 0
        self.ended = False
        self.ended_in_use = False
        self.spent = trio.Event()
        self.why = "the connection ended"
        self._retired = False
        self._on_end = on_end
        self._calls: set[trio.CancelScope] = set()
        self._watches: set[trio.CancelScope] = set()

    @contextlib.contextmanager
    def scope(self, *, watch: bool = False) -> Iterator[None]:
        """What runs in it is cancelled when the connection ends; and that it ended is often known here first.

        Args:
            watch: whether it lasts, so that it leaves the connection when that is retired. Then the context ends
                without an exception.

        Raises:
            PeerLostError: it has ended; the text names whom it led to, and is safe to show.
        """
        scopes = self._watches if watch else self._calls
        with trio.CancelScope() as scope:
            if self.ended or (watch and self._retired):
                scope.cancel()
            scopes.add(scope)
            try:
                yield
            except PeerLostError as error:
                self.end()  # so that the next call waits for another
                raise PeerLostError(self._ending) from error
            finally:
                scopes.discard(scope)
                self._end_when_left()
        if scope.cancelled_caught and not (watch and self._retired):
            raise PeerLostError(self._ending)

    def retire(self) -> None:
        """Another one took its place: end with the last call, at the latest at its deadline."""
        self._retired = True
        for scope in self._watches:
            scope.cancel()
        self._end_when_left()

    def end(self, why: str = "") -> None:
        """Cancel all that is on it.

        Args:
            why: where it is not the other end that ended it; safe to show.
        """
        if not self.ended:
            if why:
                self.why = why
                self._ending = f"{self._ending}: {why}"
            self.ended = True
            self.ended_in_use = self.repositories > 0
            self.spent.set()
            self._on_end(self)
            for scope in (*self._calls, *self._watches):
                scope.cancel()

    def _end_when_left(self) -> None:
        if self._retired and not self._calls and not self._watches:
            self.end()
