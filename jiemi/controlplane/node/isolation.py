"""Namespaces of one's own for a node: what it makes there ends with its last process, however that ends.

A network without a way out, mounts that nobody else sees, and process ids whose first process is ours: when that ends,
the kernel kills the others, and with them go the mounts, the interfaces and the rules of the firewall. Only files
(`removed_folders`) and control groups (`control_groups.held`) are left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from jiemi.controlplane.node import control_groups

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
    if not control_groups.can_be_made():
        missing.append(f"control groups that it can make ({control_groups.ROOT} can't be written)")
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


@contextlib.contextmanager
def removed_folders(folders: Sequence[str]) -> Iterator[None]:
    """Remove folders that a node makes where they are not, and mounts something on, when the context ends.

    That must be after its last process. Those that were there before stay.
    """
    made = [Path(folder) for folder in folders if not Path(folder).exists()]
    try:
        yield
    finally:
        for folder in made:
            if folder.exists():
                folder.rmdir()
