"""A server in a process of its own, for all tests of a run: a pytest-trio fixture lives only as long as one test.

It says on its standard output where it is, in one line, and ends when its standard input does: so it can't outlive the
run, however that ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

import jiemi


@contextmanager
def server_process(script: str, arguments: Sequence[str | Path] = (), *, end_seconds: float) -> Iterator[Path]:
    """A script as such a server, as long as the context lasts; gives the path that it says.

    Args:
        end_seconds: how long it may take to end.
    """
    process = subprocess.Popen(
        [sys.executable, script, *arguments],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = process.stdout.readline().decode().strip()
        assert said, f"{Path(script).name} did not start; its error is above"
        yield Path(said)
    finally:
        process.stdin.close()
        try:
            process.wait(end_seconds)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def environment() -> dict[str, str]:
    """This process's, with which a program finds Jiemi and what tests share."""
    root = Path(jiemi.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(root), str(root / "tests")))}


async def serve_until_input_ends(path: Path) -> None:
    """The other side: say where the server is, and wait until it is to end."""
    sys.stdout.write(f"{path}\n")
    sys.stdout.flush()
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as ending:
        while await ending.receive_some():
            pass
