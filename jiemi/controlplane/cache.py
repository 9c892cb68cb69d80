"""The cache of tools on disk: CACHE/tools/NAME/VERSION/NAME.

An entry appears by one rename of a whole, synced and tested file, so what is there is complete and is read without a
lock. A process that makes entries holds the one lock (flock on tools/.lock; the kernel drops it with the process) and
works in a directory tools/.making-*. So any such directory that is there when the lock is taken belongs to a process
that was killed, and is removed. There is one lock for all tools because a build takes all the memory and processors of
a small machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import attrs
import trio

from jiemi.controlplane.locks import locked

_MAKING = ".making-"


@attrs.frozen
class ToolCache:
    """The tools of one cache directory, which need not exist yet."""

    directory: Path

    def entry(self, name: str, version: str) -> Path:
        """Where a tool of that version is or would be."""
        return self.directory / "tools" / name / version / name

    def find(self, name: str, version: str) -> Path | None:
        """The tool of that version, or None."""
        path = self.entry(name, version)
        return path if is_executable(path) else None

    @contextlib.asynccontextmanager
    async def making(self, on_wait: Callable[[], None]) -> AsyncIterator[Making]:
        """Hold the cache's lock, with a directory to work in that is removed when the context ends.

        Waiting for the lock has no deadline, because its holder has one and the caller can cancel.

        Args:
            on_wait: called once if another process holds the lock.

        Raises:
            OSError: the cache can't be written.
        """
        tools = self.directory / "tools"
        tools.mkdir(parents=True, exist_ok=True)
        async with locked(tools / ".lock", on_wait):
            for stale in tools.glob(f"{_MAKING}*"):
                await _remove(stale)
            directory = Path(tempfile.mkdtemp(prefix=_MAKING, dir=tools))
            try:
                yield Making(self, directory)
            finally:
                with trio.CancelScope(shield=True):
                    await _remove(directory)


@attrs.frozen
class Making:
    """The right to add to a cache, and a directory on its file system to work in."""

    cache: ToolCache
    directory: Path

    async def keep(self, made: Path, name: str, version: str) -> Path:
        """Make a whole, executable file that lies in `directory` the cache's entry; returns its new path."""
        entry = self.cache.entry(name, version)
        await trio.to_thread.run_sync(_move_synced, made, entry)
        return entry


def is_executable(path: Path) -> bool:
    """Whether the path is a file that this user may run."""
    return path.is_file() and os.access(path, os.X_OK)


def _move_synced(made: Path, entry: Path) -> None:
    _sync(made)
    entry.parent.mkdir(parents=True, exist_ok=True)
    made.rename(entry)
    _sync(entry.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _remove(directory: Path) -> None:
    # This needs a thread because a half-done build has tens of thousands of files. It ends by itself.
    await trio.to_thread.run_sync(lambda: shutil.rmtree(directory, ignore_errors=True))
