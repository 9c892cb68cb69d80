"""Every expression of the dashboard has a value on the pages of real services, and they hold what the docs say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from support.e2e.lab import Lab, until
from support.e2e.scene import METRICS, Scene, config_map, listed, secret
from support.e2e.timeline import Timeline, page_of
from support.metrics_pages import total
from support.monitoring.examples import described, krapao_metrics, miwen_metrics, page
from support.monitoring.expressions import unknown_in
from support.monitoring.promtool import Promtool
from support.monitoring.rules import alerts, dashboard_expressions
from support.network.tls_folders import tls_pair
from support.traces.collector import collector
from support.webhooks.delivery import deliver
from support.webhooks.requests import request

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-dashboard"
SERIES_OF_ONE = 10
"""The most series that a Decryptor has, beside one for each warning."""


@pytest.fixture(scope="module")
def timeline(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Timeline]:
    """Services in whose cluster there is one of everything that the dashboard shows."""
    with collector() as it:
        traces = ("--traces-endpoint", it.url)
        lab.namespace(NAMESPACE)
        tls = tls_pair(lab.folder / "dashboard")
        krapao, address = lab.start_krapao_on_tcp(tls, *METRICS, *traces, name="dashboard")
        kubeconfig = _without_a_watch_of_configmaps(lab)
        active = ("--lease", f"{NAMESPACE}/jiemi-miwen", "--tls-dir", tls.miwen)
        webhooks = ("--webhooks-listen", "127.0.0.1:0")
        miwen = lab.start_miwen(address, NAMESPACE, *METRICS, *traces, *active, *webhooks, kubeconfig=kubeconfig)
        scene = Scene(lab, NAMESPACE)
        scene.follow("app", secret("app", a="one"))
        scene.write(scene.secret_path("app"), {"data": {"a": "dGhlaXJz"}})
        until("the drift is corrected", lambda: scene.data("app") == {"a": "one"})
        scene.follow("config", config_map("config", a="one"))
        paused, _ = scene.follow("paused", secret("paused", a="one"))
        scene.put("paused", paused.url, suspend=True)
        mac = lab.repository({"secret.enc.yaml": lab.encrypt_mac_only(listed(secret("mac", a="one")))})
        scene.put("mac", mac.url)
        missing = {"age": {"privateKey": {"secretName": "not-there", "key": "age"}}}
        scene.put("broken", mac.url, provider=missing)
        scene.until_condition("mac", "MacOnlyEncrypted", "True", "MacNotOfEverything")
        lab.until_reason(NAMESPACE, "broken", "SecretNotFound")
        assert until("webhooks are received", lambda: deliver(miwen, request("github"), NAMESPACE, "none")) == 403
        timeline = Timeline.begin({"krapao": krapao, "miwen": miwen}, tmp_path_factory.mktemp("dashboard"))
        until(
            "the watch of ConfigMaps has failed",
            lambda: total(page_of(miwen) or "", "jiemi_watch_failures_total", resource="configmaps") > 0,
        )
        timeline.go_on(5)
        yield timeline
        lab.end_services()


def _without_a_watch_of_configmaps(lab: Lab) -> Path:
    rules = [
        {"apiGroups": ["jiemi.cr"], "resources": ["decryptors", "decryptors/status"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
    ]
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": NAMESPACE}, "rules": rules}
    lab.admin.apply(role).ok()
    # Not called miwen: where deploy/ was applied, its policy lets a miwen write nothing of its own namespace.
    subject = {"kind": "ServiceAccount", "name": "follower", "namespace": NAMESPACE}
    lab.admin.apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAMESPACE},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": NAMESPACE},
            "subjects": [subject],
        }
    ).ok()
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "follower", "namespace": NAMESPACE}}
    lab.admin.apply(account).ok()
    return lab.service_account_kubeconfig(NAMESPACE, "follower")


@pytest.fixture
def pages(timeline: Timeline) -> list[str]:
    return [page_of(service) or "" for service in timeline.services.values()]


def test_every_expression_of_the_dashboard_has_a_value(timeline: Timeline, promtool: Promtool) -> None:
    expressions = [expression for _, expression in dashboard_expressions()]
    timeline.recording.require_values(promtool, expressions, minutes=timeline.recording.minutes)
    with pytest.raises(AssertionError, match="jiemi_no_such"):
        timeline.recording.require_values(promtool, ["jiemi_no_such"], minutes=timeline.recording.minutes)


def test_every_metric_and_label_of_rules_and_dashboard_is_on_the_real_pages(pages: list[str]) -> None:
    for where, expression in [(each["alert"], each["expr"]) for each in alerts()] + list(dashboard_expressions()):
        assert unknown_in(expression, pages) == [], where


def test_the_real_pages_have_the_metrics_that_the_docs_list_with_their_labels_and_no_others(pages: list[str]) -> None:
    krapao, miwen = pages
    for real, listed_ones in ((krapao, page(trio.run(krapao_metrics))), (miwen, page(miwen_metrics()))):
        assert sorted(described(real), key=str) == sorted(described(listed_ones), key=str)


def test_a_decryptor_has_few_series_and_krapao_none_that_a_tenant_names(pages: list[str]) -> None:
    krapao, miwen = pages
    series = Counter(
        sample.labels["name"]
        for family in text_string_to_metric_families(miwen)
        for sample in family.samples
        if "name" in sample.labels and sample.name != "jiemi_decryptor_warning"
    )
    assert set(series) == {"app", "config", "paused", "mac", "broken"}
    assert max(series.values()) <= SERIES_OF_ONE
    for page_ in pages:
        # The name of a Krapao is what the operator gives: its address here, that of its Pod in a cluster.
        named_by_others = re.sub(r'krapao="[^"]*"', "", page_)
        for word in ("127.0.0.1", "http", ".git", "enc.yaml", "not-there"):
            assert word not in named_by_others
    assert NAMESPACE not in krapao
