"""`jiemi tools`, and what other commands resolve tools with: settings of the environment, progress on a terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from jiemi.cli.command_flags import ToolsFlags
from jiemi.cli.console import table_console
from jiemi.cli.errors import CommandError
from jiemi.controlplane.pins import TOOLS, Tool
from jiemi.controlplane.settings import ASSETS_NAME, ToolError, ToolSettings
from jiemi.controlplane.tools import Resolved, resolve_all


def tool_settings(
    *, sops: Path | None = None, etcd: Path | None = None, kube_apiserver: Path | None = None
) -> ToolSettings:
    """The settings that the environment and the flags give for tools."""
    cache = os.environ.get("XDG_CACHE_HOME")
    assets = os.environ.get(ASSETS_NAME)
    return ToolSettings(
        cache_dir=(Path(cache) if cache else Path.home() / ".cache") / "jiemi",
        search_path=os.environ.get("PATH", os.defpath),
        environment=dict(os.environ),
        sops=sops,
        etcd=etcd,
        kube_apiserver=kube_apiserver,
        assets_dir=Path(assets) if assets else None,
    )


_REPEAT_SECONDS = 30.0
"""How often the progress of a build is repeated where lines can't be replaced (a log file)."""


class TerminalProgress:
    """Shows the progress: one line that changes on a terminal, a line from time to time elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._shown_at: dict[str, float] = {}

    @contextmanager
    def shown(self) -> Iterator[TerminalProgress]:
        """Show steps while the context lasts."""
        if not self._console.is_terminal:
            yield self
            return
        with Live(Spinner("dots", "tools …"), console=self._console, transient=True) as live:
            self._live = live
            try:
                yield self
            finally:
                self._live = None

    def step(self, tool: Tool, text: str) -> None:
        """Show one step for a tool."""
        line = f"{tool.value}: {text}"
        if self._live is not None:
            self._live.update(Spinner("dots", line))
            return
        # Of "building 3.13.3 with Go 1.26, 0:25: what is compiled" the first part says which step it is.
        step = line.partition(",")[0]
        now = time.monotonic()
        if now - self._shown_at.get(step, -_REPEAT_SECONDS) >= _REPEAT_SECONDS:
            self._shown_at[step] = now
            self._console.print(line, markup=False, highlight=False)


async def resolve_tools(wanted: list[Tool], settings: ToolSettings, console: Console) -> dict[Tool, Resolved]:
    """Resolve tools, showing progress.

    Raises:
        CommandError: one is not available; the text lists the ways that were tried.
    """
    progress = TerminalProgress(console)
    try:
        with progress.shown():
            return await resolve_all(wanted, settings, progress)
    except ToolError as error:
        raise CommandError(str(error)) from error


def run(flags: ToolsFlags) -> None:
    """Resolve the named tools, and print where each is and where it came from."""
    by_name = {tool.value: tool for tool in Tool}
    unknown = [name for name in flags.names if name not in by_name]
    if unknown:
        raise CommandError(f"there is no tool {', '.join(unknown)}; the tools are {', '.join(by_name)}")
    wanted = [by_name[name] for name in flags.names] or list(TOOLS)
    settings = tool_settings(sops=flags.sops, etcd=flags.etcd, kube_apiserver=flags.kube_apiserver)
    resolved = trio.run(resolve_tools, wanted, settings, Console(stderr=True))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("TOOL", "VERSION", "CAME FROM"):
        table.add_column(column, no_wrap=True)
    table.add_column("PATH", overflow="fold")
    for each in resolved.values():
        table.add_row(each.tool.value, each.version, each.origin.value, str(each.path))
    table_console().print(table)
