"""Programs that only the tests need, built once from pinned Go modules (tests/data/NAME) into the cache of tools."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
from support.kubernetes.control_plane import tool_settings
from support.paths import DATA

from jiemi.controlplane import children
from jiemi.controlplane.build import GoProgram, build_program, find_go
from jiemi.controlplane.cache import Making, ToolCache
from jiemi.controlplane.pins import GO_VERSION
from jiemi.controlplane.settings import ToolSettings, WayError

_DOWNLOAD_SECONDS = 600.0


@attrs.frozen
class Embedded:
    """Files of another module, in no package of Go's, that a program embeds (`//go:embed`).

    Attributes:
        module: the module's path. go.mod says its version, and go.sum the hash of all of its files.
        pattern: which of them, as a glob. Each is put beside main.go under its own name.
    """

    module: str
    pattern: str


async def go_program(
    name: str,
    *,
    package: str = ".",
    ldflags: str = "-s -w",
    tags: str = "",
    modules: Path = DATA,
    embedded: Embedded | None = None,
) -> Path:
    """The program of the Go module tests/data/NAME, from the cache of tools or built into it.

    Args:
        package: what is built: "." for the module's own.
        ldflags: for the Go linker.
        tags: Go's build tags, with commas between them.
        modules: another folder in which the module is.
        embedded: what it embeds of another module.

    Raises:
        WayError: it can't be built.
    """
    settings = tool_settings()
    files = {path.name: path.read_bytes() for path in sorted((modules / name).iterdir())}
    more = [each for each in (tags, embedded) if each]
    inputs = (files, package, ldflags, GO_VERSION, *more)
    digest = hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]
    cache = ToolCache(settings.cache_dir)
    if (found := cache.find(name, digest)) is not None:
        return found
    async with cache.making(lambda: None) as making:
        if (found := cache.find(name, digest)) is not None:
            return found
        if embedded is not None:
            files |= await _files_of(embedded, files, settings, making)
        program = GoProgram(name, files, package, ldflags, tags)
        built = await build_program(program, settings, making, _report, what=f"building {name}")
        return await making.keep(built, name, digest)


async def _files_of(
    embedded: Embedded, files: Mapping[str, bytes], settings: ToolSettings, making: Making
) -> dict[str, bytes]:
    """What a program embeds, by name.

    Raises:
        WayError: the module can't be had, or has no such file.
    """
    go, _ = await find_go(settings, making, _report)
    folder = making.directory / "embedded"
    folder.mkdir()
    for each in ("go.mod", "go.sum"):
        (folder / each).write_bytes(files[each])
    environment = {**settings.environment, "PATH": settings.search_path, "GOWORK": "off"}
    if go.is_relative_to(making.cache.directory):
        environment["GOROOT"] = str(go.parent.parent)
    commands = (("mod", "download", embedded.module), ("list", "-m", "-f", "{{.Dir}}", embedded.module))
    for arguments in commands:
        done = await children.run(
            [go, *arguments], environment=environment, timeout_seconds=_DOWNLOAD_SECONDS, directory=folder
        )
        if done.status != 0:
            raise WayError(f"build: go {' '.join(arguments)}: {' '.join(done.lines)}")
    return _read(Path(done.lines[-1]), embedded)


def _read(folder: Path, embedded: Embedded) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in sorted(folder.glob(embedded.pattern))}
    if not found:
        raise WayError(f"build: {embedded.module} has no {embedded.pattern}")
    return found


def _report(text: str) -> None:
    sys.stderr.write(f"{text}\n")
