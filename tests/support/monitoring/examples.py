"""Pages on which every metric is, because each was counted once. The table of docs/operations.md is made from them."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from jiemi.core.errors import Failure
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.metrics.health import Heart
from jiemi.metrics.registry import ServiceMetrics
from jiemi.miwen.kubernetes.counts import RequestCounter
from jiemi.miwen.report.events import EventCounts
from jiemi.miwen.report.followed import Followed, Times
from jiemi.miwen.report.metrics import MiwenMetrics


@attrs.frozen
class Described:
    """A metric as its page describes it.

    Attributes:
        name: as it is queried; of a histogram without _bucket, _sum, _count.
        kind: counter, gauge, histogram.
        labels: their names.
        help: what it is.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


class _OneSlot:
    running, waiting, oldest_wait_seconds = 1, 1, 1.0


def miwen_metrics() -> MiwenMetrics:
    """Everything that a Miwen counts, once."""
    requests = RequestCounter()
    requests.add("apply", "secrets")
    metrics = MiwenMetrics(requests=requests.snapshot, events=EventCounts)
    metrics.health.watch("rpc", Heart().age_seconds, limit_seconds=120)
    metrics.watch_slots("deployments", _OneSlot())
    metrics.tick(Failure("MacMismatch", "the file was changed"), 0.1)
    metrics.phases([("head", 0.1)])
    metrics.call("head", "ok", 0.1)
    metrics.deployed()
    metrics.corrected(1)
    with metrics.watches.following("secrets"), metrics.watches.watching("secrets"):
        pass
    metrics.watches.closed["secrets"] = 0
    metrics.watches.failure("secrets", "WatchForbidden")
    followed = Followed(
        "a" * 40, "a" * 40, ready=True, objects=1, drifted=0, warnings=("KeyExpiring",), times=Times(1, 1, 1)
    )
    metrics.follow(("shop", "app"), followed)
    metrics.count_webhooks(["push"], lambda: (1, 1))
    metrics.webhook("push")
    metrics.leading = lambda: True
    metrics.krapaos = lambda: {"repository-0": 1, "repository-1": None}
    metrics.spans = lambda: {"sent": 1}
    metrics.certificate_ends = lambda: 1.0
    return metrics


async def krapao_metrics() -> KrapaoMetrics:
    """Everything that a Krapao counts, once. Within trio, whose clock measures."""
    metrics = KrapaoMetrics()
    metrics.health.watch("rpc", Heart().age_seconds, limit_seconds=120)
    metrics.watch_slots("fetches", _OneSlot())
    metrics.key_request("vault", "opened")
    metrics.decryption("ok")
    metrics.peer_refused("handshake")
    with metrics.key_request_measured("vault"), metrics.sops_run(), metrics.git_request("fetch", lambda: 1):
        pass
    metrics.spans = lambda: {"sent": 1}
    metrics.certificate_ends = lambda: 1.0
    return metrics


def page(metrics: ServiceMetrics) -> str:
    """The page of those."""
    metrics.prepare()
    return generate_latest(metrics.registry).decode()


def described(text: str) -> Iterator[Described]:
    """The metrics of a page that are Jiemi's own, in their order."""
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("jiemi_") or not family.samples:
            continue
        labels = dict.fromkeys(name for sample in family.samples for name in sample.labels if name != "le")
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield Described(name, family.type, tuple(labels), family.documentation)


def metrics_table(text: str) -> str:
    """The metrics of a page as a Markdown table."""
    rows = ["| metric | kind | labels | what it is |", "| --- | --- | --- | --- |"]
    for each in described(text):
        labels = ", ".join(f"`{label}`" for label in each.labels)
        rows.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help} |")
    return "\n".join(rows) + "\n"
