"""The part of `jiemi run-all --cluster node` that runs in the node's namespaces, where it is the first process.

It is started by `jiemi.cli.run_all.node`, with what it needs as JSON. It gets no network but its own: all tools and
images are there.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import cattrs
import click
import trio
from rich.console import Console

from jiemi.cli.errors import shown_to_user
from jiemi.cli.logs import quiet_logs
from jiemi.cli.run_all.faults import as_command_errors
from jiemi.cli.run_all.follow import follow, make_demo, stay
from jiemi.cli.run_all.node import ENTER, Inside
from jiemi.cli.run_all.pods import NAMESPACE, install, until_ready
from jiemi.cli.run_all.screen import Screen
from jiemi.cli.running import run_until_signalled
from jiemi.controlplane.node.arguments import NODE_ADDRESS, NODE_NAME
from jiemi.controlplane.node.node import NodeSettings, open_node
from jiemi.controlplane.pins import Tool
from jiemi.demo.pod_logs import follow_pod_logs
from jiemi.miwen.kubernetes.connection import KubernetesSettings
from jiemi.miwen.kubernetes.real import open_kubernetes


def main() -> None:
    """Run what the first argument says; ends with an exit status for a shell."""
    quiet_logs()
    inside = cattrs.structure(json.loads(sys.argv[1]), Inside)
    done = False
    screen = Screen(Console(highlight=False))

    async def run() -> None:
        nonlocal done
        await _run(inside, screen)
        done = True

    try:
        with shown_to_user(), as_command_errors():
            run_until_signalled(run)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    if inside.exit_after_sync and not done:
        sys.exit(1)


async def _run(inside: Inside, screen: Screen) -> None:
    memory, disk = Path(inside.memory), Path(inside.disk)
    programs = {tool: Path(inside.programs[tool.value]) for tool in Tool}
    settings = NodeSettings(
        root=disk / "node",
        memory=memory / "node",
        programs=programs,
        images=[Path(image) for image in inside.images],
        control_group=inside.control_group,
    )
    async with AsyncExitStack() as stack:
        with screen.step("node") as done:
            node = await stack.enter_async_context(open_node(settings))
            kubernetes = await stack.enter_async_context(
                open_kubernetes(KubernetesSettings(kubeconfig=node.kubeconfig, environment=dict(os.environ)))
            )
            done(f"{NODE_NAME} at {NODE_ADDRESS}, in a network of its own")
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        with screen.step("deploy/") as done:
            done(f"{await install(kubernetes, disk / 'volumes')} objects")
        nursery.start_soon(follow_pod_logs, node.pod_logs, NAMESPACE, screen.log)
        with screen.step("Pods") as done:
            done(f"{await until_ready(kubernetes)} are ready")
        demo = await make_demo(stack, screen, memory, sops=programs[Tool.SOPS], host=NODE_ADDRESS)
        await follow(
            screen,
            kubernetes,
            demo,
            timeout_seconds=inside.timeout_seconds,
            interval_seconds=inside.interval_seconds,
        )
        if inside.exit_after_sync:
            return
        await stay(
            screen,
            kubernetes,
            demo,
            kubeconfig=node.kubeconfig,
            end="Ctrl-C ends everything and leaves nothing behind.",
            enter=[str(memory / ENTER)],
        )


if __name__ == "__main__":
    main()
