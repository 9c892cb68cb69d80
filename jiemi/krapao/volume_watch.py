"""Whether Krapao's volume can still be written: looked at from time to time, because a disk may fail at any time.

Its file system is then read-only, or does not answer, and every fetch fails while all else works. As long as that is
so, Krapao is not ready, and another one serves its repositories, where there is one. A volume that is full is something
else: clones that nobody needs are removed from it. So is one whose files somebody deleted: they are made again.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import structlog
import trio

from jiemi.metrics.health import Health

LOCK = "lock"
"""The file in the state folder by which one Krapao has it, and which is written here."""

LOOK_SECONDS = 10.0
"""How often it is looked at. It takes a millisecond, or as long as the disk needs to write what waits for it."""

PATIENCE_SECONDS = 30.0
"""How long a write may take."""

_PASSES = (errno.ENOENT, errno.ENOSPC, errno.EDQUOT)

_log = structlog.get_logger("jiemi.krapao")


async def watch_volume(
    state_dir: Path,
    health: Health,
    *,
    every_seconds: float = LOOK_SECONDS,
    patience_seconds: float = PATIENCE_SECONDS,
) -> None:
    """Have Krapao be ready only while its volume can be written, until cancelled."""
    limiter = trio.CapacityLimiter(1)  # a disk that hangs holds one thread, and the next looks wait for that
    before = ""
    while True:
        trouble = f"a write takes longer than {patience_seconds:g} s"
        with trio.move_on_after(patience_seconds):
            trouble = await trio.to_thread.run_sync(_trouble, state_dir / LOCK, abandon_on_cancel=True, limiter=limiter)
        if trouble and not before:
            _log.warning("volume_failed", folder=str(state_dir), why=trouble)
        elif before and not trouble:
            _log.info("volume_works_again", folder=str(state_dir))
        health.usable(not trouble)
        before = trouble
        await trio.sleep(every_seconds)


def _trouble(path: Path) -> str:
    """Why a file that is there can't be written; "" where it can."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.pwrite(descriptor, b"\n", 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _PASSES:
            return error.strerror or type(error).__name__
    return ""
