"""A lock between processes: a file that one of them holds, and that the kernel frees when that one ends."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import trio

_POLL_SECONDS = 0.1


@contextlib.asynccontextmanager
async def locked(path: Path, on_wait: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock while the context lasts.

    Waiting for it has no deadline, because its holder has one and the caller can cancel.

    Args:
        path: the file; it is made, and stays.
        on_wait: called once if another process holds the lock.

    Raises:
        OSError: the file can't be written.
    """
    with path.open("wb") as lock:
        waited = False
        while not _try_lock(lock.fileno()):
            if not waited:
                on_wait()
                waited = True
            await trio.sleep(_POLL_SECONDS)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
