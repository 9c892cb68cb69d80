"""The lock of a folder, by which those that come later know that it is in use, or that whoever used it was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """A folder's lock (flock(2)): it ends with its process, and holds across namespaces of process ids.

    Args:
        wait: for whoever has it, however long; otherwise that is an error.

    Raises:
        BlockingIOError: another has it, and it is not waited for.
        OSError: the folder can't be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
