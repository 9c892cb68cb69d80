"""Whether a process that a test started, or that its process started, runs."""

from __future__ import annotations

from pathlib import Path


def is_ended(pid: int) -> bool:
    """Whether the process no longer runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True
