"""A node in a process of its own, for all tests of a run: a pytest-trio fixture lives only as long as one test.

That process ends when its standard input does, so that it can't outlive the run, however that ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

import jiemi
from jiemi.controlplane.node.node import NodeSettings, open_node
from jiemi.controlplane.pins import NODE_TOOLS, TOOLS, Tool

END_SECONDS = 60


def given(name: str) -> str:
    """What `pods.run` passed on."""
    return os.environ[f"JIEMI_PODS_{name}"]


def program(tool: Tool) -> Path:
    """Where a tool is."""
    return Path(given(tool.name))


@contextmanager
def open_cluster() -> Iterator[Path]:
    """A node, as long as the context lasts; gives the administrator's kubeconfig."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": str(Path(jiemi.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        kubeconfig = process.stdout.readline().decode().strip()
        assert kubeconfig, "the node did not start; its error is above"
        yield Path(kubeconfig)
    finally:
        process.stdin.close()
        try:
            process.wait(END_SECONDS)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


async def _serve() -> None:
    settings = NodeSettings(
        root=Path(given("ROOT")) / "node",
        programs={tool: program(tool) for tool in (*TOOLS, *NODE_TOOLS)},
        images=[Path(path) for path in given("IMAGES").split(":")],
        control_group=given("GROUP"),
    )
    async with open_node(settings) as node:
        sys.stdout.write(f"{node.kubeconfig}\n")
        sys.stdout.flush()
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as ending:
            while await ending.receive_some():
                pass


if __name__ == "__main__":
    trio.run(_serve)
