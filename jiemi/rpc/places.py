"""Who has a place at Krapao's port, and who makes way for whom: a pure decision.

There are two rooms, each with a number of places. A connection comes into the lobby, and when it has opened a session
it moves to the hall. So a stranger who opens none holds a place of the lobby for the time of the handshake at most, and
can't keep anyone out of the hall.

When a room is full, the newcomer takes the place of another:

    lobby   the oldest of the host that has the most places there, the newcomer counted too
    hall    the one that has been idle the longest among those that own nothing; where all own something, the idlest of
            the host that has the most places, where that host has more than the newcomer's

A host that makes many connections thus drives out its own. Some places of each room are kept for this machine's own
peers (the health probe): nobody from outside fills them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import attrs


@attrs.define(eq=False)
class Guest:
    """A connection, as far as its place is concerned.

    Attributes:
        host: where it comes from.
        local: whether that is this machine.
        idle_since: when it asked something last, or came; seconds of any one clock.
        owns: whether it has anything open, or waits for an answer.
        leave: has it closed. Called by `Room`, with the reason.
    """

    host: str
    local: bool
    idle_since: float
    leave: Callable[[str], None]
    owns: Callable[[], bool] = lambda: False


class Room:
    """A number of places.

    Args:
        size: how many there are.
        kept: how many of them only local guests get.
        choose: who makes way for whom among those who might; None for nobody.
    """

    def __init__(
        self, size: int, kept: int, choose: Callable[[Guest, Sequence[Guest]], Guest | None], what: str
    ) -> None:
        self._size = size
        self._open_to_all = max(1, size - kept)
        self._choose = choose
        self._what = what
        self._guests: list[Guest] = []

    def __len__(self) -> int:
        return len(self._guests)

    def admit(self, guest: Guest) -> bool:
        """Give it a place, where there is one or another makes way. The other's `leave` is called."""
        outsiders = [each for each in self._guests if not each.local]
        full = len(self._guests) >= self._size
        if full or (not guest.local and len(outsiders) >= self._open_to_all):
            victim = self._choose(guest, self._guests if guest.local else outsiders)
            if victim is None:
                return False
            self._guests.remove(victim)
            victim.leave(f"it made way for another: all {self._what} were taken")
        self._guests.append(guest)
        return True

    def leave(self, guest: Guest) -> None:
        """It is gone. Does nothing where it has no place here."""
        if guest in self._guests:
            self._guests.remove(guest)


def lobby(size: int, kept: int) -> Room:
    """The room of those without a session."""
    return Room(size, kept, _oldest_of_the_most_numerous, f"{size} places for connections without a session")


def hall(size: int, kept: int) -> Room:
    """The room of those with one."""
    return Room(size, kept, _idlest, f"{size} places for sessions")


def _oldest_of_the_most_numerous(guest: Guest, rivals: Sequence[Guest]) -> Guest | None:
    counts = Counter(each.host for each in (*rivals, guest))
    most = max(counts.values())
    return _idlest_of([each for each in rivals if counts[each.host] == most])


def _idlest(guest: Guest, rivals: Sequence[Guest]) -> Guest | None:
    idle = [each for each in rivals if not each.owns()]
    if idle:
        return _idlest_of(idle)
    counts = Counter(each.host for each in rivals)
    most = max(counts.values(), default=0)
    return _idlest_of([each for each in rivals if counts[each.host] == most]) if most > counts[guest.host] + 1 else None


def _idlest_of(guests: Iterable[Guest]) -> Guest | None:
    return min(guests, key=lambda each: each.idle_since, default=None)
