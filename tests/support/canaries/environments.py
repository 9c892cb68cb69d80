"""Which credentials are in the environment of which process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
from support.processes.threads import again_and_again


@attrs.frozen
class Look:
    """What was seen of a process at a moment: one program's command line and environment."""

    parent: int
    command: bytes
    environment: bytes


def look_at(process: Path) -> Look | None:
    """What is seen of a process, or None where it changed its program meanwhile, or ended.

    Each file is of a moment of its own, and empty while the kernel starts a program.

    Args:
        process: its folder in /proc.

    Raises:
        OSError: it ended.
    """
    stat = (process / "stat").read_bytes()
    command = (process / "cmdline").read_bytes()
    environment = (process / "environ").read_bytes()
    if environment and (not command or (process / "cmdline").read_bytes() != command):
        return None
    return Look(int(stat[stat.rindex(b")") + 2 :].split()[1]), command, environment)


@attrs.frozen
class Process:
    """A process that was seen, by its command line at that time.

    Attributes:
        parent: its first one: an orphan gets another.
        tenants: those whose canaries were in its environment.
    """

    pid: int
    parent: int
    command: bytes
    environment_bytes: int
    tenants: frozenset[str]


class Watcher:
    """Looks at all processes of the machine all the time, in a thread: what is in their environments and command lines.

    One that has not changed for a while is looked at less often.

    Args:
        forms: by tenant, the forms in which its canaries would be found.
    """

    def __init__(self, forms: Mapping[str, set[bytes]]) -> None:
        self._forms = forms
        self._looks: dict[tuple[str, bytes], int] = {}
        self._found: dict[tuple[int, bytes], Process] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        with again_and_again(self._look_at_all, pause_seconds=0.003):
            yield

    @property
    def processes(self) -> list[Process]:
        return list(self._found.values())

    def _look_at_all(self) -> None:
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended
                self._look(entry)

    def _look(self, entry: Path) -> None:
        command = (entry / "cmdline").read_bytes()
        looks = self._looks[entry.name, command] = self._looks.get((entry.name, command), 0) + 1
        if looks > 20 and looks % 50:
            return
        seen = look_at(entry)
        if seen is None:
            return
        pid, environment = int(entry.name), seen.environment
        tenants = frozenset(name for name, forms in self._forms.items() if any(form in environment for form in forms))
        before = self._found.get((pid, seen.command))
        if before is None:
            self._found[pid, seen.command] = Process(pid, seen.parent, seen.command, len(environment), tenants)
        else:
            self._found[pid, seen.command] = attrs.evolve(
                before,
                tenants=before.tenants | tenants,
                environment_bytes=max(before.environment_bytes, len(environment)),
            )
