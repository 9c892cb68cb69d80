"""What the metrics of both services have in common: about the process, its loops, its slots and its build."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import attrs
from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jiemi import __version__
from jiemi.metrics.health import Health

SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""The bounds of every histogram: from an answer of a local store to the longest that a deployment usually takes."""

# A second sample for each counter and histogram, which says since when it counts; the process's start says the same.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Slots(Protocol):
    """Slots for work (`jiemi.concurrency.fair_limiter`). They are read in trio's thread."""

    @property
    def running(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    @property
    def oldest_wait_seconds(self) -> float: ...


@attrs.frozen
class SlotUse:
    """How slots are used at a moment.

    Attributes:
        used: how many are taken.
        waiting: how many pieces of work wait for one.
        oldest_wait_seconds: for how long the one of them has waited that waits the longest; 0 where none does.
    """

    used: int
    waiting: int
    oldest_wait_seconds: float


class ServiceMetrics:
    """The metrics that both services have. Each adds its own to the registry.

    Args:
        component: the service's name, "miwen" or "krapao".

    Attributes:
        certificate_ends: when the certificate ends that this service shows the other, in seconds since 1970; None
            where it has shown none.
        spans: how many spans there were, by what became of them; empty where no traces are collected. From any thread.
    """

    def __init__(self, component: str) -> None:
        self.registry = CollectorRegistry()
        self.health = Health()
        ProcessCollector(registry=self.registry)
        build = Info("jiemi_build", "The release of this service.", registry=self.registry)
        build.info({"component": component, "version": __version__})
        self.certificate_ends: Callable[[], float | None] = lambda: None
        self.spans: Callable[[], Mapping[str, int]] = dict
        self._slots: dict[str, Slots] = {}
        self._slot_use: dict[str, SlotUse] = {}
        self.registry.register(_Common(self))

    def watch_slots(self, name: str, slots: Slots) -> None:
        """Show how some slots are used.

        Args:
            name: what they are for: a word of the program's, which is a label.
        """
        self._slots[name] = slots

    def forget_slots(self, name: str) -> None:
        """Show those slots no longer."""
        self._slots.pop(name, None)

    def prepare(self) -> None:
        """Read what can be read in trio's thread alone; the page is then made on another one."""
        self._slot_use = {
            name: SlotUse(slots.running, slots.waiting, slots.oldest_wait_seconds)
            for name, slots in self._slots.items()
        }

    @property
    def slot_use(self) -> dict[str, SlotUse]:
        """As it was at the last `prepare`."""
        return self._slot_use

    def value(self, name: str, **labels: str) -> float:
        """A number's present value; 0 for one that nothing counted."""
        return self.registry.get_sample_value(name, labels) or 0.0


class _Common(Collector):
    def __init__(self, metrics: ServiceMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        ages = GaugeMetricFamily(
            "jiemi_loop_age_seconds", "How long ago a loop of the process moved on.", labels=("loop",)
        )
        for loop in self._metrics.health.loops():
            ages.add_metric((loop.name,), loop.seconds)
        used = GaugeMetricFamily("jiemi_slots_used", "Slots that are taken, by what they are for.", labels=("slots",))
        waiting = GaugeMetricFamily("jiemi_slots_waiting", "Pieces of work that wait for a slot.", labels=("slots",))
        oldest = GaugeMetricFamily(
            "jiemi_slots_oldest_wait_seconds",
            "How long the work has waited for a slot that waits the longest.",
            labels=("slots",),
        )
        for name, use in self._metrics.slot_use.items():
            used.add_metric((name,), use.used)
            waiting.add_metric((name,), use.waiting)
            oldest.add_metric((name,), use.oldest_wait_seconds)
        yield from (ages, used, waiting, oldest)
        spans = self._metrics.spans()
        if spans:
            family = CounterMetricFamily(
                "jiemi_trace_spans",
                "Spans for the collector of --traces-endpoint, by what became of them: sent, queue_full, refused, "
                "not_sent; absent without it.",
                labels=("outcome",),
            )
            for outcome, number in spans.items():
                family.add_metric((outcome,), number)
            yield family
        ends = self._metrics.certificate_ends()
        if ends is not None:
            yield GaugeMetricFamily(
                "jiemi_certificate_not_after_timestamp_seconds",
                "When the certificate ends by which the other service knows this one; absent without TLS.",
                value=ends,
            )
