"""What Krapao counts. `docs/operations.md` lists it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class KrapaoMetrics:
    """Counters of one Krapao."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._key_requests = Counter(
            "jiemi_key_requests",
            "Requests for data keys that files made, by the kind of key and what became of them.",
            ("provider", "outcome"),
            registry=self.registry,
        )
        self._decryptions = Counter(
            "jiemi_decryptions",
            "Files that were to be decrypted, by what became of them: ok, or the reason.",
            ("outcome",),
            registry=self.registry,
        )
        self._holders = Gauge("jiemi_key_holders", "Processes that hold credentials now.", registry=self.registry)

    def key_request(self, provider: str, outcome: str) -> None:
        """Count a request for a data key."""
        self._key_requests.labels(provider, outcome).inc()

    def decryption(self, outcome: str) -> None:
        """Count a file: "ok" or a reason."""
        self._decryptions.labels(outcome).inc()

    def watch_holders(self, count: Callable[[], int]) -> None:
        """Show how many holders there are, by asking each time."""
        self._holders.set_function(count)

    def value(self, name: str, **labels: str) -> float:
        """A counter's present value; 0 for one that nothing counted."""
        return self.registry.get_sample_value(name, labels) or 0.0
