"""What a deployment does with files that are broken, objects that are refused, and objects that left: on the fakes.

Where a test says commit, the next look is an interval later; the fakes take no time else.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fakes.krapao import Plain
from fakes.kubernetes import FakeKubernetes
from support.miwen.world import FILE, INTERVAL, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.core.decisions.policy import read_policy
from jiemi.core.errors import Failure, JiemiError
from jiemi.miwen.kubernetes import errors
from jiemi.miwen.reconcile.tenancy import Tenancy

BROKEN = Failure("MacMismatch", "b.yaml: the file was changed")
CRD = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
CRDS = "customresourcedefinitions"
UNKNOWN = {"apiVersion": "x/v1", "kind": "Unknown", "metadata": {"name": "u"}}
NO_OBJECT = {"kind": "Secret", "metadata": {"name": "nameless-version"}}


def source(*files: str, **more: Any) -> dict[str, Any]:
    return {"repository": {"url": URL}, "files": list(files), **more}


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def definition(scope: str = "Namespaced") -> dict[str, Any]:
    """A CustomResourceDefinition of example.com/v1 Widget."""
    return {
        "apiVersion": CRD[0],
        "kind": CRD[1],
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": scope,
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": True, "storage": True}],
        },
    }


def widget(name: str = "w") -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}}


def claim(size: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"}, "spec": spec}


def message(world: World, name: str = "app") -> str:
    return str(world.current(name)["error_message"])


def inventory(world: World, name: str = "app") -> dict[str, str]:
    """The files of the objects in the inventory, by the objects' names."""
    return {each["name"]: each.get("file", "") for each in world.status(name).get("inventory", ())}


def failed(world: World, name: str = "app") -> dict[str, str]:
    """The reasons of status.failedObjects, by the objects' names."""
    return {each["name"]: each["reason"] for each in world.status(name).get("failedObjects", ())}


def applied(world: World) -> int:
    return int(world.kubernetes.requests.snapshot().of("apply", "secrets"))


async def look() -> None:
    """Until after the next look."""
    await trio.sleep(INTERVAL + 1)


# --- files


async def test_a_commit_renders_the_files_that_it_changes_and_prunes_what_left_with_a_file(
    world: World, autojump_clock: MockClock
) -> None:
    files = {f"{name}.yaml": [secret(name, k="1")] for name in "abc"}
    world.origin.commit(files, remove=[FILE])
    world.add(source=source("*.yaml"), prune=True)
    async with miwen(world):
        assert (world.renders(), inventory(world)) == (3, {name: f"{name}.yaml" for name in "abc"})
        revision = world.origin.commit({"b.yaml": [secret("b", k="2")]}, remove=["c.yaml"])
        await look()
        assert world.krapao.calls[-1] == ("render", URL, "b.yaml")
        assert world.renders() == 4
        assert (world.data("a"), world.data("b"), world.data("c")) == ({"k": "1"}, {"k": "2"}, None)
        assert inventory(world) == {"a": "a.yaml", "b": "b.yaml"}
        assert (world.current()["id"], world.current()["revision"]) == (2, revision)


async def test_what_left_with_a_file_stays_and_is_forgotten_where_prune_is_not_set(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"a.yaml": [secret("a", k="1")], "b.yaml": [secret("b", k="1")]}, remove=[FILE])
    world.add(source=source("*.yaml"))
    async with miwen(world):
        world.origin.commit({}, remove=["b.yaml"])
        await look()
        assert world.data("b") == {"k": "1"}
        assert inventory(world) == {"a": "a.yaml"}


async def test_a_broken_file_keeps_the_others_only_from_pruning(world: World, autojump_clock: MockClock) -> None:
    files = {f"{name}.yaml": [secret(name, k="1")] for name in "abc"}
    world.origin.commit(files, remove=[FILE])
    world.add(source=source("*.yaml"), prune=True)
    async with miwen(world):
        world.origin.commit({"a.yaml": [secret("a", k="2")], "b.yaml": BROKEN}, remove=["c.yaml"])
        await look()
        assert (world.data("a"), world.data("b"), world.data("c")) == ({"k": "2"}, {"k": "1"}, {"k": "1"})
        assert message(world) == f"MacMismatch: 1 of 2 files was not applied, the first: {BROKEN.text}"
        assert world.current()["id"] == 1
        renders, requests = world.renders(), applied(world)
        await look()
        assert (world.renders(), applied(world)) == (renders, requests)

        world.origin.commit({"b.yaml": [secret("b", k="2")]})
        await look()
        assert (world.reason(), world.data("b"), world.data("c")) == ("Synced", {"k": "2"}, None)
        assert world.renders() == renders + 1


async def test_what_a_broken_file_had_is_pruned_when_the_file_leaves(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"a.yaml": [secret("a", k="1")], "b.yaml": [secret("b", k="1")]}, remove=[FILE])
    world.add(source=source("*.yaml"), prune=True)
    async with miwen(world):
        world.origin.commit({"b.yaml": BROKEN})
        await look()
        assert (world.reason(), world.data("b")) == ("MacMismatch", {"k": "1"})
        revision = world.origin.commit({}, remove=["b.yaml"])
        await look()
        assert (world.reason(), world.data("b")) == ("Synced", None)
        assert (world.current()["id"], world.current()["revision"]) == (2, revision)


async def test_an_object_that_moves_into_a_file_that_is_broken_at_first_is_taken_from_there_later(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"a.yaml": [secret("a", k="1"), secret("x", k="1")]}, remove=[FILE])
    world.add(source=source("*.yaml"), prune=True)
    async with miwen(world):
        world.origin.commit({"a.yaml": [secret("a", k="1")], "b.yaml": BROKEN})
        await look()
        assert world.data("x") == {"k": "1"}
        assert inventory(world) == {"a": "a.yaml", "x": ""}
        world.origin.commit({"b.yaml": [secret("x", k="2")]})
        await look()
        assert (world.reason(), world.data("x")) == ("Synced", {"k": "2"})
        assert inventory(world) == {"a": "a.yaml", "x": "b.yaml"}


async def test_an_object_that_leaves_its_file_while_another_is_broken_is_pruned_once_that_is_mended(
    world: World, autojump_clock: MockClock
) -> None:
    files = {"a.yaml": [secret("a", k="1"), secret("x", k="1")], "b.yaml": [secret("b", k="1")]}
    world.origin.commit(files, remove=[FILE])
    world.add(source=source("*.yaml"), prune=True)
    async with miwen(world):
        world.origin.commit({"a.yaml": [secret("a", k="1")], "b.yaml": BROKEN})
        await look()
        assert world.data("x") == {"k": "1"}
        world.origin.commit({"b.yaml": [secret("b", k="2")]})
        await look()
        assert (world.reason(), world.data("x"), world.data("a")) == ("Synced", None, {"k": "1"})


async def test_an_object_that_moves_from_file_to_file_stays_the_same(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"a.yaml": [secret("a", k="1"), secret("x", k="1")]}, remove=[FILE])
    world.add(source=source("*.yaml"), prune=True)
    async with miwen(world):
        before = world.cluster.get("Secret", "default", "x")
        world.origin.commit({"a.yaml": [secret("a", k="1")], "b.yaml": [secret("x", k="1")]})
        await look()
        assert world.reason() == "Synced"
        assert world.cluster.get("Secret", "default", "x") == before
        assert inventory(world) == {"a": "a.yaml", "x": "b.yaml"}


async def test_what_was_broken_for_an_older_spec_is_tried_with_the_new_one(
    world: World, autojump_clock: MockClock
) -> None:
    world.add(provider={"age": {"privateKey": {"literal": "AGE-SECRET-KEY-FAKE-WRONG"}}})
    async with miwen(world):
        assert world.reason() == "KeyMissing"
        world.add()
        await settle()
        assert world.reason() == "Synced"


async def test_one_broken_document_is_named_and_the_others_of_its_file_are_looked_after(
    world: World, autojump_clock: MockClock
) -> None:
    documents: list[Any] = [secret(f"s{number}", k="1") for number in range(19)]
    world.origin.commit({FILE: [*documents[:7], NO_OBJECT, *documents[7:]]})
    world.add()
    async with miwen(world):
        assert [world.data(f"s{number}") for number in range(19)] == [{"k": "1"}] * 19
        assert message(world).startswith(
            f"NotAKubernetesObject: 1 of 20 objects was not applied, the first: document 8 of {FILE} has no apiVersion"
        )
        world.cluster.delete("Secret", "default", "s11")
        await look()
        assert world.data("s11") == {"k": "1"}


async def test_an_object_whose_namespace_comes_later_is_applied_then_though_its_file_has_a_broken_document(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("late", "later", k="1"), NO_OBJECT]})
    world.add()
    async with miwen(world):
        # What may pass by itself is told before what does not.
        assert world.reason() == "NamespaceNotFound"
        assert failed(world) == {"late": "NamespaceNotFound"}
        world.cluster.put(namespace("later"))
        await look()
        assert world.data("late", "later") == {"k": "1"}
        assert (world.reason(), failed(world)) == ("NotAKubernetesObject", {})


async def test_a_target_keeps_the_keys_of_a_file_that_can_not_be_read(world: World, autojump_clock: MockClock) -> None:
    files = {"a.env": [{"A": "1"}], "b.env": [{"B": "1"}], "o.yaml": [secret("object", k="1")]}
    world.origin.commit(files, remove=[FILE])
    world.add(source=source("*.env", "*.yaml"), target={"name": "settings"}, prune=True)
    async with miwen(world):
        assert world.data("settings") == {"A": "1", "B": "1"}
        world.origin.commit({"a.env": [{"A": "2"}], "b.env": BROKEN, "o.yaml": [secret("object", k="2")]})
        await look()
        assert world.reason() == "MacMismatch"
        assert world.data("settings") == {"A": "1", "B": "1"}
        assert world.data("object") == {"k": "2"}
        world.origin.commit({"b.env": [{"B": {"no": "text"}}]})
        await look()
        assert (world.reason(), world.data("settings")) == ("UnknownFormat", {"A": "1", "B": "1"})
        world.origin.commit({"b.env": [{"B": "2"}]})
        await look()
        assert (world.reason(), world.data("settings")) == ("Synced", {"A": "2", "B": "2"})
        world.origin.commit({"b.env": [{"A": "3"}]})
        await look()
        assert world.reason() == "DuplicateObject"
        assert "a.env and b.env both give the key A of Secret settings" in message(world)
        world.origin.commit({}, remove=["b.env"])
        await look()
        assert (world.reason(), world.data("settings")) == ("Synced", {"A": "2"})


async def test_a_broken_document_of_objects_does_not_hold_a_target_up(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"a.env": [{"A": "1"}], "o.yaml": [{**NO_OBJECT, "apiVersion": "v1", "metadata": {}}]})
    world.add(source=source("*.env", "o.yaml"), target={"name": "settings"})
    async with miwen(world):
        assert (world.reason(), world.data("settings")) == ("NotAKubernetesObject", {"A": "1"})


@pytest.mark.parametrize("path", [FILE, f"./{FILE}", f".//{FILE}", f"a/../{FILE}"])
async def test_the_file_to_decrypt_must_be_encrypted_however_its_path_is_written(
    world: World, autojump_clock: MockClock, path: str
) -> None:
    world.origin.commit({FILE: Plain([secret(k="1")])})
    world.add(source={"repository": {"url": URL}, "fileToDecrypt": path})
    async with miwen(world):
        assert (world.reason(), world.data()) == ("NotEncrypted", None)


async def test_a_sops_config_is_no_manifest_however_its_path_is_written(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"conf/rules.yaml": Plain([{"creation_rules": []}])})
    world.add(source=source("**/*.yaml", sopsPath="./conf//rules.yaml"))
    async with miwen(world):
        assert world.reason() == "Synced"
        [file] = world.status()["files"]
        assert file["path"] == FILE
        revision = world.origin.refs["HEAD"]
        assert file["config"] == world.origin.entry(revision, "conf/rules.yaml").blob


async def test_files_that_hold_no_object_change_nothing_unless_that_is_meant(
    world: World, autojump_clock: MockClock
) -> None:
    world.add(source=source("*.yaml"), prune=True)
    async with miwen(world):
        world.origin.commit({FILE: Plain([])})
        await look()
        assert (world.reason(), world.data()) == ("NothingToApply", {"greeting": "one"})
        assert inventory(world) == {"app": FILE}
        world.origin.commit({}, remove=[FILE])
        await look()
        assert (world.reason(), world.data()) == ("NothingToApply", {"greeting": "one"})
        world.add(source=source("*.yaml"), prune=True, allowEmpty=True)
        await settle()
        assert (world.reason(), world.data(), inventory(world)) == ("Synced", None, {})
        written = world.versions()
        await look()
        assert world.versions() == written


async def test_files_that_are_too_much_together_are_refused(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jiemi.miwen.reconcile import render

    monkeypatch.setattr(render, "MAX_DECRYPTOR_BYTES", 150)
    world.origin.commit({"a.yaml": [secret("a", k="1")], "b.yaml": [secret("b", k="1")]}, remove=[FILE])
    world.add(source=source("*.yaml"))
    async with miwen(world):
        assert (world.reason(), world.data("a")) == ("LimitExceeded", None)
        assert "split the Decryptor" in message(world)


async def test_more_objects_than_a_status_can_hold_are_refused_before_any_is_applied(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(f"s{number}") for number in range(2_001)]})
    world.add()
    async with miwen(world):
        assert (world.reason(), world.data("s0"), applied(world)) == ("LimitExceeded", None, 0)
        assert "2001 objects" in message(world)


# --- applyPolicy: Atomic


async def test_atomic_applies_none_where_one_is_refused_and_says_so(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), secret("b", "nowhere", k="1"), secret("c", k="1")]})
    world.add(applyPolicy="Atomic")
    async with miwen(world):
        assert [world.data(name) for name in "abc"] == [None] * 3
        assert (world.reason(), failed(world)) == ("NamespaceNotFound", {"b": "NamespaceNotFound"})
        assert "1 of 3 objects was refused, so none is applied (applyPolicy: Atomic), the first: " in message(world)
        assert "inventory" not in world.status()
        world.cluster.put(namespace("nowhere"))
        await look()
        assert world.reason() == "Synced"
        assert world.data("b", "nowhere") == {"k": "1"}


@pytest.mark.parametrize("policy", ["Atomic", "BestEffort"])
async def test_a_refusal_is_reported_until_it_ends_though_no_file_changes(
    world: World, autojump_clock: MockClock, policy: str
) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), secret("b", k="1")]})
    world.add(applyPolicy=policy)
    async with miwen(world):
        assert world.reason() == "Synced"
        world.cluster.policies["no-b"] = lambda _, obj: obj["metadata"]["name"] == "b"
        labels = {"labels": {"colour": "blue"}}
        world.add(applyPolicy=policy, commonMetadata=labels)
        await settle()
        assert world.reason() == "AdmissionDenied"
        for _ in range(3):
            await look()
            assert (world.reason(), failed(world)) == ("AdmissionDenied", {"b": "AdmissionDenied"})
        found = world.cluster.get("Secret", "default", "a")
        assert found is not None
        assert ("colour" in found["metadata"]["labels"]) is (policy == "BestEffort")
        del world.cluster.policies["no-b"]
        await look()
        assert world.reason() == "Synced"
        found = world.cluster.get("Secret", "default", "b")
        assert found is not None
        assert found["metadata"]["labels"]["colour"] == "blue"


async def test_a_commit_that_atomic_refuses_is_no_news_when_it_is_taken_back(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("a", k="1")]})
    world.add(applyPolicy="Atomic", prune=True)
    async with miwen(world):
        good = world.origin.refs["HEAD"]
        requests = applied(world)
        world.origin.commit({FILE: [UNKNOWN], "b.yaml": [secret("b")]})
        await look()
        assert (world.reason(), world.data("a")) == ("KindUnknown", {"k": "1"})
        world.origin.refs["HEAD"] = good
        await look()
        assert (world.reason(), world.current()["id"], applied(world)) == ("Synced", 1, requests)


async def test_what_atomic_could_not_foresee_is_applied_again_when_the_commit_is_taken_back(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), widget()]})
    world.cluster.add_kind("example.com/v1", "Widget", "widgets", namespaced=True)
    world.add(applyPolicy="Atomic")
    async with miwen(world):
        good = world.origin.refs["HEAD"]
        world.origin.commit({FILE: [secret("a", k="2"), {**widget(), "spec": {"size": 2}}]})
        # The dry run went well; then someone writes all the time.
        original = world.kubernetes.begin

        async def begin(method: str, verb: str, resource: str) -> None:
            await original(method, verb, resource)
            if (method, resource) == ("apply", "widgets"):
                raise JiemiError("ApplyRejected", "not now")

        world.kubernetes.begin = begin  # type: ignore[method-assign]
        await look()
        assert (world.reason(), world.data("a")) == ("ApplyRejected", {"k": "2"})
        world.kubernetes.begin = original  # type: ignore[method-assign]
        world.origin.refs["HEAD"] = good
        await look()
        assert (world.reason(), world.data("a")) == ("Synced", {"k": "1"})


async def test_atomic_takes_what_comes_with_its_namespace_or_its_kind(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [widget(), secret("a", "new", k="1"), definition(), namespace("new")]})
    world.add(applyPolicy="Atomic")
    async with miwen(world):
        assert world.reason() == "Synced"
        assert world.cluster.get("Widget", "default", "w", api_version="example.com/v1") is not None
        assert world.data("a", "new") == {"k": "1"}


async def test_atomic_applies_none_where_a_file_can_not_be_read(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"a.yaml": [secret("a", k="1")], "b.yaml": BROKEN}, remove=[FILE])
    world.add(source=source("*.yaml"), applyPolicy="Atomic")
    async with miwen(world):
        assert (world.reason(), world.data("a")) == ("MacMismatch", None)
        assert "1 of 2 files was refused, so none is applied" in message(world)
        await look()
        assert (world.reason(), world.data("a")) == ("MacMismatch", None)
        world.origin.commit({"b.yaml": [secret("b", k="1")]})
        await look()
        assert (world.reason(), world.data("a"), world.data("b")) == ("Synced", {"k": "1"}, {"k": "1"})


async def test_atomic_waits_for_an_api_server_that_does_not_answer(world: World, autojump_clock: MockClock) -> None:
    world.kubernetes.fail_next("dry_run", JiemiError("ClusterUnavailable", "no answer"))
    world.add(applyPolicy="Atomic")
    async with miwen(world):
        assert (world.reason(), applied(world)) == ("ClusterUnavailable", 0)
        await trio.sleep(3)
        assert world.reason() == "Synced"


async def test_atomic_with_force_foresees_that_an_object_is_recreated(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [{**secret("a", k="1"), "immutable": True}]})
    world.add(applyPolicy="Atomic", force=True)
    async with miwen(world):
        world.origin.commit({FILE: [{**secret("a", k="2"), "immutable": True}]})
        await look()
        assert (world.reason(), world.data("a")) == ("Synced", {"k": "2"})


# --- the order


async def test_what_others_need_is_applied_first(world: World, autojump_clock: MockClock) -> None:
    subject = {"kind": "ServiceAccount", "name": "account", "namespace": "new"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "role"}
    rbac = "rbac.authorization.k8s.io/v1"
    in_new = {"namespace": "new"}
    documents = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", **in_new}, "spec": {}},
        {**widget(), "metadata": {"name": "w", **in_new}},
        secret("app", "new", k="1"),
        {
            "apiVersion": rbac,
            "kind": "RoleBinding",
            "metadata": {"name": "binding", **in_new},
            "roleRef": role,
            "subjects": [subject],
        },
        {"apiVersion": rbac, "kind": "Role", "metadata": {"name": "role", **in_new}, "rules": []},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "account", **in_new}},
        definition(),
        namespace("new"),
    ]
    world.cluster.crd_delay_seconds = 3.0
    world.origin.commit({FILE: documents})
    world.add()
    async with miwen(world):
        await trio.sleep(4)
        assert world.reason() == "Synced"
        kinds = [
            each.obj["kind"]
            for each in world.cluster.events
            if each.change == "ADDED" and each.obj["metadata"].get("labels", {}).get("jiemi.cr/decryptor-name") == "app"
        ]
        stages = [
            {"Namespace", "CustomResourceDefinition"},
            {"ServiceAccount", "Role", "RoleBinding"},
            {"Secret"},
            {"Deployment", "Widget"},
        ]
        at = 0
        for stage in stages:
            assert set(kinds[at : at + len(stage)]) == stage, kinds
            at += len(stage)


async def test_a_kind_that_is_listed_a_moment_before_it_is_served_is_no_failure(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [definition(), widget()]})
    world.add()
    original, refusals = world.kubernetes.begin, iter("ab")

    async def begin(method: str, verb: str, resource: str) -> None:
        await original(method, verb, resource)
        if (method, resource) == ("apply", "widgets") and next(refusals, None):
            raise errors.kind_unknown("example.com/v1", "Widget")

    world.kubernetes.begin = begin  # type: ignore[method-assign]
    async with miwen(world):
        await trio.sleep(1)
        assert (world.reason(), failed(world)) == ("Synced", {})
        assert world.kubernetes.requests.snapshot().of("apply", "widgets") == 3


async def test_a_definition_that_is_never_served_holds_nothing_else_up_for_ever(
    world: World, autojump_clock: MockClock
) -> None:
    world.cluster.crd_delay_seconds = 100.0
    world.origin.commit({FILE: [secret("a", k="1"), definition(), widget()]})
    world.add()
    async with miwen(world):
        await trio.sleep(59)
        assert world.data("a") is None
        await trio.sleep(2)
        assert (world.data("a"), world.reason(), failed(world)) == ({"k": "1"}, "KindUnknown", {"w": "KindUnknown"})
        await trio.sleep(60)
        assert world.reason() == "Synced"


async def test_without_the_right_to_read_definitions_the_rest_is_applied(
    world: World, autojump_clock: MockClock
) -> None:
    world.cluster.crd_delay_seconds = 2.0
    rights = {("patch", "secrets"), ("create", "secrets"), ("patch", CRDS), ("create", CRDS)}
    world.cluster.account_rights["default/deployer"] = {*rights, ("patch", "widgets"), ("create", "widgets")}
    world.origin.commit({FILE: [secret("a", k="1"), definition(), widget()]})
    world.add(serviceAccountName="deployer")
    async with miwen(world):
        assert (world.data("a"), world.reason()) == ({"k": "1"}, "KindUnknown")
        await trio.sleep(10)
        assert world.reason() == "Synced"


async def test_a_definition_that_is_refused_is_reported_and_so_is_its_object(
    world: World, autojump_clock: MockClock
) -> None:
    world.kubernetes.deny("create", CRDS)
    world.origin.commit({FILE: [widget(), definition()]})
    world.add()
    async with miwen(world):
        assert failed(world) == {"widgets.example.com": "ApplyForbidden", "w": "KindUnknown"}


async def test_an_object_whose_kind_turns_out_to_have_another_scope_is_not_applied(
    world: World, autojump_clock: MockClock
) -> None:
    # Another was quicker to make the definition.
    world.origin.commit({FILE: [widget(), definition()]})
    world.add()
    original = world.cluster.apply

    def apply(to: Any, resource: Any, **more: Any) -> Any:
        done = original(to, resource, **more)
        if resource.kind == CRD[1]:
            world.cluster.add_kind("example.com/v1", "Widget", "widgets", namespaced=False)
        return done

    world.cluster.apply = apply  # type: ignore[method-assign]
    async with miwen(world):
        assert failed(world) == {"w": "KindUnknown"}


async def test_a_kind_that_is_served_later_is_applied_then(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [widget(), secret("a", k="1")]})
    world.add()
    async with miwen(world):
        assert (failed(world), world.data("a")) == ({"w": "KindUnknown"}, {"k": "1"})
        world.cluster.put(definition())
        await look()
        assert (world.reason(), failed(world)) == ("Synced", {})


@pytest.mark.parametrize(
    ("api_version", "kind", "served", "remedy"),
    [
        ("v1", "secret", "Secret of v1", "Correct kind,"),
        ("v1", "Secrets", "Secret of v1", "Correct kind,"),
        ("v1beta1", "Secret", "Secret of v1", "Correct apiVersion,"),
        ("apps/v1", "secret", "Secret of v1", "Correct apiVersion and kind,"),
    ],
)
async def test_what_may_be_meant_by_a_kind_that_is_not_served_is_named(
    world: World, autojump_clock: MockClock, api_version: str, kind: str, served: str, remedy: str
) -> None:
    world.origin.commit({FILE: [{**secret("a", k="1"), "apiVersion": api_version, "kind": kind}]})
    world.add()
    async with miwen(world):
        assert world.reason() == "KindUnknown"
        message = world.condition("Ready")["message"]
    assert f"the cluster serves no kind {kind} of apiVersion {api_version}; it serves {served}." in message
    assert message.endswith(f"{remedy} or install the CustomResourceDefinition.")


# --- one object


async def test_an_object_that_another_writes_at_the_same_moment_is_applied_again(
    world: World, autojump_clock: MockClock
) -> None:
    conflict = JiemiError("ApplyConflict", "Secret default/app was changed by another at the same moment")
    world.kubernetes.fail_next("apply", conflict, conflict)
    world.add()
    async with miwen(world):
        assert world.reason() == "Synced"
        world.kubernetes.fail_next("apply", conflict, conflict, conflict)
        world.origin.commit({FILE: [secret(greeting="two")]})
        await look()
        assert world.reason() == "ApplyConflict"
        await trio.sleep(3)
        assert (world.reason(), world.data()) == ("Synced", {"greeting": "two"})


@pytest.mark.parametrize("policy", ["TakeOver", "Refuse"])
async def test_a_field_that_another_owns_is_taken_over_or_refused(
    world: World, autojump_clock: MockClock, policy: str
) -> None:
    world.add_secret("app", greeting="theirs")
    world.add(conflictPolicy=policy)
    async with miwen(world):
        if policy == "TakeOver":
            assert (world.reason(), world.data()) == ("Synced", {"greeting": "one"})
        else:
            assert (world.reason(), world.data()) == ("FieldConflict", {"greeting": "theirs"})
            assert "data.greeting (owned by kubectl-edit)" in message(world)


async def test_an_immutable_object_is_reported_and_with_force_recreated(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [{**secret(k="1"), "immutable": True}]})
    world.add()
    async with miwen(world):
        old = world.cluster.get("Secret", "default", "app")
        world.origin.commit({FILE: [{**secret(k="2"), "immutable": True}]})
        await look()
        assert (world.reason(), world.data()) == ("FieldImmutable", {"k": "1"})
        world.add(force=True)
        await settle()
        assert (world.reason(), world.data()) == ("Synced", {"k": "2"})
        new = world.cluster.get("Secret", "default", "app")
        assert old is not None
        assert new is not None
        assert old["metadata"]["uid"] != new["metadata"]["uid"]


async def test_force_deletes_no_claim_and_nothing_that_keeps_itself_from_it(
    world: World, autojump_clock: MockClock
) -> None:
    kept = {**secret("kept", k="1"), "immutable": True}
    kept["metadata"] = {"name": "kept", "annotations": {"jiemi.cr/prune": "disabled"}}
    world.origin.commit({FILE: [claim("1Gi"), kept]})
    world.add(force=True)
    async with miwen(world):
        assert world.reason() == "Synced"
        world.origin.commit({FILE: [claim("2Gi"), {**kept, "stringData": {"k": "2"}}]})
        await look()
        assert failed(world) == {"disk": "FieldImmutable", "kept": "FieldImmutable"}
        texts = {each["name"]: each["message"] for each in world.status()["failedObjects"]}
        assert "and spec.force does not delete a PersistentVolumeClaim. Put the old value back, or" in texts["disk"]
        assert "and spec.force does not delete what is annotated jiemi.cr/prune: disabled" in texts["kept"]
        assert world.kubernetes.requests.snapshot().of("delete", "secrets") == 0


async def test_force_waits_for_finalizers_and_not_for_ever(world: World, autojump_clock: MockClock) -> None:
    held = {**secret(k="1"), "immutable": True, "metadata": {"name": "app", "finalizers": ["tests/holds"]}}
    world.origin.commit({FILE: [held]})
    world.add(force=True)
    async with miwen(world):
        world.origin.commit({FILE: [{**held, "stringData": {"k": "2"}}, secret("other", k="1")]})
        await trio.sleep(INTERVAL + 29)
        assert world.reason() == "Synced"
        await trio.sleep(3)
        assert world.reason() == "FieldImmutable"
        assert "finalizers hold it" in message(world)
        assert world.data("other") == {"k": "1"}
        world.cluster.edit("Secret", "default", "app", metadata={"finalizers": None})
        await look()
        assert (world.reason(), world.data()) == ("Synced", {"k": "2"})


async def test_force_without_the_right_to_delete_says_what_to_grant(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [{**secret(k="1"), "immutable": True}]})
    world.kubernetes.deny("delete", "secrets")
    world.add(force=True)
    async with miwen(world):
        world.origin.commit({FILE: [{**secret(k="2"), "immutable": True}]})
        await look()
        assert (world.reason(), world.data()) == ("DeleteForbidden", {"k": "1"})
        assert "Grant `delete` on secrets" in message(world)


async def test_an_object_that_is_gone_when_it_is_to_be_recreated_is_made(
    world: World, autojump_clock: MockClock
) -> None:
    world.kubernetes.fail_next("apply", JiemiError("FieldImmutable", "it was there a moment ago"))
    world.add(force=True)
    async with miwen(world):
        assert (world.reason(), world.data()) == ("Synced", {"greeting": "one"})


@pytest.mark.parametrize("drift", ["Correct", "Report"])
async def test_keys_that_others_added_since_go_with_the_next_apply_unless_drift_is_only_reported(
    world: World, autojump_clock: MockClock, drift: str
) -> None:
    world.add(driftPolicy=drift)
    async with miwen(world):
        pass
    world.cluster.edit("Secret", "default", "app", data={"added": "eA=="})
    world.origin.commit({FILE: [secret(greeting="two")]})
    async with miwen(world):
        await look()
        expected = {"greeting": "two"} | ({"added": "x"} if drift == "Report" else {})
        assert world.data() == expected


async def test_keys_that_were_there_before_stay(world: World, autojump_clock: MockClock) -> None:
    world.add_secret("app", theirs="x")
    world.add()
    async with miwen(world):
        assert world.data() == {"greeting": "one", "theirs": "x"}
        [entry] = world.status()["inventory"]
        assert entry["keptKeys"] == ["theirs"]


async def test_namespace_labels_and_annotations_are_put_over_what_the_manifest_says(
    world: World, autojump_clock: MockClock
) -> None:
    manifest = secret("a", "elsewhere", k="1")
    manifest["metadata"] |= {"labels": {"colour": "red", "own": "x"}, "annotations": {"note": "old"}}
    world.cluster.put(namespace("team"))
    world.origin.commit({FILE: [manifest, namespace("made")]})
    common = {"labels": {"colour": "blue"}, "annotations": {"note": "new"}}
    world.add(targetNamespace="team", commonMetadata=common)
    async with miwen(world):
        found = world.cluster.get("Secret", "team", "a")
        assert found is not None
        owner = {"jiemi.cr/decryptor-name": "app", "jiemi.cr/decryptor-namespace": "default"}
        assert found["metadata"]["labels"] == {"colour": "blue", "own": "x", **owner}
        assert found["metadata"]["annotations"] == {"note": "new"}
        assert world.cluster.get("Namespace", None, "made") is not None


async def test_labels_that_are_no_mapping_are_reported_and_the_others_are_applied(
    world: World, autojump_clock: MockClock
) -> None:
    wrong = {**secret("wrong"), "metadata": {"name": "wrong", "labels": ["a"]}}
    world.origin.commit({FILE: [wrong, secret("a", k="1")]})
    world.add()
    async with miwen(world):
        assert (failed(world), world.data("a")) == ({"wrong": "NotAKubernetesObject"}, {"k": "1"})


# --- whose an object is


async def test_an_object_in_two_places_is_refused_in_the_second(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"a.yaml": [secret("x", k="a")], "b.yaml": [secret("x", k="b"), secret("y", k="1")]})
    world.add(source=source("a.yaml", "b.yaml"))
    async with miwen(world):
        assert world.reason() == "DuplicateObject"
        assert "a.yaml and b.yaml both describe Secret default/x" in message(world)
        assert (world.data("x"), world.data("y")) == ({"k": "a"}, {"k": "1"})
        # Where only the second is rendered again it is so too.
        world.origin.commit({"b.yaml": [secret("x", k="c"), secret("y", k="2")]})
        await look()
        assert (world.reason(), world.data("x"), world.data("y")) == ("DuplicateObject", {"k": "a"}, {"k": "2"})
        world.origin.commit({}, remove=["a.yaml"])
        world.add(source=source("b.yaml"))
        await settle()
        assert (world.reason(), world.data("x")) == ("Synced", {"k": "c"})
        world.origin.commit({"b.yaml": [secret("x", k="c"), secret("x", k="d")]})
        await look()
        assert "b.yaml describes Secret default/x twice" in message(world)


async def test_the_second_of_two_decryptors_waits_for_the_first_to_drop_an_object(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"a.yaml": [secret("x", k="a"), secret("y", k="a")], "b.yaml": [secret("x", k="b")]})
    async with miwen(world):
        world.add("first", source=source("a.yaml"))
        await settle()
        world.add("second", source=source("b.yaml"))
        await settle()
        assert world.reason("second") == "ObjectClaimed"
        assert "Secret default/x belongs to Decryptor default/first" in message(world, "second")
        assert inventory(world, "second") == {}
        await look()
        assert (world.reason("second"), world.data("x")) == ("ObjectClaimed", {"k": "a"})
        world.origin.commit({"a.yaml": [secret("y", k="a")]})
        await look()
        await look()
        assert (world.reason("first"), world.reason("second")) == ("Synced", "Synced")
        assert world.data("x") == {"k": "b"}
        assert (set(inventory(world, "first")), set(inventory(world, "second"))) == ({"y"}, {"x"})


async def test_an_object_is_free_once_its_decryptor_is_gone(world: World, autojump_clock: MockClock) -> None:
    async with miwen(world):
        world.add("first", source=source(FILE))
        await settle()
        world.add("second", source=source(FILE))
        await settle()
        assert world.reason("second") == "ObjectClaimed"
        world.delete("first")
        await look()
        assert (world.reason("second"), inventory(world, "second")) == ("Synced", {"app": FILE})


async def test_who_has_an_object_keeps_it_over_a_restart(world: World, autojump_clock: MockClock) -> None:
    # The first that is read after the restart is not the one that has it.
    async with miwen(world):
        world.add("z-first", source=source(FILE))
        await settle()
        world.add("a-second", source=source(FILE))
        await settle()
    async with miwen(world):
        await look()
        assert (world.reason("z-first"), world.reason("a-second")) == ("Synced", "ObjectClaimed")


async def test_atomic_claims_nothing_that_it_does_not_apply(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"a.yaml": [secret("x", k="a"), UNKNOWN], "b.yaml": [secret("x", k="b")]})
    async with miwen(world):
        world.add("first", source=source("a.yaml"), applyPolicy="Atomic")
        await settle()
        world.add("second", source=source("b.yaml"))
        await settle()
        assert (world.reason("first"), world.reason("second")) == ("KindUnknown", "Synced")


async def test_a_miwen_of_one_namespace_asks_the_labels_whose_an_object_is(
    world: World, autojump_clock: MockClock
) -> None:
    labels = {"jiemi.cr/decryptor-name": "theirs", "jiemi.cr/decryptor-namespace": "elsewhere"}
    theirs = {**secret("app", "default"), "metadata": {"name": "app", "namespace": "default", "labels": labels}}
    world.cluster.put(theirs)
    world.add()
    async with miwen(world, tenancy=Tenancy(namespaces=frozenset({"default"}))):
        assert world.reason() == "ObjectClaimed"
        assert "Decryptor elsewhere/theirs, as its labels jiemi.cr/decryptor-* say" in message(world)
        world.cluster.edit("Secret", "default", "app", metadata={"labels": None})
        await look()
        assert world.reason() == "Synced"


async def test_a_miwen_of_one_namespace_knows_what_its_own_decryptors_have_dropped(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"a.yaml": [secret("x", k="a"), secret("y")], "b.yaml": [secret("x", k="b")]})
    async with miwen(world, tenancy=Tenancy(namespaces=frozenset({"default"}))):
        world.add("first", source=source("a.yaml"))
        await settle()
        world.add("second", source=source("b.yaml"))
        await settle()
        assert world.reason("second") == "ObjectClaimed"
        world.origin.commit({"a.yaml": [secret("y")]})
        await look()
        await look()
        assert (world.reason("second"), world.data("x")) == ("Synced", {"k": "b"})


async def test_where_whose_an_object_is_can_not_be_read_it_alone_is_refused(
    world: World, autojump_clock: MockClock
) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "1"}}
    world.origin.commit({FILE: [secret("a", k="1"), config]})
    world.kubernetes.deny("get", "configmaps")
    world.add()
    async with miwen(world, tenancy=Tenancy(namespaces=frozenset({"default"}))):
        assert (failed(world), world.data("a")) == ({"c": "ReadForbidden"}, {"k": "1"})


async def test_a_policy_refuses_all_objects_where_one_is_not_allowed(world: World, autojump_clock: MockClock) -> None:
    world.cluster.put(namespace("team"))
    documents = [secret("a", k="1"), namespace("made"), secret("b", "team", k="1")]
    world.origin.commit({FILE: documents})
    world.add()
    rule = "{{namespaces: [default], objectNamespaces: {}}}"
    for allowed, named in (("[default, team]", "Namespace made"), ("[default, '']", "Secret team/b")):
        async with miwen(world, policy=read_policy(f"rules: [{rule.format(allowed)}]")):
            await look()
            assert (world.reason(), world.data("a")) == ("PolicyDenied", None)
            assert named in message(world)
    async with miwen(world, policy=read_policy(f"rules: [{rule.format('[default, team, {}]'.format(repr('')))}]")):
        assert world.reason() == "Synced"
        assert world.cluster.get("Namespace", None, "made") is not None


# --- what is known at any moment


async def test_the_inventory_is_written_before_anything_is_applied(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        world.cluster.put(namespace("team"))
        world.kubernetes.delays["apply"] = 10
        world.origin.commit({FILE: [secret("new", k="1"), secret("x", "team", k="1")]})
        await trio.sleep(INTERVAL + 5)
        assert world.data("new") is None
        assert inventory(world) == {"app": FILE, "new": FILE, "x": FILE}
        assert world.condition("Reconciling")["reason"] == "Deploying"
        assert world.condition("Reconciling")["message"].endswith(": 2 objects are being applied")
        await trio.sleep(30)
        assert world.condition("Reconciling") == {}
        assert inventory(world) == {"new": FILE, "x": FILE}


async def test_a_miwen_that_ends_in_the_middle_forgets_no_object(world: World, autojump_clock: MockClock) -> None:
    world.add(prune=True)
    async with miwen(world):
        world.kubernetes.delays["apply"] = 10
        world.origin.commit({FILE: [secret("new", k="1"), {**UNKNOWN, "apiVersion": "apps/v1", "kind": "Deployment"}]})
        await trio.sleep(INTERVAL + 15)
        assert (world.data("new"), world.data()) == ({"k": "1"}, {"greeting": "one"})
    world.kubernetes.delays.clear()
    world.origin.commit({FILE: [secret("newer", k="1")]})
    async with miwen(world):
        await look()
        assert world.reason() == "Synced"
        assert (world.data("newer"), world.data("new"), world.data()) == ({"k": "1"}, None, None)
        assert [entry["id"] for entry in world.status()["history"]] == [1, 2]


async def test_an_object_that_was_refused_is_in_the_inventory_and_keeps_no_other_decryptor_from_it(
    world: World, autojump_clock: MockClock
) -> None:
    web = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "b", "namespace": "nowhere"}}
    world.origin.commit({FILE: [secret("a", k="1"), web]})
    world.kubernetes.fail_next("apply", *[JiemiError("ApplyConflict", "x")] * 3)
    world.add()
    async with miwen(world):
        assert failed(world) == {"a": "ApplyConflict", "b": "NamespaceNotFound"}
        # Of the first it is not known whether it was made.
        assert set(inventory(world)) == {"a", "b"}
        world.origin.commit({"theirs.yaml": [secret("a", k="2")]})
        world.add("other", source=source("theirs.yaml"))
        await settle()
        assert (world.reason("other"), world.data("a")) == ("Synced", {"k": "2"})


async def test_a_spec_that_changes_in_the_middle_ends_the_apply_between_two_objects(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(f"s{number}", k="1") for number in range(40)]})
    world.kubernetes.delays["apply"] = 1
    world.add(prune=True)
    async with miwen(world):
        await trio.sleep(2.5)
        assert 0 < sum(world.data(f"s{number}") is not None for number in range(40)) < 20
        world.origin.commit({"other.yaml": [secret("other", k="1")]})
        world.add(source=source("other.yaml"), prune=True)
        await trio.sleep(5)
        assert (world.reason(), world.data("other")) == ("Synced", {"k": "1"})
        # Whatever was made is known, and pruned.
        assert not any(world.data(f"s{number}") for number in range(40))
        assert world.current()["id"] == 1


async def test_a_decryptor_that_is_deleted_in_the_middle_takes_all_that_was_made_with_it(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(f"s{number}", k="1") for number in range(40)]})
    world.kubernetes.delays["apply"] = 1
    world.add(deletionPolicy="Delete")
    async with miwen(world):
        await trio.sleep(2.5)
        world.delete()
        await trio.sleep(5)
        assert not any(world.data(f"s{number}") for number in range(40))
        assert world.cluster.get(KIND, "default", "app", api_version=API_VERSION) is None


async def test_an_apply_that_takes_too_long_goes_on_with_what_is_left(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret(f"s{number}", k="1") for number in range(40)]})
    world.kubernetes.delays["apply"] = 1
    world.add(timeout="5s")
    async with miwen(world):
        await trio.sleep(6)
        assert world.reason() == "Timeout"
        assert len(inventory(world)) == 40
        world.kubernetes.delays.clear()
        await trio.sleep(5)
        assert world.reason() == "Synced"
        assert all(world.data(f"s{number}") for number in range(40))


# --- pruning


def labelled(name: str, owner: str) -> dict[str, Any]:
    return {"labels": {"jiemi.cr/decryptor-name": owner, "jiemi.cr/decryptor-namespace": "default"}, "name": name}


async def test_objects_that_keep_themselves_or_are_anothers_by_now_stay(
    world: World, autojump_clock: MockClock
) -> None:
    names = ("gone", "kept", "taken", "bare", "dying", "missing")
    documents = [secret(name, k="1") for name in names]
    documents[4]["metadata"]["finalizers"] = ["tests/holds"]
    world.origin.commit({FILE: [secret(greeting="one"), *documents]})
    world.add(prune=True, driftPolicy="Report")
    async with miwen(world):
        world.cluster.edit("Secret", "default", "kept", metadata={"annotations": {"jiemi.cr/prune": "disabled"}})
        world.cluster.edit("Secret", "default", "taken", metadata=labelled("taken", "another"))
        world.cluster.edit("Secret", "default", "bare", metadata={"labels": None})
        world.cluster.delete("Secret", "default", "dying")
        world.cluster.delete("Secret", "default", "missing")
        world.origin.commit({FILE: [secret(greeting="two")]})
        await look()
        assert world.reason() == "Synced"
        assert [name for name in names if world.data(name) is not None] == ["kept", "taken", "bare", "dying"]
        assert set(inventory(world)) == {"app"}
        deletions = world.kubernetes.requests.snapshot().of("delete", "secrets")
        assert deletions == 1


async def test_a_revision_is_deployed_once_what_left_with_it_could_be_deleted_and_nothing_is_decrypted_for_that(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), secret("x", k="1")]})
    world.add(prune=True)
    async with miwen(world):
        world.kubernetes.deny("delete", "secrets")
        revision = world.origin.commit({FILE: [secret(greeting="two")]})
        await look()
        assert (world.reason(), world.current()["id"]) == ("DeleteForbidden", 1)
        renders, applies = world.renders(), applied(world)
        await look()
        assert world.reason() == "DeleteForbidden"
        world.kubernetes.denied.clear()
        await look()
        assert (world.reason(), world.data("x")) == ("Synced", None)
        assert (world.current()["id"], world.current()["revision"]) == (2, revision)
        assert (world.renders(), applied(world)) == (renders, applies)
        assert inventory(world) == {"app": FILE}


async def test_what_could_not_be_deleted_is_remembered_over_a_restart(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), secret("x", k="1")]})
    world.add(prune=True)
    async with miwen(world):
        world.kubernetes.deny("delete", "secrets")
        revision = world.origin.commit({FILE: [secret(greeting="two")]})
        await look()
        assert world.reason() == "DeleteForbidden"
    async with miwen(world):
        await look()
        assert (world.reason(), world.current()["id"]) == ("DeleteForbidden", 1)
        world.kubernetes.denied.clear()
        await look()
        assert (world.reason(), world.current()["revision"], world.data("x")) == ("Synced", revision, None)


async def test_a_prune_that_takes_too_long_goes_on_with_what_is_left(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), *(secret(f"s{number}", k="1") for number in range(6))]})
    world.add(prune=True, timeout="10s")
    async with miwen(world):
        world.kubernetes.delays["delete"] = 3
        revision = world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL + 11)
        assert world.reason() == "Timeout"
        assert 0 < sum(world.data(f"s{number}") is None for number in range(6)) < 6
        await trio.sleep(60)
        assert (world.reason(), world.current()["revision"]) == ("Synced", revision)
        assert set(inventory(world)) == {"app"}


async def test_another_object_of_the_name_that_is_made_at_the_same_moment_stays(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), secret("x", k="1")]})
    world.add(prune=True)
    async with miwen(world):
        world.kubernetes.delays["delete"] = 5
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL + 2)
        world.cluster.delete("Secret", "default", "x")
        world.add_secret("x", theirs="1")
        await trio.sleep(10)
        assert (world.reason(), world.data("x"), set(inventory(world))) == ("Synced", {"theirs": "1"}, {"app"})


async def test_objects_are_deleted_in_the_reverse_of_the_order_in_which_they_are_applied(
    world: World, autojump_clock: MockClock
) -> None:
    documents = [
        namespace("new"),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "account"}},
        secret("s", k="1"),
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {}},
    ]
    world.origin.commit({FILE: [secret(greeting="one"), *documents]})
    world.add(prune=True)
    async with miwen(world):
        world.origin.commit({FILE: [secret(greeting="one")]})
        since = len(world.cluster.events)
        await look()
        gone = [each.obj["kind"] for each in world.cluster.events[since:] if each.change == "DELETED"]
        assert gone == ["Deployment", "Secret", "ServiceAccount", "Namespace"]


async def test_an_object_that_can_not_be_deleted_is_reported_and_tried_again_and_the_others_are_deleted(
    world: World, autojump_clock: MockClock
) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "1"}}
    world.origin.commit({FILE: [secret(greeting="one"), secret("x", k="1"), config]})
    world.kubernetes.deny("delete", "configmaps")
    world.add(prune=True)
    async with miwen(world):
        world.origin.commit({FILE: [secret(greeting="two")]})
        await look()
        assert (world.reason(), world.data("x"), world.data()) == ("DeleteForbidden", None, {"greeting": "two"})
        assert message(world).startswith("DeleteForbidden: 1 of 2 objects was not deleted, the first: ")
        assert failed(world) == {"c": "DeleteForbidden"}
        assert set(inventory(world)) == {"app", "c"}
        await look()
        assert (world.reason(), failed(world)) == ("DeleteForbidden", {"c": "DeleteForbidden"})
        world.kubernetes.denied.clear()
        await look()
        assert (world.reason(), failed(world), set(inventory(world))) == ("Synced", {}, {"app"})
        assert world.cluster.get("ConfigMap", "default", "c") is None


async def test_an_object_that_is_kept_from_being_read_is_not_deleted(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), secret("x", k="1")]})
    world.add(prune=True)
    async with miwen(world):
        world.kubernetes.deny("get", "secrets")
        world.origin.commit({FILE: [secret(greeting="two")]})
        await look()
        assert (world.reason(), world.data("x")) == ("ReadForbidden", {"k": "1"})


async def test_after_the_first_deletion_that_is_not_answered_the_others_are_left_for_later(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), *(secret(f"s{number}") for number in range(10))]})
    world.add(prune=True)
    async with miwen(world):
        world.kubernetes.fail_next("delete", JiemiError("ClusterUnavailable", "no answer"))
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL + 1)
        assert world.kubernetes.requests.snapshot().of("delete", "secrets") == 1
        assert (world.reason(), len(inventory(world))) == ("ClusterUnavailable", 11)
        await trio.sleep(3)
        assert (world.reason(), set(inventory(world))) == ("Synced", {"app"})


async def test_prune_that_is_set_later_deletes_only_what_leaves_from_then_on(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), secret("x", k="1"), secret("y", k="1")]})
    world.add()
    async with miwen(world):
        world.origin.commit({FILE: [secret(greeting="one"), secret("y", k="1")]})
        await look()
        world.add(prune=True)
        await settle()
        world.origin.commit({FILE: [secret(greeting="one")]})
        await look()
        assert (world.data("x"), world.data("y")) == ({"k": "1"}, None)


def lose_host(world: World) -> None:
    world.origin.fail = Failure("HostUnreachable", "git.example does not answer")


def lose_mac(world: World) -> None:
    world.origin.commit({FILE: Failure("MacMismatch", f"{FILE}: the file was changed")})


def lose_file(world: World) -> None:
    world.origin.commit({}, remove=[FILE])


def lose_documents(world: World) -> None:
    world.origin.commit({FILE: []})


def lose_form(world: World) -> None:
    world.origin.commit({FILE: [["a list"]]})


@pytest.mark.parametrize(
    ("lose", "reason"),
    [
        (lose_host, "HostUnreachable"),
        (lose_mac, "MacMismatch"),
        (lose_file, "FileNotFound"),
        (lose_documents, "NotAKubernetesObject"),
        (lose_form, "NotAKubernetesObject"),
    ],
)
@pytest.mark.parametrize("policy", ["Atomic", "BestEffort"])
async def test_what_can_not_be_read_deletes_nothing_whatever_is_set(
    world: World, autojump_clock: MockClock, lose: Any, reason: str, policy: str
) -> None:
    world.add(prune=True, allowEmpty=True, force=True, applyPolicy=policy)
    async with miwen(world):
        lose(world)
        for _ in range(3):
            await look()
            assert (world.reason(), world.data()) == (reason, {"greeting": "one"})
            assert inventory(world) == {"app": FILE}
    async with miwen(World(world.cluster, FakeKubernetes(world.cluster), world.krapao, world.origin)):
        await look()
        assert (world.reason(), world.data()) == (reason, {"greeting": "one"})
