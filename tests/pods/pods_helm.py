"""The chart in the place of Kustomize, on a real kubelet: upgraded from its defaults to webhooks, a proxy, traces and
more, and back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pods.conftest import PODS, ROOT
from support.canaries.forms import forms_of, found_in
from support.kubernetes.helm_chart import CHART, run_helm
from support.kubernetes.kubectl import Kubectl
from support.pods.cluster import given
from support.pods.demo import Demo, until
from support.pods.outward import HOST, LOGIN, Outward, outward
from support.pods.running import until_rolled_out
from support.pods.said import what_is_said
from support.pods.webhooks import SOON_SECONDS, WEBHOOK, addresses_of, deliver, look_hourly, signed_push, taken_up

from jiemi.controlplane.node.arguments import NODE_ADDRESS

Helm = Callable[..., str]

VALUES: Mapping[str, Any] = {
    "krapao": {"allowAddresses": [NODE_ADDRESS], "denyAddresses": ["192.0.2.0/24"]},
    "miwen": {"noCrossNamespace": True, "interval": "1m", "podLabels": {"team": "platform"}},
    "webhooks": {"enabled": True, "proxies": 1, "denyAddresses": ["198.51.100.0/24"]},
    "logs": {"levels": "info,jiemi.miwen.webhooks=debug", "configMapName": "log-levels"},
    "metrics": {
        **{each: {"enabled": True} for each in ("podMonitor", "rules", "dashboard")},
        "labels": {"release": "prometheus"},
    },
    "commonLabels": {"cost-centre": "42"},
}
_OPERATORS_KINDS = (("podmonitors", "PodMonitor"), ("prometheusrules", "PrometheusRule"))
_LEVELS = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "log-levels"},
    "data": {"levels": "info,jiemi.miwen.controller=debug"},
}


@pytest.fixture
def helm(installed: Kubectl, tmp_path: Path) -> Iterator[Helm]:
    """Runs helm in Jiemi's namespace. Afterwards deploy/ is there again, as it is shipped."""

    def run(*arguments: object, values: Mapping[str, Any] | None = None) -> str:
        to = (f"--kubeconfig={installed.kubeconfig}", "--namespace=jiemi")
        status, output = run_helm(Path(given("HELM")), *arguments, *to, home=tmp_path, values=values)
        assert status == 0, output
        return output

    yield run
    run("uninstall", "jiemi", "--ignore-not-found", "--wait")
    definitions = (f"{plural}.monitoring.coreos.com" for plural, _ in _OPERATORS_KINDS)
    installed("delete", "crds", *definitions, "--ignore-not-found")
    installed("delete", "configmap", "log-levels", "--ignore-not-found")
    installed("apply", "-k", str(ROOT / "deploy"))
    until("all Pods are ready", lambda: installed("get", "pods").count("1/1") == PODS)


@pytest.fixture
async def company(installed: Kubectl, demo: Demo, tmp_path: Path) -> AsyncIterator[Outward]:
    """A git host behind a proxy and a collector. What the chart's values name is there."""
    async with outward(demo.repository.bare.parent, tmp_path, demo.repository.url) as made:
        installed("apply", "-f", "-", given=made.objects)
        yield made
        for each in made.objects:
            installed("delete", each["kind"], each["metadata"]["name"])


def _definition(plural: str, kind: str) -> dict[str, Any]:
    """Of the Prometheus operator, as far as the chart needs it."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind, "singular": kind.lower()},
            "versions": [version],
        },
    }


def _levels_are_followed(installed: Kubectl) -> bool:
    logs = installed("logs", "--selector=app.kubernetes.io/component=miwen", "--tail=-1")
    lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
    return any(each["event"] == "tick_ended" and each["level"] == "debug" for each in lines)


def _container(installed: Kubectl, workload: str) -> Any:
    (found,) = json.loads(installed("get", workload, "--output=json"))["spec"]["template"]["spec"]["containers"]
    return found


def _follows_through_the_proxy(installed: Kubectl, company: Outward, demo: Demo) -> None:
    """The repository is had from a host that is known to the proxy alone, and nobody is shown the proxy's password."""
    direct = demo.repository.url
    assert company.git.hits == []  # so far it was the demo's own host, without the proxy (noProxy)
    demo.push("Hello through the proxy")
    _follow(demo, f"https://{HOST}/{demo.repository.bare.name}")
    until("it is deployed", lambda: demo.plain()["greeting"] == "Hello through the proxy", seconds=SOON_SECONDS)
    assert {each.status for each in company.git.hits} == {200}
    services = {"jiemi-krapao", "jiemi-miwen"}
    until("both have sent spans", lambda: {span.service for span in company.collector.spans} == services)
    assert found_in(what_is_said(installed, demo, company.collector, pods=PODS), forms_of(LOGIN[1])) == []
    _follow(demo, direct)


def _follow(demo: Demo, url: str) -> None:
    patch = {"spec": {"source": {"repository": {"url": url}}}}
    demo.kubectl("patch", "decryptor", "demo", "--type=merge", f"--patch={json.dumps(patch)}")


async def test_an_upgrade_switches_webhooks_monitoring_log_levels_a_proxy_and_traces_on_and_another_one_off_again(
    installed: Kubectl, helm: Helm, company: Outward, demo: Demo
) -> None:
    installed("apply", "-f", "-", given=[_LEVELS, *(_definition(*each) for each in _OPERATORS_KINDS)])
    helm("install", "jiemi", CHART, "--take-ownership", "--force-conflicts")
    until_rolled_out(installed)
    demo.push("Hello by helm")
    until("it is deployed", lambda: demo.plain()["greeting"] == "Hello by helm")

    values = {**VALUES, **company.values, "krapao": {**VALUES["krapao"], **company.values["krapao"]}}
    helm("upgrade", "jiemi", CHART, "--force-conflicts", values=values)
    until_rolled_out(installed)
    for name in ("podmonitors", "prometheusrules"):
        found = json.loads(installed("get", name, "--output=json"))["items"]
        assert [each["metadata"]["labels"]["release"] for each in found] == ["prometheus"]
    look_hourly(demo)
    demo.kubectl("apply", "-f", "-", given=WEBHOOK)
    try:
        addresses = addresses_of(installed)
        for address in addresses:
            taken_up(demo, address)
        for number, (host, port) in enumerate(addresses):
            greeting = f"Hello by webhook and helm {number}"
            demo.push(greeting)
            forged = signed_push(demo).without("x-hub-signature-256")
            assert deliver(host, port, forged) == 403
            assert deliver(host, port, signed_push(demo)) == 202
            until("it is deployed", lambda wanted=greeting: demo.plain()["greeting"] == wanted, seconds=SOON_SECONDS)  # type: ignore[misc]
        until("the levels of the ConfigMap hold", lambda: _levels_are_followed(installed))
        _follows_through_the_proxy(installed, company, demo)

        helm("upgrade", "jiemi", CHART, "--force-conflicts", "--reset-values")
        until_rolled_out(installed)
        assert "webhooks" not in installed("get", "services", "--output=name")
        container = _container(installed, "deployment/miwen")
        assert not [each for each in container["args"] if "webhooks" in each or "traces" in each]
        assert not [each for each in _container(installed, "statefulset/repository")["args"] if "proxy" in each]
        assert [each["name"] for each in container["ports"]] == ["metrics"]
    finally:
        demo.kubectl("delete", "secret", "hook")
    demo.push("Hello without a webhook")
    demo.kubectl("patch", "decryptor", "demo", "--type=merge", '--patch={"spec": {"interval": "10s"}}')
    until("it is followed as before", lambda: demo.plain()["greeting"] == "Hello without a webhook")
