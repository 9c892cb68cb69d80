"""Capabilities: those of the peer that the trio side holds, and those of this end that the peer holds.

A part of the bridge that needs neither asyncio nor pycapnp. What runs in the loop's thread (jiemi.rpc.bridge) says so.
"""

from __future__ import annotations

import contextlib
import functools
import re
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from jiemi.rpc.rare_log import rare_log

T = TypeVar("T")

WORD_BYTES = 8
"""Cap'n Proto's unit of size."""

_log = rare_log("jiemi.rpc")


class BridgeError(Exception):
    """What keeps a call from being answered. Its text holds nothing that the peer sent."""


class PeerLostError(BridgeError):
    """The connection ended, or the bridge did."""


class PeerFaultError(BridgeError):
    """The peer, or this end, did what the protocol does not allow."""


class PeerTooOldError(BridgeError):
    """The peer does not know the method."""


class MessageTooLargeError(BridgeError):
    """The message was not sent: it is larger than the peer takes."""


class Target(Protocol):
    """What a capability that the peer holds stands for.

    Has one coroutine method `(call) -> None` for each of the interface's, in snake case, where `call` is pycapnp's
    context (`params`, `results`, `release_params()`). They run in the loop's thread, and await nothing but the bridge's
    methods.
    """

    def released(self) -> None:
        """The peer no longer holds it. Called once, in the loop's thread."""
        ...


class Loop(Protocol):
    """What a Remote needs of the bridge."""

    capabilities: dict[object, Any]
    """The peer's capabilities that are held. Of the loop's thread."""

    def post(self, function: Callable[..., object], *args: object) -> None: ...

    async def run(self, function: Callable[[], Awaitable[T]]) -> T: ...


class Remote:
    """A capability of the peer, for the trio side. Methods may be called on the trio side only."""

    def __init__(self, bridge: Loop, make: Callable[[], Any]) -> None:
        """`make` is called in the loop's thread at the first use, so that this can be had without a hop."""
        self._bridge = bridge
        self._make = make
        self._key = object()

    def __del__(self) -> None:
        self.release()

    def capability(self) -> Any:
        """The capnp object. In the loop's thread only."""
        table = self._bridge.capabilities
        if self._key not in table:
            table[self._key] = self._make()
        return table[self._key]

    async def call(self, method: str, write: Callable[[Any], None], read: Callable[[Any], T]) -> T:
        """Call a method and wait for its answer; cancelling cancels the call, at the peer too.

        Args:
            method: its name in the schema.
            write: fills the request's builder. Runs in the loop's thread, as `read` does.
            read: takes values out of the response's reader.

        Raises:
            BridgeError: no answer came. JiemiError: as `write` and `read` raise it.
        """

        async def send() -> T:
            return read(await request(self.capability(), method, write).send())

        return await self._bridge.run(send)

    def release(self) -> None:
        """Drop it. Doing so again does nothing."""
        with contextlib.suppress(PeerLostError):
            self._bridge.post(self._bridge.capabilities.pop, self._key, None)


MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""The largest request that is sent, and so the least that a server must take."""


def request(capability: Any, method: str, write: Callable[[Any], None]) -> Any:
    """A request that is filled and not too large. In the loop's thread only.

    Raises:
        MessageTooLargeError: sending it would end the connection, and every other call on it.
    """
    builder = getattr(capability, f"{method}_request")()
    write(builder)
    if builder.total_size.word_count * WORD_BYTES > MAX_REQUEST_BYTES:
        raise MessageTooLargeError(f"a request of {method} is larger than {MAX_REQUEST_BYTES} bytes")
    return builder


@functools.cache
def served_class(interface: Any, give_up: type[BaseException]) -> Any:
    """The class of the capabilities of an interface: each method calls the target's, and lets no exception out.

    Args:
        interface: pycapnp's, of the schema.
        give_up: raised where there is no answer: asyncio's CancelledError, the one of which pycapnp sends the peer no
            more than that the call was cancelled.
    """

    def method(name: str) -> Callable[[Any, Any], Awaitable[None]]:
        snake_case = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()

        async def run(self: Any, call: Any) -> None:
            try:
                await getattr(self.target, snake_case)(call)
                return
            except PeerLostError:
                pass  # the caller is going, or this end is
            except Exception as error:  # noqa: BLE001  must not reach pycapnp, see the module's rules
                place = where(error)
                _log.error("rpc_method_failed", kind=place, method=name, error=place)
            raise give_up from None

        return run

    def init(self: Any, target: Target) -> None:
        self.target = target

    def delete(self: Any) -> None:
        self.target.released()

    members: dict[str, Any] = {f"{name}_context": method(name) for name in interface.schema.method_names}
    return type("Served", (interface.Server,), {**members, "__init__": init, "__del__": delete})


def where(error: BaseException) -> str:
    """The types of an exception and its causes and the lines they came from. Their texts could hold a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{type(error).__name__} at {lines or 'no line'}" + (f"; after {where(cause)}" if cause is not None else "")
