"""Standard output for tables: as wide as the terminal, and not folded in a pipe or a file."""

from __future__ import annotations

from rich.console import Console

_UNFOLDED_COLUMNS = 500


def table_console() -> Console:
    """A console that is wide enough for a table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_UNFOLDED_COLUMNS)


def printable(text: str) -> str:
    """The text without what a terminal would obey, because others choose the names of files and the words of hosts."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
