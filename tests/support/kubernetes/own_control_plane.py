"""A control plane of its own, as a process that can be ended, started again and held still: for faults and benches.

It is `jiemi control-plane`; or, where the cluster's own controllers run in it, this file as a program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import trio
from support.e2e.lab import until
from support.kubernetes.api_server import ApiServer, Manifest, open_admin
from support.kubernetes.control_plane import programs, with_controllers
from support.processes.server_process import environment

from jiemi.controlplane.control_plane import ControlPlane, run_control_plane
from jiemi.core.api.crd import crd


@attrs.define
class OwnControlPlane:
    """What it stores, its port and its certificates stay from one start to the next.

    Attributes:
        folder: where its state is, best on tmpfs: etcd syncs each write.
        tools: where etcd, kube-apiserver and kube-controller-manager are, if the cluster's own controllers are to run.
    """

    folder: Path
    tools: Mapping[str, Path] | None = None
    _process: subprocess.Popen[str] | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "cluster" / "kubeconfig"

    def start(self) -> None:
        """Start it, and wait until it serves."""
        state = self.folder / "cluster"
        command: list[str | Path] = [sys.executable, "-m", "jiemi", "control-plane", "--state-dir", state]
        if self.tools is not None:
            command = [sys.executable, __file__, state, *programs(self.tools)]
        self._process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("ready: ")

    def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdout is not None
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()  # does nothing to one that has ended
                process.wait()
                process.stdout.close()

    def kill(self, program: str) -> None:
        """Kill `etcd` or `kube-apiserver` (SIGKILL). The other one ends with it."""
        os.kill(self.pid_of(program), signal.SIGKILL)
        self.end()

    def pid_of(self, program: str) -> int:
        """The process of `etcd` or `kube-apiserver`."""
        assert self._process is not None
        found = subprocess.run(
            ["pgrep", "-P", str(self._process.pid), program], capture_output=True, text=True, check=True
        )
        return int(found.stdout.split()[0])

    @contextlib.contextmanager
    def held(self, program: str) -> Iterator[None]:
        """Hold a program still (SIGSTOP) while the context lasts: its connections stay open, and it says nothing."""
        pid = self.pid_of(program)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def open_own_control_plane(
    folder: Path, definition: Manifest | None = None, tools: Mapping[str, Path] | None = None
) -> Iterator[tuple[OwnControlPlane, ApiServer]]:
    """One with a CRD, and its administrator; it is ended with the context.

    Args:
        definition: the CRD, if it is not this release's.
        tools: as `OwnControlPlane`.
    """
    running = OwnControlPlane(folder, tools)
    running.start()
    try:
        admin, close = open_admin(running.kubeconfig)
        try:
            admin.apply(definition or crd()).ok()
            until("the CRD is served", lambda: admin.call("GET", "/apis/jiemi.cr/v1alpha1").status == 200)
            yield running, admin
        finally:
            close()
    finally:
        running.end()


def _announce(running: ControlPlane) -> None:
    sys.stdout.write(f"ready: {running.server}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _settings = with_controllers(*map(Path, sys.argv[1:]))
    trio.run(lambda: run_control_plane(_settings, announce=_announce))
