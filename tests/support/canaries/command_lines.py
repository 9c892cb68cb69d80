"""What stands in command lines, which every user of a machine can read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.processes.threads import again_and_again


@contextmanager
def watching_command_lines() -> Iterator[set[bytes]]:
    """Every command line that any process has meanwhile, as far as looking all the time finds them."""
    seen: set[bytes] = set()

    def look() -> None:
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended
                seen.add((entry / "cmdline").read_bytes())

    with again_and_again(look, pause_seconds=0.002):
        yield seen
