"""Session fixtures with real parts: the tools, and one control plane for all tests that need a Kubernetes API.

The control plane runs in a process of its own (this file as a program), since a pytest-trio fixture lives as long as
one test. That process ends when its standard input does, so that it can't outlive the test run, however that ends.
The cluster's own controllers run in it. There is no node: `support.kubernetes.stand_in_kubelet` does what one would.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import trio
from support.processes.server_process import serve_until_input_ends, server_process

from jiemi.controlplane.control_plane import ControlPlaneSettings, open_control_plane
from jiemi.controlplane.controller_manager import ControllerManagerSettings
from jiemi.controlplane.pins import TOOLS, Tool
from jiemi.controlplane.settings import ToolSettings
from jiemi.controlplane.tools import resolve_all

END_SECONDS = 30

CONTROLLERS = ("*", "-node-lifecycle-controller")
"""All that are on by default, except the one that asks nodes for signs of life: those of tests are no nodes."""


class Printing:
    """Shows the steps of a build on standard error."""

    def step(self, tool: Tool, text: str) -> None:
        sys.stderr.write(f"{tool.value}: {text}\n")


def tool_settings() -> ToolSettings:
    environment = dict(os.environ)
    assets = environment.get("KUBEBUILDER_ASSETS")
    search_path = environment.get("PATH", os.defpath)
    settings = ToolSettings(
        cache_dir=Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jiemi",
        search_path=search_path,
        environment=environment,
        assets_dir=Path(assets) if assets else None,
    )
    if shutil.which("go", path=search_path) is None:
        return settings
    # With Go at hand the tests run the versions that are pinned, and ask no release host for anything.
    return ToolSettings(
        cache_dir=settings.cache_dir,
        search_path=search_path,
        environment=environment,
        assets_dir=settings.assets_dir,
        sops_release_url=None,
        envtest_release_url=None,
        kubernetes_release_url=None,
    )


@pytest.fixture(scope="session")
def tools() -> dict[str, Path]:
    """Paths of `sops` and of what a control plane runs; the first run on a machine builds them."""
    resolved = trio.run(resolve_all, (*TOOLS, Tool.KUBE_CONTROLLER_MANAGER), tool_settings(), Printing())
    return {tool.value: each.path for tool, each in resolved.items()}


@pytest.fixture
def fast_directory() -> Iterator[Path]:
    """A directory on tmpfs where there is one: etcd syncs each write."""
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="jiemi-test-", dir=parent) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def control_plane(tools: dict[str, Path]) -> Iterator[Path]:
    """The administrator's kubeconfig of a control plane that runs for the whole session."""
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="jiemi-session-", dir=parent) as directory,
        server_process(__file__, (directory, *programs(tools)), end_seconds=END_SECONDS) as kubeconfig,
    ):
        yield kubeconfig


def programs(tools: Mapping[str, Path]) -> list[Path]:
    """Those that `with_controllers` takes, in its order."""
    return [tools[name] for name in ("etcd", "kube-apiserver", "kube-controller-manager")]


def with_controllers(state_dir: Path, etcd: Path, kube_apiserver: Path, manager: Path) -> ControlPlaneSettings:
    """A control plane in which the cluster's own controllers run, by the paths of its programs."""
    return ControlPlaneSettings(
        state_dir, etcd, kube_apiserver, controllers=ControllerManagerSettings(manager, CONTROLLERS)
    )


async def _serve(settings: ControlPlaneSettings) -> None:
    async with open_control_plane(settings) as running:
        await serve_until_input_ends(running.kubeconfig)


if __name__ == "__main__":
    _directory, *_programs = map(Path, sys.argv[1:])
    trio.run(_serve, with_controllers(_directory / "state", *_programs))
