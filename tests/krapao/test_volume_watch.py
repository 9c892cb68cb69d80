"""A Krapao whose volume fails is not ready, so that others serve its repositories, until the volume works again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import structlog
import trio
from rpc.rpc_helpers import until

from jiemi.krapao.volume_watch import LOCK, watch_volume
from jiemi.metrics.health import Health, Readiness

EVERY = 0.02

ON_A_DISK_THAT_FAILS = """
import json, subprocess, sys
from pathlib import Path
import trio
from jiemi.krapao.volume_watch import LOCK, watch_volume
from jiemi.metrics.health import Health

state = Path(sys.argv[1])

def mount(options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(state)], check=True)

mount("rw,size=64k")
(state / LOCK).touch()
health, seen = Health(), []
health.ready()

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: watch_volume(state, health, every_seconds=0.02))
        for options in ("remount,ro", "remount,rw", "full", "remount,ro", "remount,rw"):
            if options == "full":
                try:
                    (state / "much").write_bytes(bytes(10 ** 6))
                except OSError:
                    pass
            else:
                mount(options)
            await trio.sleep(0.3)
            seen.append(health.readiness.value)
        nursery.cancel_scope.cancel()

trio.run(main)
print(json.dumps(seen))
"""


def ready() -> Health:
    health = Health()
    health.ready()
    return health


def test_one_that_becomes_read_only_and_writable_again_and_full(tmp_path: Path) -> None:
    argv = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        sys.executable,
        "-c",
        ON_A_DISK_THAT_FAILS,
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(argv, env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout.decode().splitlines()[-1]) == ["unusable", "ready", "ready", "unusable", "ready"]


async def test_one_that_hangs_counts_as_failed_until_it_goes_on_and_does_not_keep_the_end_waiting(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / LOCK)  # opening it for writing waits until somebody reads
    health = ready()
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: watch_volume(tmp_path, health, every_seconds=EVERY, patience_seconds=0.1))
            await until(lambda: health.readiness is Readiness.UNUSABLE)
            await trio.sleep(0.5)
            (tmp_path / LOCK).rename(tmp_path / "hung")
            (tmp_path / LOCK).touch()
            reader = os.open(tmp_path / "hung", os.O_RDONLY | os.O_NONBLOCK)
            await until(lambda: health.readiness is Readiness.READY)
            os.close(reader)
            nursery.cancel_scope.cancel()
    assert [line["event"] for line in logs] == ["volume_failed", "volume_works_again"]
    assert logs[0]["why"] == "a write takes longer than 0.1 s"


async def test_one_whose_files_somebody_deleted_is_not_failed(tmp_path: Path) -> None:
    health = ready()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: watch_volume(tmp_path / "gone", health, every_seconds=EVERY))
        await trio.sleep(0.2)
        assert health.readiness is Readiness.READY
        nursery.cancel_scope.cancel()


async def test_a_file_that_can_not_be_written_is_reported_with_what_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    health = ready()
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: watch_volume(tmp_path, health, every_seconds=EVERY))
            await until(lambda: health.readiness is Readiness.UNUSABLE)
            nursery.cancel_scope.cancel()
    assert [(line["event"], line["why"]) for line in logs] == [("volume_failed", "Is a directory")]


async def test_it_is_neither_ready_before_its_start_nor_after_its_end(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    health, seen = Health(), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: watch_volume(tmp_path, health, every_seconds=EVERY))
        for happens in (health.ready, health.stopping, health.ready):
            await trio.sleep(0.1)
            seen.append(health.readiness)
            happens()
        nursery.cancel_scope.cancel()
    assert seen == [Readiness.STARTING, Readiness.READY, Readiness.STOPPING]
