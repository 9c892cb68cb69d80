"""The memory limits that other tests run programs under do hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, closing

import pytest
from support.processes.memory_limits import MemoryGroup, _Watched, memory_group

_MEBIBYTE = 1024 * 1024
_TAKE = (
    "import sys, time; taken = bytearray(int(sys.argv[1])); print('taken', flush=True); time.sleep(float(sys.argv[2]))"
)


def _as_child(take_bytes: int, seconds: float) -> list[str]:
    """A program whose child takes the memory."""
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_TAKE!r}, *sys.argv[1:]], check=True)"
    return [sys.executable, "-c", code, str(take_bytes), str(seconds)]


def test_a_program_within_the_limit_runs_to_its_end() -> None:
    with memory_group(200 * _MEBIBYTE) as group:
        process = group.popen([sys.executable, "-c", _TAKE, str(50 * _MEBIBYTE), "0.1"], stdout=subprocess.PIPE)
        assert process.communicate(timeout=30)[0] == b"taken\n"
        assert process.returncode == 0
        assert group.kills == 0
        assert group.peak_bytes > 50 * _MEBIBYTE


@pytest.mark.parametrize(
    "make", [memory_group, lambda limit: closing(_Watched(limit))], ids=["as this user can", "watched"]
)
def test_a_child_that_takes_too_much_is_ended(make: Callable[[int], AbstractContextManager[MemoryGroup]]) -> None:
    limit = 100 * _MEBIBYTE
    with make(limit) as group:
        process = group.popen(_as_child(300 * _MEBIBYTE, 30), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.communicate(timeout=30)
        assert process.returncode != 0
        assert group.kills >= 1
