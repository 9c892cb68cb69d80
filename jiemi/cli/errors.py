"""How a command fails: one line for the user, an exit status for the shell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from jiemi.core.errors import JiemiError

INTERRUPTED = 130
"""The status that a shell reports for a command that Ctrl-C ended: 128 + SIGINT."""


NOT_READY = 3
"""The exit status of `jiemi status` if a Decryptor is not Ready; 2 means a wrong flag."""


class CommandError(Exception):
    """The command can't go on; the text says why and what to do."""


@contextmanager
def shown_to_user() -> Iterator[None]:
    """Turn the errors that a user can correct into a message and exit status 1. The others stay tracebacks because
    they are faults of Jiemi."""
    try:
        yield
    except CommandError as error:
        _exit(str(error))
    except JiemiError as error:
        _exit(_text(error))
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BaseExceptionGroup as group:
        correctable, rest = group.split((CommandError, JiemiError, KeyboardInterrupt))
        if rest is not None or correctable is None:
            raise
        errors = [error for error in _leaves(correctable) if not isinstance(error, KeyboardInterrupt)]
        for line in dict.fromkeys(_text(error) for error in errors):
            _say(line)
        raise click.exceptions.Exit(1 if errors else INTERRUPTED) from None


def _text(error: BaseException) -> str:
    """What is wrong and, on a line of its own, what to do."""
    if not isinstance(error, JiemiError):
        return str(error)
    return f"{error.failure.reason}: {error.failure.message}\n{error.failure.remedy}"


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _say(text: str) -> None:
    from rich.console import Console  # noqa: PLC0415 - a tenth of the time that `jiemi --help` takes

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("error: ", style="bold red", end="")
    console.print(text, markup=False)


def _exit(text: str) -> None:
    _say(text)
    raise click.exceptions.Exit(1) from None
