"""Whether the RPC thread still answers calls: this process calls itself, over a pair of sockets.

The loop of that thread (`jiemi.rpc.bridge`) has two halves, asyncio's and kj's, and either may stand still while the
rest of the process works. A call that goes out through one end of a connection and comes in through the other needs
both. It needs no port, no session and no secret, so nothing that peers do can keep it from being answered.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from jiemi.rpc.bridge import Bridge
from jiemi.rpc.capability import BridgeError, Remote

PULSE_SECONDS = 10.0
"""How often the thread is asked. A call takes a millisecond."""

_INTERFACE = "Krapao"
_RECEIVE_BYTES = 64 * 1024


async def keep_pulse(bridge: Bridge, beat: Callable[[], None], *, every_seconds: float = PULSE_SECONDS) -> None:
    """Call `beat` each time that the thread has answered, until cancelled.

    A call has no deadline: nothing is to be done about one that is not answered but to see that there is no beat. There
    is none either after a call that fails.
    """
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    send, receive = trio.open_memory_channel[Remote](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(bridge.answer, theirs, _INTERFACE, _Answering(), receive_bytes=_RECEIVE_BYTES))
        nursery.start_soon(
            partial(bridge.connect, ours, _INTERFACE, receive_bytes=_RECEIVE_BYTES, ready=send.send_nowait)
        )
        bootstrap = await receive.receive()
        with contextlib.suppress(BridgeError):
            while True:
                await bootstrap.call("openSession", lambda _: None, lambda _: None)
                beat()
                await trio.sleep(every_seconds)


class _Answering:
    """The capability at the other end: it answers, and that is all."""

    async def open_session(self, call: Any) -> None:
        """The answer is empty."""

    def released(self) -> None:
        """Nothing was held."""
