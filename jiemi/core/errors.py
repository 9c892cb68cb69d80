"""What goes wrong, as values and as exceptions.

Every failure that a user can meet has a *reason* of the table in `jiemi.core.reasons`, and a *message* that names the
field, file, Secret or key that is wrong, never a value, so that it may be shown to anyone who may read the Decryptor.

One reason has many causes, so the *remedy* belongs to the case: the code that raises a failure gives it, and the
reason's own is for the cases that need no other. Message and remedy go together as one text (`Failure.text`) into the
condition, the Event, the log and what the command line shows.

Errors that cross a port are `JiemiError`s. Library exceptions are translated into them once, at the edge, with `from`.
"""

from __future__ import annotations

import attrs

from jiemi.core.reasons import REASONS, Kind

MESSAGE_LIMIT_CHARACTERS = 1_000
"""A message is for a status field and a log line; what is longer is cut, so that a remote end can't fill either."""

REMEDY_LIMIT_CHARACTERS = 500

PATH_LIMIT_CHARACTERS = 4_096
"""As many as a path in the spec may have; a longer one is of no field, so it is left out."""

TEXT_LIMIT_CHARACTERS = 960
"""Message and remedy together, so that an Event's note of 1,024 bytes has room for the whole of it."""


def one_line(text: str, limit: int = MESSAGE_LIMIT_CHARACTERS) -> str:
    """The text with control characters made spaces, cut to the limit."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _remedy(text: str) -> str:
    return one_line(text, REMEDY_LIMIT_CHARACTERS)


def _path(path: str) -> str:
    return path if len(path) <= PATH_LIMIT_CHARACTERS else ""


@attrs.frozen
class Failure:
    """One thing that went wrong, safe to show anyone who may read the Decryptor.

    Attributes:
        reason: a key of `REASONS`.
        message: what exactly is wrong, at most `MESSAGE_LIMIT_CHARACTERS`; names, never values of credentials.
        own_remedy: what to do about this very case, a sentence, at most `REMEDY_LIMIT_CHARACTERS`; "" where the
            reason's remedy says it.
        path: the path in the repository that is wrong, as it was asked for, at most `PATH_LIMIT_CHARACTERS`; "" where
            none is. It is not shown: whoever asked for the path knows which field of the spec names it.
    """

    reason: str = attrs.field(validator=attrs.validators.in_(REASONS))
    message: str = attrs.field(converter=one_line)
    own_remedy: str = attrs.field(default="", converter=_remedy)
    path: str = attrs.field(default="", converter=_path)

    @property
    def kind(self) -> Kind:
        return REASONS[self.reason].kind

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return self.own_remedy or REASONS[self.reason].remedy

    @property
    def text(self) -> str:
        """What is wrong and what to do, in the words in which every report shows it."""
        return self.text_within(TEXT_LIMIT_CHARACTERS)

    def text_within(self, limit: int) -> str:
        """The text in at most so many characters. The message is cut first: it begins with what is wrong."""
        room = limit - len(self.remedy) - len(". ")
        message = self.message
        if len(message) > max(room, 0):
            message = f"{message[: max(room - 1, 0)]}…"
        end = "" if message.endswith((".", "…", "!", "?")) else "."
        text = f"{message}{end} {self.remedy}"
        return text if len(text) <= limit else f"{text[: limit - 1]}…"

    def at(self, where: str) -> Failure:
        """The same with the place in front of its message: "spec.source.files: …"."""
        return attrs.evolve(self, message=f"{where}: {self.message}")

    def about(self, path: str) -> Failure:
        """The same, about a path in the repository."""
        return attrs.evolve(self, path=path)

    def __str__(self) -> str:
        return f"{self.reason}: {self.text}"


class JiemiError(Exception):
    """A failure on its way up. Its text is that of the failure, so a log of it is safe too.

    Args:
        reason, message: as of `Failure`.
        remedy: what to do about this very case; "" where the reason's remedy says it.
    """

    def __init__(self, reason: str, message: str, remedy: str = "") -> None:
        self.failure = Failure(reason, message, remedy)
        super().__init__(str(self.failure))

    @classmethod
    def of(cls, failure: Failure) -> JiemiError:
        """The exception for a failure that came as a value, over a wire for example."""
        error = cls(failure.reason, failure.message, failure.own_remedy)
        error.failure = failure
        return error
