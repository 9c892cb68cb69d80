"""A cluster of one node: a control plane with its controllers, and what runs Pods.

All of it runs in namespaces of its own (`isolation`), so it is opened by a process that was started there.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import attrs
import trio

from jiemi.controlplane import children
from jiemi.controlplane.arguments import kubeconfig
from jiemi.controlplane.control_plane import ControlPlane, ControlPlaneSettings, open_control_plane
from jiemi.controlplane.controller_manager import ControllerManagerSettings
from jiemi.controlplane.node import arguments as node_arguments
from jiemi.controlplane.node.arguments import NODE_ADDRESS, NODE_DEVICE, NodePaths
from jiemi.controlplane.node.isolation import SEARCH_PATH, cni_folder, is_isolated
from jiemi.controlplane.pins import Tool
from jiemi.controlplane.private_files import make_private_directory, write_private
from jiemi.controlplane.processes import ControlPlaneError, running

_COMMAND_SECONDS = 30.0
_IMPORT_SECONDS = 300.0
_SOCKET_SECONDS = 60.0
_POLL_SECONDS = 0.1
FIXED_FOLDERS = ("/run", "/var/lib/cni", "/var/lib/kubelet")
"""Where kubelet, containerd and the plugins keep things whatever they are asked for."""


@attrs.frozen
class NodeSettings:
    """How to run a node.

    Attributes:
        root: folder for what it keeps; on a real file system, not a tmpfs, because containers' layers are there.
        memory: folder on tmpfs for its keys, the kubeconfig and etcd's data.
        programs: where each of its tools is.
        images: archives with the images that its Pods may have, the sandbox's among them. Nothing is pulled.
        control_group: name of the control group for its Pods, which is there (`control_groups.held`).
        audit_log: file for the API server's audit log, or None for none.
        audit_policy: its policy file (audit.k8s.io/v1 Policy); needed where `audit_log` is given.
    """

    root: Path
    memory: Path
    programs: Mapping[Tool, Path]
    images: Sequence[Path]
    control_group: str
    audit_log: Path | None = None
    audit_policy: Path | None = None


@attrs.frozen
class Node:
    """A node that is starting: its Pods run once it is Ready.

    Attributes:
        control_plane: its API.
        kubeconfig: for the administrator, by an address that Pods reach too.
        pod_logs: folder of what containers write.
        pids: of its processes, by name.
    """

    control_plane: ControlPlane
    kubeconfig: Path
    pod_logs: Path
    pids: Mapping[str, int]


@contextlib.asynccontextmanager
async def open_node(settings: NodeSettings) -> AsyncIterator[Node]:
    """Run a cluster of one node for as long as the context lasts.

    Raises:
        ControlPlaneError: it can't start, or one of its processes ended by itself, then or later.
    """
    if not is_isolated():
        raise ControlPlaneError("a node needs a network of its own: start this process by `isolation.isolated`")
    paths, programs = NodePaths(settings.root, settings.memory), settings.programs
    for folder in (paths.root, paths.memory):
        make_private_directory(folder)
    for folder in (paths.logs, paths.cni):
        make_private_directory(folder)
    await _make_private_folders()
    await _make_network()
    control_plane_settings = ControlPlaneSettings(
        state_dir=paths.control_plane,
        etcd=programs[Tool.ETCD],
        kube_apiserver=programs[Tool.KUBE_APISERVER],
        node_address=NODE_ADDRESS,
        controllers=ControllerManagerSettings(
            programs[Tool.KUBE_CONTROLLER_MANAGER],
            # A Pod that was killed is to be replaced within seconds, as in a cluster that does not rest.
            extra_arguments=("--node-monitor-period=2s",),
        ),
        audit_log=settings.audit_log,
        audit_policy=settings.audit_policy,
    )
    async with open_control_plane(control_plane_settings) as control_plane:
        _write_files(paths, settings, control_plane)
        environment = {"PATH": SEARCH_PATH}
        containerd: dict[str, list[str | Path]] = {
            "containerd": [_program("containerd"), f"--config={paths.containerd_config}"]
        }
        async with running(containerd, paths.logs, environment=environment) as first:
            await _until_it_listens(paths.containerd_socket)
            for image in settings.images:
                await _import(paths, image)
            async with running(_commands(paths, programs), paths.logs, environment=environment) as others:
                pids = {**control_plane.pids, **first, **others}
                yield Node(control_plane, paths.kubeconfig, paths.pod_logs, pids)


def _commands(paths: NodePaths, programs: Mapping[Tool, Path]) -> dict[str, list[str | Path]]:
    of = node_arguments
    arguments: dict[Tool, Sequence[str]] = {
        Tool.COREDNS: ("-conf", str(paths.corefile)),
        Tool.KUBE_SCHEDULER: of.scheduler_arguments(paths),
        Tool.KUBE_PROXY: (f"--config={paths.proxy_config}",),
        Tool.KUBELET: of.kubelet_arguments(paths),
    }
    return {tool.value: [programs[tool], *given] for tool, given in arguments.items()}


def _write_files(paths: NodePaths, settings: NodeSettings, control_plane: ControlPlane) -> None:
    plugins = cni_folder()
    if plugins is None:
        raise ControlPlaneError("the plugins of the Pods' network are not on this machine")
    pki, port = control_plane.pki, control_plane.server.rpartition(":")[2]
    authority, admin = pki.authority.certificate.read_bytes(), pki.admin
    server = f"https://{NODE_ADDRESS}:{port}"
    write_private(
        paths.kubeconfig, kubeconfig(server, authority, admin.certificate.read_bytes(), admin.key.read_bytes())
    )
    write_private(paths.containerd_config, node_arguments.containerd_toml(paths, plugins).encode())
    write_private(paths.cni / "10-pods.conflist", node_arguments.cni_json().encode())
    kubelet = node_arguments.kubelet_json(paths, control_plane, f"/{settings.control_group}")
    write_private(paths.kubelet_config, kubelet.encode())
    write_private(paths.proxy_config, node_arguments.proxy_json(paths).encode())
    write_private(paths.corefile, node_arguments.corefile(paths).encode())


async def _make_private_folders() -> None:
    """What kubelet, containerd and the network's plugins keep where it can't be set is seen by nobody else, and ends
    with this process's mounts."""
    for folder in FIXED_FOLDERS:
        await trio.Path(folder).mkdir(parents=True, exist_ok=True)
        await _do("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder)
    # Volumes are shared with Pods.
    await _do("mount", "--make-rshared", "/")


async def _make_network() -> None:
    """The node's own address, in a network where it is alone."""
    await _do("ip", "link", "set", "lo", "up")
    await _do("ip", "link", "add", NODE_DEVICE, "type", "bridge")
    await _do("ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", NODE_DEVICE)
    await _do("ip", "link", "set", NODE_DEVICE, "up")
    # A way to everywhere, so that what is sent is refused by nobody's absence and not for want of a way.
    await _do("ip", "route", "add", "default", "dev", NODE_DEVICE)
    _forward_packets()


def _forward_packets() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


async def _import(paths: NodePaths, image: Path) -> None:
    await _do(
        *("ctr", f"--address={paths.containerd_socket}", "--namespace=k8s.io", "images", "import", str(image)),
        seconds=_IMPORT_SECONDS,
    )


async def _until_it_listens(path: Path) -> None:
    try:
        with trio.fail_after(_SOCKET_SECONDS):
            while True:
                with contextlib.suppress(OSError):
                    stream = await trio.open_unix_socket(path)
                    await stream.aclose()
                    return
                await trio.sleep(_POLL_SECONDS)
    except trio.TooSlowError as error:
        raise ControlPlaneError(f"containerd did not listen within {_SOCKET_SECONDS:g} s") from error


async def _do(name: str, *arguments: str, seconds: float = _COMMAND_SECONDS) -> None:
    """Run a command of this machine.

    Raises:
        ControlPlaneError: it can't be run, took too long or failed.
    """
    shown = " ".join((name, *arguments[:3]))
    try:
        finished = await children.run(
            [_program(name), *arguments], environment={"PATH": SEARCH_PATH}, timeout_seconds=seconds
        )
    except OSError as error:
        raise ControlPlaneError(f"{shown}: {error}") from error
    if finished.status != 0:
        last = "".join(f"\n  {line}" for line in finished.lines[-5:])
        raise ControlPlaneError(f"{shown} ended with status {finished.status}{last}")


def _program(name: str) -> Path:
    for folder in SEARCH_PATH.split(":"):
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise ControlPlaneError(f"there is no program {name} on this machine")
