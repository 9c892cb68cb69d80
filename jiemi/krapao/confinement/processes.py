"""Runs one program to its end, and leaves nothing of it whatever happens.

The program gets a session of its own, so that all it starts can be ended by one signal. Its limits are set from
outside (prlimit(2)) before it gets its input, so no code of ours runs between fork and exec. It ends by itself, by
its deadline or by a cancellation; then its group is killed and every orphan of its session is reaped. What it
prints is bounded: standard output is a pipe that is read to a limit, standard error a file in memory
(memfd_create(2)), which nobody waits for. A grandchild that keeps standard output open holds nobody up, because its
group is killed before the rest of the output is read; and output is whole, or there is an error.

Each is confined (`jiemi.krapao.confinement.spawn`).

Orphans come to us because `adopt_orphans` makes this process their reaper (in a container it is process 1 anyway).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import attrs
import trio

from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.judged_connects import Decide, answer_connects
from jiemi.krapao.confinement.spawn import Command, MeasureFailed, Streams, spawn

_PR_SET_CHILD_SUBREAPER = 36
"""prctl(2), from linux/prctl.h."""

_MAX_STDERR_BYTES = 16 * 1024
_MAX_FILE_BYTES = 16 * 1024 * 1024
_MAX_OPEN_FILES = 256
_ADDRESS_SPACE_BYTES = 4 * 1024 * 1024 * 1024
_OOM_SCORE = 900
"""Of proc_pid_oom_score_adj(5): where memory ends all the same, a program of ours goes before Krapao does."""

_KILL_SECONDS = 5
_LOOK_AGAIN_SECONDS = 0.01
_TRY_AGAIN = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


@attrs.frozen(kw_only=True)
class Limits:
    """What one run may take.

    Attributes:
        seconds: from its start to its end.
        cpu_seconds: processor time; None for no bound.
        memory_bytes: what it may write to and shares with nobody (RLIMIT_DATA of setrlimit(2)). Its address space, of
            which Go reserves far more than it uses, is bounded too, by a fixed and larger number.
        output_bytes: standard output.
    """

    seconds: float
    cpu_seconds: int | None
    memory_bytes: int
    output_bytes: int


@attrs.frozen
class Finished:
    """How a program ended. Both outputs may hold secrets: neither is for a log or a message.

    Attributes:
        returncode: negative where a signal ended it.
        stderr: its beginning.
    """

    returncode: int
    stdout: bytes = attrs.field(repr=False)
    stderr: bytes = attrs.field(repr=False)


def adopt_orphans() -> None:
    """Make this process the parent of its orphaned descendants, so that it can reap them. Linux only; lasts."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Program:
    """A program that runs: its standard streams, where they are pipes, and its end."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        stdin: trio.lowlevel.FdStream | None,
        stdout: trio.lowlevel.FdStream | None,
        listener: int | None = None,
    ) -> None:
        self._popen = popen
        self._listener = listener
        self.pid = popen.pid
        self.stdin = stdin
        self.stdout = stdout

    @property
    def returncode(self) -> int | None:
        """How it ended; negative where a signal ended it; None while it runs."""
        return self._popen.poll()

    async def answer_connects(self, decide: Decide) -> None:
        """Judge its connections until its end, where they are to be judged and can be. Has no deadline but its end."""
        if self._listener is not None:
            await answer_connects(self._listener, decide)

    def close_listener(self) -> None:
        """Judge no longer: what it still connects to fails."""
        if self._listener is not None:
            os.close(self._listener)
            self._listener = None

    async def wait(self) -> int:
        """Wait for its end and reap it. Has no deadline but the caller's.

        Never by a wait that blocks: a descriptor of a process can look ready though that runs on. One that was waited
        for and closed stays with epoll for as long as a fork in another thread still has it open, and its number is
        the next one's then.
        """
        while (status := self._popen.poll()) is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
            if self._popen.poll() is None:
                await trio.sleep(_LOOK_AGAIN_SECONDS)
        return status


async def run_program(
    command: Command,
    *,
    stdin: bytes,
    limits: Limits,
    what: str,
    missing: str,
    on_started: Callable[[int], None] | None = None,
) -> Finished:
    """Run a program to its end.

    Args:
        stdin: its standard input.
        what: names the work in messages.
        missing: the reason for which it fails where there is no such program, or it can't be run.
        on_started: called with the process's id, before it gets its input.

    Raises:
        JiemiError: Timeout; LimitExceeded: the output's bound; InternalError: no process can be made now; `missing`.
    """
    stderr = os.memfd_create("stderr", os.MFD_CLOEXEC)
    try:
        async with _started(command, stderr=stderr, limits=limits, missing=missing) as process:
            if on_started is not None:
                on_started(process.pid)
            output = _Output(limits.output_bytes)
            with trio.move_on_after(limits.seconds) as deadline:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_feed, process.stdin, stdin)
                    nursery.start_soon(output.read, process.stdout)
                    with trio.CancelScope() as waiting:
                        output.on_too_much = waiting.cancel
                        await process.wait()
                    _kill_group(process.pid)
                    await output.ended.wait()
                    nursery.cancel_scope.cancel()
            if output.too_much:
                raise JiemiError(
                    "LimitExceeded", f"{what} gave more than Krapao's limit of {limits.output_bytes} bytes"
                )
            if deadline.cancelled_caught or process.returncode is None:
                raise JiemiError("Timeout", f"{what} took longer than Krapao's limit of {limits.seconds:g} s")
            return Finished(process.returncode, output.value(), os.pread(stderr, _MAX_STDERR_BYTES, 0))
    finally:
        os.close(stderr)


@contextlib.asynccontextmanager
async def running(command: Command, *, limits: Limits, missing: str) -> AsyncIterator[Program]:
    """A helper without input or output; when the context ends, all that is left of its session is killed and reaped.

    Args:
        limits: those of its memory; of time it has none.

    Raises:
        JiemiError: as `run_program`, where it can't be started.
    """
    limits = attrs.evolve(limits, cpu_seconds=None)
    async with _started(command, stderr=None, limits=limits, missing=missing) as process:
        yield process


@contextlib.asynccontextmanager
async def _started(command: Command, *, stderr: int | None, limits: Limits, missing: str) -> AsyncIterator[Program]:
    """The program while it runs. With a descriptor for its standard error it has pipes for the other two streams."""
    try:
        process = await (_spawn_quiet(command) if stderr is None else _spawn_with_pipes(command, stderr))
    except MeasureFailed as error:
        raise JiemiError("InternalError", f"Krapao can't confine a process now, as it could before: {error}") from error
    except OSError as error:
        reason = "InternalError" if error.errno in _TRY_AGAIN else missing
        raise JiemiError(reason, f"Krapao can't run {Path(command.argv[0]).name}: {error.strerror}") from error
    try:
        _limit(process.pid, limits)
        yield process
    finally:
        await _end(process)


async def _spawn_quiet(command: Command) -> Program:
    """Start a program without input and output."""
    with contextlib.ExitStack() as ours:
        listeners: list[int] = []
        popen = await spawn(command, Streams(), take_listener=_keeping(listeners, ours))
        ours.pop_all()  # it is the program's from now on
    return Program(popen, None, None, *listeners)


async def _spawn_with_pipes(command: Command, stderr: int) -> Program:
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as childs:
        listeners: list[int] = []
        stdin, to_child = os.pipe()
        childs.callback(os.close, stdin)
        ours.callback(os.close, to_child)
        from_child, stdout = os.pipe()
        childs.callback(os.close, stdout)
        ours.callback(os.close, from_child)
        streams = Streams(stdin=stdin, stdout=stdout, stderr=stderr)
        popen = await spawn(command, streams, take_listener=_keeping(listeners, ours))
        ours.pop_all()  # they are the streams' from now on
    return Program(popen, trio.lowlevel.FdStream(to_child), trio.lowlevel.FdStream(from_child), *listeners)


def _keeping(listeners: list[int], owner: contextlib.ExitStack) -> Callable[[int], None]:
    """Takes the descriptor on which the kernel asks about connections; the owner closes it."""

    def take(descriptor: int) -> None:
        listeners.append(descriptor)
        owner.callback(os.close, descriptor)

    return take


def _limit(pid: int, limits: Limits) -> None:
    """Set the limits of a process. One that has just ended needs none."""
    with contextlib.suppress(ProcessLookupError):
        _set_limits(pid, limits)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(_OOM_SCORE))


def _set_limits(pid: int, limits: Limits) -> None:
    # The hard limit of this one stays: gpg sets the pair (0, hard) itself when it starts, and gives up if it may not.
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, resource.prlimit(pid, resource.RLIMIT_CORE)[1]))
    for what, value in (
        *(((resource.RLIMIT_CPU, limits.cpu_seconds),) if limits.cpu_seconds is not None else ()),
        (resource.RLIMIT_AS, _ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, _MAX_FILE_BYTES),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
    ):
        hard = resource.prlimit(pid, what)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.prlimit(pid, what, (bound, bound))


def _nothing() -> None:
    pass


class _Output:
    """Standard output, up to a bound."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self.ended = trio.Event()
        self.too_much = False
        self.on_too_much: Callable[[], None] = _nothing

    async def read(self, stream: trio.abc.ReceiveStream | None) -> None:
        if stream is None:
            return
        async for chunk in stream:
            self._size += len(chunk)
            if self._size > self._limit:
                self.too_much = True
                self.on_too_much()
                break  # what is still to come is not read: the program is killed
            self._chunks.append(bytes(chunk))
        self.ended.set()

    def value(self) -> bytes:
        return b"".join(self._chunks)


async def _feed(stream: trio.abc.SendStream | None, data: bytes) -> None:
    if stream is None:
        return
    async with stream:
        with contextlib.suppress(trio.BrokenResourceError):  # it stopped reading; its exit status says why
            await stream.send_all(data)


async def _end(process: Program) -> None:
    """Kill what is left of the program's session, and reap it."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _KILL_SECONDS):  # SIGKILL is not refused
        left = _kill_group(process.pid)
        process.close_listener()
        await process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                await trio.aclose_forcefully(stream)
        while left and not _reap_session(process.pid):  # noqa: ASYNC110 - nothing reports it
            await trio.sleep(0.005)


def _kill_group(pid: int) -> bool:
    """Whether there was anything left to kill."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _reap_session(session: int) -> bool:
    """Reap the orphans of a session that came to us; whether none of the session is left."""
    alone = True
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            stat = Path(entry.path, "stat").read_bytes()
        except OSError:
            continue
        # proc_pid_stat(5): the name is in parentheses and may hold anything; then state, parent, group, session
        fields = stat[stat.rindex(b")") + 2 :].split()
        if int(fields[3]) != session:
            continue
        if int(fields[1]) == os.getpid():
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(int(entry.name), os.WNOHANG)[0] != 0:
                    continue
        alone = False
    return alone
