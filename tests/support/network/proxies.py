"""A real proxy (tests/data/proxies, built from pinned Go modules), to which every name is this machine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import trio
from support.kubernetes.go_programs import go_program


async def build_proxies() -> Path:
    """The program, from the cache of tools or built into it."""
    return await go_program("proxies")


@attrs.define
class RealProxy:
    """A proxy that runs.

    Attributes:
        port: of the address that it was given.
    """

    port: int
    _process: subprocess.Popen[str]

    async def lead(self, port: int, to: int) -> None:
        """From now on a port that is asked for leads to another one of the same address."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{port}={to}\n")
        self._process.stdin.flush()
        assert await trio.to_thread.run_sync(self._process.stdout.readline) == "set\n"


@contextlib.asynccontextmanager
async def real_proxy(
    kind: str, *login: str, host: str = "127.0.0.1", program: Path | None = None
) -> AsyncIterator[RealProxy]:
    """A proxy of a kind (http, socks5), which wants a user name and a password where they are given.

    Args:
        host: the address that it listens on, and to which every name leads.
        program: where it is built already.
    """
    program = program or await build_proxies()
    process = subprocess.Popen(  # noqa: ASYNC220 - a fork and exec
        [str(program), kind, host, *login],
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
