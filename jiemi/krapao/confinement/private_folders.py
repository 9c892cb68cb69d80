"""Folders of one run's own, in memory, that are gone afterwards, also when Krapao was killed.

Each is locked (flock(2)) by the process that made it for as long as it is in use. A killed process loses its locks
but leaves its folders, and a keyring in one of them holds a private key. So each start removes those that nobody
has locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jiemi.core.errors import JiemiError

_PREFIX = "jiemi-sops-"
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.01
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


@contextlib.contextmanager
def private_folder(runtime_dir: Path) -> Iterator[Path]:
    """An empty folder that only this user may enter, and that is gone afterwards. Blocking, but of memory.

    Raises:
        JiemiError: StorageFailed.
    """
    try:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=runtime_dir))
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise JiemiError("StorageFailed", f"Krapao's runtime folder: {error.strerror}") from error
    try:
        _lock(lock)
        yield path
    finally:
        with contextlib.suppress(OSError):  # the next start removes what is left
            _remove(path)
        os.close(lock)


def write_file(path: Path, text: str) -> None:
    """Write a file in a private folder. Blocking, but of memory.

    Raises:
        JiemiError: StorageFailed.
    """
    try:
        path.write_text(text)
    except OSError as error:
        raise JiemiError("StorageFailed", f"Krapao's runtime folder: {error.strerror}") from error


def _lock(folder: int) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # another Krapao is about to remove it: it came by before the lock
        raise JiemiError("StorageFailed", f"Krapao's runtime folder: {error.strerror}") from error


def remove_abandoned(runtime_dir: Path, before: Callable[[Path], None] | None = None) -> tuple[Path, ...]:
    """Remove the folders that a killed process left. Returns their paths.

    Args:
        before: called with each, while it is still there.
    """
    removed = []
    for path in runtime_dir.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):  # it is in use, or went away, or is another user's
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(folder).st_uid == os.geteuid():
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if before is not None:
                        before(path)
                    _remove(path)
                    removed.append(path)
            finally:
                os.close(folder)
    return tuple(removed)


def _remove(path: Path) -> None:
    """Remove a folder in which a gpg-agent that is about to end may still make and remove its own files.

    Raises:
        OSError: it is there still.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(OSError):
            shutil.rmtree(path)
        if not path.exists():
            return
        time.sleep(_PAUSE_SECONDS)
    shutil.rmtree(path)


def require_memory(path: Path) -> None:
    """Refuse a folder that is not on a tmpfs or ramfs.

    Raises:
        JiemiError: StorageFailed.
    """
    where, kind = Path("/"), ""
    try:
        resolved = path.resolve(strict=True)
        for line in Path("/proc/self/mounts").read_text().splitlines():  # the last one at a place is the one on top
            fields = line.split()
            mount = Path(fields[1].encode().decode("unicode_escape"))
            if resolved.is_relative_to(mount) and len(mount.parts) >= len(where.parts):
                where, kind = mount, fields[2]
    except OSError as error:
        raise JiemiError("StorageFailed", f"Krapao's runtime folder: {error.strerror}") from error
    if kind not in _MEMORY_FILE_SYSTEMS:
        raise JiemiError(
            "StorageFailed",
            "Krapao's runtime folder is not on a tmpfs, so no pgp key is put there; give one that is (`--runtime-dir`)",
        )
