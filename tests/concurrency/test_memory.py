"""Memory that was used once is given back."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest
import trio

from jiemi.concurrency import memory

_MIB = 1024 * 1024

_BURST = """
import threading
from jiemi.concurrency import memory

kept = []

def work():
    pieces = [bytes(60_000) for _ in range(600)]
    kept.append(pieces[-1])  # what lives on at the end of an arena keeps glibc from shrinking it

threads = [threading.Thread(target=work) for _ in range(4)]
before = memory.resident_bytes()
for thread in threads: thread.start()
for thread in threads: thread.join()
after = memory.resident_bytes()
"""


def test_freed_pages_of_all_arenas_go_back_to_the_system() -> None:
    program = _BURST + "memory.trim()\nprint(before, after, memory.resident_bytes())\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    before, after, trimmed = map(int, done.stdout.split())
    assert trimmed - before < 20 * _MIB
    assert trimmed <= after


async def test_a_service_that_has_grown_is_trimmed_and_one_that_has_not_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = iter([100, 101, 200, 110, 111, 112])
    trimmed: list[int] = []
    seen: list[int] = []

    def resident_bytes() -> int:
        try:
            seen.append(next(sizes))
        except StopIteration:
            nursery.cancel_scope.cancel()
        return seen[-1] * _MIB

    def trim() -> bool:
        trimmed.append(seen[-1])
        return True

    monkeypatch.setattr(memory, "resident_bytes", resident_bytes)
    monkeypatch.setattr(memory, "trim", trim)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: memory.keep_trimmed(check_seconds=0.001))
    assert trimmed == [200]


async def test_where_the_allocator_can_not_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    sizes = iter([0, 100 * _MIB])
    monkeypatch.setattr(memory, "resident_bytes", lambda: next(sizes))
    assert memory.trim() is False
    with trio.fail_after(20):
        await memory.keep_trimmed(check_seconds=0.001)
