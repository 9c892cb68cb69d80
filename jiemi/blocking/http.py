"""A urllib3 pool whose requests end when the call that made them is cancelled.

urllib3 opens its sockets deep inside; the classes here stand in for its connection classes. Each connection keeps a
duplicate of its socket's descriptor: TLS wraps and hides the socket itself, but shutting down a duplicate ends the same
connection. Before each request the connection tells the interrupter of its thread (`calls.current`) how to end it. A
response may be read by the same call only (after it the connection goes back to the pool).
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from jiemi.blocking import calls


class _Interruptible(HTTPConnection):
    """Tells the thread's interrupter how to end what this connection waits for."""

    _handle: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        timeout = self.timeout if isinstance(self.timeout, (int, float)) else None
        try:
            sock = calls.connect_tcp(calls.current(), self._dns_host, self.port or 0, timeout_seconds=timeout)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no answer from {self.host} within {timeout} s") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection to {self.host}: {error}") from error
        for option in self.socket_options or ():
            sock.setsockopt(*option)
        self._close_handle()
        self._handle = sock.dup()
        self._tell_interrupter()
        return sock

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self._tell_interrupter()
        super().putrequest(*args, **kwargs)

    def close(self) -> None:
        super().close()
        self._close_handle()

    def _tell_interrupter(self) -> None:
        handle = self._handle
        if handle is not None:
            calls.current().use(lambda: handle.shutdown(socket.SHUT_RDWR))

    def _close_handle(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(calls.Interrupted):
                calls.current().use(None)
            handle.close()


class _InterruptibleHttps(_Interruptible, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Interruptible


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _InterruptibleHttps


def make_interruptible(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    """Make the pool's requests end when the `run_blocking` call that makes them is cancelled; returns the pool.

    Call it before the first request: connections that exist already stay as they are.
    """
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return manager
