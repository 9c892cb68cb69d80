"""Structured logs on standard error: JSON for machines or columns for people.

A log line must never hold a secret. Sensitive values print as a placeholder by themselves
(`jiemi.core.sensitive`). An exception that nobody expected is logged as its types and the places in the code only: its
text comes from a library and may quote what the library was given.

Jiemi's own lines come by structlog. All other ways to standard error end here too, with no text that could have been
made of values: what libraries log (`logging`), warnings, and exceptions that nobody caught, in the main thread, in
another one, or where Python can't raise them. Only the interpreter's own report of a crash (faulthandler, where the
environment asks for it) goes past this; it has names of functions and lines, and no values.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, cast

import structlog

from jiemi.cli.log_levels import LevelFilter, Levels
from jiemi.cli.outputs import LogFormat
from jiemi.tracing.current import add_trace

Processor = Callable[[Any, str, MutableMapping[str, Any]], Any]

_TEXT_LEFT_OUT = "the text is left out, because it may hold values"

_MOST_EXCEPTIONS = 10

_log = structlog.get_logger("jiemi.process")


def configure_logs(form: LogFormat, levels: Levels | None = None) -> LevelFilter:
    """Set up the logs of this process: Jiemi's own lines, and those of libraries from warnings on.

    Args:
        levels: how much each area logs; None for lines from info on.

    Returns:
        What decides that; its levels may be changed at any time.
    """
    renderer: Any
    if form is LogFormat.JSON:
        renderer = structlog.processors.JSONRenderer()
    else:
        colors = sys.stderr is not None and sys.stderr.isatty()
        renderer = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0, sort_keys=False)
    shared: list[Any] = [
        add_trace,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_exception_text,
        renderer,
    ]
    filter = LevelFilter(levels if levels is not None else Levels())
    out = _StandardError()
    structlog.configure(
        processors=[filter, _add_area, structlog.processors.add_log_level, *shared],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda area="jiemi.process", *_: _AreaLogger(out, area),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_LibraryLines(out, shared)]
    root.setLevel(logging.WARNING)
    _take_what_python_reports()
    return filter


def quiet_logs() -> None:
    """Set up the logs of a command that prints for people: warnings only, and on standard error. Services go on to
    `configure_logs`."""
    out = _StandardError()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            without_exception_text,
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.WriteLogger(cast(TextIO, out)),
    )


class _AreaLogger(structlog.WriteLogger):
    """Writes the lines of one area."""

    def __init__(self, out: _StandardError, area: str) -> None:
        super().__init__(cast(TextIO, out))
        self.area = area


def _add_area(logger: Any, _: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["logger"] = logger.area
    return event


class _LibraryLines(logging.Handler):
    """What libraries log. Of a message only what stands in the library's source is written, and the place; its
    arguments, and a message that is made of parts, may hold anything."""

    def __init__(self, out: _StandardError, processors: Sequence[Processor]) -> None:
        super().__init__()
        self.stream = out
        self._processors = processors

    def emit(self, record: logging.LogRecord) -> None:
        # A line that can't be made is lost. What `logging` does by itself then prints the arguments.
        with contextlib.suppress(Exception):
            self.stream.write(f"{self._line(record)}\n")

    def _line(self, record: logging.LogRecord) -> str:
        event: Any = {
            "event": record.msg if _is_constant(record) else _TEXT_LEFT_OUT,
            "place": f"{_module(record.pathname)}:{record.lineno} {record.funcName}",
            "logger": record.name,
            "level": record.levelname.lower(),
        }
        if record.exc_info:
            event["exc_info"] = record.exc_info
        for process in self._processors:
            event = process(None, record.levelname.lower(), event)
        return str(event)


def _is_constant(record: logging.LogRecord) -> bool:
    """Whether a message is a text of the function that logs it, which is still running."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if (code.co_filename, code.co_name) == (record.pathname, record.funcName):
            return any(isinstance(each, str) and each == record.msg for each in code.co_consts)
        frame = frame.f_back
    return False


def _module(path: str) -> str:
    """The end of a file's path, by which it is found."""
    return "/".join(Path(path).parts[-2:])


def _take_what_python_reports() -> None:
    """Log what Python would print by itself, with the texts of exceptions and warnings and the values of objects."""

    def uncaught(_: Any, error: BaseException, __: Any) -> None:
        _log.critical("exception_uncaught", exc_info=error)

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_type is not SystemExit:
            thread = arguments.thread.name if arguments.thread is not None else None
            _log.critical("exception_uncaught", thread=thread, exc_info=arguments.exc_value or arguments.exc_type())

    def unraisable(arguments: Any) -> None:
        _log.error("exception_not_raised", exc_info=arguments.exc_value or arguments.exc_type())

    def warned(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        _log.warning("python_warning", category=category.__name__, place=f"{_module(filename)}:{lineno}")

    sys.excepthook = uncaught
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
    warnings.showwarning = warned


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
    return event


def _places(error: BaseException) -> list[str]:
    """Each exception of the chain as "Type at file:line in function", the newest first."""
    found: list[str] = []
    current: BaseException | None = error
    while current is not None and len(found) < _MOST_EXCEPTIONS:
        frames = traceback.extract_tb(current.__traceback__)
        place = f" at {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
        found.append(f"{type(current).__qualname__}{place}")
        if isinstance(current, BaseExceptionGroup):
            found += [f"({part})" for inner in current.exceptions[:5] for part in _places(inner)]
        current = current.__cause__ or current.__context__
    return found
