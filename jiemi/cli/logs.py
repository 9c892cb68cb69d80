"""Structured logs on standard error: JSON for machines or columns for people.

A log line must never hold a secret. Sensitive values print as a placeholder by themselves
(`jiemi.core.sensitive`). An exception that nobody expected is logged as its types and the places in the code only: its
text comes from a library and may quote what the library was given.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

from jiemi.cli.outputs import LogFormat
from jiemi.tracing.current import add_trace


def configure_logs(form: LogFormat, *, level: int = logging.INFO) -> None:
    """Set up the logs of this process: Jiemi's own lines, and those of libraries from warnings on."""
    shared: list[Any] = [
        add_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_exception_text,
    ]
    renderer: Any
    if form is LogFormat.JSON:
        renderer = structlog.processors.JSONRenderer()
    else:
        colors = sys.stderr is not None and sys.stderr.isatty()
        renderer = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0, sort_keys=False)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _StandardError())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(_StandardError())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)


class _StandardError:
    """Standard error as it is when a line is written. A line that can't be written is lost.

    A service does not end, nor does one of its tasks, because the reader of its log went away (EPIPE), the disk under
    its log is full (ENOSPC) or the stream is closed (ValueError; None where it was from the start).
    """

    def write(self, text: str) -> int:
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()


def without_exception_text(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace an exception's text with its types and places."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = " <- ".join(_places(error))
    event.pop("stack_info", None)
    if event.get("logger") == "asyncio":
        # Its messages carry the repr of the exception in later lines.
        event["event"] = str(event.get("event", "")).partition("\n")[0]
    return event


def _places(error: BaseException) -> list[str]:
    """Each exception of the chain as "Type at file:line in function", the newest first."""
    found: list[str] = []
    current: BaseException | None = error
    while current is not None and len(found) < 10:
        frames = traceback.extract_tb(current.__traceback__)
        place = f" at {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
        found.append(f"{type(current).__qualname__}{place}")
        if isinstance(current, BaseExceptionGroup):
            found += [f"({part})" for inner in current.exceptions[:5] for part in _places(inner)]
        current = current.__cause__ or current.__context__
    return found
