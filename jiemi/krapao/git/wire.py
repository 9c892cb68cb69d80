"""What the transports of git's own packets (ssh and git://) share: writing to a host that may have closed."""

from __future__ import annotations

from collections.abc import Callable


def write_though_closed(send: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """A way to write to a host that may have closed.

    One that refuses says why and closes, while we may still be writing. The reads that follow show it: they give what
    the host said, or that it said nothing.
    """

    def write(data: bytes) -> None:
        try:
            send(data)
        except TimeoutError:
            raise
        except OSError:
            pass

    return write
