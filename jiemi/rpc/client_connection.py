"""One connection of the client to Krapao, and the calls that end with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import trio

from jiemi.rpc.capability import PeerLostError, Remote


class Connection:
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
