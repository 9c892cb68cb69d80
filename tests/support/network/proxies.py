"""A real proxy (tests/data/proxies, built from pinned Go modules), to which every name is this machine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator

import attrs
import trio
from support.kubernetes.go_programs import go_program


@attrs.define
class RealProxy:
    """A proxy that runs.

    Attributes:
        port: of this machine's loopback.
    """

    port: int
    _process: subprocess.Popen[str]

    async def lead(self, port: int, to: int) -> None:
        """From now on a port that is asked for leads to another one of this machine."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{port}={to}\n")
        self._process.stdin.flush()
        assert await trio.to_thread.run_sync(self._process.stdout.readline) == "set\n"


@contextlib.asynccontextmanager
async def real_proxy(kind: str, *login: str) -> AsyncIterator[RealProxy]:
    """A proxy of a kind (http, socks5), which wants a user name and a password where they are given."""
    program = await go_program("proxies")
    process = subprocess.Popen(  # noqa: ASYNC220 - a fork and exec
        [str(program), kind, *login],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield RealProxy(int(await trio.to_thread.run_sync(process.stdout.readline)), process)
    finally:
        process.stdin.close()  # it ends by itself then
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(process.wait)
        process.stdout.close()
