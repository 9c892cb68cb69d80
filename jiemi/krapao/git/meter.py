"""Watches what a git host sends in one conversation: how much, how fast, and whether it is a git server at all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import attrs

from jiemi.concurrency.calls import Interrupted, Interrupter
from jiemi.core.errors import Failure, JiemiError

MAX_BYTES_BEFORE_GIT = 1024 * 1024
"""Headers, interim answers, an ssh handshake: a git server needs some thousand bytes of them."""

PACKET_LENGTH = re.compile(rb"[0-9a-fA-F]{4}")


@attrs.define
class Meter:
    """Counts what a host sends, and stops at a bound, below a rate, or when the call is cancelled.

    Attributes:
        limit: in bytes; of all that comes, also of what no reader of git's protocol sees (interim answers, headers).
        stage: what is being read, for the message.
        min_bytes_per_second: the least average since the conversation began, once `grace_seconds` have passed.
        error_line: the last ERR line that came (gitprotocol-common(5)), or what came on the side band for errors;
            dulwich passes over some of them.
        unpacked: how much came out of compressed answers.
        is_git: whether the host has shown itself as a git server. Until then nobody is shown what it is instead.
        failure: the first that was raised here; a library on the way may have made another of it.
    """

    interrupter: Interrupter
    limit: int
    stage: str
    min_bytes_per_second: int = 0
    grace_seconds: float = 0
    received: int = 0
    unpacked: int = 0
    error_line: bytes = b""
    is_git: bool = False
    failure: Failure | None = None
    clock: Callable[[], float] = time.monotonic
    _began: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._began = self.clock()

    def arrived(self, count: int) -> None:
        """So many bytes came.

        Raises:
            JiemiError: LimitExceeded, Timeout.
            Interrupted: the call was cancelled.
        """
        self.received += count
        if self.received > self.limit:
            self._fail("LimitExceeded", f"{self.stage} is larger than Krapao's limit of {self.limit} bytes")
        if not self.is_git and self.received > MAX_BYTES_BEFORE_GIT:
            self._fail("LimitExceeded", f"{self.stage}: {self.received} bytes came, and none of them is git's")
        seconds = self.clock() - self._began
        if self.grace_seconds and seconds > self.grace_seconds and self.received < self.min_bytes_per_second * seconds:
            self._fail(
                "Timeout",
                f"{self.stage} comes too slowly: {self.received} bytes in {seconds:.0f} s, less than Krapao's "
                f"{self.min_bytes_per_second} a second",
            )
        self.check()

    def came_out(self, count: int) -> None:
        """So many bytes came out of a compressed answer.

        Raises:
            JiemiError: LimitExceeded.
        """
        self.unpacked += count
        if self.unpacked > self.limit:
            self._fail("LimitExceeded", f"{self.stage} is larger than Krapao's limit of {self.limit} bytes")

    def look(self, data: bytes) -> bytes:
        """The data of git's protocol, once it is looked at for what dulwich passes over."""
        if data.startswith((b"ERR ", b"\x03")):
            self.error_line = data[:1_000]
        return data

    def look_at_packets(self, data: bytes) -> bytes:
        """The same for a connection that carries git's packets from its first byte on: those show what it is."""
        if not self.is_git and PACKET_LENGTH.match(data):
            self.is_git = True
        return self.look(data)

    def check(self) -> None:
        """Raises Interrupted where the call was cancelled."""
        if self.interrupter.interrupted:
            raise Interrupted("the call was cancelled")

    def _fail(self, reason: str, message: str) -> None:
        error = JiemiError(reason, message)
        if self.failure is None:
            self.failure = error.failure
        raise error
