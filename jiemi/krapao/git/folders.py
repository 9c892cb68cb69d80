"""The folders of clones on the volume, as `jiemi.krapao.git.clones` describes them: what is complete, what is current,
what goes.

Each function works on names that the others can't mistake: numbers are complete generations, `N.new` one that is
being made, `removed-…` one that is going. So a process that was killed at any moment leaves nothing that looks
whole and is not.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from jiemi.concurrency.calls import Interrupted
from jiemi.core.errors import JiemiError
from jiemi.rpc.contract import is_revision

log = structlog.get_logger("jiemi.krapao.git")


TENANTS = "tenants"
"""The file in a clone's folder that says to whom it is charged (`jiemi.krapao.git.store`)."""

_REMOVED = "removed-"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class VolumeFullError(JiemiError):
    """StorageFailed, because there is no space left: no bytes, no inodes, or none within a quota."""


def damaged() -> JiemiError:
    """StorageFailed, for a clone that is removed because it is not as it was written."""
    return JiemiError("StorageFailed", "the clone on Krapao's volume was damaged or not complete; it is recreated")


@contextlib.contextmanager
def storage() -> Iterator[None]:
    """Turn an OSError into StorageFailed.

    Raises:
        VolumeFullError: there is no space left.
        JiemiError: StorageFailed.
    """
    try:
        yield
    except Interrupted:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise VolumeFullError("StorageFailed", "Krapao's volume is full") from error
        raise JiemiError("StorageFailed", f"Krapao's volume: {error.strerror or type(error).__name__}") from error


def generations(folder: Path) -> Iterator[Path]:
    """The complete generations, the newest first."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return
    for number in sorted((int(name) for name in names if name.isdecimal()), reverse=True):
        yield folder / str(number)


def revisions(generation: Path) -> list[str]:
    """The revisions that are complete in it, the newest first."""
    entries = (generation / "revisions").iterdir()
    found = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if is_revision(entry.name)]
    return [name for _, name in sorted(found, reverse=True)]


def is_whole(generation: Path) -> bool:
    """Whether the folders of a generation are there; somebody may have deleted some."""
    return (generation / "revisions").is_dir() and (generation / "objects" / "pack").is_dir()


def publish(generation: Path) -> None:
    """Make a new generation the current one, and remove those before it."""
    if not generation.name.endswith(".new"):
        return
    current = generation.with_suffix("")
    generation.rename(current)
    for entry in list(generation.parent.iterdir()):
        if entry.name not in (current.name, "url", TENANTS):
            remove(entry)


def sweep(generation: Path) -> None:
    """Remove what is no complete pack: the remains of a fetch that was cut off."""
    packs = generation / "objects" / "pack"
    names = {entry.name for entry in packs.iterdir()}
    for name in names:
        stem, _, suffix = name.rpartition(".")
        complete = stem.startswith("pack-") and suffix in ("pack", "idx") and {f"{stem}.pack", f"{stem}.idx"} <= names
        if not complete:
            (packs / name).unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a folder at one stroke: first out of sight, then piece by piece."""
    hidden = path.with_name(f"{_REMOVED}{path.name}-{time.monotonic_ns()}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def remove_leftovers(root: Path) -> None:
    """Remove folders that were on their way out when a process ended."""
    with contextlib.suppress(OSError):
        for folder in root.iterdir():
            if folder.name.startswith(_REMOVED):
                shutil.rmtree(folder, ignore_errors=True)
