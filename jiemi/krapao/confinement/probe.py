"""Finds out which measures of confinement a platform lets us have, by trying them on a child.

A kernel's version or configuration tells little: a container's own filter, a missing capability or a kernel's boot
options decide as well. So a child is started with all that may be there. What can't be applied is left out, then the
child says which effects it feels, what has none is left out too, and that goes on until a child feels all that is left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs
import trio

from jiemi.krapao.confinement import kernel
from jiemi.krapao.confinement.judged_connects import answer_connects
from jiemi.krapao.confinement.spawn import (
    LIBRARIES,
    LOADERS,
    MEASURES,
    Command,
    Confinement,
    MeasureFailed,
    Measures,
    Sandbox,
    Streams,
    spawn,
)

_TRIAL_SECONDS = 30
_TRY_AGAIN = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT})

_TRIAL = r"""
import ctypes, os, socket, sys
inside, outside, parent, network = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)

def refused(act, *arguments):
    try:
        act(*arguments)
    except PermissionError:
        return True
    return False

def no_new_privileges():
    lines = open("/proc/self/status").read().splitlines()
    return {"NoNewPrivs:\t1", "CapEff:\t" + 16 * "0", "CapPrm:\t" + 16 * "0"} <= set(lines)

def seccomp():
    socket.socket(socket.AF_UNIX).close()
    traced = libc.ptrace(0, 0, 0, 0)
    return traced == -1 and all(refused(socket.socket, each) for each in (socket.AF_INET, socket.AF_NETLINK))

def landlock():
    open(os.path.join(inside, "file"), "w").close()
    return (
        refused(open, outside)
        and refused(open, outside + ".new", "w")
        and refused(os.listdir, "/")
        and refused(open, "/proc/" + parent + "/environ")
    )

def network_namespace():
    return os.readlink("/proc/self/ns/net") != network

def connects():
    try:
        socket.socket(socket.AF_UNIX).connect("judged")
    except OSError as error:
        return error.errno == 18
    return False

def setpriv():
    signal = ctypes.c_int()
    return libc.prctl(2, ctypes.byref(signal)) == 0 and signal.value == 9

for fact in (no_new_privileges, seccomp, landlock, network_namespace, connects, setpriv):
    try:
        print(fact.__name__ if fact() else "", flush=True)
    except OSError:
        pass
"""
"""Tells which measures it feels, by their names in `Measures`. 2 is PR_GET_PDEATHSIG, 9 SIGKILL, 0 PTRACE_TRACEME,
18 EXDEV, with which nothing but `_judge` answers."""


async def probe(*, folder: Path, programs_path: str) -> Measures:
    """Find out by trying what this platform lets us have. Takes a Python's start, and once more for what is missing.

    Args:
        folder: where a folder for the trial can be made.
        programs_path: where setpriv is looked for.

    Raises:
        OSError: it can't be tried now.
    """
    found = shutil.which("setpriv", path=os.pathsep.join(filter(os.path.isabs, programs_path.split(os.pathsep))))
    abi = kernel.landlock_abi()
    measures = Measures(
        no_new_privileges=sys.platform == "linux",
        seccomp=kernel.has_filters(),
        landlock=abi,
        network_namespace=sys.platform == "linux",
        connects=kernel.has_filters(),
        setpriv=Path(found) if found else None,
    )
    lost = {name: "no such program" if name == "setpriv" else "not in this kernel" for name in MEASURES}
    lost = {name: cause for name, cause in lost.items() if not getattr(measures, name)}
    while True:
        failed = await _try(measures, folder)
        if not failed:
            return attrs.evolve(measures, missing=tuple((name, lost[name]) for name in MEASURES if name in lost))
        lost |= failed
        measures = attrs.evolve(measures, **{name: getattr(Measures(), name) for name in failed})


async def _try(measures: Measures, folder: Path) -> dict[str, str]:
    """Try all of them in one child; which of them failed, and why."""
    wanted = [name for name in MEASURES if getattr(measures, name)]
    if not wanted:
        return {}
    with tempfile.TemporaryDirectory(prefix="confinement-", dir=folder) as trial:
        try:
            facts = await _facts(measures, Path(trial))
        except OSError as error:
            if error.errno in _TRY_AGAIN:
                raise
            if isinstance(error, MeasureFailed):
                return {error.measure: os.strerror(error.errno or errno.EPERM)}
            facts = set()
    if not facts:
        return await _find_culprit(measures, wanted, folder)
    return {name: "it has no effect" for name in wanted if name not in facts}


async def _find_culprit(measures: Measures, wanted: list[str], folder: Path) -> dict[str, str]:
    """With which of them the child does not run at all: each is tried alone."""
    if len(wanted) > 2:
        for name in wanted[1:]:
            alone = attrs.evolve(Measures(), **{each: getattr(measures, each) for each in (wanted[0], name)})
            failed = await _try(alone, folder)
            if failed:
                return failed
    return {wanted[-1]: "a program confined by it does not run"}


async def _facts(measures: Measures, trial: Path) -> set[str]:
    """What a child says that holds for it; nothing where it did not even start."""
    argv, confinement = _prepare(trial)
    output = os.memfd_create("facts")
    listeners: list[int] = []
    try:
        command = Command(argv, env={"LC_ALL": "C"}, cwd=trial, sandbox=Sandbox(confinement, measures))
        process = await spawn(command, Streams(stdout=output), take_listener=listeners.append)
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(_answer, listener)
            in_time = await _ended(process)
            nursery.cancel_scope.cancel()
        if not in_time:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return set(os.pread(output, 1000, 0).decode("ascii", "replace").split())
    finally:
        for descriptor in (output, *listeners):
            os.close(descriptor)


async def _answer(listener: int) -> None:
    with contextlib.suppress(OSError):  # the child feels no effect then
        await answer_connects(listener, _judge)


def _judge(raw: bytes) -> int:
    return errno.EXDEV if b"judged" in raw else 0


def _prepare(trial: Path) -> tuple[list[str], Confinement]:
    outside, inside = trial / "outside", trial / "inside"
    outside.write_bytes(b"x")
    inside.mkdir()
    python = Path(sys.executable).resolve()
    homes = {Path(each).resolve() for each in (sys.base_prefix, sys.base_exec_prefix)}
    network = Path("/proc/self/ns/net").readlink()
    argv = [str(python), "-I", "-S", "-c", _TRIAL, *map(str, (inside, outside, os.getpid(), network))]
    return argv, Confinement(
        network=False,
        judged_connects=True,
        read_execute=(python, *homes, *LOADERS),
        read=(*LIBRARIES, Path("/proc")),
        write=(inside,),
    )


async def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Wait for its end, and reap it whatever happens. Returns whether it ended in time."""
    try:
        descriptor = os.pidfd_open(process.pid)
        try:
            with trio.move_on_after(_TRIAL_SECONDS) as deadline:
                await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        return not deadline.cancelled_caught
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so it is still its own
        process.wait()
