"""Whether the Krapao at the other end of a connection still answers: it is asked for nothing, again and again.

A process that hangs, a machine that stopped, or a network that drops what it should carry leaves a connection open,
and a call on it would wait for its own deadline, which is minutes. TCP notices the last two after half a minute, and
the first one never: the kernel acknowledges what its process does not read.

It is asked only while something is open on the connection, so that an idle session may end. Whatever comes meanwhile
shows that it lives: its answer may be behind many megabytes of others. The time is counted in several short waits,
so that a process that stood still itself does not take all others for dead when it goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import attrs
import trio

from jiemi.rpc.capability import BridgeError, Remote
from jiemi.rpc.client_connection import Connection

_METHOD = "ping"


@attrs.frozen
class Pulse:
    """How often a server is asked, and how long its answer is waited for.

    Attributes:
        every_seconds: from an answer to the next question.
        wait_seconds: of one wait; an answer takes a millisecond.
        waits: how many pass without a byte until the connection is given up.
    """

    every_seconds: float = 5
    wait_seconds: float = 2
    waits: int = 5

    @property
    def silence_seconds(self) -> float:
        """How long it is silent, after a question, until the connection is given up."""
        return self.wait_seconds * self.waits


async def end_when_silent(connection: Connection, heard: Callable[[], int], pulse: Pulse) -> None:
    """Ask until there is no answer, and end the connection then.

    Args:
        heard: gives how many bytes have come so far, where that is known, and otherwise always the same.
    """
    while True:
        await trio.sleep(pulse.every_seconds)
        if connection.repositories and not await _answers(connection.session, heard, pulse):
            connection.end(f"it did not answer for {pulse.silence_seconds:g} s")
            return


async def _answers(session: Remote, heard: Callable[[], int], pulse: Pulse) -> bool:
    answered = False

    async def ask() -> None:
        nonlocal answered
        # One of an older release does not know the method, and says so. The end of the connection is noticed elsewhere.
        with contextlib.suppress(BridgeError):
            await session.call(_METHOD, lambda _: None, lambda _: None)
        answered = True
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        silent, before = 0, heard()
        while silent < pulse.waits:
            await trio.sleep(pulse.wait_seconds)
            now = heard()
            silent, before = silent + 1 if now == before else 0, now
        nursery.cancel_scope.cancel()
    return answered
