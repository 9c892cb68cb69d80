"""deploy/webhooks: the component, as the real kubectl puts it on each install form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML
from support.kubernetes.installing import kustomized
from support.paths import ROOT

from jiemi.cli.main import app

pytestmark = pytest.mark.e2e

COMPONENT = ROOT / "deploy" / "webhooks"


@pytest.fixture(params=["deploy", "install/namespaces", "install/impersonation", "install/anything"])
def by_name(
    request: pytest.FixtureRequest, kubectl_program: Path, tmp_path: Path
) -> dict[tuple[str, str], dict[str, Any]]:
    up = "../" * (len(tmp_path.parts) - 1)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{up}{(ROOT / request.param).relative_to('/')}"],
        "components": [f"{up}{COMPONENT.relative_to('/')}"],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    return {(each["kind"], each["metadata"]["name"]): each for each in kustomized(kubectl_program, tmp_path)}


def test_service_policy_and_flags_meet_the_one_port(by_name: dict[tuple[str, str], dict[str, Any]]) -> None:
    pod = by_name["Deployment", "miwen"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    (port,) = (each for each in container["ports"] if each["name"] == "webhooks")
    assert [each["name"] for each in container["ports"]] == ["metrics", "webhooks"]
    flags = dict(arg.split("=", 1) for arg in container["args"] if "=" in arg)
    assert flags["--webhooks-listen"] == f"*:{port['containerPort']}"
    (env,) = container["env"]
    assert env["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert flags["--webhooks-address"] == f"$({env['name']})"
    service = by_name["Service", "webhooks"]["spec"]
    assert service["selector"].items() <= pod["metadata"]["labels"].items()
    assert [each["targetPort"] for each in service["ports"]] == [port["name"]]
    policy = by_name["NetworkPolicy", "webhooks"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (rule,) = policy["ingress"]
    assert [each["port"] for each in rule["ports"]] == [port["containerPort"]]
    assert {"podSelector": policy["podSelector"]} in rule["from"]


def test_jiemi_takes_the_arguments(by_name: dict[tuple[str, str], dict[str, Any]]) -> None:
    (container,) = by_name["Deployment", "miwen"]["spec"]["template"]["spec"]["containers"]
    assert CliRunner().invoke(app, [*container["args"], "--help"]).exit_code == 0
    assert CliRunner().invoke(app, [*container["args"], "--unknown", "--help"]).exit_code == 2


def test_without_the_component_there_is_no_port(kubectl_program: Path) -> None:
    text = json.dumps(kustomized(kubectl_program, ROOT / "deploy"))
    assert "webhooks" not in text


def test_the_example_of_an_ingress_leads_to_the_service_and_to_nothing_else(
    by_name: dict[tuple[str, str], dict[str, Any]],
) -> None:
    ingress = YAML(typ="safe").load((COMPONENT / "ingress-example.yaml").read_text())
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    service = by_name["Service", "webhooks"]
    assert ingress["metadata"]["namespace"] == service["metadata"]["namespace"]
    assert (path["path"], path["pathType"]) == ("/webhooks/", "Prefix")
    assert path["backend"]["service"]["name"] == "webhooks"
    assert path["backend"]["service"]["port"]["name"] in [each["name"] for each in service["spec"]["ports"]]
    assert ("Ingress", "webhooks") not in by_name
