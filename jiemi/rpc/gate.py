"""The gate between a peer's socket and Cap'n Proto: everything that a peer says passes here before kj sees it.

kj and pycapnp hold whatever a peer makes them hold: answers until it takes and finishes them, the room for a message as
soon as its size is announced, queues without an end. None of that can be bounded from Python, so what may cause it is
counted on the way in, and kj gets a socket pair in place of the peer's socket:

    peer ──> cut into messages, read their heads, count ──> socket pair ──> kj
    peer <── one message after another, as the peer takes them <────────────┘

- A call (or bootstrap) counts from its arrival until its return has been taken by the peer and its finish has come.
- What no client of this schema says (resolve, disembargo, level 3 and 4, promises as capabilities) ends the connection.
- Before there is a session, only the first few bytes are passed on; the rest waits in the peer's own socket.
- A message that does not become complete in time, and a peer that takes nothing of what it is sent, end the connection.

A peer that goes over a bound is cut off: `GateError` leaves `run`. Bounds for honest peers are lower and answered.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import trio

from jiemi.rpc.framing import FrameReader, FramingError, Kind, MessageHead, read_head
from jiemi.rpc.limits import CALL_BYTES, Account, Limits

_CHUNK_BYTES = 64 * 1024

_BOOTSTRAPS = 4
"""A client asks for the bootstrap capability once."""

_TAKEN = frozenset({Kind.BOOTSTRAP, Kind.CALL, Kind.RETURN, Kind.FINISH, Kind.RELEASE, Kind.ABORT, Kind.UNIMPLEMENTED})
_QUESTIONS = frozenset({Kind.BOOTSTRAP, Kind.CALL})

_MAX_ECHO_BYTES = 4_096
"""Of an `unimplemented`, which repeats a message of this end's that the peer does not know. Those are small."""


class GateError(Exception):
    """A peer did what ends its connection. The text says what, and holds nothing that the peer sent."""


@attrs.define
class _Question:
    """A call that was passed on.

    Attributes:
        size: of its message, in bytes.
        returning: whether its answer is on the way. The peer may have it, and use the number again, before that is seen
            here; so a call counts as itself and not by its number.
        returned, finished: whether its answer was taken, and whether its finish has come. It counts until both are.
    """

    size: int
    returning: bool = False
    returned: bool = False
    finished: bool = False


class Gate:
    """The gate of one connection.

    Args:
        outer: the peer's stream.
        inner: kj's. Both are closed when this ends.
        account: of the connection.
        max_answer_bytes: the largest message that this end sends.
    """

    def __init__(
        self,
        outer: trio.abc.Stream,
        inner: trio.abc.Stream,
        limits: Limits,
        account: Account,
        *,
        max_answer_bytes: int,
    ) -> None:
        self._outer = outer
        self._inner = inner
        self._limits = limits
        self._account = account
        self._max_answer_bytes = max_answer_bytes
        self._questions: dict[int, _Question] = {}
        self._calls = 0
        self._unanswered = 0
        self._call_bytes = 0
        self._bootstraps = 0
        self._opened = trio.Event()
        self.last_heard = trio.current_time()

    @property
    def unanswered(self) -> int:
        """How many calls wait for an answer. One that was answered no longer counts here, though the peer keeps it."""
        return self._unanswered

    def open(self) -> None:
        """There is a session: pass everything on from now on."""
        self._opened.set()

    async def run(self) -> None:
        """Pass on until either end closes.

        Raises:
            GateError: the peer is to be cut off.
        """
        error: GateError | None = None
        try:
            async with trio.open_nursery() as nursery:

                async def pump(one_way: object) -> None:
                    nonlocal error
                    try:
                        await one_way()  # type: ignore[operator]
                    except GateError as caught:
                        error = error or caught
                    except FramingError as caught:
                        error = error or GateError(f"the peer sent {caught}")
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        pass
                    nursery.cancel_scope.cancel()

                nursery.start_soon(pump, self._pump_in)
                nursery.start_soon(pump, self._pump_out)
        finally:
            self._account.give_back(self._call_bytes + self._calls * CALL_BYTES)
            # The end of the inner stream has this cancelled; why the peer was cut off must not be lost by that.
            with trio.CancelScope(shield=True):
                for stream in (self._inner, self._outer):
                    await trio.aclose_forcefully(stream)
        if error is not None:
            raise error

    async def _pump_in(self) -> None:
        reader = FrameReader(self._limits.message_bytes)
        received = 0
        begun_at = trio.current_time()
        while True:
            room = _CHUNK_BYTES
            if not self._opened.is_set():
                room = min(room, self._limits.handshake_bytes - received)
                if room <= 0:
                    await self._opened.wait()  # bounded by who serves the connection, which gives it time for that
                    continue
            deadline = begun_at + self._limits.message_seconds if reader.held_bytes else float("inf")
            with trio.CancelScope(deadline=deadline) as scope:
                data = await self._outer.receive_some(room)
            if scope.cancelled_caught:
                raise GateError(f"a message was not complete within {self._limits.message_seconds:g} s")
            if not data:
                return
            received += len(data)
            held_before = reader.held_bytes
            frames = list(reader.feed(bytes(data)))
            if frames or not held_before:
                begun_at = trio.current_time()
            if frames:
                self.last_heard = trio.current_time()
                for frame in frames:
                    self._note_incoming(read_head(frame), len(frame))
                await self._inner.send_all(b"".join(frames))

    async def _pump_out(self) -> None:
        reader = FrameReader(self._max_answer_bytes)
        while data := await self._inner.receive_some(_CHUNK_BYTES):
            frames = list(reader.feed(bytes(data)))
            if frames:
                answered = self._answered(read_head(frame) for frame in frames)
                await self._send(b"".join(frames))
                for question in answered:
                    question.returned = True
                    self._settle(question)

    async def _send(self, data: bytes) -> None:
        for at in range(0, len(data), _CHUNK_BYTES):
            with trio.move_on_after(self._limits.message_seconds) as scope:
                await self._outer.send_all(data[at : at + _CHUNK_BYTES])
            if scope.cancelled_caught:
                raise GateError(f"the peer took nothing of an answer for {self._limits.message_seconds:g} s")

    def _note_incoming(self, head: MessageHead, size: int) -> None:
        if head.kind not in _TAKEN or not head.plain:
            raise GateError("the peer sent a message of a kind that no client of Krapao's sends")
        if head.capabilities > self._limits.capabilities:
            raise GateError(f"a message carries more capabilities than {self._limits.capabilities}")
        if head.kind is Kind.UNIMPLEMENTED and size > _MAX_ECHO_BYTES:
            raise GateError("the peer sent back a message that it was not sent")
        if head.kind is Kind.BOOTSTRAP:
            self._bootstraps += 1
            if self._bootstraps > _BOOTSTRAPS:
                raise GateError("the peer asks for the bootstrap capability again and again")
        if head.kind in _QUESTIONS:
            self._note_question(head.question, size)
        elif head.kind is Kind.FINISH and (question := self._questions.get(head.question)) is not None:
            question.finished = True
            self._settle(question)
            if question.returning:
                del self._questions[head.question]

    def _note_question(self, number: int, size: int) -> None:
        if number in self._questions:
            raise GateError("the peer uses the number of a call twice")
        if self._calls >= self._limits.calls:
            raise GateError(f"{self._limits.calls} calls are not answered or their answers not taken")
        if self._call_bytes + size > self._limits.call_bytes:
            raise GateError(f"the calls that are not answered hold more than {self._limits.call_bytes} bytes")
        if not self._account.charge(size + CALL_BYTES):
            raise GateError("the peer's host, or all peers together, hold as much as they may")
        self._calls += 1
        self._unanswered += 1
        self._call_bytes += size
        self._questions[number] = _Question(size)

    def _answered(self, heads: Iterable[MessageHead]) -> list[_Question]:
        """The calls that these messages of this end's answer."""
        found = []
        for head in heads:
            question = self._questions.get(head.question)
            if head.kind is Kind.RETURN and question is not None and not question.returning:
                self._unanswered -= 1
                question.returning = True
                question.finished = question.finished or head.no_finish
                if question.finished:
                    del self._questions[head.question]
                found.append(question)
        return found

    def _settle(self, question: _Question) -> None:
        if question.returned and question.finished:
            self._calls -= 1
            self._call_bytes -= question.size
            self._account.give_back(question.size + CALL_BYTES)
