"""Counts what a git host sends."""

from __future__ import annotations

import attrs

from jiemi.blocking.calls import Interrupted, Interrupter
from jiemi.core.errors import JiemiError


@attrs.define
class Meter:
    """Counts what a host sends, and stops at a bound or when the call is cancelled.

    Attributes:
        limit: in bytes.
        stage: what is being read, for the message.
        error_line: the last ERR line that came (gitprotocol-common(5)); dulwich passes over some of them.
    """

    interrupter: Interrupter
    limit: int
    stage: str
    received: int = 0
    error_line: bytes = b""

    def count(self, data: bytes) -> bytes:
        """The data, once it is counted.

        Raises:
            JiemiError: LimitExceeded.
            Interrupted: the call was cancelled.
        """
        self.received += len(data)
        if self.received > self.limit:
            raise JiemiError("LimitExceeded", f"{self.stage} is larger than Krapao's limit of {self.limit} bytes")
        self.check()
        if data.startswith(b"ERR "):
            self.error_line = data[:1_000]
        return data

    def check(self) -> None:
        """Raises Interrupted where the call was cancelled."""
        if self.interrupter.interrupted:
            raise Interrupted("the call was cancelled")
