"""Namespaces of one's own for a node: what it makes there ends with its last process, however that ends.

A network without a way out, mounts that nobody else sees, and process ids whose first process is ours: when that ends,
the kernel kills the others, and with them go the mounts, the interfaces and the rules of the firewall. Only control
groups and files are left; `cleaned_up` removes the former.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")

DEBIAN_PACKAGES = ("containerd", "runc", "containernetworking-plugins", "nftables", "iproute2", "util-linux", "mount")
"""Where the programs below come from on Debian and Ubuntu."""

_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "nft", "ip", "unshare", "mount")
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_CNI_PLUGINS = ("bridge", "host-local", "loopback")

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing_requirements() -> list[str]:
    """What this machine lacks for a node, each as a phrase; empty where it lacks nothing."""
    missing = []
    if os.uname().sysname != "Linux":
        return ["Linux"]
    if os.geteuid() != 0:
        missing.append("root")
    programs = [each for each in _PROGRAMS if shutil.which(each, path=SEARCH_PATH) is None]
    if programs:
        missing.append(f"the programs {', '.join(programs)}")
    if cni_folder() is None:
        missing.append(f"the network plugins {', '.join(_CNI_PLUGINS)} in {' or '.join(map(str, CNI_FOLDERS))}")
    return missing


def cni_folder() -> Path | None:
    """Where the plugins of the Pods' network are; None where they are nowhere."""
    for folder in CNI_FOLDERS:
        if all((folder / each).is_file() for each in _CNI_PLUGINS):
            return folder
    return None


def isolated(command: Sequence[str]) -> list[str]:
    """The command that runs a command in namespaces of its own."""
    return [
        shutil.which("unshare", path=SEARCH_PATH) or "unshare",
        *("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *command,
    ]


def is_isolated() -> bool:
    """Whether this process has a network of its own, in which there is nothing yet."""
    lines = Path("/proc/net/dev").read_text("ascii").splitlines()
    return [line.partition(":")[0].strip() for line in lines if ":" in line] == ["lo"]


def _folders_of_group(name: str, *, file: str) -> list[Path]:
    """The folders of a control group: one per hierarchy of version 1 that has such a file, or that of version 2."""
    if (CONTROL_GROUPS / "cgroup.controllers").exists():
        return [CONTROL_GROUPS / name]
    return [each / name for each in CONTROL_GROUPS.iterdir() if (each / file).exists()]


def make_control_group(name: str) -> None:
    """Make a control group for a node's Pods.

    Raises:
        OSError: it can't be made.
    """
    # Version 2 beside version 1 ("unified") has no controllers; what runs containers makes a group there all the same.
    for folder in _folders_of_group(name, file="tasks"):
        folder.mkdir(exist_ok=True)
        if folder.parent.name == "cpuset":
            for each in ("cpuset.cpus", "cpuset.mems"):  # else no process can be put there
                (folder / each).write_text((folder.parent / each).read_text())


@contextlib.contextmanager
def cleaned_up(control_group: str, folders: Sequence[str]) -> Iterator[list[Path]]:
    """Remove what a node leaves when the context ends, which must be after its last process.

    Args:
        control_group: its name.
        folders: those that a node makes where they are not, and mounts something on. They are removed if they were not.

    Returns:
        The control groups that could not be removed; filled at the end.
    """
    made = [Path(folder) for folder in folders if not Path(folder).exists()]
    left: list[Path] = []
    try:
        yield left
    finally:
        left += _remove_control_groups(control_group)
        for folder in made:
            if folder.exists():
                folder.rmdir()


def _remove_control_groups(name: str) -> list[Path]:
    """Remove a control group with all below it, once its processes have ended; returns those that are still there."""
    tops = _folders_of_group(name, file="cgroup.procs")
    for top in tops:
        below = sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True) if top.exists() else []
        for folder in (*below, top):
            with contextlib.suppress(OSError):
                folder.rmdir()
    return [top for top in tops if top.exists()]
