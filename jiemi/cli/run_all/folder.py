"""The folders of a run, which are removed however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jiemi.controlplane.locks import locked_folder

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
        with locked_folder(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of runs that were killed, which hold a key.

    No process has the number in their name, and nobody has their lock: one of another namespace of process ids may.
    """
    for folder in parent.glob(f"{_FOLDER}*-*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid() and not _lives(folder.name):
                with locked_folder(folder):
                    shutil.rmtree(folder, ignore_errors=True)


def _lives(name: str) -> bool:
    """Whether there is a process with the number in a folder's name."""
    pid = name.removeprefix(_FOLDER).partition("-")[0]
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except (PermissionError, OverflowError):
        pass
    return True
