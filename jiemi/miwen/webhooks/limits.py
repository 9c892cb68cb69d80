"""What strangers at the port may cost. Pure: times are seconds of any one clock.

    Pace      how many connections are accepted a second, all together: a flood waits in the kernel, which drops what
              it has no room for, and costs Miwen the same whatever its size
    Sources   how many requests of one source may be refused: from one that sent too many of them, none is read
    Buffers   how many bytes of bodies are in memory at once

A genuine request costs its source nothing. A source is an address, or the /64 of an IPv6 one, which one machine has.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections import OrderedDict
from collections.abc import Iterator

PACE_A_SECOND = 300.0
"""Connections; a whole organization pushes less often, and refusing so many takes a tenth of a core."""
PACE_BURST = 300.0
UNREAD_COST = 0.02
"""What a connection counts that is closed unread: some 40 microseconds, so 15,000 of them take half a core."""

REFUSED_BURST = 30.0
REFUSED_A_SECOND = 1.0

MAX_SOURCES = 4_096
MAX_BUFFERED_BYTES = 16 * 1024 * 1024


class Pace:
    """A bucket of tokens.

    Args:
        a_second: how many come back.
        burst: how many there are at most.
    """

    def __init__(self, a_second: float = PACE_A_SECOND, burst: float = PACE_BURST) -> None:
        self._a_second = a_second
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def wait_seconds(self, now: float) -> float:
        """How long until there is a token; 0: now."""
        self._refill(now)
        return max(0.0, (1 - self._tokens) / self._a_second)

    def take(self, now: float, cost: float = 1.0) -> None:
        """Take one, or a part of one, also where there is none: then the next is later."""
        self._refill(now)
        self._tokens -= cost

    def is_full(self, now: float) -> bool:
        """Whether nothing is taken."""
        self._refill(now)
        return self._tokens >= self._burst

    def _refill(self, now: float) -> None:
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._a_second)
        self._at = now


class Sources:
    """The sources whose requests were refused lately. Of too many, the one refused longest ago is forgotten."""

    def __init__(self) -> None:
        self._refused: OrderedDict[str, Pace] = OrderedDict()

    def __len__(self) -> int:
        return len(self._refused)

    def may_ask(self, source: str, now: float) -> bool:
        """Whether a request of it is read."""
        pace = self._refused.get(source)
        return pace is None or pace.wait_seconds(now) == 0

    def refused(self, source: str, now: float) -> None:
        """A request of it was refused."""
        pace = self._refused.pop(source, None) or Pace(REFUSED_A_SECOND, REFUSED_BURST)
        if pace.wait_seconds(now) == 0:
            pace.take(now)
        self._refused[source] = pace
        while self._refused and (len(self._refused) > MAX_SOURCES or next(iter(self._refused.values())).is_full(now)):
            self._refused.popitem(last=False)


class Buffers:
    """Bytes of bodies in memory.

    Args:
        most: of all bodies together.
    """

    def __init__(self, most: int = MAX_BUFFERED_BYTES) -> None:
        self._left = most

    @contextlib.contextmanager
    def body(self) -> Iterator[Buffer]:
        """Room for one body; what it took comes back at the end."""
        buffer = Buffer(self)
        try:
            yield buffer
        finally:
            self._left += len(buffer.data)

    def take(self, size: int) -> bool:
        """Whether there is room."""
        if size > self._left:
            return False
        self._left -= size
        return True


class Buffer:
    """One body.

    Attributes:
        data: what came of it.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self.data = bytearray()

    def add(self, chunk: bytes) -> bool:
        """Whether there was room for more of it."""
        if not self._buffers.take(len(chunk)):
            return False
        self.data += chunk
        return True


def source_of(address: str) -> str:
    """What counts as one source. A text that is no address is one of its own kind: "?"."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "?"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def forwarded_source(values: list[bytes], proxies: int) -> str | None:
    """The source that the outermost of our own proxies saw; None where they did not say.

    Each proxy adds at the end of X-Forwarded-For whom it was asked by; what stands before is anyone's word.

    Args:
        values: those of the headers of that name, in their order.
        proxies: how many of our own there are.
    """
    entries = [entry.strip() for value in values for entry in value.split(b",")]
    if proxies < 1 or len(entries) < proxies:
        return None
    return source_of(entries[-proxies].decode("ascii", "replace").strip("[]"))
