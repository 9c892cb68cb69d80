"""Programs that only the tests need, built once from pinned Go modules (tests/data/NAME) into the cache of tools."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from support.kubernetes.control_plane import tool_settings
from support.paths import DATA

from jiemi.controlplane.build import GoProgram, build_program
from jiemi.controlplane.cache import ToolCache
from jiemi.controlplane.pins import GO_VERSION


async def go_program(
    name: str, *, package: str = ".", ldflags: str = "-s -w", tags: str = "", modules: Path = DATA
) -> Path:
    """The program of the Go module tests/data/NAME, from the cache of tools or built into it.

    Args:
        package: what is built: "." for the module's own.
        ldflags: for the Go linker.
        tags: Go's build tags, with commas between them.
        modules: another folder in which the module is.

    Raises:
        WayError: it can't be built.
    """
    settings = tool_settings()
    files = {path.name: path.read_bytes() for path in sorted((modules / name).iterdir())}
    inputs = (files, package, ldflags, GO_VERSION, *([tags] if tags else []))
    digest = hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]
    cache = ToolCache(settings.cache_dir)
    if (found := cache.find(name, digest)) is not None:
        return found
    async with cache.making(lambda: None) as making:
        if (found := cache.find(name, digest)) is not None:
            return found
        program = GoProgram(name, files, package, ldflags, tags)
        built = await build_program(program, settings, making, _report, what=f"building {name}")
        return await making.keep(built, name, digest)


def _report(text: str) -> None:
    sys.stderr.write(f"{text}\n")
