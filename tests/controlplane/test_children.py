"""Children end with us: cancelled, timed out, killed with what they started, or orphaned by a SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from support.processes.ended import is_ended

import jiemi
from jiemi.controlplane import children

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


async def until(condition: Callable[[], object], *, seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  # another process can set no trio.Event
            await trio.sleep(0.02)


async def test_a_child_gets_exactly_the_environment_given_and_its_output_comes_back(tmp_path: Path) -> None:
    lines: list[str] = []
    finished = await children.run(
        ["/usr/bin/env"],
        environment={"A": "1", "B": "x y"},
        timeout_seconds=20,
        directory=tmp_path,
        on_line=lines.append,
    )
    assert finished.status == 0
    assert {line for line in lines if not line.startswith("LC_CTYPE=")} == {"A=1", "B=x y"}


async def test_only_the_last_lines_are_kept_and_long_ones_are_cut(tmp_path: Path) -> None:
    finished = await children.run(
        ["/bin/sh", "-c", "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; printf '%10000d' 7; exit 3"],
        environment=ENVIRONMENT,
        timeout_seconds=20,
    )
    assert finished.status == 3
    assert len(finished.lines) == children.KEPT_LINES
    assert finished.lines[-2] == "line 99"
    assert len(finished.lines[-1]) <= children.LINE_LIMIT_BYTES


async def test_a_program_that_is_not_there_is_an_error_of_the_child(tmp_path: Path) -> None:
    finished = await children.run([tmp_path / "absent"], environment=ENVIRONMENT, timeout_seconds=20)
    assert finished.status != 0
    assert "No such file" in finished.lines[-1]


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_a_child_and_what_it_started_are_killed(how: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    # The grandchild would hold the output pipe open for an hour.
    command = ["/bin/sh", "-c", f"trap '' TERM; sleep 3600 & echo $$ $! > {pids}; wait"]

    async def run_it() -> None:
        await children.run(command, environment=ENVIRONMENT, timeout_seconds=1 if how == "timeout" else 3600)

    with trio.fail_after(20):
        if how == "timeout":
            with pytest.raises(TimeoutError, match="within 1 s"):
                await run_it()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_it)
                await until(lambda: pids.exists() and pids.read_text().strip())
                nursery.cancel_scope.cancel()
    for pid in map(int, pids.read_text().split()):
        await until(partial(is_ended, pid))


async def test_one_that_inherited_the_output_does_not_keep_us_waiting(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with trio.fail_after(20):
        finished = await children.run(
            ["/bin/sh", "-c", f"sleep 3600 & echo $! > {pid_file}"], environment=ENVIRONMENT, timeout_seconds=3600
        )
    assert finished.status == 0
    await until(lambda: is_ended(int(pid_file.read_text())))


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    reading, writing = os.pipe()
    child = children.spawn(
        ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
        environment=ENVIRONMENT,
        output=writing,
    )
    os.close(writing)
    async with trio.lowlevel.FdStream(reading) as stream:
        with trio.fail_after(20):
            assert await stream.receive_some() == b"ready\n"
            await child.end(grace_seconds=0.2)
            assert await child.wait() == -signal.SIGKILL


async def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import trio
from jiemi.controlplane import children
def say(line): print(line, flush=True)
command = ["/bin/sh", "-c", "echo $$; exec sleep 3600"]
trio.run(lambda: children.run(command, environment={ENVIRONMENT!r}, timeout_seconds=3600, on_line=say))
"""
    with subprocess.Popen(  # noqa: ASYNC220  # it returns at once
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(jiemi.__file__).parents[1])},
    ) as parent:
        assert parent.stdout is not None
        pid = int(await trio.to_thread.run_sync(parent.stdout.readline))
        assert not is_ended(pid)
        parent.kill()
    await until(lambda: is_ended(pid))
