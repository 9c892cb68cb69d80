"""`jiemi run-all --cluster node`: everything as Pods, on a real kubelet that runs on this machine.

    here:                                 tools, images -> folders -> a process in namespaces of its own
    there (jiemi.cli.run_all.inside):     node -> deploy/ -> demo repository -> Decryptor -> wait for the Secret -> stay

What is made there ends with that process. What is left then, control groups and the two folders, is removed here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import cattrs
import trio

import jiemi
from jiemi.cli.command_flags import RunAllFlags
from jiemi.cli.errors import CommandError
from jiemi.cli.run_all.folder import disk_folder, memory_folder
from jiemi.cli.run_all.pods import deploy_folder
from jiemi.cli.run_all.screen import Screen
from jiemi.cli.tools import resolve_tools, tool_settings
from jiemi.controlplane import children
from jiemi.controlplane.node import control_groups, images, isolation
from jiemi.controlplane.node.control_groups import ControlGroupError
from jiemi.controlplane.node.images import ImageError, Images, ImageSettings
from jiemi.controlplane.node.node import FIXED_FOLDERS
from jiemi.controlplane.node.sandbox import write_sandbox_image
from jiemi.controlplane.pins import NODE_TOOLS, TOOLS, Tool
from jiemi.controlplane.processes import ControlPlaneError
from jiemi.controlplane.tools import Origin, Resolved

_END_SECONDS = 40.0
"""For the node to end its processes in order."""
ENTER = "enter"


@attrs.frozen
class Inside:
    """What the process in the node's namespaces needs.

    Attributes:
        programs: where each tool is, by its name.
        images: archives of all images.
        memory: folder in memory, for keys, the demo and the node's state.
        disk: folder on a real file system.
        control_group: name of the control group for Pods.
        interval_seconds, timeout_seconds, exit_after_sync: as the user's flags have them.
    """

    programs: dict[str, str]
    images: list[str]
    memory: str
    disk: str
    control_group: str
    interval_seconds: float
    timeout_seconds: float
    exit_after_sync: bool


def require_node(flags: RunAllFlags) -> None:
    """Check that a node can run here.

    Raises:
        CommandError: it can't; the text says what is missing.
    """
    if flags.images is not None:
        absent = Images.of_folder(flags.images).missing()
        if absent:
            raise CommandError(f"--images {flags.images}: there is no {' and no '.join(each.name for each in absent)}")
    packages = [*isolation.DEBIAN_PACKAGES]
    missing = isolation.missing_requirements()
    if flags.images is None:
        packages += images.DEBIAN_PACKAGES
        programs = images.missing_programs()
        missing += [f"the program {each}, which builds the images (--images takes built ones)" for each in programs]
    if missing:
        raise CommandError(
            f"--cluster node: Pods can't be run here: this machine lacks {'; '.join(missing)}.\n"
            f"On Debian or Ubuntu, as root: apt-get install --no-install-recommends {' '.join(packages)}"
        )


async def run_in_node(flags: RunAllFlags, screen: Screen) -> int:
    """Run it all until the user ends it, or, with --exit-after-sync, until the demo Secret is there.

    Returns:
        The exit status; where it is not 0, what is wrong has been said.

    Raises:
        CommandError: something that it needs can't be had.
    """
    settings = tool_settings(sops=flags.sops, etcd=flags.etcd, kube_apiserver=flags.kube_apiserver)
    with screen.step("tools", spinner=False) as done:
        tools = await resolve_tools([*TOOLS, *NODE_TOOLS], settings, screen.console)
        done(f"sops {tools[Tool.SOPS].version}, Kubernetes {tools[Tool.KUBELET].version}")
    with screen.step("images") as done:
        archives = await _images(flags, tools, settings.cache_dir / "images", screen)
        done(f"jiemi/krapao, jiemi/miwen {jiemi.__version__}")
    with _control_group(screen) as control_group, memory_folder() as memory, disk_folder() as disk:
        sandbox = disk / "sandbox.tar"
        try:
            await write_sandbox_image(sandbox)
        except ControlPlaneError as error:
            raise CommandError(f"--cluster node: {error}") from error
        inside = Inside(
            programs={tool.value: str(each.path) for tool, each in tools.items()},
            images=[str(each) for each in (archives.krapao, archives.miwen, sandbox)],
            memory=str(memory),
            disk=str(disk),
            control_group=control_group,
            interval_seconds=flags.interval_seconds,
            timeout_seconds=flags.timeout_seconds,
            exit_after_sync=flags.exit_after_sync,
        )
        return await _run_inside(inside, screen)


async def _images(flags: RunAllFlags, tools: Mapping[Tool, Resolved], cache: Path, screen: Screen) -> Images:
    """The images that the user gave, or those of this clone.

    Raises:
        CommandError: they can't be built.
    """
    if flags.images is not None:
        return Images.of_folder(flags.images.absolute())
    source = deploy_folder().parent
    if not (source / "pyproject.toml").is_file():
        raise CommandError("--cluster node builds images from a clone of Jiemi's repository; or give --images FOLDER")
    sops = tools[Tool.SOPS]
    # A program of this machine's own may need libraries that the image does not have.
    own = sops.origin in (Origin.GIVEN, Origin.PATH)
    settings = ImageSettings(source, jiemi.__version__, base=flags.python_image, sops=None if own else sops.path)
    try:
        return await images.images_of_clone(settings, cache, screen.say)
    except ImageError as error:
        raise CommandError(
            f"the images can't be built: {error}\n--python-image names another base, --images takes built ones"
        ) from error


async def _run_inside(inside: Inside, screen: Screen) -> int:
    command = [sys.executable, "-m", "jiemi.cli.run_all.inside", json.dumps(cattrs.unstructure(inside))]
    with isolation.removed_folders(FIXED_FOLDERS):
        child = children.spawn(isolation.isolated(command), environment=dict(os.environ), output=sys.stdout.fileno())
        try:
            _write_enter(Path(inside.memory) / ENTER, child.pid)
            status = await child.wait()
        finally:
            with trio.CancelScope(shield=True):
                await _end(child)
    return status


@contextlib.contextmanager
def _control_group(screen: Screen) -> Iterator[str]:
    try:
        with control_groups.held(os.getpid()) as (name, left):
            yield name
    except ControlGroupError as error:
        raise CommandError(f"--cluster node: {error}") from error
    if left:
        screen.failed(f"these control groups are left: {', '.join(map(str, left))}")


def _write_enter(to: Path, pid: int) -> None:
    """A program that runs another where the node's network is. Files are the same everywhere."""
    nsenter = shutil.which("nsenter", path=isolation.SEARCH_PATH) or "nsenter"
    to.write_text(f'#!/bin/sh\nexec {shlex.quote(nsenter)} --target {pid} --net -- "$@"\n')
    to.chmod(0o700)


async def _end(child: children.Child) -> None:
    """Let the process inside end what it runs, in order. The kernel ends what is left there, before that process is
    gone for the one that waits for it here."""
    for each in (signal.SIGTERM, signal.SIGKILL):
        for first in _processes_of(child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, each)
        with trio.move_on_after(_END_SECONDS):
            await child.wait()
            break
    await child.kill()


def _processes_of(pid: int) -> list[int]:
    """The children of a process (proc_pid_task(5))."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []  # it has ended
