"""Finds the tools that Jiemi runs: sops, etcd, kube-apiserver, and what else a cluster has.

Each way is tried in turn until one leads to a program: what the user gave; the search path; the cache; the project's
own release, whose checksum is checked; a build from pinned Go modules. The last two fill the cache, under its lock. A
program that the user gave must work: the user has to see an error there, and no other program is taken instead.
"""

from __future__ import annotations

import enum
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from jiemi.controlplane import children
from jiemi.controlplane.build import build
from jiemi.controlplane.cache import Making, ToolCache, is_executable
from jiemi.controlplane.pins import PINS, Tool, Version
from jiemi.controlplane.release import fetch
from jiemi.controlplane.settings import ASSETS, Progress, ToolError, ToolSettings, WayError

_VERSION_TIMEOUT_SECONDS = 30.0
"""kube-apiserver needs 0.1 s on an idle machine; much more right after it was written and beside other builds."""


class Origin(enum.Enum):
    """Where a tool came from."""

    GIVEN = "given"
    PATH = "PATH"
    CACHE = "cache"
    RELEASE = "release"
    BUILD = "build"


@attrs.frozen
class Resolved:
    """A tool that can be run.

    Attributes:
        path: absolute path.
        version: the one that it reports; for a cached tool, the one that the cache keeps (`envtest-1.36.2` for a tool
            out of an envtest archive).
    """

    tool: Tool
    path: Path
    origin: Origin
    version: str


async def resolve(tool: Tool, settings: ToolSettings, progress: Progress) -> Resolved:
    """Find, download or build one tool. Callers at the same time, in other processes too, wait until one has done it.

    Raises:
        ToolError: every way failed, or what the user gave can't be used.
    """

    def report(text: str) -> None:
        progress.step(tool, text)

    given = settings.given(tool)
    if given is not None:
        path, flag = given
        try:
            return await _examine(tool, path, Origin.GIVEN, settings)
        except WayError as error:
            raise ToolError(tool, [f"{flag}: {error}"]) from error
    tried: list[str] = []
    found = shutil.which(tool.value, path=settings.search_path)
    if found is None:
        tried.append("PATH: it is not there")
    else:
        try:
            return await _examine(tool, Path(found), Origin.PATH, settings)
        except WayError as error:
            tried.append(f"PATH: {error}")
            report(f"not taken from the PATH: {error}")
    cache = ToolCache(_absolute(settings.cache_dir))
    cached = _look_into(cache, tool, settings)
    if cached is not None:
        return cached
    try:
        async with cache.making(lambda: report("waiting for another jiemi to finish")) as making:
            # Another may have made it while this one waited for the lock.
            return _look_into(cache, tool, settings) or await _make(tool, settings, making, tried, report)
    except OSError as error:
        raise ToolError(tool, [*tried, f"cache {settings.cache_dir}: {error}"]) from error


def find_cached(tool: Tool, settings: ToolSettings) -> Resolved | None:
    """A tool that was downloaded or built before, or None. Nothing is run or made."""
    return _look_into(ToolCache(_absolute(settings.cache_dir)), tool, settings)


async def resolve_all(tools: Iterable[Tool], settings: ToolSettings, progress: Progress) -> dict[Tool, Resolved]:
    """Resolve several tools, one after the other, because a build takes all of a small machine.

    Raises:
        ToolError: as `resolve`, for the first tool that fails.
    """
    return {tool: await resolve(tool, settings, progress) for tool in tools}


async def _make(
    tool: Tool, settings: ToolSettings, making: Making, tried: list[str], report: Callable[[str], None]
) -> Resolved:
    for way in (_from_release, _from_build):
        try:
            return await way(tool, settings, making, report)
        except WayError as error:
            tried.append(str(error))
            report(str(error).splitlines()[0])
    raise ToolError(tool, tried)


async def _from_release(tool: Tool, settings: ToolSettings, making: Making, report: Callable[[str], None]) -> Resolved:
    files = await fetch(tool, settings, making.directory, report)
    try:
        examined = await _examine(tool, files[tool], Origin.RELEASE, settings)
    except WayError as error:
        raise WayError(f"release: {error}") from error
    for each, path in files.items():
        await making.keep(path, each.value, _release_version(each, settings))
    return attrs.evolve(examined, path=making.cache.entry(tool.value, _release_version(tool, settings)))


async def _from_build(tool: Tool, settings: ToolSettings, making: Making, report: Callable[[str], None]) -> Resolved:
    program = await build(tool, settings, making, report)
    try:
        examined = await _examine(tool, program, Origin.BUILD, settings)
    except WayError as error:
        raise WayError(f"build: {error}") from error
    return attrs.evolve(examined, path=await making.keep(program, tool.value, PINS[tool].version))


def _look_into(cache: ToolCache, tool: Tool, settings: ToolSettings) -> Resolved | None:
    for version in (PINS[tool].version, _release_version(tool, settings)):
        path = cache.find(tool.value, version)
        if path is not None:
            return Resolved(tool, path, Origin.CACHE, version)
    return None


def _release_version(tool: Tool, settings: ToolSettings) -> str:
    return f"envtest-{settings.envtest_version}" if tool in ASSETS else PINS[tool].version


async def _examine(tool: Tool, path: Path, origin: Origin, settings: ToolSettings) -> Resolved:
    """The tool, if it runs and is new enough.

    Raises:
        WayError: it does not, or is not.
    """
    pin = PINS[tool]
    path = _absolute(path)
    if not is_executable(path):
        raise WayError(f"{path} is not an executable file")
    try:
        # It gets nothing of the user's environment, because a version needs none of it.
        finished = await children.run(
            [path, *pin.version_arguments],
            environment={"PATH": settings.search_path},
            timeout_seconds=_VERSION_TIMEOUT_SECONDS,
            directory=path.parent,
        )
    except OSError as error:
        raise WayError(f"{path} does not run: {error}") from error
    version = parse_version("\n".join(finished.lines))
    if finished.status != 0 or version is None:
        raise WayError(f"{path} does not report its version (status {finished.status})")
    if _numbers(version) < pin.floor:
        raise WayError(f"{path} is version {version}; at least {'.'.join(map(str, pin.floor))} is needed")
    return Resolved(tool, path, origin, version)


def parse_version(text: str) -> str | None:
    """The first version in a tool's words, such as `3.13.3` in `sops 3.13.3 (latest)`; None where there is none."""
    match = re.search(r"(?<![\w.])v?(\d{1,9}(?:\.\d{1,9}){1,3})", text)
    return None if match is None else match[1]


def _absolute(path: Path) -> Path:
    return path.absolute()


def _numbers(version: str) -> Version:
    return tuple(int(part) for part in version.split("."))
