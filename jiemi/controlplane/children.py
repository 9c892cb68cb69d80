"""Child processes that can't outlive us.

Each child leads a session and process group of its own, so that a Ctrl-C in the terminal reaches only us (we end the
children in order) and so that what it started can be killed with it. On Linux the kernel kills it when we are killed
(`PR_SET_PDEATHSIG`). That signal is sent when the *thread* that started the child ends, and trio.run_process starts
children on worker threads, which end when idle; so children are started here on the calling thread, which must be the
one that runs trio. A few lines of Python ask for the signal and then become the program: a preexec_fn would run Python
between fork and exec, which may deadlock beside threads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import attrs
import trio

KEPT_LINES = 30
"""How many of a child's last lines of output are kept, for an error that quotes them."""

LINE_LIMIT_BYTES = 4_096
KILLED_SECONDS = 10.0
"""How long the kernel may take to end a process after SIGKILL; longer means it hangs in a device."""

_POLL_SECONDS = 0.05

# argv: our pid, the program, its arguments. The parent may have ended before prctl(2), which would then send no signal.
# Python ignores SIGPIPE, and exec would hand that on.
_BECOME = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


class Child:
    """A running child process. `wait` may be called by several tasks; one of them must call `kill` or `end`.

    When it has ended, by itself or not, what it started and left running is killed. That happens before its end is
    collected (waitpid): until then no other process group can have its number.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid

    async def wait(self) -> int:
        """Wait for its end; returns its exit status, or the negative number of the signal that ended it."""
        while self._is_running():
            await self._wait_for_end()
        if self._popen.returncode is None:
            self._kill_group()
            self._popen.wait()
        return self._popen.returncode

    async def kill(self) -> None:
        """Kill it and whatever it started with SIGKILL, and wait for its end. It can't be cancelled."""
        with trio.CancelScope(shield=True), trio.move_on_after(KILLED_SECONDS):
            if self._popen.returncode is None:
                self._kill_group()
            await self.wait()

    async def end(self, *, grace_seconds: float) -> None:
        """Ask it to end with SIGTERM and wait; kill it after the grace. It can't be cancelled."""
        with trio.CancelScope(shield=True):
            if self._is_running():
                os.kill(self.pid, signal.SIGTERM)
                with trio.move_on_after(grace_seconds):
                    await self.wait()
            await self.kill()

    def _is_running(self) -> bool:
        """Whether it has not ended. Its exit status stays to be collected."""
        if self._popen.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def _kill_group(self) -> None:
        # macOS says PermissionError where only ended processes are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _wait_for_end(self) -> None:
        if sys.platform != "linux":
            await trio.sleep(_POLL_SECONDS)
            return
        # One descriptor for each wait: trio lets a single task wait for one.
        handle = os.pidfd_open(self.pid)
        try:
            await trio.lowlevel.wait_readable(handle)
        finally:
            os.close(handle)


def spawn(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    output: int | IO[Any],
    directory: Path | None = None,
) -> Child:
    """Start a child. The caller owns it: it must call `kill` or `end`.

    Args:
        command: the program's absolute path and its arguments.
        environment: all of the child's environment.
        output: descriptor for its standard output and error; the caller closes its own copy.
        directory: where it runs.

    Raises:
        OSError: no process could be made.
    """
    return Child(
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *map(str, command)],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            start_new_session=True,
        )
    )


@attrs.frozen
class Finished:
    """A child's end: its exit status and the last lines that it wrote."""

    status: int
    lines: tuple[str, ...]


async def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    timeout_seconds: float,
    directory: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Run a child to its end. When this is cancelled or fails, the child and all that it started are killed.

    Args:
        command: the program's absolute path and its arguments.
        environment: all of the child's environment.
        timeout_seconds: limit after which the child is killed.
        directory: where it runs.
        on_line: called with each line of its output and error as it comes.

    Raises:
        TimeoutError: it did not end in time.
        OSError: no process could be made.
    """
    lines: deque[str] = deque(maxlen=KEPT_LINES)

    def keep(line: str) -> None:
        lines.append(line)
        if on_line is not None:
            on_line(line)

    reading, writing = os.pipe()
    try:
        child = spawn(command, environment=environment, output=writing, directory=directory)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        async with trio.lowlevel.FdStream(reading) as stream:
            with trio.fail_after(timeout_seconds):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read_lines, stream, keep)
                    status = await child.wait()
                    # What inherited the pipe and lives on would keep the reader waiting.
                    nursery.cancel_scope.deadline = trio.current_time() + 1
    except trio.TooSlowError as error:
        raise TimeoutError(f"{Path(command[0]).name} did not end within {timeout_seconds:g} s") from error
    finally:
        await child.kill()
    return Finished(status, tuple(lines))


async def read_lines(stream: trio.lowlevel.FdStream, keep: Callable[[str], None]) -> None:
    rest = b""
    async for chunk in stream:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            keep(_text(line))
        rest = rest[:LINE_LIMIT_BYTES]
    if rest:
        keep(_text(rest))


def _text(line: bytes) -> str:
    text = line[:LINE_LIMIT_BYTES].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else " " for char in text).rstrip()
