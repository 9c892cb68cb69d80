"""The image of the process that holds a Pod's namespaces."""

from __future__ import annotations

from pathlib import Path

from support.kubernetes.go_programs import go_program

from jiemi.controlplane.node.arguments import SANDBOX_IMAGE
from jiemi.controlplane.node.image_archive import write_image


async def write_sandbox_image(to: Path) -> None:
    """Write its archive; the first run on a machine builds the program (tests/data/sandbox)."""
    write_image(to, SANDBOX_IMAGE, await go_program("sandbox"))
