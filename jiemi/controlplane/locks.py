"""A lock between processes: a file or folder that one of them holds, and that the kernel frees when that one ends.

That holds across namespaces of process ids, where the number of a process says nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
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


@contextlib.contextmanager
def locked_folder(folder: Path, *, wait_seconds: float = 0) -> Iterator[None]:
    """Hold a folder's lock while the context lasts, so that those that come later know that it is in use.

    Args:
        wait_seconds: how long another may have it. The thread is blocked meanwhile.

    Raises:
        BlockingIOError: another has it.
        OSError: the folder can't be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise BlockingIOError(errno.EWOULDBLOCK, f"another process has the lock of {folder}")
            time.sleep(_POLL_SECONDS / 10)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
