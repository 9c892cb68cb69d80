"""How many requests went to the API server, by what they asked for; and what the log says of each (debug)."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import attrs
import structlog
import trio

_log = structlog.get_logger("jiemi.miwen.kubernetes")

WRITING_VERBS = frozenset({"apply", "create", "delete", "patch", "remove-fields", "set-managed-fields"})
"""What may change something. "dry-run" may not."""


@attrs.frozen
class RequestCounts:
    """A snapshot.

    Attributes:
        requests: number of requests by (verb, resource), each try counted: ("list", "decryptors"),
            ("watch", "decryptors"), ("get", "secrets"), ("get-metadata", "secrets"), ("get", "discovery"),
            ("apply", "configmaps"), ("patch", "decryptors/status").
    """

    requests: Mapping[tuple[str, str], int] = MappingProxyType({})

    def of(self, verb: str, resource: str) -> int:
        """How many of one sort."""
        return self.requests.get((verb, resource), 0)

    @property
    def writes(self) -> int:
        """How many may have changed something."""
        return sum(number for (verb, _), number in self.requests.items() if verb in WRITING_VERBS)


class RequestCounter:
    """Counts; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()

    def add(self, verb: str, resource: str) -> None:
        with self._lock:
            self._requests[verb, resource] += 1

    def snapshot(self) -> RequestCounts:
        with self._lock:
            return RequestCounts(MappingProxyType(dict(self._requests)))


@contextlib.contextmanager
def logged(verb: str, path: str) -> Iterator[Callable[[int], None]]:
    """Log how long one try takes; what it gives takes the status of the answer, which is 0 where none came."""
    began, status = trio.current_time(), 0

    def note(answered: int) -> None:
        nonlocal status
        status = answered

    try:
        yield note
    finally:
        duration_ms = round((trio.current_time() - began) * 1000)
        _log.debug("request_ended", verb=verb, path=path, status=status, duration_ms=duration_ms)
