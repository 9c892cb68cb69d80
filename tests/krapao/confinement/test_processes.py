"""Running a program leaves nothing of it, whatever it does."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest
import trio

from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.processes import Finished, Limits, adopt_orphans, run_program, running
from jiemi.krapao.confinement.spawn import Command, Confinement, Measures, Sandbox

LIMITS = Limits(seconds=10, cpu_seconds=5, memory_bytes=2**30, output_bytes=1_000_000)


OPEN = Sandbox(Confinement(network=True, read_execute=()), Measures())
"""No confinement: it has tests of its own."""


async def shell(script: str, tmp_path: Path, *, stdin: bytes = b"", limits: Limits = LIMITS) -> Finished:
    adopt_orphans()
    env = {"PATH": "/usr/bin:/bin"}
    argv = ["/bin/sh", "-c", script]
    command = Command(argv, env=env, cwd=tmp_path, sandbox=OPEN)
    return await run_program(command, stdin=stdin, limits=limits, what="it", missing="SopsMissing")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_input_output_and_status_come_through_and_are_not_printed(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    finished = await shell("cat; echo SECRET >&2; exit 3", tmp_path, stdin=data)
    assert (finished.returncode, finished.stdout, finished.stderr) == (3, data, b"SECRET\n")
    assert "SECRET" not in repr(finished)
    assert repr(finished) == "Finished(returncode=3)"


async def test_a_program_that_reads_nothing_is_no_failure(tmp_path: Path) -> None:
    assert (await shell("exit 0", tmp_path, stdin=b"x" * 500_000)).returncode == 0


async def test_a_grandchild_that_keeps_the_output_open_holds_nobody_up_and_is_ended(tmp_path: Path) -> None:
    began = trio.current_time()
    finished = await shell("sleep 100 & echo $!", tmp_path)
    assert trio.current_time() - began < 5
    assert not alive(int(finished.stdout))


async def test_the_environment_is_the_given_one_and_the_session_its_own(tmp_path: Path) -> None:
    os.environ["JIEMI_TEST_AMBIENT"] = "x"
    try:
        finished = await shell("env; ulimit -c; ps -o sid= -p $$; echo $$", tmp_path)
    finally:
        del os.environ["JIEMI_TEST_AMBIENT"]
    *env, core, session, pid = finished.stdout.decode().split("\n")[:-1]
    assert not any(line.startswith("JIEMI") for line in env)
    assert core == "0"
    assert session.strip() == pid


@pytest.mark.parametrize("script", ["while :; do :; done", "sleep 100 & sleep 100"])
async def test_the_deadline_and_a_cancellation_end_all_of_it(tmp_path: Path, script: str) -> None:
    with pytest.raises(JiemiError, match=r"longer than Krapao's limit of 0\.2 s"):
        await shell(f"echo $$ > pid; {script}", tmp_path, limits=attrs.evolve(LIMITS, seconds=0.2))
    assert not alive(int((tmp_path / "pid").read_text()))
    with trio.move_on_after(0.2) as scope:
        await shell(f"echo $$ > pid; {script}", tmp_path)
    assert scope.cancelled_caught
    assert not alive(int((tmp_path / "pid").read_text()))


async def test_too_much_output_or_processor_time_ends_it(tmp_path: Path) -> None:
    with pytest.raises(JiemiError, match="more than Krapao's limit of 1000 bytes"):
        await shell("yes", tmp_path, limits=attrs.evolve(LIMITS, output_bytes=1_000))
    finished = await shell("while :; do :; done", tmp_path, limits=attrs.evolve(LIMITS, cpu_seconds=1))
    assert finished.returncode < 0
    command = Command(["/nonexistent"], env={}, cwd=tmp_path, sandbox=OPEN)
    with pytest.raises(JiemiError, match="GpgMissing: Krapao can't run nonexistent: No such file"):
        await run_program(command, stdin=b"", limits=LIMITS, what="it", missing="GpgMissing")


async def test_waiting_for_a_program_never_stops_the_others_though_its_descriptor_looks_ready_too_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As epoll shows a number of a process that was waited for before, while a fork elsewhere still has it open.
    looked, ticks = 0, 0

    async def ready_at_once(descriptor: int) -> None:
        nonlocal looked
        looked += 1
        await trio.lowlevel.checkpoint()

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.sleep(0.01)
            ticks += 1

    monkeypatch.setattr(trio.lowlevel, "wait_readable", ready_at_once)
    adopt_orphans()
    command = Command(["/bin/sleep", "0.3"], env={}, cwd=tmp_path, sandbox=OPEN)
    async with (
        running(command, limits=LIMITS, missing="SopsMissing") as program,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(tick)
        assert await program.wait() == 0
        nursery.cancel_scope.cancel()
    assert looked > 1
    assert ticks > 3
