"""A lab on an embedded control plane of its own, for what is measured or soaked outside pytest."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import trio
from support.e2e.lab import Lab, git_server
from support.kubernetes.control_plane import Printing, tool_settings
from support.kubernetes.own_control_plane import open_own_control_plane

from jiemi.controlplane.pins import TOOLS
from jiemi.controlplane.tools import resolve_all


@contextlib.contextmanager
def open_lab() -> Iterator[tuple[Lab, int]]:
    """The lab, and the process id of its kube-apiserver; everything is ended with the context."""
    tools = {tool.value: each.path for tool, each in trio.run(resolve_all, TOOLS, tool_settings(), Printing()).items()}
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="jiemi-bench-", dir=parent) as name,
        git_server(Path(name)) as git,
        open_own_control_plane(Path(name)) as (running, admin),
    ):
        lab = Lab(admin, running.kubeconfig, tools, git, Path(name))
        try:
            yield lab, running.pid_of("kube-apiserver")
        finally:
            lab.end_services()
