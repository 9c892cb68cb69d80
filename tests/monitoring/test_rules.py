"""The rules and the dashboard of deploy/monitoring, read as they are: made from one source, and of metrics that exist.

That each alert fires by its cause, and that each expression of the dashboard has a value, is shown where the causes
are: `FIRED_BY` says where. tests/e2e/test_dashboard.py compares with the pages of real services.
"""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
import trio
from ruamel.yaml import YAML
from support.kubernetes.deploy_manifests import read_kustomization, read_yaml
from support.kubernetes.kubectl import Kubectl
from support.monitoring.examples import described, krapao_metrics, metrics_table, miwen_metrics, page
from support.monitoring.expressions import metrics_and_labels, unknown_in
from support.monitoring.promtool import Promtool
from support.monitoring.rules import (
    DASHBOARD,
    FOLDER,
    PROMETHEUS_RULE,
    RULES,
    alerts,
    alerts_table,
    dashboard_expressions,
    prometheus_rule,
)
from support.paths import ROOT

from jiemi.core.api.conditions import WARNINGS
from jiemi.core.api.doc_tables import with_tables
from jiemi.core.decisions.conditions import PLANNED, SYNCED
from jiemi.core.reasons import REASONS, UNVERIFIED
from jiemi.miwen.webhooks.receiver import Outcome
from jiemi.rpc.admission import REFUSALS

_WORLD, _E2E, _GIT = "miwen/report/test_alerts.py", "e2e/test_alerts.py", "krapao/git/test_alerts.py"
_TRUST, _WEBHOOKS = "monitoring/test_leadership_and_trust.py", "monitoring/test_webhooks.py"

FIRED_BY = {
    "JiemiMiwenDown": _E2E,
    "JiemiKrapaoDown": _E2E,
    "JiemiKrapaoUnreachable": _E2E,
    "JiemiKrapaoLost": _TRUST,
    "JiemiNobodyLeads": _TRUST,
    "JiemiCertificateExpires": _TRUST,
    "JiemiDecryptorNotReady": _E2E,
    "JiemiRepositoryNotSeen": _E2E,
    "JiemiKeyServiceUnreachable": _E2E,
    "JiemiDecryptorNotLookedAt": _WORLD,
    "JiemiDriftConflict": _WORLD,
    "JiemiWatchClosed": _WORLD,
    "JiemiQueueSlow": _WORLD,
    "JiemiOperatorNeeded": _WORLD,
    "JiemiDecryptorsTurnedAway": _WORLD,
    "JiemiKeyExpiring": _WORLD,
    "JiemiSuspendedForLong": _WORLD,
    "JiemiRevisionNotVerified": _WORLD,
    "JiemiWebhookUnusable": _WEBHOOKS,
    "JiemiWebhooksRefused": _WEBHOOKS,
    "JiemiStrangersAtKrapao": _TRUST,
    "JiemiStoreFull": _GIT,
}
"""The tests that produce the cause of each alert and require that it fires."""


def _pages() -> list[str]:
    return [page(miwen_metrics()), page(trio.run(krapao_metrics))]


def test_every_alert_is_fired_by_a_test_that_produces_its_cause() -> None:
    assert set(FIRED_BY) == {alert["alert"] for alert in alerts()}
    for name, path in FIRED_BY.items():
        tree = ast.parse((ROOT / "tests" / path).read_text())
        tests = [each for each in tree.body if isinstance(each, ast.AsyncFunctionDef | ast.FunctionDef)]
        naming = [
            test.name
            for test in tests
            if test.name.startswith("test_")
            and any(isinstance(node, ast.Constant) and node.value == name for node in ast.walk(test))
            and any(isinstance(node, ast.Attribute) and node.attr.startswith("require") for node in ast.walk(test))
        ]
        assert naming, f"{path} does not fire {name}"


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_each_alert_says_what_it_means_and_what_to_do(alert: dict[str, Any]) -> None:
    assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert set(alert["annotations"]) == {"summary", "action"}
    assert all(
        text.strip().endswith((".", ")")) or text.strip()[-1].isalpha() for text in alert["annotations"].values()
    )


def test_every_metric_and_label_of_rules_and_dashboard_exists() -> None:
    pages = _pages()
    expressions = [(alert["alert"], alert["expr"]) for alert in alerts()] + list(dashboard_expressions())
    assert len(expressions) > 50
    for where, expression in expressions:
        assert unknown_in(expression, pages) == [], where
    # What is compared finds a mistake.
    assert unknown_in('sum by (nmae) (jiemi_decryptor_ready{namepsace="x"})', pages) == ["namepsace", "nmae"]
    assert unknown_in("rate(jiemi_reconcile[5m])", pages) == ["jiemi_reconcile"]


def test_the_alert_about_signatures_has_all_reasons_for_which_a_revision_is_not_trusted() -> None:
    [alert] = [each for each in alerts() if each["alert"] == "JiemiRevisionNotVerified"]
    assert metrics_and_labels(alert["expr"]).values["reason"] == UNVERIFIED


def test_every_value_of_a_label_that_rules_and_dashboard_compare_with_can_be_there() -> None:
    # A word that nobody writes any longer would match nothing, and an alert by it would never fire.
    known: dict[str, set[str]] = {
        "component": {"miwen", "krapao"},
        "namespace": {".*"},  # for $namespace
        "outcome": {each.value for each in Outcome},
        "ready": {"True", "False", "Unknown"},
        "reason": {*REASONS, SYNCED, PLANNED},
        "suspended": {"true", "false"},
        "type": set(WARNINGS),
        "why": set(REFUSALS),
    }
    for where, expression in [(each["alert"], each["expr"]) for each in alerts()] + list(dashboard_expressions()):
        for label, values in metrics_and_labels(expression).values.items():
            assert values <= known[label], where


def test_every_metric_is_on_the_dashboard() -> None:
    used = {name for _, expression in dashboard_expressions() for name in metrics_and_labels(expression).metrics}
    metrics = [each for text in _pages() for each in described(text)]
    left_out = {
        each.name
        for each in metrics
        if each.name not in used and not used & {f"{each.name}_bucket", f"{each.name}_count", f"{each.name}_sum"}
    }
    assert left_out == set()


def test_the_tables_of_the_docs_and_the_rules_of_the_operator_are_made_from_what_there_is() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    miwen, krapao = _pages()
    tables = {
        "miwen-metrics": metrics_table(miwen),
        "krapao-metrics": metrics_table(krapao),
        "alerts": alerts_table(),
    }
    assert with_tables(text, tables) == text, "run `just docs`"
    assert PROMETHEUS_RULE.read_text() == prometheus_rule(), "run `just docs`"


def test_the_dashboard_has_what_grafana_needs() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] >= 36
    assert dashboard["uid"] == "jiemi"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} is on another"
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"]
            assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "namespace"}


def test_the_pod_monitor_finds_both_pods_and_keeps_the_namespaces_of_decryptors(
    manifests: list[dict[str, Any]],
) -> None:
    [monitor] = read_yaml(FOLDER / "podmonitor.yaml")
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    pods = [each["spec"]["template"] for each in manifests if each["kind"] in ("Deployment", "StatefulSet")]
    assert len(pods) == 2
    for pod in pods:
        assert wanted <= pod["metadata"]["labels"].items()
        (container,) = pod["spec"]["containers"]
        assert endpoint["port"] in [port["name"] for port in container["ports"]]
    assert monitor["metadata"]["namespace"] == "jiemi"


@pytest.mark.e2e
def test_prometheus_takes_the_rules_and_every_expression_of_the_dashboard(promtool: Promtool, tmp_path: Any) -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    # Records are not evaluated here, but parsed.
    records = [
        {"record": f"panel:{number}", "expr": expression}
        for number, (_, expression) in enumerate(dashboard_expressions())
    ]
    path = tmp_path / "dashboard.yaml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": records}]}))
    assert f"{len(records)} rules found" in promtool("check", "rules", path)
    path.write_text(json.dumps({"groups": [{"name": "wrong", "rules": [{"record": "x", "expr": "sum(x"}]}]}))
    promtool("check", "rules", path, status=1)


@pytest.mark.e2e
def test_prometheus_finds_no_fault_in_the_names_and_kinds_of_the_metrics(promtool: Promtool) -> None:
    for text in _pages():
        assert promtool("check", "metrics", given=text) == ""
    wrong = "# HELP jiemi_x_milliseconds What.\n# TYPE jiemi_x_milliseconds counter\njiemi_x_milliseconds 1\n"
    promtool("check", "metrics", given=wrong, status=3)


@pytest.mark.e2e
def test_kustomize_builds_the_folder(kubectl_program: Any, tmp_path: Any) -> None:
    kubectl = Kubectl(kubectl_program, tmp_path, tmp_path / "none", "default")
    built = list(YAML(typ="safe").load_all(kubectl("kustomize", str(FOLDER))))
    by_kind = {each["kind"]: each for each in built}
    assert set(by_kind) == {"PodMonitor", "PrometheusRule", "ConfigMap"}
    assert by_kind["ConfigMap"]["metadata"]["name"] == "jiemi-dashboard"
    assert json.loads(by_kind["ConfigMap"]["data"]["jiemi.json"]) == json.loads(DASHBOARD.read_text())
    assert by_kind["PrometheusRule"]["spec"]["groups"][0]["rules"] == alerts()


def test_what_is_for_the_operator_is_no_part_of_the_base() -> None:
    kinds = {each["kind"] for each in read_kustomization(ROOT / "deploy")}
    assert not kinds & {"PodMonitor", "PrometheusRule"}
