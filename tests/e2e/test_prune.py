"""What is deleted: what left the repository or went with its Decryptor, and nothing else, whatever can't be read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import attrs
import pytest
from pyrage import x25519
from support.e2e.lab import Lab, until
from support.e2e.project import Project, project
from support.e2e.scene import Scene, config_map, secret

from jiemi.core.api.decryptor import FINALIZER
from jiemi.demo.git_server import Fault

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-prune"


@attrs.frozen
class Running:
    """A namespace that a Miwen follows every second."""

    lab: Lab
    scene: Scene

    def project(self, name: str) -> Project:
        return project(self.lab, NAMESPACE, name)


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[Running]:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao(name="prune")
    lab.start_miwen(address, NAMESPACE, interval="1s")
    yield Running(lab, Scene(lab, NAMESPACE))
    lab.end_services()


def secrets(*names: str) -> list[dict[str, object]]:
    return [secret(name, k="1") for name in names]


def of_inventory(*names: str, file: str = "a.yaml") -> list[str]:
    return [f"Secret {NAMESPACE}/{name} {file}" for name in names]


def test_what_leaves_the_repository_is_deleted_where_that_is_wanted(running: Running) -> None:
    for name, prune in (("stays", False), ("goes", True)):
        one = running.project(name)
        a, b, c = (f"{name}-{letter}" for letter in "abc")
        revision = one.push(a=secrets(a, b), z=[*secrets(c), config_map(c, k="1")])
        one.set(prune=prune)
        one.synced(revision)
        assert one.inventory == [
            f"ConfigMap {NAMESPACE}/{c} z.yaml",
            *of_inventory(a, b),
            *of_inventory(c, file="z.yaml"),
        ]
        kept = one.uid(one.secret_path(a))
        # One leaves with its document, the others with their file.
        one.synced(one.push(a=secrets(a), z=None))
        assert one.there(a, b, c) == ([a] if prune else [a, b, c])
        assert (one.object(one.config_path(c)) is None) is prune
        assert one.inventory == of_inventory(a)
        assert one.uid(one.secret_path(a)) == kept
        if prune:
            event = one.until_event(name, "Pruned", "Secret e2e-prune/goes-b")
            assert event["note"].startswith("deleted, because they left the repository (revision ")


def test_what_keeps_itself_or_is_anothers_by_now_stays(running: Running) -> None:
    kept = running.project("kept")
    noted = secret("kept-noted", k="1")
    noted["metadata"]["annotations"] = {"jiemi.cr/prune": "disabled"}
    names = ["kept-noted", "kept-live", "kept-taken", "kept-bare", "kept-none"]
    revision = kept.push(a=secrets("kept-a"), b=[noted, *secrets(*names[1:])])
    kept.set(prune=True, driftPolicy="Report")
    kept.synced(revision)
    labels = {"jiemi.cr/decryptor-name": "another"}
    kept.write(kept.secret_path("kept-live"), {"metadata": {"annotations": {"jiemi.cr/prune": "disabled"}}})
    kept.write(kept.secret_path("kept-taken"), {"metadata": {"labels": labels}})
    kept.write(kept.secret_path("kept-bare"), {"metadata": {"labels": None}})
    kept.synced(kept.push(b=None))
    assert kept.there(*names) == names[:4]
    assert kept.inventory == of_inventory("kept-a")


def test_an_object_that_moves_to_another_file_stays_the_same(running: Running) -> None:
    moved = running.project("moved")
    revision = moved.push(a=secrets("moved-a", "moved-x"))
    moved.set(prune=True)
    moved.synced(revision)
    before = moved.object(moved.secret_path("moved-x"))
    moved.synced(moved.push(a=secrets("moved-a"), b=secrets("moved-x")))
    assert moved.object(moved.secret_path("moved-x")) == before
    moved.synced(moved.push(b=None, c=secrets("moved-x")))
    assert moved.object(moved.secret_path("moved-x")) == before
    assert moved.inventory == [*of_inventory("moved-a"), *of_inventory("moved-x", file="c.yaml")]
    # Into a file that can't be read at first.
    bad = running.lab.encrypt(json.dumps(secret("moved-x", k="2"))).replace(b"mac: ENC[", b"mac: ENC[!", 1)
    moved.push_files({"c.yaml": None, "d.yaml": bad})
    until("it is told", lambda: moved.condition("moved", "Ready")["status"] == "False")
    assert moved.object(moved.secret_path("moved-x")) == before
    moved.synced(moved.push(d=secrets("moved-x")))
    assert moved.object(moved.secret_path("moved-x")) == before
    assert moved.inventory == [*of_inventory("moved-a"), *of_inventory("moved-x", file="d.yaml")]


def _host_down(of: Project) -> str:
    of.lab.git.fault = Fault(status=503)
    return "HostUnreachable"


def _mac_broken(of: Project) -> str:
    content = (of.repository.clone / "a.yaml").read_bytes()
    of.repository.commit({"a.yaml": content.replace(b"Opaque", b"Opaqua")})
    return "MacMismatch"


def _key_gone(of: Project) -> str:
    of.set(prune=True, allowEmpty=True, provider={"age": {"privateKey": {"literal": str(x25519.Identity.generate())}}})
    return "KeyMissing"


def _key_secret_gone(of: Project) -> str:
    value = {"secretName": "nothing", "key": "age"}
    of.set(prune=True, allowEmpty=True, provider={"age": {"privateKey": value}})
    return "SecretNotFound"


def _matches_nothing(of: Project) -> str:
    of.set("nothing/**", prune=True)
    return "NothingToApply"


def _nothing_in_it(of: Project) -> str:
    of.set(prune=True)
    of.repository.commit({"a.yaml": b"# nothing\n"})
    return "NothingToApply"


def _no_form(of: Project) -> str:
    of.repository.commit({"a.yaml": b"- a list\n"})
    return "NotAKubernetesObject"


def _one_of_several_broken(of: Project) -> str:
    content = (of.repository.clone / "a.yaml").read_bytes()
    revision = of.push_files({"b.yaml": [secret(f"{of.name}-b", k="1")]})
    of.synced(revision)
    of.push_files({"a.yaml": content.replace(b"Opaque", b"Opaqua"), "b.yaml": None, "c.yaml": [config_map(of.name)]})
    until("the new one is applied", lambda: of.object(of.config_path(of.name)))
    of.says("MacMismatch")
    assert of.there(f"{of.name}-b") == [f"{of.name}-b"]
    return "MacMismatch"


def _branch_gone(of: Project) -> str:
    of.repository.run("push", "--quiet", "origin", "HEAD:refs/heads/side")
    manifest = of.manifest(prune=True, allowEmpty=True)
    manifest["spec"]["source"]["repository"]["ref"] = {"branch": "other"}
    of.lab.admin.apply(manifest).ok()
    return "RefNotFound"


@pytest.mark.parametrize(
    "lose",
    [
        _host_down,
        _mac_broken,
        _key_gone,
        _key_secret_gone,
        _matches_nothing,
        _nothing_in_it,
        _no_form,
        _one_of_several_broken,
        _branch_gone,
    ],
)
def test_what_can_not_be_read_or_decrypted_deletes_nothing(running: Running, lose: Callable[[Project], str]) -> None:
    name = lose.__name__.strip("_").replace("_", "-")
    lost = running.project(name)
    manifest = {**secret(name, k="good"), "type": "Opaque"}
    more = ["--encrypted-regex", "^(data|stringData)$"]
    good = running.lab.encrypt(json.dumps(manifest), more=more)
    revision = lost.push_files({"a.yaml": good})
    lost.set(prune=True, allowEmpty=True)
    lost.synced(revision)
    uid = lost.uid(lost.secret_path(name))
    reason = lose(lost)
    try:
        lost.says(reason)
        time.sleep(2.5)  # two more looks
        lost.says(reason)
        assert lost.uid(lost.secret_path(name)) == uid
        assert f"Secret {NAMESPACE}/{name}" in " ".join(lost.inventory)
    finally:
        running.lab.git.fault = None
    # And what is mended is followed again.
    lost.push_files({"a.yaml": good})
    lost.set(prune=True, allowEmpty=True)
    until("it is followed again", lost.is_ready)
    assert lost.uid(lost.secret_path(name)) == uid
    assert lost.there(f"{name}-b") == []
    lost.delete_decryptor(name)


def test_nothing_at_all_deletes_everything_only_where_that_is_meant(running: Running) -> None:
    empty = running.project("empty")
    revision = empty.push(a=secrets("empty-a", "empty-b"))
    empty.set(prune=True)
    empty.synced(revision)
    revision = empty.push(a=None)
    empty.says("NothingToApply", "spec.allowEmpty")
    assert empty.there("empty-a", "empty-b") == ["empty-a", "empty-b"]
    empty.set(prune=True, allowEmpty=True)
    status = empty.synced(revision)
    assert empty.there("empty-a", "empty-b") == []
    assert "inventory" not in status
    # The repository fills again.
    empty.synced(empty.push(a=secrets("empty-a")))
    assert empty.there("empty-a") == ["empty-a"]


def test_an_object_that_can_not_be_deleted_is_reported_and_the_others_are(running: Running) -> None:
    lab, where = running.lab, "e2e-prune-few-rights"
    lab.namespace(where)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "deployer", "namespace": where}}
    lab.admin.apply(account).ok()
    rules = [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]},
    ]
    _grant(lab, where, rules)
    _, address = lab.start_krapao(name="few-rights")
    lab.start_miwen(address, where, interval="1s")
    few = project(lab, where, "few")
    revision = few.push(a=secrets("few-a", "few-b"), b=[config_map("few-c", k="1")])
    few.set(prune=True, serviceAccountName="deployer", deletionPolicy="Delete")
    few.synced(revision)
    revision = few.push(a=secrets("few-a"), b=None)
    status = few.says(
        "DeleteForbidden", f"deleting ConfigMap {where}/few-c", "Grant `delete` on configmaps", "deployer"
    )
    assert [each["name"] for each in status["failedObjects"]] == ["few-c"]
    assert few.there("few-a", "few-b") == ["few-a"]
    assert [each.split()[1] for each in few.inventory] == [f"{where}/few-c", f"{where}/few-a"]
    rules[1]["verbs"].append("delete")
    _grant(lab, where, rules)
    few.synced(revision)
    assert few.object(few.config_path("few-c")) is None

    # With the Decryptor it is the same: it stays until its objects are gone.
    rules[0]["verbs"].remove("delete")
    _grant(lab, where, rules)
    lab.admin.call("DELETE", few.path("few"))
    few.says("DeleteForbidden", "deleting this Decryptor: an object is not deleted yet", f"Secret {where}/few-a")
    rules[0]["verbs"].append("delete")
    _grant(lab, where, rules)
    until("the Decryptor goes", lambda: lab.admin.call("GET", few.path("few")).status == 404)
    assert few.there("few-a") == []


def _grant(lab: Lab, where: str, rules: list[dict[str, list[str]]]) -> None:
    rbac = "rbac.authorization.k8s.io"
    metadata = {"name": "deployer", "namespace": where}
    lab.admin.apply({"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules}).ok()
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "deployer"},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    }
    lab.admin.apply(binding).ok()


def test_with_its_decryptor_an_object_goes_or_stays_as_is_said(running: Running) -> None:
    for name, policy in (("orphan", "Orphan"), ("delete", "Delete")):
        one = running.project(name)
        noted = secret(f"{name}-kept", k="1")
        noted["metadata"]["annotations"] = {"jiemi.cr/prune": "disabled"}
        revision = one.push(a=[*secrets(f"{name}-a"), noted, config_map(f"{name}-c", k="1")])
        one.set(deletionPolicy=policy)
        one.synced(revision)
        assert one.get(name)["metadata"].get("finalizers", []) == ([FINALIZER] if policy == "Delete" else [])
        one.delete_decryptor(name)
        gone = policy == "Delete"
        assert one.there(f"{name}-a", f"{name}-kept") == ([] if gone else [f"{name}-a"]) + [f"{name}-kept"]
        assert (one.object(one.config_path(f"{name}-c")) is None) is gone


def test_a_decryptor_that_is_suspended_leaves_its_objects_when_it_goes(running: Running) -> None:
    one = running.project("suspended")
    revision = one.push(a=secrets("suspended-a"))
    one.set(deletionPolicy="Delete")
    one.synced(revision)
    one.set(deletionPolicy="Delete", suspend=True)
    until("it is suspended", lambda: one.condition("suspended", "Suspended"))
    assert one.get("suspended")["metadata"]["finalizers"] == [FINALIZER]
    one.delete_decryptor("suspended")
    assert one.there("suspended-a") == ["suspended-a"]


def test_objects_go_though_the_repository_is_no_more(running: Running) -> None:
    one = running.project("homeless")
    revision = one.push(a=secrets("homeless-a"))
    one.set(deletionPolicy="Delete")
    one.synced(revision)
    manifest = one.manifest(deletionPolicy="Delete")
    manifest["spec"]["source"]["repository"]["url"] = f"{running.lab.git.url}/nothing.git"
    running.lab.admin.apply(manifest).ok()
    one.says("RepositoryNotFound")
    one.delete_decryptor("homeless")
    assert one.there("homeless-a") == []
