"""What Krapao counts. `docs/operations.md` lists it.

The labels are words of the program's and reasons. Neither a tenant nor a repository, and so no host, is ever one.
"""

from __future__ import annotations

import contextlib
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import trio
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jiemi.core.errors import JiemiError
from jiemi.metrics.registry import SECONDS_BUCKETS, ServiceMetrics
from jiemi.rpc.admission import REFUSALS, Refusal

Listing = Literal["none", "ok", "failed"]
"""What became of the last listing of an open repository. "none": it was not listed yet."""

_LISTINGS: tuple[Listing, ...] = ("none", "ok", "failed")


class KrapaoMetrics(ServiceMetrics):
    """Counters of one Krapao."""

    def __init__(self) -> None:
        super().__init__("krapao")
        self._key_requests = Counter(
            "jiemi_key_requests",
            "Requests for data keys that files made, by the kind of key and what became of them.",
            ("provider", "outcome"),
            registry=self.registry,
        )
        self._key_seconds = self._histogram(
            "jiemi_key_request_duration_seconds",
            "How long requests for data keys took for which a key is given.",
            "provider",
        )
        self._decryptions = Counter(
            "jiemi_decryptions",
            "Files that were to be decrypted, by what became of them: ok, cancelled, or the reason.",
            ("outcome",),
            registry=self.registry,
        )
        self._sops_seconds = Histogram(
            "jiemi_sops_run_duration_seconds",
            "How long runs of sops took, with the key services that they waited for.",
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._git_requests = Counter(
            "jiemi_git_requests",
            "Listings and fetches that were asked of git hosts, by what became of them: ok, cancelled, or the reason.",
            ("operation", "outcome"),
            registry=self.registry,
        )
        self._git_seconds = self._histogram(
            "jiemi_git_request_duration_seconds", "How long listings and fetches took.", "operation"
        )
        self._git_bytes = Counter(
            "jiemi_git_received_bytes",
            "What git hosts sent, headers included.",
            ("operation",),
            registry=self.registry,
        )
        self._holders = Gauge("jiemi_key_holders", "Processes that hold credentials now.", registry=self.registry)
        self._store_bytes = Gauge(
            "jiemi_store_bytes", "What the clones take on the volume, as it is counted.", registry=self.registry
        )
        self._store_limit = Gauge(
            "jiemi_store_limit_bytes", "What they may take (--max-store).", registry=self.registry
        )
        self._peers = Counter(
            "jiemi_peers_refused",
            f"Connections to the port that were not let in, or were closed, by why: {', '.join(REFUSALS)}.",
            ("why",),
            registry=self.registry,
        )
        for why in REFUSALS:
            self._peers.labels(why)
        self.listings: Callable[[], Mapping[Listing, int]] = Tally
        self.registry.register(_Repositories(self))

    def _histogram(self, name: str, help: str, label: str) -> Histogram:
        return Histogram(name, help, (label,), buckets=SECONDS_BUCKETS, registry=self.registry)

    def key_request(self, provider: str, outcome: str) -> None:
        """Count a request for a data key."""
        self._key_requests.labels(provider, outcome).inc()

    @contextlib.contextmanager
    def key_request_measured(self, provider: str) -> Iterator[None]:
        """Measure how long a key service takes."""
        with _seconds(self._key_seconds.labels(provider)):
            yield

    def decryption(self, outcome: str) -> None:
        """Count a file: "ok" or a reason."""
        self._decryptions.labels(outcome).inc()

    @contextlib.contextmanager
    def sops_run(self) -> Iterator[None]:
        """Measure a run of sops."""
        with _seconds(self._sops_seconds):
            yield

    @contextlib.contextmanager
    def git_request(self, operation: str, received: Callable[[], int]) -> Iterator[None]:
        """Count and measure one conversation with a git host.

        Args:
            operation: "listing" or "fetch".
            received: how many bytes came; asked at its end.
        """
        outcome = "cancelled"
        try:
            with _seconds(self._git_seconds.labels(operation)):
                yield
            outcome = "ok"
        except JiemiError as error:
            outcome = error.failure.reason
            raise
        finally:
            self._git_requests.labels(operation, outcome).inc()
            self._git_bytes.labels(operation).inc(received())

    def peer_refused(self, why: Refusal) -> None:
        """Count a connection to the port that was not let in, or was closed."""
        self._peers.labels(why).inc()

    def watch_holders(self, count: Callable[[], int]) -> None:
        """Show how many holders there are, by asking each time."""
        self._holders.set_function(count)

    def watch_store(self, size: Callable[[], int], limit_bytes: int) -> None:
        """Show how full the volume is, by asking each time. From any thread."""
        self._store_bytes.set_function(size)
        self._store_limit.set(limit_bytes)


@contextlib.contextmanager
def _seconds(histogram: Histogram) -> Iterator[None]:
    """By trio's clock, as everything is measured here."""
    began = trio.current_time()
    try:
        yield
    finally:
        histogram.observe(trio.current_time() - began)


class _Repositories(Collector):
    def __init__(self, metrics: KrapaoMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "jiemi_repositories",
            "Repositories that are open, by what became of the last listing: none, ok, failed.",
            labels=("listing",),
        )
        listings = self._metrics.listings()
        for listing in _LISTINGS:
            family.add_metric((listing,), listings.get(listing, 0))
        yield family
