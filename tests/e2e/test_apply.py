"""How objects are applied: in which order, what is refused and why, and whose an object is."""

from __future__ import annotations

import base64
import functools
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, Service, until
from support.e2e.project import Project, documents, failures, project
from support.e2e.scene import condition, config_map, deployment, secret

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-apply"
RBAC = "rbac.authorization.k8s.io"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"


@attrs.frozen
class Running:
    """A namespace that a Miwen follows every second."""

    lab: Lab
    miwen: Service

    def project(self, name: str) -> Project:
        return project(self.lab, NAMESPACE, name)

    def times_said(self, name: str) -> int:
        """How often Miwen logged that a Decryptor is not in sync."""
        said = (f'"name": "{name}"', '"event": "not_in_sync"')
        return sum(all(part in line for part in said) for line in self.miwen.log_text().splitlines())


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[Running]:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao(name="apply")
    yield Running(lab, lab.start_miwen(address, NAMESPACE, interval="1s"))
    lab.end_services()


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def definition(kind: str) -> dict[str, Any]:
    """A CustomResourceDefinition of a kind of tests.example/v1, namespaced."""
    plural = f"{kind.lower()}s"
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.tests.example"},
        "spec": {
            "group": "tests.example",
            "scope": "Namespaced",
            "names": names,
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def custom(kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "tests.example/v1", "kind": kind, "metadata": metadata, "spec": {"size": 1}}


def custom_path(kind: str, name: str, namespace: str = NAMESPACE) -> str:
    return f"/apis/tests.example/v1/namespaces/{namespace}/{kind.lower()}s/{name}"


def message(status: Mapping[str, Any]) -> str:
    return str(status["current"]["error_message"])


# --- the order


def test_a_file_in_the_worst_order_is_applied_at_once(running: Running) -> None:
    worst, where = running.project("worst"), "e2e-apply-worst"
    metadata = {"namespace": where}
    subject = {"kind": "ServiceAccount", "name": "account", "namespace": where}
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    revision = worst.push(
        all=[
            custom("Gadget", "gadget", where),
            {**deployment("web"), "metadata": {"name": "web", **metadata}},
            secret("token", where, k="1"),
            {
                "apiVersion": f"{RBAC}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "binding", **metadata},
                "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "role"},
                "subjects": [subject],
            },
            {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": "role", **metadata}, "rules": rules},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "account", **metadata}},
            definition("Gadget"),
            namespace(where),
        ]
    )
    worst.set()
    status = worst.synced(revision)
    assert running.times_said("worst") == 0, "no failure on the way"
    assert len(status["inventory"]) == 8
    assert worst.object(custom_path("Gadget", "gadget", where)) is not None
    account = running.lab.admin.impersonating(f"system:serviceaccount:{where}:account")
    assert account.may("get", "", "secrets", where)
    worst.delete_decryptor("worst")


def test_a_definition_and_its_object_come_in_one_file_again_and_again(running: Running) -> None:
    # A kind may be listed a moment before it is served; that is no failure either.
    kinds = [f"Part{letter}" for letter in "abcdefgh"]
    crds = running.project("crds")
    revision = crds.push(all=[each for kind in kinds for each in (custom(kind, "x"), definition(kind))])
    crds.set()
    crds.synced(revision)
    assert running.times_said("crds") == 0
    assert all(crds.object(custom_path(kind, "x")) for kind in kinds)
    crds.delete_decryptor("crds")


def test_a_namespace_that_does_not_exist_is_waited_for(running: Running) -> None:
    late = running.project("late")
    revision = late.push(all=[secret("late-a", k="1"), secret("late-b", "e2e-apply-late", k="1")])
    late.set()
    status = late.says("NamespaceNotFound", "1 of 2 objects was not applied", "e2e-apply-late")
    assert failures(status) == {"late-b": "NamespaceNotFound"}
    assert condition(status, "Reconciling")["status"] == "True"
    assert late.there("late-a") == ["late-a"]
    running.lab.namespace("e2e-apply-late")
    late.synced(revision)
    assert running.lab.data("e2e-apply-late", "late-b") == {"k": "1"}


def test_a_kind_that_is_served_later_is_applied_then(running: Running) -> None:
    soon = running.project("soon")
    revision = soon.push(all=[custom("Sooner", "x"), secret("soon-a", k="1")])
    soon.set()
    status = soon.says("KindUnknown", "the cluster serves no kind Sooner of apiVersion tests.example/v1")
    assert failures(status) == {"x": "KindUnknown"}
    assert soon.there("soon-a") == ["soon-a"]
    running.lab.admin.apply(definition("Sooner")).ok()
    soon.synced(revision)
    assert soon.object(custom_path("Sooner", "x")) is not None


# --- what is refused


def test_a_field_of_another_is_refused_or_taken_over_as_the_policy_says(running: Running) -> None:
    fields = running.project("fields")
    path = fields.config_path("fields")
    running.lab.admin.apply(config_map("fields", NAMESPACE, colour="theirs", own="x")).ok()
    revision = fields.push(all=[config_map("fields", colour="ours"), secret("fields-a", k="1")])
    fields.set(conflictPolicy="Refuse")
    status = fields.says("FieldConflict", "data.colour (owned by jiemi-tests)")
    assert failures(status) == {"fields": "FieldConflict"}
    assert fields.there("fields-a") == ["fields-a"]
    assert fields.existing(path)["data"] == {"colour": "theirs", "own": "x"}
    fields.set()
    fields.synced(revision)
    assert fields.existing(path)["data"] == {"colour": "ours", "own": "x"}


def test_atomic_applies_none_where_one_is_refused(running: Running) -> None:
    atomic = running.project("atomic")
    good = atomic.push(a=[secret("atomic-a", k="1")], b=[secret("atomic-b", k="1")])
    atomic.set(applyPolicy="Atomic", prune=True)
    atomic.synced(good)
    uids = [atomic.uid(atomic.secret_path(name)) for name in ("atomic-a", "atomic-b")]

    wrong = {**secret("atomic-b"), "data": {"k": "no base64"}}
    atomic.push(a=[secret("atomic-a", k="2"), secret("atomic-new", k="1")], b=[wrong])
    status = atomic.says("ApplyRejected", "1 of 3 objects was refused, so none is applied", "atomic-b")
    assert failures(status) == {"atomic-b": "ApplyRejected"}
    assert (status["current"]["id"], status["current"]["revision"]) == (1, good)
    assert atomic.data("atomic-a") == {"k": "1"}
    assert atomic.there("atomic-new") == []
    # It goes on being said, also when the spec changes and no file does.
    atomic.repository.run("reset", "--quiet", "--hard", good)
    atomic.repository.run("push", "--quiet", "--force", "origin", "HEAD:main")
    atomic.synced(good)
    with denied(running, "atomic-b") as policy:
        atomic.set(applyPolicy="Atomic", prune=True, commonMetadata={"labels": {"colour": "blue"}})
        atomic.says("AdmissionDenied", policy)
        time.sleep(3)  # three looks
        atomic.says("AdmissionDenied", policy)
        made = atomic.object(atomic.secret_path("atomic-a"))
        assert made is not None
        assert "colour" not in made["metadata"]["labels"]

        atomic.set(prune=True, commonMetadata={"labels": {"colour": "blue"}})
        until(
            "the one that is allowed is applied",
            lambda: (atomic.object(atomic.secret_path("atomic-a")) or {})["metadata"]["labels"].get("colour") == "blue",
        )
        atomic.says("AdmissionDenied", policy)
    atomic.synced(good)
    assert [atomic.uid(atomic.secret_path(name)) for name in ("atomic-a", "atomic-b")] == uids


def test_atomic_knows_what_comes_with_the_commit(running: Running) -> None:
    whole = running.project("whole")
    where = "e2e-apply-whole"
    revision = whole.push(
        all=[custom("Whole", "x"), definition("Whole"), secret("whole", where, k="1"), namespace(where)]
    )
    whole.set(applyPolicy="Atomic")
    whole.synced(revision)
    assert running.times_said("whole") == 0
    assert running.lab.data(where, "whole") == {"k": "1"}
    assert whole.object(custom_path("Whole", "x")) is not None


def _immutable(value: str) -> dict[str, Any]:
    return {**secret("fixed", k=value), "immutable": True}


def _claim(size: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "fixed-disk"},
        "spec": {**spec, "storageClassName": f"class-{size.lower()}"},
    }


def test_what_can_not_be_changed_is_reported_and_with_force_recreated_but_never_a_volume(running: Running) -> None:
    fixed = running.project("fixed")
    disk = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/fixed-disk"
    first = fixed.push(all=[_immutable("1"), deployment("fixed-web"), _claim("1Gi")])
    fixed.set()
    fixed.synced(first)
    uids = [fixed.uid(path) for path in (fixed.secret_path("fixed"), fixed.deployment_path("fixed-web"), disk)]

    other = deployment("fixed-web")
    other["spec"]["selector"]["matchLabels"] = other["spec"]["template"]["metadata"]["labels"] = {"app": "another"}
    fixed.push(all=[_immutable("2"), other, _claim("1Gi")])
    status = fixed.says("FieldImmutable", "2 of 3 objects were not applied")
    assert failures(status) == {"fixed": "FieldImmutable", "fixed-web": "FieldImmutable"}
    texts = {each["name"]: each["message"] for each in status["failedObjects"]}
    assert "data (FieldValueForbidden)" in texts["fixed"]
    assert "spec.selector (FieldValueInvalid)" in texts["fixed-web"]
    assert fixed.data("fixed") == {"k": "1"}

    second = fixed.repository.run("rev-parse", "HEAD")
    fixed.set(force=True)
    fixed.synced(second)
    assert fixed.data("fixed") == {"k": "2"}
    found = fixed.object(fixed.deployment_path("fixed-web"))
    assert found is not None
    assert found["spec"]["selector"]["matchLabels"] == {"app": "another"}
    assert fixed.uid(fixed.secret_path("fixed")) != uids[0]
    assert found["metadata"]["uid"] != uids[1]

    fixed.push(all=[_immutable("2"), other, _claim("2Gi")])
    fixed.says("FieldImmutable", "spec.force does not delete a PersistentVolumeClaim")
    assert fixed.uid(disk) == uids[2]


@contextmanager
def denied(running: Running, name: str) -> Iterator[str]:
    """A ValidatingAdmissionPolicy that refuses the Secret of that name; gives the policy's name."""
    admin, policy = running.lab.admin, f"no-{name}"
    here = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE", "UPDATE"]}
    spec = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
        "validations": [
            {
                "expression": f"object.metadata.name != '{name}'",
                "messageExpression": "'canary: ' + string(object.data.k)",
            }
        ],
    }
    admin.call("POST", f"{ADMISSION}/validatingadmissionpolicies", {"metadata": {"name": policy}, "spec": spec}).ok()
    binding = {"metadata": {"name": policy}, "spec": {"policyName": policy, "validationActions": ["Deny"]}}
    admin.call("POST", f"{ADMISSION}/validatingadmissionpolicybindings", binding).ok()
    try:
        probe = secret(name, NAMESPACE, k="probe")
        until("the policy is active", lambda: admin.apply(probe, query="&dryRun=All").status == 422)
        yield policy
    finally:
        admin.call("DELETE", f"{ADMISSION}/validatingadmissionpolicybindings/{policy}").ok()
        admin.call("DELETE", f"{ADMISSION}/validatingadmissionpolicies/{policy}").ok()


def test_an_admission_policy_is_named_and_the_others_are_applied(running: Running) -> None:
    admitted = running.project("admitted")
    with denied(running, "admitted-b") as policy:
        revision = admitted.push(all=[secret("admitted-a", k="1"), secret("admitted-b", k="canary-value")])
        admitted.set()
        status = admitted.says("AdmissionDenied", f"ValidatingAdmissionPolicy {policy} (binding {policy}) refuses it")
        assert failures(status) == {"admitted-b": "AdmissionDenied"}
        assert condition(status, "Stalled")["status"] == "True"
        assert admitted.there("admitted-a", "admitted-b") == ["admitted-a"]
        assert "canary" not in json.dumps(status)
        assert "canary" not in running.miwen.log_text()
    admitted.synced(revision)
    assert admitted.data("admitted-b") == {"k": "canary-value"}


def _quota(running: Running, where: str, most: int) -> None:
    """The quota that a namespace has, once the controller has counted what is there."""
    path, hard = f"/api/v1/namespaces/{where}/resourcequotas/small", {"count/secrets": str(most)}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": where}}
    running.lab.admin.apply({**quota, "spec": {"hard": hard}}).ok()
    until("it is counted", lambda: running.lab.admin.call("GET", path).ok().get("status", {}).get("hard") == hard)


def test_a_quota_that_is_used_up_is_named_and_waited_for(running: Running) -> None:
    where = running.lab.namespace("e2e-apply-quota")
    _quota(running, where, most=2)
    counted = running.project("counted")
    names = [f"counted-{number}" for number in range(4)]
    revision = counted.push(all=[secret(name, where, k="1") for name in names])
    counted.set()
    status = counted.says("QuotaExceeded", f"quota small of namespace {where} is used up: count/secrets")
    made = [name for name in names if running.lab.data(where, name)]
    # The API server takes a moment to know a quota, so it may let more pass.
    assert 2 <= len(made) < 4
    assert set(failures(status).values()) == {"QuotaExceeded"}
    assert condition(status, "Reconciling")["status"] == "True"
    _quota(running, where, most=10)
    counted.synced(revision)
    assert all(running.lab.data(where, name) for name in names)


def test_force_deletes_nothing_that_could_not_be_made_again_and_nothing_of_others(running: Running) -> None:
    where = running.lab.namespace("e2e-apply-force")
    forced = running.project("forced")

    def fixed(name: str, value: str) -> dict[str, Any]:
        return {**secret(name, where, k=value), "immutable": True}

    first = forced.push(all=[fixed("forced", "1")])
    forced.set(force=True)
    forced.synced(first)
    _quota(running, where, most=1)
    probe = secret("probe", where, k="1")
    until("the quota is known", lambda: running.lab.admin.apply(probe, query="&dryRun=All").status == 403)
    revision = forced.push(all=[fixed("forced", "2")])
    forced.says(
        "QuotaExceeded", f"spec.force does not delete Secret {where}/forced, because it could not be recreated: "
    )
    assert running.lab.data(where, "forced") == {"k": "1"}
    _quota(running, where, most=10)
    forced.synced(revision)
    assert running.lab.data(where, "forced") == {"k": "2"}

    running.lab.admin.apply(fixed("theirs", "1")).ok()
    forced.push(all=[fixed("forced", "2"), fixed("theirs", "2")])
    forced.says("FieldImmutable", "It was never applied by Jiemi, so spec.force does not delete it")
    assert running.lab.data(where, "theirs") == {"k": "1"}


def test_a_secret_of_one_mebibyte_is_applied_and_a_larger_one_is_refused_in_clear_words(running: Running) -> None:
    large = running.project("large")
    limit = 1024 * 1024

    def encrypted(size: int) -> bytes:
        return running.lab.encrypt(json.dumps(secret("large", k="x" * size)))

    revision = large.push_files({"a.yaml": encrypted(limit)})
    large.set()
    large.synced(revision)
    assert len(large.data("large")["k"]) == limit
    for size in (limit + 1, 2 * limit):
        large.push_files({"a.yaml": encrypted(size), "n.yaml": [config_map("large-n", size=str(size))]})
        until("the other one follows", functools.partial(_has_value, large, "large-n", "size", str(size)))
        status = large.says("ApplyRejected", f"Secret {NAMESPACE}/large")
        assert re.search(r"data \(FieldValueTooLong\)|larger than the API server takes", message(status)), status
        assert len(message(status)) < 300
        assert len(large.data("large")["k"]) == limit


def _has_value(of: Project, name: str, key: str, value: str) -> bool:
    found = of.object(of.config_path(name))
    return found is not None and found["data"].get(key) == value


# --- what is put on all


def test_the_namespace_labels_and_annotations_of_the_decryptor_are_put_on_all_objects(running: Running) -> None:
    where = running.lab.namespace("e2e-apply-target")
    common = running.project("common")
    manifest = secret("common-a", NAMESPACE, k="1")
    manifest["metadata"] |= {"labels": {"colour": "red", "own": "x"}, "annotations": {"note": "old", "own": "x"}}
    revision = common.push(all=[manifest, secret("common-b", k="1"), namespace("e2e-apply-common")])
    metadata = {"labels": {"colour": "blue"}, "annotations": {"note": "new"}}
    common.set(targetNamespace=where, commonMetadata=metadata)
    common.synced(revision)
    assert common.there("common-a", "common-b") == []
    owner = {"jiemi.cr/decryptor-name": "common", "jiemi.cr/decryptor-namespace": NAMESPACE}
    made = running.lab.admin.call("GET", f"/api/v1/namespaces/{where}/secrets/common-a").ok()["metadata"]
    assert made["labels"] == {"colour": "blue", "own": "x", **owner}
    assert made["annotations"] == {"note": "new", "own": "x"}
    assert running.lab.data(where, "common-b") == {"k": "1"}
    whole = running.lab.admin.call("GET", "/api/v1/namespaces/e2e-apply-common").ok()["metadata"]
    assert (whole["labels"]["colour"], whole["annotations"]["note"]) == ("blue", "new")
    listed = [f"Secret {where}/common-a all.yaml", f"Secret {where}/common-b all.yaml"]
    assert common.inventory == ["Namespace e2e-apply-common all.yaml", *listed]


# --- whose an object is


def test_an_object_of_another_decryptor_is_refused_and_taken_over_once_that_one_drops_it(running: Running) -> None:
    first, second = running.project("first"), running.project("second")
    revision = first.push(all=[secret("shared", k="first"), secret("first-own", k="1")])
    first.set()
    first.synced(revision)
    uid = first.uid(first.secret_path("shared"))
    other = second.push(all=[secret("shared", k="second"), secret("second-own", k="1")])
    second.set(prune=True)
    status = second.says("ObjectClaimed", f"Secret {NAMESPACE}/shared belongs to Decryptor {NAMESPACE}/first")
    assert failures(status) == {"shared": "ObjectClaimed"}
    assert (second.data("shared"), second.there("second-own")) == ({"k": "first"}, ["second-own"])
    assert second.inventory == [f"Secret {NAMESPACE}/second-own all.yaml"]

    # The second may go without taking what is not its own.
    second.set(prune=True, deletionPolicy="Delete")
    until("the finalizer is set", lambda: second.get("second")["metadata"].get("finalizers"))
    second.delete_decryptor("second")
    assert (second.data("shared"), second.there("second-own")) == ({"k": "first"}, [])
    second.set(prune=True)
    second.says("ObjectClaimed")

    first.synced(first.push(all=[secret("first-own", k="1")]))
    second.synced(other)
    assert second.data("shared") == {"k": "second"}
    assert second.uid(second.secret_path("shared")) == uid
    assert second.is_labelled(second.secret_path("shared"), "second")


def test_the_operators_policy_bounds_namespaces_and_what_has_none(running: Running) -> None:
    lab = running.lab
    own, team = lab.namespace("e2e-apply-policy"), lab.namespace("e2e-apply-policy-team")
    rule = {"namespaces": [own], "objectNamespaces": [own, f"{own}-*"]}
    policy = lab.folder / "policy.yaml"
    policy.write_text(json.dumps({"rules": [rule]}))
    _, address = lab.start_krapao(name="apply-policy")
    miwen = lab.start_miwen(address, own, "--policy", policy, interval="1s")
    bounded = project(lab, own, "bounded")
    revision = bounded.push(all=[secret("own", k="1"), secret("team", team, k="1")])
    bounded.set()
    bounded.synced(revision)
    assert lab.data(team, "team") == {"k": "1"}
    for refused in (secret("x", NAMESPACE, k="1"), namespace("e2e-apply-policy-made")):
        bounded.push(all=[secret("own", k="2"), refused])
        label = f"{refused['kind']} {NAMESPACE}/x" if refused["kind"] == "Secret" else f"Namespace {own}-made"
        bounded.says("PolicyDenied", "allows no object", label)
        assert lab.data(own, "own") == {"k": "1"}, "none is applied where one is not allowed"
    assert lab.admin.call("GET", f"/api/v1/namespaces/{own}-made").status == 404
    miwen.end()
    rule["objectNamespaces"].append("")
    policy.write_text(json.dumps({"rules": [rule]}))
    lab.start_miwen(address, own, "--policy", policy, interval="1s")
    bounded.synced(bounded.repository.run("rev-parse", "HEAD"))
    assert lab.admin.call("GET", f"/api/v1/namespaces/{own}-made").status == 200
    assert lab.data(own, "own") == {"k": "2"}


# --- many


def test_500_objects_of_one_decryptor(running: Running) -> None:
    where = running.lab.namespace("e2e-apply-500")
    many = project(running.lab, NAMESPACE, "many")

    def file(number: int, value: str) -> bytes:
        made = [secret(f"many-{number}-{each}", where, k=value) for each in range(25)]
        return running.lab.encrypt(documents(*made))

    plain = {
        f"p{number}.yaml": [config_map(f"many-{number}-{i}", where, k="1") for i in range(25)] for number in range(10)
    }
    revision = many.push_files({**{f"e{number}.yaml": file(number, "1") for number in range(10)}, **plain})
    began = time.monotonic()
    many.set(prune=True)
    status = many.synced(revision)
    sys.stdout.write(f"500 objects: {time.monotonic() - began:.1f} s\n")
    assert running.times_said("many") == 0
    assert len(status["inventory"]) == 500
    listed = running.lab.admin.call("GET", f"/api/v1/namespaces/{where}/secrets").ok()["items"]
    assert {base64.b64decode(each["data"]["k"]) for each in listed} == {b"1"}
    assert len(listed) == 250
    assert {(each["kind"], each["name"]) for each in status["inventory"] if each["kind"] == "Secret"} == {
        ("Secret", each["metadata"]["name"]) for each in listed
    }
    size = len(json.dumps(many.get("many")).encode())
    sys.stdout.write(f"the Decryptor: {size} bytes\n")
    assert size < 500 * 400

    began = time.monotonic()
    revision = many.push_files({"e3.yaml": file(3, "2"), "p4.yaml": None})
    many.synced(revision)
    sys.stdout.write(f"one file changed, one gone, of 25 objects each: {time.monotonic() - began:.1f} s\n")
    assert len(many.status("many")["inventory"]) == 475
    assert running.lab.data(where, "many-3-24") == {"k": "2"}
    listed = running.lab.admin.call("GET", f"/api/v1/namespaces/{where}/configmaps").ok()["items"]
    assert sum(each["metadata"]["name"].startswith("many-") for each in listed) == 225
