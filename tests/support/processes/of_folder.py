"""The processes that were started for a folder."""

from __future__ import annotations

import contextlib
from pathlib import Path


def processes_of(folder: Path) -> set[int]:
    """Running processes whose arguments name the folder."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (process / "cmdline").read_bytes()  # empty when it has ended
            if str(folder).encode() in arguments:
                found.add(int(process.name))
    return found
