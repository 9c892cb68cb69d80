"""`jiemi run-all`: everything on this machine, from nothing to a Secret that follows a git repository.

Each step is a context that the next one stands in, so that Ctrl-C at any moment ends them in the reverse order:

    tools -> cluster -> CRD -> demo repository -> Krapao -> Miwen -> Decryptor -> wait for the Secret -> stay
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from jiemi.cli.command_flags import RunAllFlags
from jiemi.cli.errors import CommandError
from jiemi.cli.run_all.clusters import ClusterKind, choose, open_cluster
from jiemi.cli.run_all.folder import runtime_folder
from jiemi.cli.run_all.objects import apply, demo_decryptor, key_secret, until_synced
from jiemi.cli.run_all.processes import start_processes
from jiemi.cli.run_all.screen import Screen
from jiemi.cli.run_all.what_next import make_commands, print_what_next, show_pushes
from jiemi.cli.running import run_until_signalled
from jiemi.cli.tools import resolve_tools, tool_settings
from jiemi.controlplane.pins import Tool
from jiemi.core.api.crd import crd
from jiemi.demo.content import NAME, NAMESPACE, DemoError, make_age_key, make_repository
from jiemi.demo.git_server import serve_git
from jiemi.demo.services import ServiceEnded
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
    done = False
    screen = Screen(Console(highlight=False))

    async def main() -> None:
        nonlocal done
        with runtime_folder() as folder:
            await _run(flags, wanted, folder, screen)
        done = True

    with _as_command_errors():
        run_until_signalled(main, on_signal=lambda: screen.say("stopping …"))
    if flags.exit_after_sync and not done:
        raise CommandError("interrupted before the demo Secret was there")


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
        with screen.step("demo repository") as done:
            key = make_age_key(folder / "age-key.txt")
            root = folder / "repositories"
            root.mkdir()
            server = await stack.enter_async_context(serve_git(root))
            repository = await make_repository(server, folder, key, sops=sops)
            done(f"{repository.url}, for {key.recipient[:12]}…")
        await start_processes(
            stack,
            screen,
            folder=folder,
            kubeconfig=cluster.kubeconfig,
            sops=sops,
            interval_seconds=flags.interval_seconds,
        )
        with screen.step("Decryptor") as done:
            await apply(kubernetes, key_secret(key))
            await apply(kubernetes, demo_decryptor(repository))
            done(f"{NAMESPACE}/{NAME}")
        with screen.step("Secret") as done:
            await until_synced(kubernetes, flags.timeout_seconds, screen)
            done(f"{NAMESPACE}/{NAME} holds what the repository says")
        if flags.exit_after_sync:
            return
        commands = make_commands(
            folder, kubeconfig=cluster.kubeconfig, age_key=key.file, clone=repository.clone, sops=sops
        )
        print_what_next(screen.console, commands, cluster.end)
        await show_pushes(kubernetes, repository, screen)


@contextmanager
def _as_command_errors() -> Iterator[None]:
    """Turn errors that the user can correct into CommandErrors."""
    try:
        yield
    except* (DemoError, ServiceEnded, FileNotFoundError) as group:
        raise CommandError("\n".join(str(error) for error in _leaves(group))) from None


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
