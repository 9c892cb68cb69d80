"""What a process has at a moment: memory, children, holders of credentials, private folders."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from support.processes.threads import again_and_again

MEBIBYTE = 1024 * 1024


def memory_bytes(pid: int) -> int:
    """The resident memory of a process (VmRSS of proc_pid_status(5))."""
    match = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


@attrs.frozen
class Child:
    """A child of a process."""

    pid: int
    name: bytes
    command: bytes


def children_of(parent: int) -> list[Child]:
    """The children of a process, those that ended and were not waited for included; what is orphaned becomes one."""
    pids: set[str] = set()
    for task in Path(f"/proc/{parent}/task").glob("*"):
        with contextlib.suppress(OSError):  # the thread ended
            pids.update((task / "children").read_text().split())
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):  # it ended and was waited for
            stat = Path("/proc", pid, "stat").read_bytes()
            name = stat[stat.index(b"(") + 1 : stat.rindex(b")")]
            found.append(Child(int(pid), name, Path("/proc", pid, "cmdline").read_bytes()))
    return found


def holders_among(children: Sequence[Child]) -> int:
    return sum(b"\0keyservice\0" in child.command for child in children)


def private_folders(runtime: Path) -> list[Path]:
    return list(runtime.glob("jiemi-sops-*"))


@attrs.define
class Sampler:
    """Looks again and again, in a thread, how many holders and private folders there are at once, others apart."""

    parent: int
    runtime: Path
    others: frozenset[int] = frozenset()
    most_holders: int = 0
    most_folders: int = 0
    samples: int = 0

    @contextlib.contextmanager
    def sampling(self) -> Iterator[None]:
        with again_and_again(self._sample, pause_seconds=0.02):
            yield

    def _sample(self) -> None:
        own = [child for child in children_of(self.parent) if child.pid not in self.others]
        self.most_holders = max(self.most_holders, holders_among(own))
        self.most_folders = max(self.most_folders, len(private_folders(self.runtime)))
        self.samples += 1


def processes_that_name(folder: Path) -> list[bytes]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended
            command = (entry / "cmdline").read_bytes()
            if str(folder).encode() in command:
                found.append(command)
    return found


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def show(**figures: object) -> None:
    """Show what was measured, where pytest runs with -s."""
    sys.stdout.write(f"\n{figures}\n")
