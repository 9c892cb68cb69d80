"""A flood of unsigned webhooks, as a process of its own: `python -m support.webhooks.flood PORT SECONDS RATE`.

It opens connections at that rate, or as fast as it can, from several addresses of loopback, sends one request on each
that opens, and gives up on one after half a second. At the end it prints how many it tried, how many were answered,
and how many were closed without an answer.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import sys
import time
from collections import Counter

_REQUEST = b"POST /webhooks/e2e-flood/hook HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
_PATIENCE_SECONDS = 0.5
_MOST_OPEN = 4_000
_SOURCES = 8


def flood(port: int, seconds: float, rate: float) -> Counter[str]:
    """Returns how many were tried, answered, closed and given up."""
    counts: Counter[str] = Counter()
    waiting: dict[socket.socket, float] = {}
    selector = selectors.DefaultSelector()
    began = time.monotonic()

    def end(sock: socket.socket, how: str) -> None:
        counts[how] += 1
        selector.unregister(sock)
        del waiting[sock]
        sock.close()

    while (now := time.monotonic()) < began + seconds:
        while counts["tried"] < (now - began) * rate and len(waiting) < _MOST_OPEN:
            counts["tried"] += 1
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind((f"127.0.1.{counts['tried'] % _SOURCES + 1}", 0))
            if sock.connect_ex(("127.0.0.1", port)) not in (0, errno.EINPROGRESS):
                sock.close()
                continue
            waiting[sock] = now
            selector.register(sock, selectors.EVENT_WRITE)
        for key, events in selector.select(0.002):
            ready = key.fileobj
            assert isinstance(ready, socket.socket)
            try:
                if events & selectors.EVENT_WRITE:
                    ready.send(_REQUEST)
                    selector.modify(ready, selectors.EVENT_READ)
                else:
                    end(ready, "answered" if ready.recv(4_096) else "closed")
            except OSError:
                end(ready, "closed")
        for sock in [sock for sock, at in waiting.items() if now - at > _PATIENCE_SECONDS]:
            end(sock, "given up")
    return counts


if __name__ == "__main__":
    os.nice(10)  # attackers have machines of their own
    found = flood(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
    sys.stdout.write(", ".join(f"{name}: {number}" for name, number in sorted(found.items())) + "\n")
