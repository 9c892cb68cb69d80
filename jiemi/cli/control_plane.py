"""`jiemi control-plane`: a Kubernetes API of your own, in the foreground."""

from __future__ import annotations

import click
import trio
from rich.console import Console

from jiemi.cli.command_flags import ControlPlaneFlags
from jiemi.cli.errors import CommandError
from jiemi.cli.tools import resolve_tools, tool_settings
from jiemi.controlplane.control_plane import (
    ControlPlane,
    ControlPlaneSettings,
    run_control_plane,
)
from jiemi.controlplane.pins import Tool
from jiemi.controlplane.processes import ControlPlaneError


def run(flags: ControlPlaneFlags) -> None:
    """Run the control plane until it is signalled."""
    settings = tool_settings(etcd=flags.etcd, kube_apiserver=flags.kube_apiserver)

    def announce(control_plane: ControlPlane) -> None:
        click.echo(f"ready: {control_plane.server}, KUBECONFIG={control_plane.kubeconfig}")

    async def main() -> None:
        found = await resolve_tools([Tool.ETCD, Tool.KUBE_APISERVER], settings, Console(stderr=True))
        await run_control_plane(
            ControlPlaneSettings(flags.state_dir, found[Tool.ETCD].path, found[Tool.KUBE_APISERVER].path),
            announce=announce,
        )

    try:
        trio.run(main)
    except ControlPlaneError as error:
        raise CommandError(str(error)) from error
