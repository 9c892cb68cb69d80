"""The folders of a run, which are removed however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDER = "jiemi-run-"
_DISK = Path("/var/tmp")  # noqa: S108 - a real file system, which /tmp may not be


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder on tmpfs where there is one: it holds the demo's key, the cluster's state and the socket."""
    memory = Path("/dev/shm")  # noqa: S108 - a tmpfs is wanted
    with _folder(memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())) as folder:
        yield folder


@contextmanager
def disk_folder() -> Iterator[Path]:
    """A folder on a real file system, for what is large and no secret."""
    with _folder(_DISK) as folder:
        yield folder


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    _remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of runs that were killed: they hold a key, and no process has the number in their name."""
    for folder in parent.glob(f"{_FOLDER}*-*"):
        pid = folder.name.removeprefix(_FOLDER).partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdecimal() and folder.stat().st_uid == os.getuid() and not _lives(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
