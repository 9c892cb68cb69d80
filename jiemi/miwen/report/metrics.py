"""What Miwen counts. `docs/operations.md` lists it.

The labels are words of the program's, reasons (`jiemi.core.reasons`), plural names of kinds that the API server
serves, and of a Decryptor its namespace and name, which any user of the cluster who may list Decryptors sees, and
commit hashes.
Nothing else that a repository or a tenant holds is ever a label, so there are as many series as Decryptors, times a
number that is fixed. Those of a Decryptor vanish with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs
from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jiemi.core.errors import Failure
from jiemi.core.names import NamespacedName
from jiemi.metrics.registry import SECONDS_BUCKETS, ServiceMetrics
from jiemi.miwen.kubernetes.counts import RequestCounts
from jiemi.miwen.kubernetes.watch_counts import WatchCounts
from jiemi.miwen.report.events import EventCounts
from jiemi.miwen.report.followed import Followed

_UNREACHABLE = frozenset({"KrapaoUnavailable", "KrapaoAccessDenied", "KrapaoNotTrusted"})
"""Outcomes of calls that Krapao did not answer."""

_DECRYPTOR = ("namespace", "name")


class MiwenMetrics(ServiceMetrics):
    """Counters of one Miwen.

    Args:
        requests: how many requests went to the API server until now.
        events: how many Events were written, left out or failed until now.

    Attributes:
        watches: how the watches fare.
        turned_away: how many Decryptors are turned away for want of memory.
        leading: whether this Miwen is the active one; None where there is only one.
        webhooks: how many webhooks can be used, and how many Secrets declare one that can't; None where none are
            received.
        krapaos: each Krapao, and how many repositories are open on it; None: it is lost.
    """

    def __init__(
        self,
        *,
        requests: Callable[[], RequestCounts] | None = None,
        events: Callable[[], EventCounts] | None = None,
    ) -> None:
        super().__init__("miwen")
        self.requests = requests
        self.events = events
        self.watches = WatchCounts()
        self.turned_away: Callable[[], int] = lambda: 0
        self.leading: Callable[[], bool] | None = None
        self.webhooks: Callable[[], tuple[int, int]] | None = None
        self.krapaos: Callable[[], Mapping[str, int | None]] = dict
        self._followed: dict[NamespacedName, Followed] = {}
        self._ticks = Counter(
            "jiemi_reconcile",
            "Looks at Decryptors, by what came of them: ok, or the reason; and by what happens next: ok, stalled, "
            "waiting or transient.",
            ("outcome", "kind"),
            registry=self.registry,
        )
        self._tick_seconds = Histogram(
            "jiemi_reconcile_duration_seconds",
            "How long looks at Decryptors took, waiting for objects (spec.wait) included, by what happens next.",
            ("kind",),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._phase_seconds = Histogram(
            "jiemi_reconcile_phase_duration_seconds",
            "How long the phases of looks took: head, verify, files, queue, decrypt, apply.",
            ("phase",),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._calls = Counter(
            "jiemi_krapao_calls",
            "Calls of Krapao that have ended: ok, cancelled, or the reason.",
            ("method", "outcome"),
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "jiemi_krapao_call_duration_seconds",
            "How long calls of Krapao took, with what it did for them.",
            ("method",),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._webhooks = Counter(
            "jiemi_webhook_requests",
            "Requests to the port for webhooks, by what became of them; absent without --webhooks-listen.",
            ("outcome",),
            registry=self.registry,
        )
        self._is_reachable: bool | None = None
        self._deployments = Counter("jiemi_deployments", "Revisions that were deployed.", registry=self.registry)
        self._corrections = Counter(
            "jiemi_drift_corrections",
            "Objects that another had changed and that were applied again.",
            registry=self.registry,
        )
        self.registry.register(_Followed(self))
        self.registry.register(_Counted(self))

    def tick(self, failure: Failure | None, seconds: float | None = None) -> None:
        """Count a look.

        Args:
            failure: what went wrong; None: nothing.
            seconds: how long it took; None where nothing was done.
        """
        outcome, kind = (failure.reason, failure.kind.value) if failure is not None else ("ok", "ok")
        self._ticks.labels(outcome, kind).inc()
        if seconds is not None:
            self._tick_seconds.labels(kind).observe(seconds)

    def phases(self, phases: Iterable[tuple[str, float]]) -> None:
        """Count how long the phases of a look took, in seconds."""
        for phase, seconds in phases:
            self._phase_seconds.labels(phase).observe(seconds)

    def call(self, method: str, outcome: str, seconds: float) -> None:
        """Count a call of Krapao that has ended: "ok", "cancelled" or a reason."""
        if outcome in _UNREACHABLE:
            self._is_reachable = False
        elif outcome != "cancelled":
            self._is_reachable = True
        self._calls.labels(method, outcome).inc()
        self._call_seconds.labels(method).observe(seconds)

    @property
    def krapao_is_reachable(self) -> bool | None:
        """Whether the last call that was not cancelled reached Krapao; None: there was none."""
        return self._is_reachable

    def count_webhooks(self, outcomes: Iterable[str], webhooks: Callable[[], tuple[int, int]]) -> None:
        """Webhooks are received from now on.

        Args:
            outcomes: all that may become of a request. Each is shown at once, because Prometheus does not see that a
                series grew which begins with 1.
            webhooks: as the attribute.
        """
        for outcome in outcomes:
            self._webhooks.labels(outcome)
        self.webhooks = webhooks

    def webhook(self, outcome: str) -> None:
        """Count a request to the port for webhooks, by a word of `jiemi.miwen.webhooks.receiver.Outcome`."""
        self._webhooks.labels(outcome).inc()

    def deployed(self) -> None:
        """Count a deployment."""
        self._deployments.inc()

    def corrected(self, objects: int) -> None:
        """Count objects that were put right."""
        self._corrections.inc(objects)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """While the context lasts, this Miwen is the active one. One that waits for its turn shows nothing of what was
        true when it was: the alerts take the largest or the least that any of them shows."""
        try:
            yield
        finally:
            self._is_reachable = None
            self.turned_away = lambda: 0
            self.krapaos = dict
            self.forget_slots("deployments")

    def follow(self, key: NamespacedName, followed: Followed | None) -> None:
        """Report a Decryptor from now on; None: no longer."""
        if followed is None:
            self._followed.pop(key, None)
        else:
            self._followed[key] = followed

    @property
    def followed(self) -> Mapping[NamespacedName, Followed]:
        """All Decryptors that are reported."""
        return self._followed


class _Followed(Collector):
    """Recreated at each scrape: a label that changes, such as a revision, then leaves nothing behind."""

    def __init__(self, metrics: MiwenMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        info = InfoMetricFamily(
            "jiemi_decryptor",
            "The state of a Decryptor: its condition Ready with its reason, whether it is suspended, and the commit "
            "that is deployed.",
            labels=_DECRYPTOR,
        )
        revision = InfoMetricFamily(
            "jiemi_decryptor_revision", "The commit that is deployed, and the newest that was seen.", labels=_DECRYPTOR
        )
        warnings = GaugeMetricFamily(
            "jiemi_decryptor_warning",
            "A condition that reports what needs attention though everything is applied.",
            labels=(*_DECRYPTOR, "type"),
        )
        gauges = {name: GaugeMetricFamily(name, help, labels=_DECRYPTOR) for name, help in _GAUGES.items()}
        for key, followed in list(self._metrics.followed.items()):
            info.add_metric(key, followed.info)
            revision.add_metric(key, {"deployed": followed.deployed, "seen": followed.seen})
            for type_ in followed.warnings:
                warnings.add_metric((*key, type_), 1)
            for name, value in zip(_GAUGES, followed.gauges, strict=True):
                if value is not None:
                    gauges[name].add_metric(key, value)
        yield from (info, revision, warnings, *gauges.values())


_GAUGES = {
    "jiemi_decryptor_ready": "Whether a Decryptor is ready.",
    "jiemi_decryptor_objects": "Objects that a Decryptor has.",
    "jiemi_decryptor_drifted_objects": "Objects that differ from git and are not corrected.",
    "jiemi_decryptor_interval_seconds": "How often a Decryptor is looked at, if nothing happens.",
    "jiemi_decryptor_last_look_timestamp_seconds": "When the last look at a Decryptor ended.",
    "jiemi_decryptor_last_success_timestamp_seconds": (
        "When the last look ended after which all was as the repository says; absent if none has since Miwen started."
    ),
    "jiemi_decryptor_repository_seen_timestamp_seconds": (
        "When the newest revision was last known; absent if it has not been since Miwen started."
    ),
}
"""Metrics of one number per Decryptor, in the order of `Followed.gauges`, each with its help."""


class _Counted(Collector):
    """What is counted elsewhere."""

    def __init__(self, metrics: MiwenMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield GaugeMetricFamily(
            "jiemi_decryptors_turned_away",
            "Decryptors that are not followed, because their namespace has no memory left for them.",
            value=metrics.turned_away(),
        )
        if metrics.krapao_is_reachable is not None:
            yield GaugeMetricFamily(
                "jiemi_krapao_reachable",
                "Whether the last call reached Krapao; absent until there was one.",
                value=float(metrics.krapao_is_reachable),
            )
        yield from _krapaos(metrics.krapaos())
        if metrics.leading is not None:
            yield GaugeMetricFamily(
                "jiemi_leading",
                "Whether this Miwen holds the Lease and so is the active one; absent without --lease.",
                value=float(metrics.leading()),
            )
        if metrics.webhooks is not None:
            usable, unusable = metrics.webhooks()
            yield GaugeMetricFamily(
                "jiemi_webhooks",
                "Webhooks that Secrets declare and that can be used; absent without --webhooks-listen.",
                value=usable,
            )
            yield GaugeMetricFamily(
                "jiemi_webhooks_unusable",
                "Secrets that declare a webhook which can't be used, 256 at most; absent without --webhooks-listen.",
                value=unusable,
            )
        yield from _watches(metrics.watches)
        if metrics.requests is not None:
            requests = CounterMetricFamily(
                "jiemi_kubernetes_requests", "Requests to the API server, each try.", labels=("verb", "resource")
            )
            for labels, number in metrics.requests().requests.items():
                requests.add_metric(labels, number)
            yield requests
        if metrics.events is not None:
            events = CounterMetricFamily("jiemi_events", "Events, by what became of them.", labels=("outcome",))
            for outcome, number in attrs.asdict(metrics.events()).items():
                events.add_metric((outcome,), number)
            yield events


def _krapaos(shares: Mapping[str, int | None]) -> Iterator[Metric]:
    is_lost = GaugeMetricFamily(
        "jiemi_krapao_lost", "Whether a Krapao is lost, so that others serve its repositories.", labels=("krapao",)
    )
    repositories = GaugeMetricFamily(
        "jiemi_krapao_repositories", "Repositories open on a Krapao, one for each Decryptor.", labels=("krapao",)
    )
    for name, share in sorted(shares.items()):
        is_lost.add_metric((name,), float(share is None))
        repositories.add_metric((name,), share or 0)
    yield from (is_lost, repositories)


def _watches(counts: WatchCounts) -> Iterator[Metric]:
    is_open = GaugeMetricFamily(
        "jiemi_watch_open",
        "Whether the watch of a kind that is followed is open, in each namespace that is looked at.",
        labels=("resource",),
    )
    begun = CounterMetricFamily(
        "jiemi_watch_starts", "How often a watch was opened, the first time included.", labels=("resource",)
    )
    failed = CounterMetricFamily(
        "jiemi_watch_failures", "How often a list or a watch failed, by reason.", labels=("resource", "reason")
    )
    for resource, number in list(counts.closed.items()):
        is_open.add_metric((resource,), float(number == 0))
    for resource, number in list(counts.begun.items()):
        begun.add_metric((resource,), number)
    for labels, number in list(counts.failed.items()):
        failed.add_metric(labels, number)
    yield from (is_open, begun, failed)
