"""Starts a program confined, so that hostile input to it does no harm.

What Linux offers for this holds for a thread and is inherited by what the thread starts: no_new_privs, capabilities,
seccomp's filter, Landlock's domain, the network namespace. So each program gets a fresh thread, which confines itself
and then starts it; no code of ours runs between fork and exec, and no helper program is needed. That thread can do
nothing else any more, and stays until the program has ended, for one thing only: the signal that a program asks for at
its parent's death comes when the *thread* that started it ends (PR_SET_PDEATHSIG of prctl(2)). The program has to ask
for it by itself; `setpriv --pdeathsig` of util-linux, where there is one, does so in its place. So a killed Krapao
leaves no program behind, except those that their parents left (gpg-agent).

Which of these measures a platform lets us have is found out by trying (`probe`); a start makes use of exactly
those, or fails. What none of them covers: sockets of unix(7) that have a path can be connected to wherever file
permissions allow it, where `unix_sockets` is set (Landlock governs that since ABI 9 only); and before Landlock's ABI 6,
signals can be sent to processes of the same user.

Between its confinement and the start the thread runs a few lines of Python, and with bad luck the garbage collector,
which may then run a finalizer of somebody else's that can't reach a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs
import trio

from jiemi.krapao.confinement import kernel

LIBRARIES = tuple(map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")))
"""What a dynamically linked program reads at its start, for `Confinement.read`."""

LOADERS = tuple(
    map(
        Path,
        (
            "/lib64/ld-linux-x86-64.so.2",
            "/lib/ld-linux-aarch64.so.1",
            "/lib/ld-musl-x86_64.so.1",
            "/lib/ld-musl-aarch64.so.1",
        ),
    )
)
"""What the kernel runs to start such a program, for `Confinement.read_execute`."""


@attrs.frozen(kw_only=True)
class Confinement:
    """What a program may do. A path that does not exist is left out.

    Attributes:
        network: TCP and UDP.
        judged_connects: whether the starter is asked about each connection
        (`jiemi.krapao.confinement.judged_connects`).
        unix_sockets: making and using sockets of unix(7), which gpg and a key service on a socket need.
        read_execute: files and folders, the program's own included; beneath folders all may be read, listed and run.
        read: files and folders that may be read and listed.
        write: folders beneath which everything may be done with files, folders and sockets, except to run them; but
            modes, owners and times can be changed by descriptor only.
    """

    network: bool
    judged_connects: bool = False
    unix_sockets: bool = True
    read_execute: tuple[Path, ...]
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()


@attrs.frozen(kw_only=True)
class Measures:
    """What this platform lets us have.

    Attributes:
        no_new_privileges: programs gain no rights by their files, and have no capability, even where root starts them.
        seccomp: no system calls into other processes, mounts, namespaces and the like; no sockets but the allowed.
        landlock: its ABI, 0 where there is none: no files but the allowed, no look into other processes; since ABI 6
            also no signals to them.
        connects: the starter judges each connection of a program that has network (Linux 5.5).
        network_namespace: one of its own for each program without network.
        setpriv: that program, where it can make another end with its parent.
        missing: name and cause of those that are not to be had.
    """

    no_new_privileges: bool = False
    seccomp: bool = False
    landlock: int = 0
    network_namespace: bool = False
    connects: bool = False
    setpriv: Path | None = None
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def cut_network(self) -> bool:
        """Whether a program without `network` has none."""
        return self.seccomp or self.network_namespace

    def describe(self) -> str:
        """One line for people."""
        landlock = f"Landlock (ABI {self.landlock})"
        if self.landlock < 6:
            landlock += " without a bound to signals"
        having = [MEASURES[each] if each != "landlock" else landlock for each in MEASURES if getattr(self, each)]
        lacking = [f"{MEASURES[name]} ({cause})" for name, cause in self.missing]
        return ", ".join(having or ["nothing"]) + (f"; not to be had: {', '.join(lacking)}" if lacking else "")


MEASURES = {
    "no_new_privileges": "no new privileges",
    "seccomp": "seccomp",
    "network_namespace": "a network namespace",
    "landlock": "Landlock",
    "connects": "a check of each connection",
    "setpriv": "an end with Krapao's own",
}
"""Each field of `Measures` that is one, in words."""


class MeasureFailed(OSError):
    """A measure that was promised can't be applied now, so nothing was started.

    Attributes:
        measure: its name in `Measures`.
    """

    def __init__(self, measure: str, number: int, text: str) -> None:
        super().__init__(number, f"{MEASURES[measure]}: {text}")
        self.measure = measure


@attrs.frozen
class Sandbox:
    """How a program is confined: what it may do, and what this platform has to hold it to that."""

    confinement: Confinement
    measures: Measures


@attrs.frozen
class Command:
    """A program that is to be started, confined.

    Attributes:
        argv: its absolute path and its arguments, none of them secret.
        env: all of its environment.
        cwd: the folder that it runs in.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = attrs.field(repr=False, kw_only=True)
    cwd: Path = attrs.field(kw_only=True)
    sandbox: Sandbox = attrs.field(kw_only=True)


@attrs.frozen(kw_only=True)
class Streams:
    """The standard streams of a program, each a descriptor or one of subprocess's constants."""

    stdin: int = subprocess.DEVNULL
    stdout: int = subprocess.DEVNULL
    stderr: int = subprocess.DEVNULL


async def spawn(
    command: Command, streams: Streams, *, take_listener: Callable[[int], None] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; it is the caller's to end and to reap. Not cancelled once it began.

    Where `measures` has a setpriv, the program is a moment later in the process that is returned. What keeps it from
    being run is mostly noticed before; the exit status, 126 or 127, reports what is not.

    Args:
        take_listener: where connections are judged, and can be: called in another thread, before this returns, with the
            descriptor on which the kernel asks. It is the caller's, also where this raises.

    Raises:
        OSError: as Popen; MeasureFailed.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    launch = partial(_launch, command, streams, take_listener)
    results: list[subprocess.Popen[bytes] | BaseException] = []
    wake = partial(
        trio.lowlevel.current_trio_token().run_sync_soon, trio.lowlevel.reschedule, trio.lowlevel.current_task()
    )
    thread = threading.Thread(
        target=_keep, args=(launch, results.append, wake), name=f"confined {Path(command.argv[0]).name}", daemon=True
    )
    try:
        thread.start()
    except RuntimeError as error:
        raise BlockingIOError(errno.EAGAIN, "no thread can be started now") from error
    await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
    result = results.pop()
    if isinstance(result, BaseException):
        raise result
    return result


def _keep(
    launch: Callable[[], subprocess.Popen[bytes]],
    report: Callable[[subprocess.Popen[bytes] | BaseException], None],
    wake: Callable[[], None],
) -> None:
    """The thread: start the program, report it, stay until it has ended. Its reaper may be quicker than this is."""
    pid = None
    try:
        process = launch()
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        report(error)
    else:
        pid = process.pid
        report(process)
        del process
    try:
        wake()
    except trio.RunFinishedError:  # trio itself broke
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    if pid is not None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _launch(command: Command, streams: Streams, take_listener: Callable[[int], None] | None) -> subprocess.Popen[bytes]:
    argv, confinement, measures = command.argv, command.sandbox.confinement, command.sandbox.measures
    read_execute, read = confinement.read_execute, confinement.read
    prefix: list[str] = []
    if measures.setpriv is not None:
        if not os.access(argv[0], os.X_OK):
            number = errno.EACCES if Path(argv[0]).exists() else errno.ENOENT
            raise OSError(number, os.strerror(number), argv[0])  # of the subclass for that number
        prefix = [str(measures.setpriv), "--pdeathsig", "KILL", "--"]
        read_execute = (*read_execute, measures.setpriv, *LOADERS)
        read = (*read, *LIBRARIES)
    steps: list[tuple[str, Callable[[], None]]] = []
    if measures.network_namespace and not confinement.network:
        steps.append(("network_namespace", kernel.leave_network))
    if measures.no_new_privileges:  # seccomp and Landlock require it
        steps.append(("no_new_privileges", kernel.gain_no_privileges))
    if measures.connects and confinement.judged_connects and take_listener is not None:
        steps.append(("connects", lambda: take_listener(kernel.ask_about_connects())))
    if measures.landlock:
        restrict = partial(kernel.restrict_files, read_execute=read_execute, read=read, write=confinement.write)
        steps.append(("landlock", partial(restrict, measures.landlock, network=confinement.network)))
    if measures.seccomp:
        filter_calls = partial(kernel.filter_calls, unix_sockets=confinement.unix_sockets)
        steps.append(("seccomp", partial(filter_calls, network=confinement.network)))
    for measure, apply in steps:
        try:
            apply()
        except OSError as error:
            raise MeasureFailed(measure, error.errno or errno.EPERM, error.strerror or "") from error
    return subprocess.Popen(
        [*prefix, *argv],
        env=dict(command.env),
        cwd=command.cwd,
        stdin=streams.stdin,
        stdout=streams.stdout,
        stderr=streams.stderr,
        start_new_session=True,
    )
