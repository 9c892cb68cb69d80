"""What stands in files, for the tests that look for a canary there."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

_MOST_BYTES = 50_000_000

_DOTS = (".gnupg", ".config", ".ssh", ".aws", ".azure", ".sops")


def contents(folder: Path) -> dict[str, bytes]:
    """The regular files below a folder, by path."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def new_files_of_the_machine(began: float) -> dict[str, bytes]:
    """Files that were written meanwhile where programs leave things: temporary folders, the home's dot folders and the
    one that the services ran in. Other programs' come and go while it looks.

    Args:
        began: since when, as `time.time()` gives it.
    """
    places = (Path("/tmp"), Path("/var/tmp"), *(Path.home() / name for name in _DOTS))
    found: dict[str, bytes] = {}
    for path in _each((*places, Path.cwd())):
        with contextlib.suppress(OSError):
            about = path.stat()
            if stat.S_ISREG(about.st_mode) and about.st_mtime >= began - 1 and about.st_size < _MOST_BYTES:
                found[str(path)] = path.read_bytes()
    return found


def _each(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        for folder, below, files in os.walk(place):  # a folder that is gone meanwhile has nothing in it
            yield from (Path(folder, name) for name in files)
            if place == Path.cwd():
                below.clear()
