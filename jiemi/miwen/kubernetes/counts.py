"""How many requests went to the API server, by what they asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

import attrs

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
