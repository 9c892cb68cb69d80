"""The control group of a node's Pods (cgroups(7)): in version 2, in version 1, or in both side by side.

A group outlives the processes in it. So it is locked for as long as its node runs, and the next one removes those that
nobody has locked: they are of a run that was killed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from jiemi.controlplane.locks import locked_folder
from jiemi.controlplane.processes import ControlPlaneError

ROOT = Path("/sys/fs/cgroup")

PREFIX = "jiemi-node-"
"""With which the names of all these groups begin."""

_LOCK_SECONDS = 5
"""How long another may take to make its own. It needs milliseconds."""

_END_SECONDS = 10.0
"""How long processes may take to be gone after they were killed; those of a whole node need a second."""

_CONTROLLERS = ("cpu", "cpuset", "hugetlb", "memory", "pids")
"""What kubelet wants in the group of its Pods, as far as the machine has them: its `cgroupRoot` is refused without."""


class ControlGroupError(ControlPlaneError):
    """A control group can't be made. The text names it."""


def can_be_made() -> bool:
    """Whether groups can be made: in a container they often can only be read."""
    tops = _hierarchies()
    return bool(tops) and all(os.access(each, os.W_OK) for each in tops)


@contextlib.contextmanager
def held(number: int) -> Iterator[tuple[str, list[Path]]]:
    """A control group, which is removed when the context ends; that must be after the last process in it was ended.

    Controllers that it had passed on to groups below the root (version 2) are so no longer.

    Args:
        number: which no other living node of this machine has; a process id.

    Returns:
        Its name, and those folders of it that could not be removed; filled at the end.

    Raises:
        ControlGroupError: it can't be made.
    """
    name, tops = f"{PREFIX}{number}", _hierarchies()
    left: list[Path] = []
    if not tops:
        raise ControlGroupError(f"there are no control groups in {ROOT}")
    passed_on = _passed_on()
    with contextlib.ExitStack() as locks:
        try:
            with locked_folder(tops[0], wait_seconds=_LOCK_SECONDS):
                _remove_abandoned(tops)
                _make(name, tops)
                for top in tops:
                    locks.enter_context(locked_folder(top / name))
        except OSError as error:
            raise ControlGroupError(f"a control group for Pods can't be made: {error}") from error
        try:
            yield name, left
        finally:
            left += _left_of([top / name for top in tops])
            with contextlib.suppress(OSError):  # somebody else's groups use them meanwhile
                _pass_on(_passed_on() - passed_on, on=False)


def _is_version_2() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    """Their roots: one in version 2, several in version 1.

    Beside those of version 1, version 2 may be one more ("unified"), with no controllers that matter; what runs
    containers makes a group there all the same. Links are other names of one hierarchy.
    """
    if _is_version_2():
        return [ROOT]
    return sorted(each for each in ROOT.glob("*") if not each.is_symlink() and (each / "cgroup.procs").exists())


def _make(name: str, tops: Iterable[Path]) -> None:
    if _is_version_2():
        # systemd passes on what its own units need, which is seldom all of them.
        there = set((ROOT / "cgroup.controllers").read_text("ascii").split())
        _pass_on(there.intersection(_CONTROLLERS) - _passed_on(), on=True)
    for top in tops:
        (top / name).mkdir(exist_ok=True)
        if top.name == "cpuset":
            for each in ("cpuset.cpus", "cpuset.mems"):  # else no process can be put there
                (top / name / each).write_text((top / each).read_text())


def _passed_on() -> set[str]:
    """The controllers that groups below the root have (cgroup-v2.rst, "Controlling Controllers"); none in version 1."""
    return set((ROOT / "cgroup.subtree_control").read_text("ascii").split()) if _is_version_2() else set()


def _pass_on(controllers: Iterable[str], *, on: bool) -> None:
    for each in sorted(controllers):
        (ROOT / "cgroup.subtree_control").write_text(f"{'+' if on else '-'}{each}", "ascii")


def _remove_abandoned(tops: Iterable[Path]) -> None:
    for folder in [folder for top in tops for folder in top.glob(f"{PREFIX}*")]:
        with contextlib.suppress(OSError), locked_folder(folder):
            _removed(folder)


def _left_of(groups: Iterable[Path]) -> list[Path]:
    """Remove groups, and wait for processes in them that are about to be gone; returns those that stay."""
    deadline = time.monotonic() + _END_SECONDS
    while left := [group for group in groups if not _removed(group)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return left


def _removed(top: Path) -> bool:
    """Remove a group with all below it, as far as no process is in them; whether it is gone."""
    below = sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True) if top.exists() else []
    for folder in (*below, top):
        with contextlib.suppress(OSError):
            folder.rmdir()
    return not top.exists()
