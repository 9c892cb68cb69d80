"""No value of an object is told anywhere while it drifts, is planned, refused, waited for and pruned.

As `test_canary.py`, but with what reconciling brings: values of others that are in the cluster, Events, plans, metrics,
and refusals of the API server and of an admission policy, whose own words quote the values.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.canaries.forms import forms_of, found_in
from support.e2e.lab import Lab, git_server, until
from support.e2e.scene import METRICS, Scene, config_map, deployment, metrics_page, secret
from support.processes.threads import again_and_again

from jiemi.core.sensitive import SensitiveText

pytestmark = pytest.mark.e2e

OURS = "canary-ours-3b91f7"
"""In git, encrypted."""
NEXT = "canary-next-a85e02"
"""In git later."""
THEIRS = "canary-theirs-6d10cc"
"""Written by others into the cluster."""
TOKEN = "canary-token-f4470e"
"""A git credential."""

POLICY = "jiemi-canary"


@attrs.define
class Processes:
    """What was seen of all processes of the machine."""

    command_lines: set[bytes] = attrs.field(factory=set)
    environments: set[bytes] = attrs.field(factory=set)

    def look(self) -> None:
        for entry in Path("/proc").glob("[0-9]*"):
            for name, seen in (("cmdline", self.command_lines), ("environ", self.environments)):
                try:
                    seen.add((entry / name).read_bytes())
                except OSError:
                    continue


@contextmanager
def _watching_processes() -> Iterator[Processes]:
    seen = Processes()
    with again_and_again(seen.look, pause_seconds=0.005):
        yield seen


@contextmanager
def _policy_that_quotes_values(scene: Scene) -> Iterator[None]:
    """A ValidatingAdmissionPolicy of the namespace that quotes what it refuses: the ConfigMap "denied", and the Pods of
    the Deployment "waiting"."""
    group = "admissionregistration.k8s.io/v1"
    admin = scene.lab.admin
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["configmaps", "pods"],
    }
    validation = {
        "expression": "object.kind == 'Pod' ? object.metadata.labels.app != 'waiting'"
        " : object.metadata.name != 'denied'",
        "messageExpression": "'not this: '"
        " + (object.kind == 'Pod' ? object.spec.containers[0].env[0].value : object.data.value)",
    }
    names = {"kubernetes.io/metadata.name": scene.namespace}
    admin.apply(
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": POLICY},
            "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [validation]},
        }
    ).ok()
    admin.apply(
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": POLICY},
            "spec": {
                "policyName": POLICY,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": names}},
            },
        }
    ).ok()
    trial = config_map("denied", scene.namespace, value="trial")
    until("the policy is at work", lambda: admin.apply(trial, query="&dryRun=All").status == 422)
    try:
        yield
    finally:
        for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
            admin.call("DELETE", f"/apis/{group}/{kind}/{POLICY}").ok()


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _drift(scene: Scene) -> None:
    scene.follow("drift", secret("drift", a=OURS, b=OURS), config_map("drift", a=OURS), deployment("drift"))
    for patch in ({"data": {"a": _b64(THEIRS)}}, {"data": {"extra": _b64(THEIRS)}}, {"data": {"b": None}}):
        scene.write(scene.secret_path("drift"), patch)
        until("the Secret is right", lambda: scene.data("drift") == {"a": OURS, "b": OURS})
    scene.write(scene.config_path("drift"), {"data": {"a": THEIRS}})
    until("the ConfigMap is right", lambda: (scene.object(scene.config_path("drift")) or {})["data"] == {"a": OURS})
    # Not the Secret: a fourth correction within a minute would be a fight.
    scene.lab.admin.call("DELETE", scene.config_path("drift")).ok()
    until("the ConfigMap is back", lambda: scene.object(scene.config_path("drift")) is not None)
    scene.until_event("drift", "Drifted", "was deleted")
    scene.follow("reported", secret("reported", a=OURS), driftPolicy="Report")
    scene.write(scene.secret_path("reported"), {"data": {"a": _b64(THEIRS), "more": _b64(THEIRS)}})
    scene.until_condition("reported", "Drifted", "True", "Reported")


def _plan(scene: Scene) -> None:
    frozen = secret("plan-frozen", a=OURS) | {"immutable": True}
    repository, _ = scene.follow(
        "plan", secret("plan", a=OURS, gone=OURS), secret("plan-dropped", a=OURS), frozen, prune=True
    )
    scene.write(scene.secret_path("plan"), {"metadata": {"annotations": {"their": THEIRS}}})
    revision = scene.commit(
        repository,
        secret("plan", a=NEXT, more=NEXT),
        secret("plan-new", a=NEXT),
        config_map("plan", a=NEXT),
        frozen | {"stringData": {"a": NEXT}},
    )
    scene.put("plan", repository.url, mode="DryRun", prune=True)
    until("it is planned", lambda: (scene.status("plan").get("plan") or {}).get("revision") == revision)
    actions = {each["action"] for each in scene.status("plan")["plan"]["objects"]}
    assert actions == {"Create", "Change", "Prune", "Refused"}


def _refusals(scene: Scene) -> None:
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "denied": ("AdmissionDenied", config_map("denied", value=OURS)),
        "invalid": ("ApplyRejected", deployment("invalid", replicas=OURS)),
        "invalid-label": ("ApplyRejected", _labelled(secret("invalid-label", a=OURS), OURS + "!")),
        "bad-base64": ("ApplyRejected", secret("bad-base64") | {"data": {"a": OURS}, "stringData": {}}),
    }
    for name, (reason, manifest) in cases.items():
        repository = scene.lab.repository()
        scene.commit(repository, manifest)
        scene.put(name, repository.url)
        scene.lab.until_reason(scene.namespace, name, reason)
    frozen = secret("frozen", a=OURS) | {"immutable": True}
    repository, _ = scene.follow("frozen", frozen)
    scene.commit(repository, frozen | {"stringData": {"a": NEXT}})
    scene.lab.until_reason(scene.namespace, "frozen", "FieldImmutable")
    scene.lab.admin.apply(config_map("conflict", scene.namespace, a=THEIRS)).ok()
    repository = scene.lab.repository()
    scene.commit(repository, config_map("conflict", a=OURS))
    scene.put("conflict", repository.url, conflictPolicy="Refuse")
    scene.lab.until_reason(scene.namespace, "conflict", "FieldConflict")


def _labelled(manifest: dict[str, Any], value: str) -> dict[str, Any]:
    return manifest | {"metadata": {**manifest["metadata"], "labels": {"value": value}}}


def _waiting(scene: Scene) -> None:
    """For a Deployment whose own status quotes a value: its controller repeats why its Pods are refused."""
    repository = scene.lab.repository()
    waiting = deployment("waiting", progressDeadlineSeconds=2)
    waiting["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": OURS}]
    scene.commit(repository, waiting)
    scene.put("waiting", repository.url, wait=True)
    scene.until_condition("waiting", "Ready", "False", "ObjectsFailed")
    assert OURS in json.dumps(scene.existing(scene.deployment_path("waiting"))["status"])


def _prune(scene: Scene) -> None:
    repository, _ = scene.follow("pruned", secret("pruned", a=OURS), secret("pruned-stays", a=OURS), prune=True)
    revision = scene.commit(repository, secret("pruned-stays", a=NEXT))
    scene.until_settled("pruned", revision)
    assert scene.object(scene.secret_path("pruned")) is None
    scene.until_event("pruned", "Pruned")


def _credentials(scene: Scene, url: str) -> None:
    scene.lab.secret(scene.namespace, "canary-credentials", token=TOKEN, age=str(scene.lab.identity))
    manifest = scene.decryptor("credentials", url)
    manifest["spec"]["provider"] = {"age": {"privateKey": {"secretName": "canary-credentials", "key": "age"}}}
    manifest["spec"]["source"]["repository"]["credentials"] = {
        "username": {"literal": "me"},
        "token": {"secretName": "canary-credentials", "key": "token"},
    }
    scene.lab.admin.apply(manifest).ok()
    until("it is deployed", lambda: scene.data("credentials") == {"a": OURS})
    # A change of one is seen, and what it was and is is told nowhere.
    scene.lab.secret(scene.namespace, "canary-credentials", token=THEIRS, age=str(scene.lab.identity))
    scene.lab.until_reason(scene.namespace, "credentials", "RepositoryAccessDenied")


def test_values_are_reported_nowhere_while_objects_are_reconciled(lab: Lab, tmp_path: Path) -> None:
    scene = Scene(lab, lab.namespace("e2e-canary-reconcile"))
    with (
        git_server(tmp_path, username="me", token=SensitiveText(TOKEN)) as private,
        _policy_that_quotes_values(scene),
        _watching_processes() as processes,
    ):
        krapao, address = lab.start_krapao(*METRICS, name="canary-reconcile")
        miwen = lab.start_miwen(address, scene.namespace, *METRICS, interval="1s")
        url = private.create("private.git")
        source = lab.repository()
        scene.commit(source, secret("credentials", a=OURS))
        source.run("push", "--quiet", str(private.root / "private.git"), "HEAD:main")
        for exercise in (_drift, _plan, _refusals, _waiting, _prune):
            exercise(scene)
        _credentials(scene, url)
        time.sleep(2)  # more looks, those that fail included
        metrics = {service.name: metrics_page(service).encode() for service in (krapao, miwen)}
        lab.end_services()

    values = forms_of(OURS, NEXT, THEIRS)
    secrets = values | forms_of(TOKEN, str(lab.identity))
    decryptors = lab.admin.call("GET", f"/apis/jiemi.cr/v1alpha1/namespaces/{scene.namespace}/decryptors").ok()["items"]
    told = {f"status of {item['metadata']['name']}": json.dumps(item["status"]).encode() for item in decryptors}
    assert len(told) == 12
    assert b"failedObjects" in told["status of denied"]
    assert b"data.more" in told["status of plan"]
    events = lab.admin.call("GET", f"/apis/events.k8s.io/v1/namespaces/{scene.namespace}/events").ok()["items"]
    # The cluster's own controllers repeat in theirs why Pods were refused.
    events = [each for each in events if each.get("reportingController") == "jiemi.cr/miwen"]
    assert {"Drifted", "Pruned", "AdmissionDenied", "FieldConflict"} <= {each["reason"] for each in events}
    told["events"] = json.dumps(events).encode()
    told["logs"] = lab.logs().encode()
    assert b"FieldImmutable" in told["logs"]
    told |= {f"metrics of {name}": page for name, page in metrics.items()}
    assert b"jiemi_drift_corrections_total" in told["metrics of miwen"]
    told |= {f"command line {number}": line for number, line in enumerate(processes.command_lines)}
    assert any(b"decrypt" in line for line in processes.command_lines), "the watcher is too slow to see sops"
    assert found_in(told, secrets) == []
    # The one that holds a Decryptor's credentials has them in its environment by design; no values.
    environments = {f"environment {number}": text for number, text in enumerate(processes.environments)}
    assert len(environments) > 3
    assert found_in(environments, values) == []

    for form in (OURS.encode(), base64.b64encode(b"x" + OURS.encode()), OURS.encode().hex().encode()):
        assert found_in({"check": b"..." + form + b"..."}, secrets) == ["check"]
