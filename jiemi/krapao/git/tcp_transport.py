"""git://, the protocol of `git daemon`: a plain TCP connection that ends when its call is cancelled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import IO

from dulwich.client import GitClient, TCPGitClient
from dulwich.protocol import Protocol

from jiemi.concurrency import calls
from jiemi.core.urls import Location
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.routes import connect
from jiemi.krapao.git.wire import write_though_closed
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials


class TcpClient(TCPGitClient):
    """git:// over a connection that can be interrupted."""

    @classmethod
    @contextlib.contextmanager
    def opened(
        cls, location: Location, credentials: GitCredentials, settings: KrapaoSettings, meter: Meter
    ) -> Iterator[GitClient]:
        client = cls(location.host, port=location.port, thin_packs=True, quiet=True)
        client._location = location
        client._meter = meter
        client._credentials = credentials
        client._settings = settings
        client._stack = contextlib.ExitStack()
        with client._stack:
            yield client

    _location: Location
    _meter: Meter
    _credentials: GitCredentials
    _settings: KrapaoSettings
    _stack: contextlib.ExitStack

    def _connect(
        self, cmd: bytes, path: str | bytes, protocol_version: int | None = None
    ) -> tuple[Protocol, Callable[[], bool], IO[bytes] | None]:
        interrupter = self._meter.interrupter
        sock = self._stack.enter_context(connect(self._location, self._credentials, self._settings))
        self._stack.enter_context(calls.interruptible_socket(interrupter, sock))
        meter = self._meter
        stream = self._stack.enter_context(calls.counted(sock.makefile("rb"), meter.arrived))
        proto = Protocol(lambda size: meter.look_at_packets(stream.read(size)), write_though_closed(sock.sendall))
        raw = path if isinstance(path, bytes) else path.encode()
        self.protocol_version = 2
        proto.send_cmd(b"git-" + cmd, raw, b"host=" + self._location.authority.encode() + b"\0\0version=2\0")
        return proto, lambda: False, None
