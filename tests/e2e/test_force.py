"""What the API server does not let be changed, whatever words it has for that: told, and with `force` recreated."""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from doubles.authority import Authority
from support.e2e.lab import Lab, Service, until
from support.e2e.project import Project, failures, project
from support.e2e.scene import deployment, secret

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-force"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
CANARY = "canary-5f1d"


@attrs.frozen
class Running:
    """A namespace that a Miwen follows every second."""

    lab: Lab
    miwen: Service

    def project(self, name: str) -> Project:
        return project(self.lab, NAMESPACE, name)


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[Running]:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao(name="force")
    lab.admin.apply(_definition()).ok()
    probe = _machine("probe", 1)
    probe["metadata"]["namespace"] = NAMESPACE
    until("the kind is served", lambda: lab.admin.call("GET", "/apis/force.example/v1").status == 200)
    until("it can be made", lambda: lab.admin.apply(probe, query="&dryRun=All").status == 201)
    yield Running(lab, lab.start_miwen(address, NAMESPACE, interval="1s"))
    lab.end_services()


def _definition() -> dict[str, Any]:
    """A kind with a rule that compares it with the object before: CEL's transition rules."""
    rules = [{"rule": "self.disk >= oldSelf.disk", "message": f"a disk never shrinks ({CANARY})"}]
    spec = {
        "type": "object",
        "required": ["disk"],
        "properties": {
            "disk": {"type": "integer"},
            "zone": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]},
        },
        "x-kubernetes-validations": rules,
    }
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    names = {"plural": "machines", "singular": "machine", "kind": "Machine", "listKind": "MachineList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "machines.force.example"},
        "spec": {
            "group": "force.example",
            "scope": "Namespaced",
            "names": names,
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def _machine(name: str, disk: int, zone: str = "a") -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "force.example/v1", "kind": "Machine", "metadata": metadata, "spec": _disk(disk, zone)}


def _disk(disk: int, zone: str) -> dict[str, Any]:
    return {"disk": disk, "zone": zone}


def _service(name: str, **spec: Any) -> dict[str, Any]:
    whole = {"ports": [{"port": 80}], "selector": {"app": name}, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": whole}


def _pods(name: str, kind: str, **spec: Any) -> dict[str, Any]:
    made = deployment(name)
    version = "batch/v1" if kind == "Job" else "apps/v1"
    whole: dict[str, Any] = {**made["spec"], **spec}
    if kind == "Job":
        del whole["selector"]
        whole["template"]["spec"]["restartPolicy"] = "Never"
    return {**made, "apiVersion": version, "kind": kind, "spec": whole}


def _job(name: str, image: str) -> dict[str, Any]:
    made = _pods(name, "Job")
    made["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return made


CASES: dict[str, Callable[[str], tuple[Mapping[str, Any], Mapping[str, Any], str, str]]] = {
    # name -> the first manifest, the second, where the object is, the field that is named
    "rule-of-the-whole": lambda name: (_machine(name, 2), _machine(name, 1), "machines", "spec (FieldValueInvalid)"),
    "rule-of-a-field": lambda name: (_machine(name, 1), _machine(name, 1, "b"), "machines", "spec.zone"),
    "recreate": lambda name: (
        deployment(name),
        deployment(name, strategy={"type": "Recreate"}),
        "deployments",
        "spec.strategy.rollingUpdate (FieldValueForbidden)",
    ),
    "cluster-ip": lambda name: (_service(name), _service(name, clusterIP="None"), "services", "spec.clusterIPs[0]"),
    "job": lambda name: (_job(name, "a.example/a"), _job(name, "a.example/b"), "jobs", "spec.template"),
    "stateful-set": lambda name: (
        _pods(name, "StatefulSet", serviceName="a", podManagementPolicy="Parallel"),
        _pods(name, "StatefulSet", serviceName="a", podManagementPolicy="OrderedReady"),
        "statefulsets",
        "spec",
    ),
}

GROUPS = {"machines": "apis/force.example", "services": "api", "jobs": "apis/batch"}


def _path(name: str, plural: str) -> str:
    return f"/{GROUPS.get(plural, 'apis/apps')}/v1/namespaces/{NAMESPACE}/{plural}/{name}"


@pytest.mark.parametrize("case", CASES)
def test_what_is_valid_by_itself_is_reported_to_be_in_the_live_objects_way_and_recreated_with_force(
    running: Running, case: str
) -> None:
    first, second, plural, named = CASES[case](case)
    changed = running.project(f"by-{case}")
    changed.push(all=[first])
    changed.set()
    until("it is made", changed.is_ready)
    uid = changed.uid(_path(case, plural))
    revision = changed.push(all=[second, secret(f"{case}-beside", k="1")])
    status = changed.says("FieldImmutable", "live object stands in the way", named, "or set spec.force")
    assert failures(status) == {case: "FieldImmutable"}
    [failed] = status["failedObjects"]
    assert failed["message"].endswith(
        "Put the old value back, or set spec.force to have the object deleted and recreated."
    )
    assert changed.uid(_path(case, plural)) == uid
    assert CANARY not in json.dumps(status)

    changed.set(force=True, applyPolicy="Atomic")  # the dry run of Atomic says the same
    changed.synced(revision)
    assert changed.uid(_path(case, plural)) != uid
    found = changed.object(_path(case, plural))
    assert found is not None
    for field in ("disk", "zone", "clusterIP", "podManagementPolicy"):
        assert second["spec"].get(field) in {None, found["spec"].get(field)}


def test_what_is_wrong_by_itself_is_rejected_and_never_deleted(running: Running) -> None:
    wrong = running.project("wrong")
    first = [deployment("wrong-web"), _machine("wrong-box", 2), _service("wrong-front")]
    revision = wrong.push(all=first)
    wrong.set(force=True)
    wrong.synced(revision)
    paths = [
        _path("wrong-web", "deployments"),
        _path("wrong-box", "machines"),
        _path("wrong-front", "services"),
    ]
    uids = [wrong.uid(path) for path in paths]
    both = _machine("wrong-box", 1)  # it shrinks, and has no number there
    both["spec"]["disk"] = "small"
    wrong.push(
        all=[
            deployment("wrong-web", replicas=-1, strategy={"type": "Recreate"}),
            both,
            _service("wrong-front", clusterIP="None", ports=[{"port": 80, "protocol": "no"}]),
        ]
    )
    status = wrong.says("ApplyRejected", "3 of 3 objects")
    assert set(failures(status).values()) == {"ApplyRejected"}
    assert all("in the way" not in each["message"] for each in status["failedObjects"])
    assert [wrong.uid(path) for path in paths] == uids


def test_a_port_or_address_that_another_service_has_is_no_reason_to_delete(running: Running) -> None:
    taken = running.project("taken")
    other = _service("taken-other", type="NodePort", ports=[{"port": 80, "nodePort": 30123}])
    mine = _service("taken-mine", type="NodePort", ports=[{"port": 80, "nodePort": 30124}])
    revision = taken.push(all=[other, mine])
    taken.set(force=True)
    taken.synced(revision)
    path = _path("taken-mine", "services")
    uid, address = taken.uid(path), taken.existing(path)["spec"]["clusterIP"]
    addressed = taken.existing(_path("taken-other", "services"))["spec"]["clusterIP"]

    def rejected(spec: Mapping[str, Any], *words: str) -> None:
        taken.push(all=[other, {**mine, "spec": {**mine["spec"], **spec}}])
        taken.says("ApplyRejected", *words)
        assert taken.uid(path) == uid

    rejected({"ports": [{"port": 80, "nodePort": 30123}]}, "spec.ports[0].nodePort")
    rejected({"clusterIP": addressed}, "spec.force does not delete Service", "another has it (spec.clusterIP)")
    # What it has itself, it gets again, with another address: here it is wrong by itself.
    rejected({"clusterIP": address, "clusterIPs": [address, "fd00::1"]}, "spec.clusterIPs")
    # One that is free, with the node port that it has.
    revision = taken.push(all=[other, {**mine, "spec": {**mine["spec"], "clusterIP": _another(address, addressed)}}])
    taken.synced(revision)
    assert taken.uid(path) != uid


def _another(*addresses: str) -> str:
    """An address of the same range that none of these is."""
    first = ipaddress.ip_address(addresses[0])
    return next(str(first + more) for more in range(1, 9) if str(first + more) not in addresses)


def test_no_force_is_offered_where_it_would_refuse(running: Running) -> None:
    kept = running.project("kept")
    annotated = deployment("kept-web")
    annotated["metadata"]["annotations"] = {"jiemi.cr/prune": "disabled"}
    claim: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "kept-disk"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "a",
        },
    }
    running.lab.admin.apply({**_machine("kept-theirs", 2), "metadata": _here("kept-theirs")}).ok()
    revision = kept.push(all=[annotated, claim])
    kept.set()
    kept.synced(revision)
    changed = {**annotated, "spec": {**annotated["spec"], "strategy": {"type": "Recreate"}}}
    smaller = {**claim, "spec": {**claim["spec"], "storageClassName": "b"}}
    kept.push(all=[changed, smaller, _machine("kept-theirs", 1)])
    for force in (False, True):
        kept.set(force=force)
        status = kept.says("FieldImmutable", "3 of 3 objects")
        told = {each["name"]: each["message"] for each in status["failedObjects"]}
        assert "spec.force does not delete a PersistentVolumeClaim" in told["kept-disk"]
        assert "does not delete what is annotated jiemi.cr/prune: disabled" in told["kept-web"]
        assert "It was never applied by Jiemi, so spec.force does not delete it" in told["kept-theirs"]
        assert all("or set spec.force" not in each for each in told.values())


def _here(name: str) -> dict[str, str]:
    return {"name": name, "namespace": NAMESPACE}


def test_a_definition_whose_stored_version_is_dropped_is_reported_to_stand_in_the_way(running: Running) -> None:
    stored = running.project("stored")
    before = _definition()
    before["metadata"]["name"], before["spec"]["group"] = "machines.stored.example", "stored.example"
    revision = stored.push(all=[before])
    stored.set(force=True)
    stored.synced(revision)
    [version] = before["spec"]["versions"]
    stored.push(all=[{**before, "spec": {**before["spec"], "versions": [{**version, "name": "v2"}]}}])
    stored.says(
        "FieldImmutable",
        "status.storedVersions",
        "The live object stands in the way",
        "spec.force does not delete a CustomResourceDefinition",
    )


@contextmanager
def _policy(running: Running, name: str, expression: str, *, operations: tuple[str, ...]) -> Iterator[None]:
    """A ValidatingAdmissionPolicy of machines of the namespace, until it is active and then no more."""
    admin = running.lab.admin
    rule = {"apiGroups": ["force.example"], "apiVersions": ["*"], "resources": ["machines"], "operations": operations}
    here = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
    spec = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
        "validations": [{"expression": f"!object.metadata.name.startsWith('{name}') || {expression}"}],
    }
    admin.call("POST", f"{ADMISSION}/validatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec}).ok()
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
    admin.call("POST", f"{ADMISSION}/validatingadmissionpolicybindings", binding).ok()
    try:
        yield
    finally:
        admin.call("DELETE", f"{ADMISSION}/validatingadmissionpolicybindings/{name}").ok()
        admin.call("DELETE", f"{ADMISSION}/validatingadmissionpolicies/{name}").ok()


def test_a_policy_that_refuses_the_change_alone_is_not_gone_round(running: Running) -> None:
    guarded = running.project("guarded")
    revision = guarded.push(all=[_machine("guarded", 1)])
    guarded.set(force=True)
    guarded.synced(revision)
    uid = guarded.uid(_path("guarded", "machines"))
    with _policy(running, "guarded", "object.spec.disk == oldObject.spec.disk", operations=("UPDATE",)):
        probe = {**_machine("guarded", 9), "metadata": _here("guarded")}
        until("the policy is active", lambda: running.lab.admin.apply(probe, query="&dryRun=All").status == 422)
        revision = guarded.push(all=[_machine("guarded", 2)])
        guarded.says("AdmissionDenied", "ValidatingAdmissionPolicy guarded (binding guarded) refuses it")
        assert guarded.uid(_path("guarded", "machines")) == uid
    guarded.synced(revision)


def test_where_another_name_tells_nothing_it_is_said_and_nothing_is_deleted(running: Running) -> None:
    named = running.project("named")
    revision = named.push(all=[_machine("named", 2)])
    named.set(force=True)
    named.synced(revision)
    uid = named.uid(_path("named", "machines"))
    with _policy(running, "named", "object.metadata.name == 'named'", operations=("CREATE",)):
        probe = {**_machine("named-x", 9), "metadata": _here("named-x")}
        until("the policy is active", lambda: running.lab.admin.apply(probe, query="&dryRun=All").status == 422)
        revision = named.push(all=[_machine("named", 1)])
        named.says(
            "ApplyRejected",
            "Whether the live object stands in the way is not known",
            "ValidatingAdmissionPolicy named (binding named) refuses it",
        )
        assert named.uid(_path("named", "machines")) == uid
    named.synced(revision)
    assert named.uid(_path("named", "machines")) != uid


def test_a_webhook_that_does_not_answer_is_named_and_nothing_is_deleted(running: Running, tmp_path: Path) -> None:
    hooked, admin = running.project("hooked"), running.lab.admin
    revision = hooked.push(all=[_machine("hooked", 2)])
    hooked.set(force=True)
    hooked.synced(revision)
    uid = hooked.uid(_path("hooked", "machines"))
    rule = {"apiGroups": ["force.example"], "apiVersions": ["*"], "resources": ["machines"], "operations": ["CREATE"]}
    authority = base64.b64encode(Authority(tmp_path).pem.encode()).decode()
    webhook = {
        "name": "hook.force.example",
        "sideEffects": "NoneOnDryRun",
        "admissionReviewVersions": ["v1"],
        "rules": [rule],
        "clientConfig": {"url": "https://127.0.0.1:1/", "caBundle": authority},
    }
    kinds = f"{ADMISSION}/validatingwebhookconfigurations"
    admin.call("POST", kinds, {"metadata": {"name": "hooked"}, "webhooks": [webhook]}).ok()
    try:
        probe = {**_machine("hooked-x", 9), "metadata": _here("hooked-x")}
        until("the webhook is active", lambda: admin.apply(probe, query="&dryRun=All").status == 500)
        revision = hooked.push(all=[_machine("hooked", 1)])
        hooked.says("ApplyRejected", "is not known", "got no answer of its webhook hook.force.example")
        assert hooked.uid(_path("hooked", "machines")) == uid
    finally:
        admin.call("DELETE", f"{kinds}/hooked").ok()
    hooked.synced(revision)


def test_a_plan_asks_the_same(running: Running) -> None:
    planned = running.project("planned")
    revision = planned.push(all=[_machine("planned", 2)])
    planned.set()
    planned.synced(revision)
    planned.push(all=[_machine("planned", 1)])
    planned.set(mode="DryRun")
    planned.says("FieldImmutable", "or set spec.force")
    planned.set(mode="DryRun", force=True)

    def is_planned() -> bool:
        plan = planned.status("planned").get("plan") or {}
        return [each["action"] for each in plan.get("objects", ())] == ["Recreate"]

    until("the plan has it", is_planned)
