"""What `jiemi run-all` shows: a line for each finished step, and the services' log lines beside a bar.

On a terminal each line is folded at words, so that what follows stays beside the bar; in a pipe or a file it is not
folded.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from jiemi.cli.log_lines import for_terminal

_SERVICE_STYLES = {"krapao": "cyan", "miwen": "magenta"}
_BAR_COLUMNS = len(" krapao │ ")


class Screen:
    """The lines, in the order in which they come.

    Args:
        console: where they go.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, name: str, *, spinner: bool = True) -> Iterator[Callable[[str], None]]:
        """Show a step when it is done; call what this yields with its outcome.

        Args:
            name: of the step.
            spinner: whether a terminal shows that the step is under way; False if the step itself does.
        """
        began = time.monotonic()
        outcomes: list[str] = []
        shown = self.console.status(f"{name} …") if spinner and self.console.is_terminal else contextlib.nullcontext()
        with shown:
            yield outcomes.append
        self.good(f"{name}: {', '.join(outcomes)} ({time.monotonic() - began:.1f} s)")

    def good(self, text: str) -> None:
        """Show that something went well."""
        self._print(Text("✓ ", "green"), Text(text))

    def failed(self, text: str) -> None:
        """Show that something failed."""
        self._print(Text("✗ ", "red"), Text(text))

    def say(self, text: str) -> None:
        """Show what is under way."""
        self._print(Text("  "), Text(text, "dim"))

    def log(self, service: str, line: str) -> None:
        """Show a log line of a service."""
        style = _SERVICE_STYLES.get(service, "blue")
        self._print(Text(f"{service:>{_BAR_COLUMNS - 3}} │ ", style), for_terminal(line), repeat_bar=True)

    def _print(self, before: Text, text: Text, *, repeat_bar: bool = False) -> None:
        if not self.console.is_terminal:
            self.console.print(Text.assemble(before, text), soft_wrap=True)
            return
        width = max(20, self.console.width - before.cell_len)
        for line in text.wrap(self.console, width):
            line.rstrip()
            self.console.print(Text.assemble(before, line), soft_wrap=True)
            if repeat_bar:
                before = Text(" " * (before.cell_len - 2) + "│ ", before.style)
            else:
                before = Text(" " * before.cell_len)
