"""A server on loopback that records its connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def listening(
    answer: Callable[[socket.socket], object] | None = None, host: str = "127.0.0.1"
) -> Iterator[tuple[int, list[object]]]:
    """A server that answers each connection; gives its port, and the peers that connected."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    came: list[object] = []
    stop = threading.Event()
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(0.05)

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    connection, peer = listener.accept()
                    came.append(peer)
                    with connection:
                        connection.settimeout(5)
                        if answer is not None:
                            answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], came
        finally:
            stop.set()
            thread.join()
