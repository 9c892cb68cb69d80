"""What the real `kubectl get decryptors` shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, until
from support.e2e.project import Project, project
from support.e2e.scene import deployment, secret
from support.kubernetes.kubectl import Kubectl

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-columns"


@attrs.frozen
class Running:
    lab: Lab
    kubectl: Kubectl

    def project(self, name: str) -> Project:
        return project(self.lab, NAMESPACE, name)

    def line(self, name: str, *options: str) -> dict[str, str]:
        """The line of a Decryptor, by the columns' names."""
        table = self.kubectl("get", "decryptors", name, *options).splitlines()
        starts = [table[0].index(column) for column in table[0].split()]
        ends = [*starts[1:], None]
        return {
            table[0][start:end].strip(): table[1][start:end].strip() for start, end in zip(starts, ends, strict=True)
        }

    def until_flags(self, name: str, flags: str, ready: str) -> None:
        until(
            f"{name} has the flags {flags}",
            lambda: (line := self.line(name))["FLAGS"] == flags and line["READY"] == ready,
            on_failure=lambda: self.line(name),
        )


@pytest.fixture(scope="module")
def running(lab: Lab, kubectl_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao(name="columns")
    lab.start_miwen(address, NAMESPACE, interval="1s")
    yield Running(lab, Kubectl(kubectl_program, tmp_path_factory.mktemp("home"), lab.kubeconfig, NAMESPACE))
    lab.end_services()


def test_a_line_tells_whether_it_is_ready_its_short_revision_and_what_is_special(running: Running) -> None:
    shown = running.project("shown")
    revision = shown.push(a=[secret("shown", k="1")])
    shown.set()
    shown.synced(revision)
    line = running.line("shown")
    assert list(line) == ["NAME", "READY", "REVISION", "FLAGS", "AGE", "MESSAGE"]
    assert (line["NAME"], line["READY"], line["REVISION"], line["FLAGS"]) == ("shown", "True", revision[:12], "")
    assert line["MESSAGE"] == f"a.yaml of revision {revision[:12]} is applied"
    wide = running.line("shown", "--output=wide")
    assert (wide["STATUS"], wide["COMMIT"], wide["ATTEMPTED"]) == ("Sync", revision, revision)

    def pinned(**more: Any) -> None:
        repository = {"url": shown.repository.url, "ref": {"commit": revision}}
        shown.set(source={"repository": repository}, **more)

    pinned()
    running.until_flags("shown", "Pinned", "True")
    pinned(mode="DryRun")
    running.until_flags("shown", "DryRun,Pinned", "True")
    pinned(suspend=True)
    running.until_flags("shown", "Suspended,Pinned", "True")
    shown.set(driftPolicy="Report")
    running.until_flags("shown", "", "True")
    shown.write(shown.secret_path("shown"), {"data": {"k": "eA=="}})
    running.until_flags("shown", "Drifted", "True")


def test_what_waits_and_what_is_being_deleted_says_so(running: Running) -> None:
    waits = running.project("waits")
    waits.push(a=[deployment("waits")])
    waits.set(wait=True, timeout="10m")
    running.until_flags("waits", "Waiting", "Unknown")
    dependent = running.project("dependent")
    dependent.push(a=[secret("dependent", k="1")])
    dependent.set(dependsOn=[{"name": "waits"}])
    running.until_flags("dependent", "Waiting", "False")

    # An object that can't be deleted keeps its Decryptor for a while.
    held = running.project("held")
    revision = held.push(a=[secret("held", k="1")])
    held.set(deletionPolicy="Delete")
    held.synced(revision)
    policy = {
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["DELETE"]}
            ],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
        },
        "validations": [{"expression": "oldObject.metadata.name != 'held'"}],
    }
    path, admin = "/apis/admissionregistration.k8s.io/v1", running.lab.admin
    admin.call("POST", f"{path}/validatingadmissionpolicies", {"metadata": {"name": "held"}, "spec": policy}).ok()
    binding = {"metadata": {"name": "held"}, "spec": {"policyName": "held", "validationActions": ["Deny"]}}
    admin.call("POST", f"{path}/validatingadmissionpolicybindings", binding).ok()
    try:
        until(
            "the policy is active",
            lambda: admin.call("DELETE", f"{held.secret_path('held')}?dryRun=All").status == 422,
        )
        admin.call("DELETE", held.path("held")).ok()
        running.until_flags("held", "Deleting", "False")
    finally:
        admin.call("DELETE", f"{path}/validatingadmissionpolicybindings/held").ok()
        admin.call("DELETE", f"{path}/validatingadmissionpolicies/held").ok()
    until("it is gone", lambda: admin.call("GET", held.path("held")).status == 404)
