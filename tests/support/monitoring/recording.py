"""Pages of metrics over time, as Prometheus would have scraped them, for promtool to try rules on.

A recording has a timeline of its own, one page of each service every 30 s. A test that runs in real time may record
more often and so stretch the time: then timestamps among the values are stretched too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path

import attrs
from prometheus_client.parser import text_string_to_metric_families
from support.monitoring.promtool import Promtool
from support.monitoring.rules import RULES

_ABSENT, _STALE = "_", "stale"


@attrs.define
class Recording:
    """What was scraped.

    Attributes:
        folder: where promtool finds it.
        epoch: the moment at which the timeline begins, in seconds since 1970. (promtool's begins in 1970.)
        stretch: how many seconds of the timeline a second is.
        only: the metrics that are recorded; None: all.
        every_seconds: between two pages on the timeline; at most 300, or Prometheus forgets what was.
    """

    folder: Path
    epoch: float
    stretch: float = 1.0
    only: Collection[str] | None = None
    every_seconds: int = 30
    _series: dict[str, list[str]] = attrs.field(factory=dict)
    _count: int = 0

    @property
    def minutes(self) -> float:
        """How long the timeline is until now: the time of the last page."""
        return (self._count - 1) * self.every_seconds / 60

    def scrape(self, pages: Mapping[str, str | None]) -> None:
        """Record what the services' pages show now. A page is None where there is no answer."""
        found: dict[str, str] = {}
        for service, page in pages.items():
            found |= self._samples(service, page) if page is not None else {}
        for series, value in found.items():
            values = self._series.setdefault(series, [])
            values += [_ABSENT] * (self._count - len(values))
            values.append(value)
        for values in self._series.values():
            if len(values) == self._count:
                # As Prometheus does where a series is no longer on the page, or the page is gone.
                values.append(_STALE if values and values[-1] not in (_ABSENT, _STALE) else _ABSENT)
        self._count += 1

    def _samples(self, service: str, page: str) -> dict[str, str]:
        target = {"namespace": "jiemi", "pod": f"{service}-0", "instance": f"{service}:9090", "job": "jiemi/jiemi"}
        found = {}
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if self.only is not None and sample.name not in self.only:
                    continue
                value = float(sample.value)
                if sample.name.endswith("_timestamp_seconds"):
                    value = (value - self.epoch) * self.stretch
                labels = ", ".join(f"{name}={json.dumps(text)}" for name, text in (target | sample.labels).items())
                found[f"{sample.name}{{{labels}}}"] = _written(value)
        return found

    # --- what Prometheus makes of it

    def require_alerts(self, promtool: Promtool, wanted: Mapping[float, Mapping[str, int]]) -> None:
        """Require that at each of these minutes exactly these alerts fire, each so often."""
        tests: list[dict[str, object]] = [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{round(minutes * 60)}s",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": count} for name, count in alerts.items()
                ],
            }
            for minutes, alerts in wanted.items()
        ]
        self._test(promtool, tests)

    def require_values(self, promtool: Promtool, expressions: Collection[str], *, minutes: float) -> None:
        """Require that every expression has a value at that minute."""
        tests: list[dict[str, object]] = [
            {
                "expr": f"count({expression}) > bool 0",
                "eval_time": f"{round(minutes * 60)}s",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for expression in expressions
        ]
        self._test(promtool, tests)

    def _test(self, promtool: Promtool, tests: list[dict[str, object]]) -> None:
        series = [{"series": name, "values": _short(values)} for name, values in self._series.items()]
        path = self.folder / "test.yaml"
        # JSON is YAML.
        path.write_text(
            json.dumps(
                {
                    "rule_files": [str(RULES)],
                    "evaluation_interval": f"{self.every_seconds}s",
                    "tests": [
                        {"interval": f"{self.every_seconds}s", "input_series": series, "promql_expr_test": tests},
                    ],
                }
            )
        )
        promtool("test", "rules", path)


def _written(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return ("Inf" if value > 0 else "-Inf") if math.isinf(value) else f"{value:.6f}".rstrip("0").rstrip(".")


def _short(values: list[str]) -> str:
    """The values with repetitions as promtool writes them: `3 1x4` is 3 1 1 1 1 1."""
    parts: list[str] = []
    position = 0
    while position < len(values):
        end = position
        while end < len(values) and values[end] == values[position]:
            end += 1
        count, value = end - position, values[position]
        if count == 1 or value == _STALE:
            parts += [value] * count
        else:
            parts.append(f"{value}x{count}" if value == _ABSENT else f"{value}x{count - 1}")
        position = end
    return " ".join(parts)
