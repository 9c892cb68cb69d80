"""The cluster's own controllers, kube-controller-manager, beside an embedded API server.

With them namespaces are finalized, garbage is collected, Deployments and StatefulSets get Pods, quotas are counted,
ClusterRoles are aggregated, Services get EndpointSlices, and each namespace its default ServiceAccount. No Pod becomes
ready: that takes a kubelet (`jiemi.controlplane.node`).

It is one more child: started once the API server is ready, because it would give up after 10 s without one, and ended
before it. It is a user of its own, and each controller acts as a ServiceAccount of kube-system with the rights that
Kubernetes itself gives it. It serves nothing but its health, on a port of loopback.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import attrs
import trio

from jiemi.controlplane.arguments import ControllerManager, controller_manager_arguments, kubeconfig
from jiemi.controlplane.loopback import Answer, reserve_port, wait_until_ready
from jiemi.controlplane.pki import Pki
from jiemi.controlplane.private_files import write_private
from jiemi.controlplane.processes import ControlPlaneError, quote_log, running

NAME = "kube-controller-manager"
ALL = "*"
"""All controllers that are on by default."""

SERVICE_ACCOUNTS = "serviceaccount-controller"

_HAS_CONTROLLERS = re.compile(rb"^\[\+\]\S+-controller ok$", re.MULTILINE)
"""Before its controllers are there, it calls itself healthy already."""


@attrs.frozen
class ControllerManagerSettings:
    """Which controllers run.

    Attributes:
        program: kube-controller-manager (tools.py resolves it).
        controllers: as `--controllers` takes them: names, "*" for all that are on by default, "-NAME" for all but one.
        extra_arguments: further arguments; they come after ours and so win.
        start_timeout_seconds: limit for its start. About 1 is needed on 2 idle cores.
    """

    program: Path
    controllers: tuple[str, ...] = (ALL,)
    extra_arguments: tuple[str, ...] = ()
    start_timeout_seconds: float = 60.0

    def runs(self, name: str) -> bool:
        """Whether a controller that is on by default runs; what is said of itself counts before what is of all."""
        return name in self.controllers or (f"-{name}" not in self.controllers and ALL in self.controllers)


@contextlib.asynccontextmanager
async def open_controller_manager(
    settings: ControllerManagerSettings, state_dir: Path, server: str, pki: Pki
) -> AsyncIterator[Mapping[str, int]]:
    """Run the controllers for as long as the context lasts; they work when it is entered. Yields the process's id.

    Args:
        state_dir: the control plane's folder, for the kubeconfig and the log.
        server: URL of the API server, which is ready.

    Raises:
        ControlPlaneError: it can't start, or ended by itself, then or later.
    """
    config, log = state_dir / f"{NAME}.kubeconfig", state_dir / "logs" / f"{NAME}.log"
    pair = pki.controller_manager
    with reserve_port(0) as port:
        authority, certificate, key = (
            path.read_bytes() for path in (pki.authority.certificate, pair.certificate, pair.key)
        )
        write_private(config, kubeconfig(server, authority, certificate, key, user=NAME))
        manager = ControllerManager(
            port=port, kubeconfig=config, controllers=settings.controllers, extra=settings.extra_arguments
        )
        command: list[str | Path] = [settings.program, *controller_manager_arguments(manager, pki)]
        async with running({NAME: command}, log.parent) as pids:
            try:
                with trio.fail_after(settings.start_timeout_seconds):
                    await wait_until_ready(port, "/healthz?verbose", pki.authority.certificate, None, is_ready)
            except trio.TooSlowError as error:
                raise ControlPlaneError(
                    f"{NAME} was not ready within {settings.start_timeout_seconds:g} s; see {log}" + quote_log(log)
                ) from error
            yield pids


def is_ready(answer: Answer) -> bool:
    """Whether the answer of its health says that its controllers are there and well."""
    return answer.status == 200 and _HAS_CONTROLLERS.search(answer.body) is not None
