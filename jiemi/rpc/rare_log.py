"""Log lines that a peer can cause, as often as it likes: one of a kind now and then, with how many there were."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

SECONDS_BETWEEN = 30.0


class RareLog:
    """A logger whose lines of the same event and kind come at most every `SECONDS_BETWEEN`. For one thread."""

    _MOST_KINDS = 256

    def __init__(self, log: Any) -> None:
        self._log = log
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    def warning(self, event: str, *, kind: str = "", **values: Any) -> None:
        """Log it, or count it for the next line of its kind.

        Args:
            kind: what makes it another kind of line, beside the event.
            values: of the line.
        """
        self._write(self._log.warning, event, kind, values)

    def error(self, event: str, *, kind: str = "", **values: Any) -> None:
        """As `warning`."""
        self._write(self._log.error, event, kind, values)

    def _write(self, log: Callable[..., object], event: str, kind: str, values: dict[str, Any]) -> None:
        now = time.monotonic()
        at, missed = self._last.get((event, kind), (float("-inf"), 0))
        if now - at < SECONDS_BETWEEN:
            self._last[event, kind] = (at, missed + 1)
            return
        if len(self._last) >= self._MOST_KINDS:
            self._last.clear()
        self._last[event, kind] = (now, 0)
        log(event, **values, **({"more_since_the_last_line": missed} if missed else {}))


def rare_log(name: str) -> RareLog:
    return RareLog(structlog.get_logger(name))
