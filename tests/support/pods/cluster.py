"""A node in a process of its own, for all tests of a run: a pytest-trio fixture lives only as long as one test.

That process ends when its standard input does, so that it can't outlive the run, however that ends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from support.pods.audit import POLICY
from support.processes.server_process import serve_until_input_ends, server_process

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
    with server_process(__file__, end_seconds=END_SECONDS) as kubeconfig:
        yield kubeconfig


def audit_log() -> Path:
    """The API server's audit log of what Miwen writes (`support.pods.audit`)."""
    return Path(given("ROOT")) / "audit.log"


async def _serve() -> None:
    policy = Path(given("ROOT")) / "audit-policy.json"
    policy.write_text(json.dumps(POLICY))
    settings = NodeSettings(
        root=Path(given("ROOT")) / "node",
        memory=Path(given("MEMORY")) / "node",
        programs={tool: program(tool) for tool in (*TOOLS, *NODE_TOOLS)},
        images=[Path(path) for path in given("IMAGES").split(":")],
        control_group=given("GROUP"),
        audit_log=audit_log(),
        audit_policy=policy,
    )
    async with open_node(settings) as node:
        await serve_until_input_ends(node.kubeconfig)


if __name__ == "__main__":
    trio.run(_serve)
