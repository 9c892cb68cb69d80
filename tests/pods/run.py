"""`just test-pods`: from nothing to Pods that follow a repository, and nothing left of it.

    tools (etcd … kubelet) -> images (deploy/images) -> pytest in namespaces of its own -> control groups and files away

Runs as root on Debian or Ubuntu; says what it needs elsewhere.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio
from rich.console import Console
from support.kubernetes.cert_manager import build_cert_manager
from support.kubernetes.helm import build_helm
from support.kubernetes.kubectl import build_kubectl
from support.network.proxies import build_proxies
from support.pods import images, network_policies

import jiemi
from jiemi.cli.tools import resolve_tools, tool_settings
from jiemi.controlplane.node import control_groups, isolation
from jiemi.controlplane.node.node import FIXED_FOLDERS
from jiemi.controlplane.node.sandbox import write_sandbox_image
from jiemi.controlplane.pins import NODE_TOOLS, TOOLS, Tool

HERE = Path(__file__).parent


def main(arguments: list[str], files: str = "pods_*.py") -> int:
    """Run the tests; returns pytest's exit status.

    Args:
        arguments: for pytest, beside the files; `--packages` alone only prints which Debian packages this needs.
        files: the tests that are run, all by default.
    """
    packages = " ".join((*isolation.DEBIAN_PACKAGES, *images.DEBIAN_PACKAGES, *network_policies.DEBIAN_PACKAGES))
    if arguments == ["--packages"]:
        print(packages)
        return 0
    missing = isolation.missing_requirements()
    programs = [*images.missing_programs(), *network_policies.missing_programs()]
    if programs:
        missing.append(f"the programs {', '.join(programs)}")
    if missing:
        print(
            f"Pods can't be run here: this machine lacks {'; '.join(missing)}.\n"
            f"On Debian or Ubuntu: sudo apt-get install --no-install-recommends {packages}",
            file=sys.stderr,
        )
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    began = time.monotonic()
    settings = tool_settings()
    found = trio.run(resolve_tools, [*TOOLS, *NODE_TOOLS], settings, Console(stderr=True))
    _step(began, "the images of deploy/images")
    sops = trio.run(images.images_sops)
    built = images.build_images(settings.cache_dir / "images", sops, jiemi.__version__)
    programs_of_tests = {
        "KUBECTL": trio.run(build_kubectl),
        "HELM": trio.run(build_helm),
        "KUBE_ROUTER": trio.run(network_policies.build),
        "CERT_MANAGER": trio.run(build_cert_manager),
        "PROXIES": trio.run(build_proxies),
    }
    name = f"{control_groups.PREFIX}{os.getpid()}"
    _step(began, "a node, and the tests in it")
    # Not in /tmp, which may be a tmpfs: containers' layers are there.
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp", prefix=f"{name}-") as root,
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix=f"{name}-") as memory,
        isolation.removed_folders(FIXED_FOLDERS),
        control_groups.held(os.getpid()) as (group, left),
    ):
        sandbox = Path(root) / "sandbox.tar"
        trio.run(write_sandbox_image, sandbox)
        environment = {
            **os.environ,
            "JIEMI_PODS_ROOT": root,
            "JIEMI_PODS_MEMORY": memory,
            "JIEMI_PODS_GROUP": group,
            "JIEMI_PODS_IMAGES": ":".join(map(str, (built.krapao, built.miwen, sandbox))),
            **{f"JIEMI_PODS_{name}": str(path) for name, path in programs_of_tests.items()},
            **{_variable(tool): str(each.path) for tool, each in found.items()},
        }
        command = [sys.executable, "-m", "pytest", *(str(path) for path in sorted(HERE.glob(files))), *arguments]
        status = subprocess.run(isolation.isolated(command), env=environment, check=False).returncode
    if left:
        print(f"these control groups are left: {', '.join(map(str, left))}", file=sys.stderr)
        return status or 1
    _step(began, "done")
    return status


def _end(number: int, _: object) -> None:
    """End as by an exception: the tests are killed with all that they started, and what was made goes away."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _step(began: float, what: str) -> None:
    print(f"{time.monotonic() - began:5.0f} s  {what}", file=sys.stderr, flush=True)


def _variable(tool: Tool) -> str:
    return f"JIEMI_PODS_{tool.name}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
