"""Give freed memory back to the system.

glibc keeps what a program frees for its next need, in an arena for each thread that ever allocated beside others; after
a burst of work a service would stay as large as it was at its largest, for ever. `malloc_trim` gives the free pages of
all arenas back (https://man7.org/linux/man-pages/man3/malloc_trim.3.html). musl has no such function and needs none:
nothing is done there.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import structlog
import trio

_CHECK_SECONDS = 10.0

_GROWN_BYTES = 16 * 1024 * 1024
"""Trimming takes about 1 ms for each 10 MiB given back, so a growth that does not matter is left alone."""

_STATM = Path("/proc/self/statm")
_PAGE_BYTES = 4096
"""Where the page is larger the growth is underestimated, and only trimmed later."""

_log = structlog.get_logger("jiemi.memory")


def resident_bytes() -> int:
    """How much memory this process has now (proc_pid_statm(5)); 0 where the system does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


def trim() -> bool:
    """Give free memory back. May be called from any thread; whether this system's allocator can."""
    try:
        function = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return False
    function.argtypes, function.restype = (ctypes.c_size_t,), ctypes.c_int
    function(0)
    return True


async def keep_trimmed(*, check_seconds: float = _CHECK_SECONDS) -> None:
    """Trim whenever the process has grown since the last time. Has no deadline: it lasts as long as the service."""
    lowest = resident_bytes()
    while True:
        await trio.sleep(check_seconds)
        before = resident_bytes()
        lowest = min(lowest, before)
        if before - lowest < _GROWN_BYTES:
            continue
        if not await trio.to_thread.run_sync(trim, limiter=trio.CapacityLimiter(1)):
            return
        lowest = resident_bytes()
        if before - lowest >= _GROWN_BYTES:
            _log.debug("memory_given_back", before_bytes=before, after_bytes=lowest)
