"""A test that sets logging up for its process leaves it as it was, for the tests after it and their `capture_logs`."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from jiemi.cli.logs import configure_logs, without_exception_text
from jiemi.tracing.current import add_trace


def pytest_configure() -> None:
    """Lines as the product has them, for the output of a test that fails. What structlog does by itself draws each
    exception with the values of all variables, which takes a second per exception."""
    structlog.configure(
        processors=[
            add_trace,
            structlog.processors.add_log_level,
            without_exception_text,
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, sort_keys=False),
        ],
        cache_logger_on_first_use=False,
    )


@pytest.fixture(autouse=True)
def logs_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put logging back, if it was set up."""
    root, configure, before = logging.getLogger(), structlog.configure, structlog.get_config()
    handlers, level, was_set_up = tuple(root.handlers), root.level, False
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning)

    def configured(**settings: Any) -> None:
        nonlocal was_set_up
        was_set_up = True
        # A logger that was cached would stay as this test has it.
        configure(**{**settings, "cache_logger_on_first_use": False})

    with monkeypatch.context() as patched:
        patched.setattr(structlog, "configure", configured)
        yield
    if was_set_up:
        configure(**before)
        root.setLevel(level)
        sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
        # Those that pytest itself puts there for a phase of the test, it takes away by itself.
        root.handlers = [each for each in root.handlers if each in handlers or not _is_ours(each)]


def _is_ours(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)
    return stream is not None and type(stream).__module__ == configure_logs.__module__
