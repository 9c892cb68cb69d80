"""A urllib3 pool whose requests end when the call that made them is cancelled.

urllib3 opens its sockets deep inside; the classes here stand in for its connection classes. While TLS shakes hands, the
socket is out of reach, but shutting down a duplicate of its descriptor ends the same connection. Afterwards the
connection's own socket object serves: it stays usable while a response reads from it, even when http.client has closed
the connection already (as it does where the server said `Connection: close`). Before each request the connection notes
with the interrupter of its thread (`calls.current`) how to end it. A response is read by the same call, or by later
calls that each begin with `resume`.

A `Watch` sees what a connection does beneath HTTP: the addresses before one of them is connected to, and every byte of
an answer as it comes, interim answers (1xx), headers and the frames of chunks included, which no reader of a body sees.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from jiemi.concurrency import calls


@attrs.frozen
class Watch:
    """What is called as a pool's connections do something. What it raises goes to the maker of the request.

    Attributes:
        permit: with a host and all its addresses, before one is connected to; None permits all.
        dial: makes the connection to a host and port in place of a straight one, within a time for each wait (seconds).
        received: with the number of bytes that just came; those of TLS itself are not counted.
    """

    permit: Callable[[str, Sequence[str]], None] | None = None
    received: Callable[[int], None] | None = None
    dial: Callable[[str, int, float | None], socket.socket] | None = None


class _Interruptible(HTTPConnection):
    """Notes with the thread's interrupter how to end what this connection waits for."""

    watch: Watch = Watch()
    answer_class: type[http.client.HTTPResponse] = http.client.HTTPResponse
    _connecting: socket.socket | None = None
    _requesting: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        timeout = self.timeout if isinstance(self.timeout, (int, float)) else None
        try:
            sock = self._dialled(timeout)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no answer from {self.host} within {timeout} s") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection to {self.host}: {error}") from error
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            self._connecting = sock.dup()
            _inform_interrupter(self._connecting)
        except OSError:
            # Cancelled just now: nobody else knows of the socket yet.
            sock.close()
            raise
        return sock

    def _dialled(self, timeout: float | None) -> socket.socket:
        if self.watch.dial is not None:
            return self.watch.dial(self._dns_host, self.port or 0, timeout)
        return calls.connect_tcp(
            calls.current(),
            self._dns_host,
            self.port or 0,
            timeout_seconds=timeout,
            permit=self.watch.permit,
        )

    def connect(self) -> None:
        try:
            super().connect()
            self._requesting = self.sock
            self.inform_interrupter()
        finally:
            connecting, self._connecting = self._connecting, None
            if connecting is not None:
                connecting.close()

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self._requesting = self.sock
            self.inform_interrupter()
        super().putrequest(*args, **kwargs)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        answers: list[http.client.HTTPResponse] = []

        def make_answer(*args: Any, **kwargs: Any) -> http.client.HTTPResponse:
            answers.append(self.answer_class(*args, **kwargs))
            return answers[-1]

        self.response_class = make_answer  # type: ignore[assignment]  # called like a class
        try:
            return super().getresponse()
        except urllib3.exceptions.HTTPError:
            # What refuses the head of an answer (two lengths) leaves the socket to it until the answer is collected.
            for answer in answers:
                answer.close()
            raise
        finally:
            del self.response_class

    def inform_interrupter(self) -> None:
        """Note with the interrupter of this thread how to end the request that was made last."""
        if self._requesting is not None:
            _inform_interrupter(self._requesting)


def _inform_interrupter(sock: socket.socket) -> None:
    # The base class's method: that of a TLS socket would change the object under the thread that reads from it.
    calls.current().use(lambda: socket.socket.shutdown(sock, socket.SHUT_RDWR))


class _InterruptibleHttps(_Interruptible, HTTPSConnection):
    def send(self, data: Any) -> None:
        try:
            super().send(data)
        except TimeoutError:
            raise
        except OSError:
            # In TLS 1.3 a server that refuses the client's certificate, or the lack of one, says so after the handshake
            # (RFC 8446, 4.4.2.4), and closes while the request is being sent. Why is still there to be read.
            if self.sock is not None:
                self.sock.recv(1)
            raise


def make_interruptible(manager: urllib3.PoolManager, watch: Watch | None = None) -> urllib3.PoolManager:
    """Make the pool's requests end when the `run_blocking` call that makes them is cancelled; returns the pool.

    Call it before the first request: connections that exist already stay as they are.

    Args:
        watch: called by every connection of the pool.
    """
    seen = watch if watch is not None else Watch()

    class Response(http.client.HTTPResponse):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if seen.received is not None:
                self.fp = calls.counted(self.fp, seen.received)

    class Plain(_Interruptible):
        watch = seen
        answer_class = Response

    class Tls(_InterruptibleHttps):
        watch = seen
        answer_class = Response

    class HttpPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class HttpsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    manager.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}
    return manager


def resume(response: urllib3.BaseHTTPResponse) -> None:
    """Before the read of a response that another call began: a cancellation of the call of this thread ends the read.

    Raises:
        calls.Interrupted: the call is already cancelled.
    """
    connection = response.connection
    if isinstance(connection, _Interruptible):
        connection.inform_interrupter()


def close_pool(pool: urllib3.PoolManager) -> None:
    """Close the pool's connections now. `PoolManager.clear` only forgets them: they would stay open until collected."""
    for key in pool.pools.keys():  # noqa: SIM118 - it is no mapping that can be iterated
        pool.pools[key].close()
    pool.clear()
