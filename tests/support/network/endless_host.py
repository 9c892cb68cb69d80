"""A host on loopback that sends without end, or so little that it only holds a place; it counts what it could send."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import paramiko


@contextlib.contextmanager
def endless_host(answer: Callable[[socket.socket], object]) -> Iterator[tuple[int, list[int]]]:
    """A server that answers each connection; gives its port, and how many bytes each connection took."""
    sent: list[int] = []
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException), listener.accept()[0] as connection:
                    connection.settimeout(10)
                    counted = Counted(connection, sent)
                    answer(counted)  # type: ignore[arg-type]  # it is a socket in all that is used

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], sent
        finally:
            stop.set()
            thread.join()


class Counted:
    """A connection that counts what it could send."""

    def __init__(self, connection: socket.socket, sent: list[int]) -> None:
        self._connection = connection
        self._sent = sent
        sent.append(0)

    def sendall(self, data: bytes) -> None:
        self._connection.sendall(data)
        self._sent[-1] += len(data)

    def recv(self, size: int) -> bytes:
        return self._connection.recv(size)


def again_and_again(first: bytes, again: bytes, pause_seconds: float = 0) -> Callable[[socket.socket], object]:
    """What answers a connection with some bytes, and then with others until the connection ends."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(first)
        while True:
            time.sleep(pause_seconds)
            connection.sendall(again)

    return answer
