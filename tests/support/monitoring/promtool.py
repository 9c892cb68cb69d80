"""The real promtool (tests/data/promtool): what Prometheus itself says of rules and expressions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import attrs
import pytest
import trio
from support.kubernetes.go_programs import go_program

RUN_SECONDS = 120


@attrs.frozen
class Promtool:
    """promtool, which reads files and asks nobody."""

    program: Path

    def __call__(self, *arguments: str | Path, status: int = 0, given: str | None = None) -> str:
        """Run it; returns its output.

        Args:
            status: its exit status.
            given: its standard input.
        """
        done = subprocess.run(
            [self.program, *arguments],
            env={"PATH": os.defpath},
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        assert done.returncode == status, f"{arguments}\n{done.stdout[-6_000:]}\n{done.stderr[-6_000:]}"
        return done.stdout


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """promtool; the first run on a machine builds it."""
    return Promtool(trio.run(build_promtool))


async def build_promtool() -> Path:
    """promtool, from the cache of tools or built into it, without what finds targets at clouds: no rule needs that."""
    package = "github.com/prometheus/prometheus/cmd/promtool"
    return await go_program("promtool", package=package, tags="remove_all_sd")
