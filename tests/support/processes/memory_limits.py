"""Run programs under a memory limit as the kubelet does: all of a container's processes count together, and too much
ends them.

Where this user may make control groups (root, as in a container of CI), it is a real one, of version 1 or 2
(https://docs.kernel.org/admin-guide/cgroup-v1/memory.html, https://docs.kernel.org/admin-guide/cgroup-v2.html#memory).
Elsewhere the group is watched from outside, every 10 ms: the sum of the proportional shares (smaps_rollup, proc(5)) of
the program and all its children, and SIGKILL to all of them above the limit. That sees no peak between two looks, so it
is the weaker of the two, but it needs no right.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
_LOOK_SECONDS = 0.01
_EMPTY_SECONDS = 5.0


class MemoryGroup:
    """Processes that share one limit.

    Attributes:
        limit_bytes: of all of them together.
    """

    limit_bytes: int

    def popen(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program inside of the group; `options` as of subprocess.Popen."""
        raise NotImplementedError

    @property
    def peak_bytes(self) -> int:
        """The most that was used at once."""
        raise NotImplementedError

    @property
    def kills(self) -> int:
        """How often the limit ended a process."""
        raise NotImplementedError


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """A group for as long as the context lasts; what is left in it at the end is killed."""
    name = f"jiemi-test-{uuid.uuid4().hex[:12]}"
    for root, is_v2 in ((_V1, False), (_V2, True)):
        folder = root / name
        try:
            folder.mkdir()
        except OSError:
            continue
        group = _Cgroup(folder, limit_bytes, is_v2=is_v2)
        try:
            if group.set_limit():
                yield group
                return
        finally:
            group.close()
    watched = _Watched(limit_bytes)
    try:
        yield watched
    finally:
        watched.close()


class _Cgroup(MemoryGroup):
    def __init__(self, folder: Path, limit_bytes: int, *, is_v2: bool) -> None:
        self.limit_bytes = limit_bytes
        self._folder = folder
        self._is_v2 = is_v2

    def set_limit(self) -> bool:
        """Whether the kernel takes the limit and knows the peak (of version 2 since Linux 5.19).

        Of version 2 the memory controller may be switched off.
        """
        try:
            if self._is_v2:
                if not (self._folder / "memory.peak").exists():
                    return False
                (self._folder / "memory.max").write_text(str(self.limit_bytes))
                with contextlib.suppress(OSError):
                    (self._folder / "memory.swap.max").write_text("0")
            else:
                (self._folder / "memory.limit_in_bytes").write_text(str(self.limit_bytes))
        except OSError:
            return False
        return True

    def popen(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        enter = 'echo $$ > "$0" && exec "$@"'
        return subprocess.Popen(["/bin/sh", "-c", enter, str(self._folder / "cgroup.procs"), *arguments], **options)

    @property
    def peak_bytes(self) -> int:
        return int((self._folder / ("memory.peak" if self._is_v2 else "memory.max_usage_in_bytes")).read_text())

    @property
    def kills(self) -> int:
        lines = (self._folder / ("memory.events" if self._is_v2 else "memory.oom_control")).read_text().split("\n")
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def close(self) -> None:
        deadline = time.monotonic() + _EMPTY_SECONDS
        while time.monotonic() < deadline:
            for pid in (self._folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                self._folder.rmdir()
                return
            time.sleep(_LOOK_SECONDS)
        raise AssertionError(f"the control group {self._folder} does not become empty")


class _Watched(MemoryGroup):
    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._started: list[subprocess.Popen[bytes]] = []
        self._peak = 0
        self._kills = 0
        self._end = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="memory-limit")
        self._watcher.start()

    def popen(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(arguments, **options)
        self._started.append(process)
        return process

    @property
    def peak_bytes(self) -> int:
        return self._peak

    @property
    def kills(self) -> int:
        return self._kills

    def _watch(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            pids = self._members()
            used = sum(map(_share_bytes, pids))
            self._peak = max(self._peak, used)
            if used > self.limit_bytes:
                self._kills += 1
                _kill_all(pids)

    def _members(self) -> set[int]:
        found = {process.pid for process in self._started if process.returncode is None}
        parents = _parents()
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def close(self) -> None:
        self._end.set()
        self._watcher.join()
        _kill_all(self._members())


def _kill_all(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def _share_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
