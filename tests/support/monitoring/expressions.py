"""The metrics and labels that a PromQL expression names. It is no parser: promtool is, and has taken the expression."""

from __future__ import annotations

import re
from collections.abc import Collection

import attrs
from prometheus_client.parser import text_string_to_metric_families

_TARGET_LABELS = frozenset({"instance", "job", "pod", "container", "alertname", "alertstate"})
"""What Prometheus itself adds."""

_METRIC = re.compile(r"\b(?:jiemi|process)_[a-z0-9_]+\b")
_MATCHERS = re.compile(r"\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@attrs.frozen
class Named:
    """What an expression names.

    Attributes:
        metrics: names of series.
        labels: names of labels.
        values: by label, the values that are compared with, alternatives apart.
    """

    metrics: frozenset[str]
    labels: frozenset[str]
    values: dict[str, frozenset[str]]


def metrics_and_labels(expression: str) -> Named:
    """What an expression names."""
    values: dict[str, frozenset[str]] = {}
    for matchers in _MATCHERS.findall(expression):
        for name, value in _MATCHER.findall(matchers):
            values[name] = values.get(name, frozenset()) | frozenset(value.split("|"))
    grouped = {name.strip() for names in _GROUPING.findall(expression) for name in names.split(",") if name.strip()}
    without_texts = re.sub(r'"[^"]*"', '""', expression)
    return Named(frozenset(_METRIC.findall(without_texts)), frozenset(values) | grouped, values)


def unknown_in(expression: str, pages: Collection[str]) -> list[str]:
    """The metrics of an expression that are on none of the pages, and its labels that none of its metrics has."""
    labels: dict[str, set[str]] = {}
    for text in pages:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
    named = metrics_and_labels(expression)
    known = set(_TARGET_LABELS).union(*(labels.get(metric, ()) for metric in named.metrics))
    return sorted(named.metrics - set(labels)) or sorted(named.labels - known)
