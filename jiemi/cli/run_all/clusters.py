"""Which cluster `jiemi run-all` uses, and where it comes from."""

from __future__ import annotations

import enum
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from jiemi.cli.errors import CommandError
from jiemi.cli.kubeconfigs import find_kubeconfig
from jiemi.controlplane import children
from jiemi.controlplane.control_plane import ControlPlaneSettings, open_control_plane
from jiemi.controlplane.processes import ControlPlaneError

KIND_NAME = "jiemi"
_DOCKER_TIMEOUT_SECONDS = 10.0
_KIND_TIMEOUT_SECONDS = 300.0


class ClusterKind(enum.StrEnum):
    AUTO = "auto"
    KIND = "kind"
    CURRENT = "current"
    EMBEDDED = "embedded"
    NODE = "node"


@attrs.frozen
class Cluster:
    """A cluster that can be used now.

    Attributes:
        kubeconfig: how to reach it.
        description: the cluster in a few words, for the user.
        end: a sentence for the user about what Ctrl-C does.
    """

    kubeconfig: Path
    description: str
    end: str = "Ctrl-C ends everything and leaves nothing behind."


async def choose(kind: ClusterKind) -> ClusterKind:
    """The kind of cluster to use: for `auto`, kind if Docker runs and kind is installed, otherwise embedded.

    Raises:
        CommandError: the one that was asked for is not available.
    """
    if kind is ClusterKind.AUTO:
        return ClusterKind.KIND if shutil.which("kind") and await _docker_works() else ClusterKind.EMBEDDED
    if kind is ClusterKind.CURRENT:
        _current()
    if kind is ClusterKind.KIND:
        if shutil.which("kind") is None:
            raise CommandError("--cluster kind: there is no `kind` on the PATH; install it, or use --cluster embedded")
        if not await _docker_works():
            raise CommandError("--cluster kind: no Docker engine answers; start Docker, or use --cluster embedded")
    return kind


async def _docker_works() -> bool:
    """Whether Docker has an engine: the client alone is not enough."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        done = await children.run(
            [docker, "info", "--format", "{{.ServerVersion}}"],
            environment=dict(os.environ),
            timeout_seconds=_DOCKER_TIMEOUT_SECONDS,
        )
    except (OSError, TimeoutError):
        return False
    return done.status == 0


@asynccontextmanager
async def open_cluster(
    kind: ClusterKind, folder: Path, *, etcd: Path | None, kube_apiserver: Path | None, report: Callable[[str], None]
) -> AsyncIterator[Cluster]:
    """A cluster for as long as the context lasts. What is made here ends with it; the current context's stays.

    Args:
        kind: as `choose` gave it.
        folder: on tmpfs, for state and kubeconfig.
        etcd, kube_apiserver: the programs, for EMBEDDED.
        report: called with each step that begins.

    Raises:
        CommandError: it is not available.
    """
    if kind is ClusterKind.CURRENT:
        yield _current()
    elif kind is ClusterKind.KIND:
        async with _kind(folder / "kubeconfig", report) as cluster:
            yield cluster
    else:
        if etcd is None or kube_apiserver is None:
            raise ValueError("the embedded control plane needs its programs")
        try:
            async with open_control_plane(ControlPlaneSettings(folder / "cluster", etcd, kube_apiserver)) as running:
                yield Cluster(running.kubeconfig, f"embedded control plane at {running.server}")
        except ControlPlaneError as error:
            raise CommandError(str(error)) from error


def _current() -> Cluster:
    given = os.environ.get("KUBECONFIG")
    kubeconfig = find_kubeconfig(Path(given) if given else None)
    if kubeconfig is None or not kubeconfig.is_file():
        raise CommandError(f"--cluster current: there is no kubeconfig {kubeconfig or '~/.kube/config'}")
    return Cluster(
        kubeconfig,
        f"the current context of {kubeconfig}",
        "Ctrl-C ends everything here. In the cluster the CRD stays, and in the namespace default what "
        "`kubectl delete decryptor/demo secret/demo secret/demo-age-key configmap/demo-settings` removes.",
    )


@asynccontextmanager
async def _kind(kubeconfig: Path, report: Callable[[str], None]) -> AsyncIterator[Cluster]:
    kind = shutil.which("kind") or "kind"

    async def run(*arguments: str) -> tuple[str, ...]:
        done = await children.run(
            [kind, *arguments], environment=dict(os.environ), timeout_seconds=_KIND_TIMEOUT_SECONDS, on_line=report
        )
        if done.status != 0:
            raise CommandError(f"kind {arguments[0]} {arguments[1]} failed:\n" + "\n".join(done.lines))
        return done.lines

    existed = KIND_NAME in await run("get", "clusters")
    try:
        if existed:
            await run("export", "kubeconfig", "--name", KIND_NAME, "--kubeconfig", str(kubeconfig))
        else:
            await run("create", "cluster", "--name", KIND_NAME, "--kubeconfig", str(kubeconfig), "--wait", "120s")
        yield Cluster(kubeconfig, f"kind cluster {KIND_NAME}")
    finally:
        if not existed:
            with trio.CancelScope(shield=True), trio.move_on_after(60):
                await run("delete", "cluster", "--name", KIND_NAME)
