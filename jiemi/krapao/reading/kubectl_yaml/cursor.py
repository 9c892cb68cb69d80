"""Where a scanner is in its text, and what every part of it asks about that place."""

from __future__ import annotations

import re
from typing import NoReturn

from jiemi.core.content.document_limits import MAX_NODES
from jiemi.core.errors import JiemiError

BREAKS = "\r\n\x85\u2028\u2029"
ENDS = BREAKS + "\0"
"""What ends a line; NUL is the text's end."""

NO_YAML = "it is not YAML"

BLANKZ = " \t" + ENDS

BLANKS = re.compile(r"[ \t]*+")
SPACES = re.compile(r" *+")
_BREAK = re.compile(rf"\r\n|[{BREAKS}]")


class Refused(JiemiError):
    """A document is refused.

    Attributes:
        line: where, from 0, in the document's text.
    """

    def __init__(self, reason: str, what: str, line: int, remedy: str = "") -> None:
        super().__init__(reason, what, remedy)
        self.line = line


class OverBudget(Exception):
    """The reader was given less than the limit, and that was not enough."""


def over(max_values: int, how: str, line: int) -> Exception:
    """What is raised above a number of values."""
    if max_values < MAX_NODES:
        return OverBudget()
    return Refused("LimitExceeded", f"more than {MAX_NODES} values{how}", line)


class Cursor:
    """A place in a text, with its line. `text` has NULs behind it, so that a few characters on can be looked at."""

    def __init__(self, text: str) -> None:
        self.text = text + "\0\0\0\0"
        self.place = 0
        self.line = 0
        self.line_start = 0

    @property
    def column(self) -> int:
        """How many characters are before, in the line."""
        return self.place - self.line_start

    def refuse(self, line: int | None = None) -> NoReturn:
        """Refuse the text as no YAML, at a line (from 0), or where the scanner is."""
        raise Refused("UnknownFormat", NO_YAML, self.line if line is None else line)

    def match(self, pattern: re.Pattern[str], place: int) -> str:
        """What a pattern takes at a place."""
        found = pattern.match(self.text, place)
        return found.group() if found is not None else ""

    def skip_break(self) -> str:
        """Take a line break, where there is one; returns what it means in a scalar."""
        found = _BREAK.match(self.text, self.place)
        if found is None:
            return ""
        self.place = self.line_start = found.end()
        self.line += 1
        char = found.group()
        return char if char in "\u2028\u2029" else "\n"

    def at_document_mark(self) -> bool:
        """Whether a line of `---` or `...` begins here."""
        place = self.place
        return (
            place == self.line_start and self.text.startswith(("---", "..."), place) and self.text[place + 3] in BLANKZ
        )
