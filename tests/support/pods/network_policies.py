"""What makes a node enforce NetworkPolicies: kube-router, of which only that part runs.

The cluster of the tests has the plugin `bridge`, which knows none. So they are enforced for as long as a test wants it,
and the same connections can be tried without.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.kubernetes.go_programs import go_program

from jiemi.controlplane.arguments import SERVICES
from jiemi.controlplane.node.arguments import NODE_NAME
from jiemi.controlplane.node.isolation import SEARCH_PATH

DEBIAN_PACKAGES = ("iptables", "ipset")
"""Which kube-router runs."""

_PROGRAM = "kube-router"
_PACKAGE = "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"
_BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_SYNC_SECONDS = 30
_END_SECONDS = 30


def missing_programs() -> list[str]:
    """Those of them that this machine lacks."""
    return [each for each in DEBIAN_PACKAGES if shutil.which(each, path=SEARCH_PATH) is None]


async def build() -> Path:
    """kube-router, from the cache of tools or built into it."""
    return await go_program(_PROGRAM, package=_PACKAGE)


@contextmanager
def enforced(program: Path, kubeconfig: Path, log: Path) -> Iterator[None]:
    """Enforce NetworkPolicies in this network, as long as the context lasts.

    Args:
        program: kube-router.
        kubeconfig: of an administrator.
        log: file for what kube-router says.
    """
    # Else packets between Pods of one bridge pass no rule.
    before = _BRIDGED.read_text()
    _BRIDGED.write_text("1")
    command = [
        str(program),
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={NODE_NAME}",
        f"--service-cluster-ip-range={SERVICES}",
        f"--iptables-sync-period={_SYNC_SECONDS}s",
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        "--health-port=0",
        "--metrics-port=0",
    ]
    environment = {"PATH": SEARCH_PATH, "NODE_NAME": NODE_NAME, "HOME": os.environ.get("HOME", "/")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            yield
            assert process.poll() is None, log.read_text()[-4_000:]
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            finally:
                process.kill()
                process.wait()
            _remove_rules()
            _BRIDGED.write_text(before)


def _remove_rules() -> None:
    """It leaves its rules, so that they hold while it is replaced."""
    for command in (["iptables", "-F"], ["iptables", "-X"], ["ipset", "destroy"]):
        subprocess.run(command, check=True, timeout=_END_SECONDS, env={"PATH": SEARCH_PATH})
