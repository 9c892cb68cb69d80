"""What Miwen counts. `docs/operations.md` lists it.

The labels of a Decryptor are its namespace and name, which any user of the cluster who may list Decryptors sees, and
commit hashes. Nothing that a repository holds is ever a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import attrs
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jiemi.core.names import NamespacedName
from jiemi.miwen.kubernetes.counts import RequestCounts
from jiemi.miwen.report.events import EventCounts


@attrs.frozen
class Followed:
    """What the metrics say of a Decryptor.

    Attributes:
        deployed: the revision that is deployed; "" where none is.
        seen: the newest revision that was seen; "" where none was.
        ready: whether it is ready.
        objects: how many it has in the cluster.
        drifted: how many of them differ and are not corrected.
    """

    deployed: str
    seen: str
    ready: bool
    objects: int
    drifted: int


class MiwenMetrics:
    """Counters of one Miwen.

    Args:
        requests: how many requests went to the API server until now.
        events: how many Events were written, left out or failed until now.
    """

    def __init__(
        self,
        *,
        requests: Callable[[], RequestCounts] | None = None,
        events: Callable[[], EventCounts] | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        self.requests = requests
        self.events = events
        self._followed: dict[NamespacedName, Followed] = {}
        self._ticks = Counter(
            "jiemi_reconcile",
            "Looks at Decryptors, by what came of them: ok, or the reason.",
            ("outcome",),
            registry=self.registry,
        )
        self._deployments = Counter("jiemi_deployments", "Revisions that were deployed.", registry=self.registry)
        self._corrections = Counter(
            "jiemi_drift_corrections",
            "Objects that another had changed and that were applied again.",
            registry=self.registry,
        )
        self.registry.register(_Followed(self))

    def tick(self, outcome: str) -> None:
        """Count a look: "ok" or a reason."""
        self._ticks.labels(outcome).inc()

    def deployed(self) -> None:
        """Count a deployment."""
        self._deployments.inc()

    def corrected(self, objects: int) -> None:
        """Count objects that were put right."""
        self._corrections.inc(objects)

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

    def value(self, name: str, **labels: str) -> float:
        """A number's present value; 0 for one that nothing counted."""
        return self.registry.get_sample_value(name, labels) or 0.0


class _Followed(Collector):
    """Recreated at each scrape: a label that changes, such as a revision, then leaves nothing behind."""

    def __init__(self, metrics: MiwenMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        names = ("namespace", "name")
        ready = GaugeMetricFamily("jiemi_decryptor_ready", "Whether a Decryptor is ready.", labels=names)
        objects = GaugeMetricFamily("jiemi_decryptor_objects", "Objects that a Decryptor has.", labels=names)
        drifted = GaugeMetricFamily(
            "jiemi_decryptor_drifted_objects", "Objects that differ from git and are not corrected.", labels=names
        )
        revision = InfoMetricFamily(
            "jiemi_decryptor_revision", "The commit that is deployed, and the newest that was seen.", labels=names
        )
        for key, followed in list(self._metrics.followed.items()):
            ready.add_metric(key, float(followed.ready))
            objects.add_metric(key, followed.objects)
            drifted.add_metric(key, followed.drifted)
            revision.add_metric(key, {"deployed": followed.deployed, "seen": followed.seen})
        yield from (ready, objects, drifted, revision)
        if self._metrics.requests is not None:
            requests = CounterMetricFamily(
                "jiemi_kubernetes_requests", "Requests to the API server, each try.", labels=("verb", "resource")
            )
            for labels, number in self._metrics.requests().requests.items():
                requests.add_metric(labels, number)
            yield requests
        if self._metrics.events is not None:
            events = CounterMetricFamily("jiemi_events", "Events, by what became of them.", labels=("outcome",))
            for outcome, number in attrs.asdict(self._metrics.events()).items():
                events.add_metric((outcome,), number)
            yield events
