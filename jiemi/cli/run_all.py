"""`jiemi run-all`: everything on this machine, from nothing to a Secret that follows a git repository.

Each step is a context that the next one stands in, so that Ctrl-C at any moment ends them in the reverse order:

    tools -> cluster -> CRD -> demo repository -> Krapao -> Miwen -> Decryptor -> wait for the Secret -> stay
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import trio
from rich.console import Console
from ruamel.yaml import YAML

from jiemi.cli.clusters import ClusterKind, choose, open_cluster
from jiemi.cli.command_flags import RunAllFlags
from jiemi.cli.errors import CommandError
from jiemi.cli.running import run_until_signalled
from jiemi.cli.screen import Screen
from jiemi.cli.tools import resolve_tools, tool_settings
from jiemi.cli.what_next import make_commands, print_what_next, show_pushes
from jiemi.controlplane.pins import Tool
from jiemi.core.api.crd import crd
from jiemi.core.api.decryptor import read_decryptor
from jiemi.core.errors import JiemiError
from jiemi.core.reasons import REASONS
from jiemi.demo.content import (
    EXPECTED,
    KEY_NAME,
    KEY_SECRET,
    NAME,
    NAMESPACE,
    AgeKeyPair,
    DemoError,
    DemoRepository,
    demo_file,
    make_age_key,
    make_repository,
)
from jiemi.demo.git_server import serve_git
from jiemi.demo.services import ServiceEnded, running_service
from jiemi.miwen.kubernetes.connection import KubernetesSettings
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes
from jiemi.miwen.kubernetes.real import open_kubernetes

_FOLDER = "jiemi-run-"
_POLL_SECONDS = 0.1
_SERVED_TIMEOUT_SECONDS = 30.0


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
        with _runtime_folder() as folder:
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
            await _apply(kubernetes, crd())
            done("decryptors.jiemi.cr")
        with screen.step("demo repository") as done:
            key = make_age_key(folder / "age-key.txt")
            root = folder / "repositories"
            root.mkdir()
            server = await stack.enter_async_context(serve_git(root))
            repository = await make_repository(server, folder, key, sops=sops)
            done(f"{repository.url}, for {key.recipient[:12]}…")
        with screen.step("Krapao") as done:
            address = f"unix:{folder}/krapao.sock"
            await stack.enter_async_context(
                running_service(
                    "krapao",
                    _arguments(
                        "krapao",
                        listen=address,
                        state_dir=folder / "clones",
                        runtime_dir=folder,
                        sops=sops,
                        allow_address="127.0.0.0/8",  # where the demo's git server is
                        log_format="json",
                    ),
                    environment=dict(os.environ),
                    on_line=screen.log,
                )
            )
            await _until_served(folder / "krapao.sock")
            done("serves on a unix socket")
        with screen.step("Miwen") as done:
            await stack.enter_async_context(
                running_service(
                    "miwen",
                    _arguments(
                        "miwen",
                        krapao=address,
                        kubeconfig=cluster.kubeconfig,
                        interval=f"{flags.interval_seconds:f}s",
                        log_format="json",
                    ),
                    environment=dict(os.environ),
                    on_line=screen.log,
                )
            )
            done(f"looks every {flags.interval_seconds:g} s")
        with screen.step("Decryptor") as done:
            await _apply(kubernetes, _key_secret(key))
            await _apply(kubernetes, _decryptor(repository))
            done(f"{NAMESPACE}/{NAME}")
        with screen.step("Secret") as done:
            await _until_synced(kubernetes, flags.timeout_seconds, screen)
            done(f"{NAMESPACE}/{NAME} holds what the repository says")
        if flags.exit_after_sync:
            return
        commands = make_commands(
            folder, kubeconfig=cluster.kubeconfig, age_key=key.file, clone=repository.clone, sops=sops
        )
        print_what_next(screen.console, commands, cluster.end)
        await show_pushes(kubernetes, repository, screen)


def _arguments(command: str, **options: object) -> list[str]:
    """A command line: `_arguments("krapao", state_dir=x)` is krapao --state-dir x."""
    return [command, *(part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value)))]


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


@contextmanager
def _runtime_folder() -> Iterator[Path]:
    """A folder on tmpfs where there is one: it holds the demo's key, the cluster's state and the socket."""
    memory = Path("/dev/shm")  # noqa: S108 - a tmpfs is wanted
    parent = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of runs that were killed: they hold a key, and no process has the number in their name."""
    for folder in parent.glob(f"{_FOLDER}*-*"):
        pid = folder.name.removeprefix(_FOLDER).partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdecimal() and folder.stat().st_uid == os.getuid() and not _lives(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


async def _apply(kubernetes: Kubernetes, manifest: JsonObject) -> None:
    """Apply the manifest, waiting until its kind is served: a new definition takes a moment."""
    with trio.move_on_after(_SERVED_TIMEOUT_SECONDS):
        while True:
            with contextlib.suppress(_NotYet):
                await _try_apply(kubernetes, manifest)
                return
            await trio.sleep(_POLL_SECONDS)
    await kubernetes.objects(None).apply(manifest, default_namespace=NAMESPACE)


class _NotYet(Exception):
    pass


async def _try_apply(kubernetes: Kubernetes, manifest: JsonObject) -> None:
    try:
        await kubernetes.objects(None).apply(manifest, default_namespace=NAMESPACE)
    except JiemiError as error:
        if error.failure.reason in ("KindUnknown", "NamespaceNotFound", "ClusterUnavailable"):
            raise _NotYet(str(error)) from error
        raise


def _key_secret(key: AgeKeyPair) -> JsonObject:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": KEY_SECRET, "namespace": NAMESPACE},
        "stringData": {KEY_NAME: key.identity.reveal()},
    }


def _decryptor(repository: DemoRepository) -> JsonObject:
    text = demo_file("decryptor.yaml").replace("REPOSITORY_URL", repository.url)
    manifest: JsonObject = YAML(typ="safe").load(io.StringIO(text))
    return manifest


async def _until_served(socket: Path) -> None:
    with trio.move_on_after(_SERVED_TIMEOUT_SECONDS):
        while not await trio.Path(socket).exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(_POLL_SECONDS)
        return
    raise CommandError(f"Krapao did not serve within {_SERVED_TIMEOUT_SECONDS:g} s; its log is above")


async def _until_synced(kubernetes: Kubernetes, timeout_seconds: float, screen: Screen) -> None:
    said = ""
    with trio.move_on_after(timeout_seconds):
        while True:
            if await _secret_values(kubernetes) == EXPECTED:
                return
            async for trouble in _troubles(kubernetes):
                if trouble != said:
                    screen.say(trouble)
                    said = trouble
            await trio.sleep(_POLL_SECONDS)
    raise CommandError(f"the Secret {NAMESPACE}/{NAME} did not appear within {timeout_seconds:g} s. {said}")


async def _secret_values(kubernetes: Kubernetes) -> dict[str, str] | None:
    try:
        secret = await kubernetes.get_secret(NAMESPACE, NAME)
    except JiemiError as error:
        if error.failure.reason in ("SecretNotFound", "ClusterUnavailable"):
            return None
        raise
    return {name: base64.b64decode(value).decode() for name, value in (secret.get("data") or {}).items()}


async def _troubles(kubernetes: Kubernetes) -> AsyncIterator[str]:
    """What is wrong with the demo's Decryptor, as its conditions say it."""
    try:
        page = await kubernetes.list_decryptors(limit=100, continue_token=None)
    except JiemiError as error:
        yield str(error)
        return
    for obj in page.items:
        decryptor = read_decryptor(obj)
        if decryptor.meta.key != (NAMESPACE, NAME) or decryptor.status is None:
            continue
        for condition in decryptor.status.conditions:
            if condition.status != "True" and condition.reason in REASONS:
                yield f"{condition.reason}: {condition.message}"
