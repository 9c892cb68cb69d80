"""The chart in the place of Kustomize, on a real kubelet: upgraded from its defaults to webhooks and more, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pods.conftest import PODS, ROOT
from support.kubernetes.helm_chart import CHART, run_helm
from support.kubernetes.kubectl import Kubectl
from support.pods.cluster import given
from support.pods.demo import Demo, until
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
    installed("delete", "crds", *(f"{plural}.monitoring.coreos.com" for plural, _ in _OPERATORS_KINDS))
    installed("delete", "configmap", "log-levels", "--ignore-not-found")
    installed("apply", "-k", str(ROOT / "deploy"))
    until("all Pods are ready", lambda: installed("get", "pods").count("1/1") == PODS)


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


def _rolled_out(installed: Kubectl) -> None:
    for workload in ("statefulset/repository", "deployment/miwen"):
        installed("rollout", "status", workload, "--timeout=55s")


def _levels_are_followed(installed: Kubectl) -> bool:
    logs = installed("logs", "--selector=app.kubernetes.io/component=miwen", "--tail=-1")
    lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
    return any(each["event"] == "tick_ended" and each["level"] == "debug" for each in lines)


async def test_an_upgrade_switches_webhooks_monitoring_and_log_levels_on_and_another_one_off_again(
    installed: Kubectl, helm: Helm, demo: Demo
) -> None:
    installed("apply", "-f", "-", given=[_LEVELS, *(_definition(*each) for each in _OPERATORS_KINDS)])
    helm("install", "jiemi", CHART, "--take-ownership", "--force-conflicts")
    _rolled_out(installed)
    demo.push("Hello by helm")
    until("it is deployed", lambda: demo.plain()["greeting"] == "Hello by helm")

    helm("upgrade", "jiemi", CHART, "--force-conflicts", values=VALUES)
    _rolled_out(installed)
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

        helm("upgrade", "jiemi", CHART, "--force-conflicts", "--reset-values")
        _rolled_out(installed)
        assert "webhooks" not in installed("get", "services", "--output=name")
        (container,) = json.loads(installed("get", "deployment", "miwen", "--output=json"))["spec"]["template"]["spec"][
            "containers"
        ]
        assert not [each for each in container["args"] if "webhooks" in each]
        assert [each["name"] for each in container["ports"]] == ["metrics"]
    finally:
        demo.kubectl("delete", "secret", "hook")
    demo.push("Hello without a webhook")
    demo.kubectl("patch", "decryptor", "demo", "--type=merge", '--patch={"spec": {"interval": "10s"}}')
    until("it is followed as before", lambda: demo.plain()["greeting"] == "Hello without a webhook")
