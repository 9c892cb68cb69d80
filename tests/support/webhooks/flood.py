"""A flood of unsigned webhooks, as a process of its own: `python -m support.webhooks.flood PORT SECONDS RATE`.

It opens connections at that rate, or as fast as it can, from several addresses of loopback, sends one request on each
that opens, and gives up on one after half a second. At the end it prints how many it tried, how many were answered,
and how many were closed without an answer.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
import time
from collections import Counter

_REQUEST = b"POST /webhooks/e2e-flood/hook HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
_PATIENCE_SECONDS = 0.5
_MOST_OPEN = 6_000
"""So that as many as are wanted may be waiting, for that long."""
_AT_ONCE = 200
"""How many are opened before answers are looked at."""
_SOURCES = 8
_RESET = struct.pack("ii", 1, 0)
"""Closing sends a reset, and the port can be used again at once."""


class Flood:
    """The connections that are open, the oldest first."""

    def __init__(self, port: int) -> None:
        self.counts: Counter[str] = Counter()
        self._port = port
        self._waiting: dict[int, tuple[socket.socket, float]] = {}
        self._poll = select.epoll()

    def run(self, seconds: float, rate: float) -> None:
        """Try so many a second, for so long."""
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            wanted = int((now - began) * rate) - self.counts["tried"]
            for _ in range(min(wanted, _AT_ONCE, _MOST_OPEN - len(self._waiting))):
                self._open(now)
            for handle, events in self._poll.poll(0.001, _MOST_OPEN):
                self._happened(handle, events)
            while self._waiting:
                handle, (_, at) = next(iter(self._waiting.items()))
                if now - at <= _PATIENCE_SECONDS:
                    break
                self._end(handle, "given up")

    def _open(self, now: float) -> None:
        self.counts["tried"] += 1
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.bind((f"127.0.1.{self.counts['tried'] % _SOURCES + 1}", 0))
        if sock.connect_ex(("127.0.0.1", self._port)) not in (0, errno.EINPROGRESS):
            sock.close()
            return
        self._waiting[sock.fileno()] = sock, now
        self._poll.register(sock, select.EPOLLOUT)

    def _happened(self, handle: int, events: int) -> None:
        sock, _ = self._waiting[handle]
        try:
            if events & select.EPOLLIN:
                self._end(handle, "answered" if sock.recv(4_096) else "closed")
            elif events & (select.EPOLLERR | select.EPOLLHUP):
                self._end(handle, "closed")
            else:
                sock.send(_REQUEST)
                self.counts["sent"] += 1
                self._poll.modify(sock, select.EPOLLIN)
        except OSError:
            self._end(handle, "closed")

    def _end(self, handle: int, how: str) -> None:
        self.counts[how] += 1
        sock, _ = self._waiting.pop(handle)
        self._poll.unregister(sock)
        sock.close()


if __name__ == "__main__":
    os.nice(10)  # attackers have machines of their own
    flood = Flood(int(sys.argv[1]))
    flood.run(float(sys.argv[2]), float(sys.argv[3]))
    sys.stdout.write(", ".join(f"{name}: {number}" for name, number in sorted(flood.counts.items())) + "\n")
