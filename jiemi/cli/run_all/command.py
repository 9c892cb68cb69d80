"""`jiemi run-all`: everything on this machine, from nothing to a Secret that follows a git repository.

Each step is a context that the next one stands in, so that Ctrl-C at any moment ends them in the reverse order:

    tools -> cluster -> CRD -> demo repository -> Krapao -> Miwen -> Decryptor -> wait for the Secret -> stay

With `--cluster node` they are Pods (`node`).
"""

from __future__ import annotations

import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console

from jiemi.cli.command_flags import RunAllFlags
from jiemi.cli.errors import CommandError
from jiemi.cli.run_all.clusters import ClusterKind, choose, open_cluster
from jiemi.cli.run_all.faults import as_command_errors
from jiemi.cli.run_all.folder import memory_folder
from jiemi.cli.run_all.follow import follow, make_demo, stay
from jiemi.cli.run_all.node import require_node, run_in_node
from jiemi.cli.run_all.objects import apply
from jiemi.cli.run_all.processes import start_processes
from jiemi.cli.run_all.screen import Screen
from jiemi.cli.running import run_until_signalled
from jiemi.cli.tools import resolve_tools, tool_settings
from jiemi.controlplane.pins import Tool
from jiemi.core.api.crd import crd
from jiemi.miwen.kubernetes.connection import KubernetesSettings
from jiemi.miwen.kubernetes.real import open_kubernetes


def run(flags: RunAllFlags) -> None:
    """Run everything until the user ends it, or, with --exit-after-sync, until the demo Secret is there.

    Raises:
        CommandError: something is not available, or the Secret does not appear.
    """
    try:
        wanted = ClusterKind(flags.cluster)
    except ValueError as error:
        raise CommandError(f"--cluster {flags.cluster}: choose {', '.join(ClusterKind)}") from error
    if wanted is ClusterKind.NODE:
        require_node(flags)
    elif flags.images is not None:
        raise CommandError(f"--images is for --cluster node; with --cluster {wanted} nothing runs in a container")
    status: int | None = None
    screen = Screen(Console(highlight=False))

    async def main() -> None:
        nonlocal status
        if wanted is ClusterKind.NODE:
            status = await run_in_node(flags, screen)
            return
        with memory_folder() as folder:
            await _run(flags, wanted, folder, screen)
        status = 0

    with as_command_errors():
        run_until_signalled(main, on_signal=lambda: screen.say("stopping …"))
    if flags.exit_after_sync and status is None:
        raise CommandError("interrupted before the demo Secret was there")
    if status:
        sys.exit(status)


async def _run(flags: RunAllFlags, wanted: ClusterKind, folder: Path, screen: Screen) -> None:
    async with AsyncExitStack() as stack:
        kind = await choose(wanted)
        needed = [Tool.SOPS, *([Tool.ETCD, Tool.KUBE_APISERVER] if kind is ClusterKind.EMBEDDED else [])]
        settings = tool_settings(sops=flags.sops, etcd=flags.etcd, kube_apiserver=flags.kube_apiserver)
        with screen.step("tools", spinner=False) as done:
            tools = await resolve_tools(needed, settings, screen.console)
            done(", ".join(f"{each.tool.value} {each.version}" for each in tools.values()))
        sops = tools[Tool.SOPS].path
        with screen.step("cluster") as done:
            cluster = await stack.enter_async_context(
                open_cluster(
                    kind,
                    folder,
                    etcd=tools[Tool.ETCD].path if Tool.ETCD in tools else None,
                    kube_apiserver=tools[Tool.KUBE_APISERVER].path if Tool.KUBE_APISERVER in tools else None,
                    report=screen.say,
                )
            )
            kubernetes = await stack.enter_async_context(
                open_kubernetes(KubernetesSettings(kubeconfig=cluster.kubeconfig, environment=dict(os.environ)))
            )
            done(cluster.description)
        with screen.step("CustomResourceDefinition") as done:
            await apply(kubernetes, crd())
            done("decryptors.jiemi.cr")
        demo = await make_demo(stack, screen, folder, sops=sops)
        await start_processes(
            stack,
            screen,
            folder=folder,
            kubeconfig=cluster.kubeconfig,
            sops=sops,
            interval_seconds=flags.interval_seconds,
        )
        await follow(screen, kubernetes, demo, timeout_seconds=flags.timeout_seconds)
        if flags.exit_after_sync:
            return
        await stay(screen, kubernetes, demo, kubeconfig=cluster.kubeconfig, end=cluster.end)
