"""The rules and the dashboard of deploy/monitoring, and what is generated from them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from support.paths import ROOT

FOLDER = ROOT / "deploy" / "monitoring"
RULES = FOLDER / "rules.yaml"
PROMETHEUS_RULE = FOLDER / "prometheusrule.yaml"
DASHBOARD = FOLDER / "dashboard.json"

_MADE = "# Made from rules.yaml by `just docs`: the same rules for the Prometheus operator.\n"


def rule_groups() -> list[dict[str, Any]]:
    """The groups of rules, as they stand in the file."""
    groups: list[dict[str, Any]] = YAML(typ="safe").load(RULES.read_text())["groups"]
    return groups


def alerts() -> list[dict[str, Any]]:
    """All alerts."""
    return [rule for group in rule_groups() for rule in group["rules"]]


def prometheus_rule() -> str:
    """The PrometheusRule of the same rules, as a file."""
    labels = {"app.kubernetes.io/name": "jiemi", "app.kubernetes.io/part-of": "jiemi"}
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "jiemi", "namespace": "jiemi", "labels": labels},
        "spec": {"groups": rule_groups()},
    }
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 10_000
    text = io.StringIO()
    yaml.dump(manifest, text)
    return _MADE + text.getvalue()


def alerts_table() -> str:
    """Every alert with its meaning and what to do, as a Markdown table."""
    rows = ["| alert | severity | after | what it means | what to do |", "| --- | --- | --- | --- | --- |"]
    for alert in alerts():
        summary, action = (_plain(alert["annotations"][name]) for name in ("summary", "action"))
        rows.append(f"| `{alert['alert']}` | {alert['labels']['severity']} | {alert['for']} | {summary} | {action} |")
    return "\n".join(rows) + "\n"


def _plain(text: str) -> str:
    """An annotation without its templates."""
    return re.sub(r"\{\{ \$(?:labels\.)?(\w+) \}\}", lambda found: found[1].upper(), text.strip())


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    """Every expression of the dashboard, with the panel's title; Grafana's variables have values."""
    for panel in _panels(json.loads(DASHBOARD.read_text())):
        for target in panel.get("targets", ()):
            yield panel["title"], with_values(target["expr"])


def with_values(expression: str) -> str:
    """A dashboard's expression as Grafana sends it where nothing is chosen."""
    return expression.replace("$__rate_interval", "2m").replace("$namespace", ".*")


def _panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())
