"""What others do to applied objects is put right at once, and told; what is theirs is left alone.

Miwen looks every 10 minutes here, so whatever is put right within seconds is so because it watches.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.e2e.lab import Lab, until
from support.e2e.scene import Scene, condition, config_map, deployment, seconds_until, secret
from support.processes.threads import again_and_again

from jiemi.core.objects.identity import NAME_LABEL

pytestmark = pytest.mark.e2e

FAST_SECONDS = 5.0
"""The bound of a correction here; `just bench-drift` measures what it really takes."""


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    namespace = lab.namespace("e2e-drift")
    _, address = lab.start_krapao(name="drift")
    lab.start_miwen(address, namespace, interval="10m")
    yield Scene(lab, namespace)
    lab.end_services()


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_changed_value_is_put_back_and_the_event_names_the_manager(scene: Scene) -> None:
    scene.follow("changed", secret("changed", a="one", b="two"))
    path = scene.secret_path("changed")
    scene.write(path, {"data": {"a": _b64("mine")}}, manager="kubectl-edit")
    took = seconds_until("the value is back", lambda: scene.data("changed") == {"a": "one", "b": "two"})
    assert took < FAST_SECONDS
    event = scene.until_event("changed", "Drifted", "kubectl-edit", "Secret", "changed")
    decryptor = scene.get("changed")["metadata"]
    regarding = event["regarding"]
    assert (regarding["apiVersion"], regarding["kind"]) == ("jiemi.cr/v1alpha1", "Decryptor")
    assert (regarding["namespace"], regarding["name"], regarding["uid"]) == (
        scene.namespace,
        "changed",
        decryptor["uid"],
    )
    assert (event["related"]["kind"], event["related"]["name"]) == ("Secret", "changed")
    assert (event["type"], event["action"]) == ("Warning", "Correct")
    assert "mine" not in event["note"]
    assert not scene.condition("changed", "Drifted"), "what is corrected is no condition"
    managers = {each["manager"] for each in (scene.object(path) or {})["metadata"]["managedFields"]}
    assert managers == {"jiemi"}, "the field is Jiemi's again"


def test_a_null_in_string_data_is_the_empty_text_and_turns_nothing_off(scene: Scene) -> None:
    manifest = secret("null") | {"stringData": {"password": "good", "comment": None}, "data": {"both": _b64("x")}}
    manifest["stringData"]["both"] = None
    repository, _ = scene.follow("null", manifest)
    wanted = {"password": "good", "comment": "", "both": ""}
    assert scene.data("null") == wanted
    path = scene.secret_path("null")
    for change in ({"password": None}, {"comment": _b64("theirs")}, {"both": None}):
        scene.write(path, {"data": change})
        assert seconds_until(f"{change} is corrected", lambda: scene.data("null") == wanted) < FAST_SECONDS
    version = (scene.object(path) or {})["metadata"]["resourceVersion"]
    scene.annotate("null", reconcile_at="once")
    until("it was applied again", lambda: scene.status("null").get("lastHandledReconcileAt") == "once")
    assert (scene.object(path) or {})["metadata"]["resourceVersion"] == version, "the same is no write"
    second = scene.commit(repository, secret("null", password="good"))
    scene.annotate("null", reconcile_at="now")
    scene.until_settled("null", second)
    assert scene.data("null") == {"password": "good"}


def test_an_added_key_is_removed_and_the_event_names_key_and_manager(scene: Scene) -> None:
    scene.follow("added", secret("added", a="one"))
    scene.write(scene.secret_path("added"), {"data": {"extra": _b64("x")}}, manager="injector")
    assert seconds_until("the key is gone", lambda: scene.data("added") == {"a": "one"}) < FAST_SECONDS
    scene.until_event("added", "Drifted", "extra", "injector")


def test_a_key_added_by_server_side_apply_is_removed_too(scene: Scene) -> None:
    scene.follow("added-ssa", secret("added-ssa", a="one"))
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "added-ssa", "namespace": scene.namespace},
        "data": {"extra": _b64("x")},
    }
    scene.lab.admin.apply(manifest).ok()
    assert seconds_until("the key is gone", lambda: scene.data("added-ssa") == {"a": "one"}) < FAST_SECONDS
    scene.until_event("added-ssa", "Drifted", "extra", "jiemi-tests")


def test_a_value_applied_through_string_data_is_put_back(scene: Scene) -> None:
    """The API server's managedFields go on to tell the value as Jiemi's."""
    scene.follow("string-data", secret("string-data", a="one"))
    time.sleep(1.1)  # managedFields tell seconds: within the same one, who was later is not to be known
    scene.lab.secret(scene.namespace, "string-data", a="theirs")
    assert seconds_until("the value is back", lambda: scene.data("string-data") == {"a": "one"}) < FAST_SECONDS
    scene.until_event("string-data", "Drifted", "jiemi-tests")
    # What they applied stays in managedFields; it is no drift once it was put right.
    time.sleep(1.1)
    scene.write(scene.secret_path("string-data"), {"metadata": {"labels": {"their": "label"}}})
    time.sleep(1)
    assert len(scene.events("string-data", "Drifted")) == 1


def test_a_removed_key_comes_back(scene: Scene) -> None:
    scene.follow("removed", secret("removed", a="one", b="two"))
    scene.write(scene.secret_path("removed"), {"data": {"b": None}}, manager="remover")
    took = seconds_until("the key is back", lambda: scene.data("removed") == {"a": "one", "b": "two"})
    assert took < FAST_SECONDS
    # Who only takes fields out owns none, so the API server keeps no name.
    scene.until_event("removed", "Drifted", "a client that owns none of its fields")


@pytest.mark.parametrize("label", ["tier", NAME_LABEL])
def test_a_removed_label_comes_back_the_owner_label_too(scene: Scene, label: str) -> None:
    name = "label-tier" if label == "tier" else "label-owner"
    for manifest, path in (
        (secret(name, a="one"), scene.secret_path(name)),
        (config_map(name, a="one"), scene.config_path(name)),
    ):
        kind = str(manifest["kind"]).lower()
        manifest["metadata"]["labels"] = {"tier": "back"}
        scene.follow(f"{name}-{kind}", manifest)
        wanted = (scene.object(path) or {})["metadata"]["labels"]
        assert set(wanted) >= {"tier", NAME_LABEL}
        scene.write(path, {"metadata": {"labels": {label: None}}})
        took = seconds_until(
            "the label is back",
            lambda path=path, wanted=wanted: (scene.object(path) or {})["metadata"].get("labels") == wanted,
        )
        assert took < FAST_SECONDS
        scene.until_event(f"{name}-{kind}", "Drifted", "was changed by")


def test_a_deleted_object_is_made_again(scene: Scene) -> None:
    scene.follow("deleted", secret("deleted", a="one"))
    before = (scene.object(scene.secret_path("deleted")) or {})["metadata"]["uid"]
    scene.lab.admin.call("DELETE", scene.secret_path("deleted")).ok()
    assert seconds_until("it is back", lambda: scene.data("deleted") == {"a": "one"}) < FAST_SECONDS
    assert (scene.object(scene.secret_path("deleted")) or {})["metadata"]["uid"] != before
    scene.until_event("deleted", "Drifted", "Secret", "was deleted")
    status = scene.status("deleted")
    assert (status["current"]["id"], status["history"]) == (1, []), "a correction is no deployment"


def test_the_event_of_a_deletion_says_no_manager_since_none_is_kept(scene: Scene) -> None:
    scene.follow("deleted-by", config_map("deleted-by", a="one"))
    scene.lab.admin.call("DELETE", scene.config_path("deleted-by")).ok()
    event = scene.until_event("deleted-by", "Drifted", "was deleted")
    assert "does not keep by whom" in event["note"]
    assert scene.object(scene.config_path("deleted-by")) is not None


def test_what_others_own_is_left_alone(scene: Scene) -> None:
    scene.follow("others", config_map("others", a="one"))
    path = scene.config_path("others")
    theirs: dict[str, Any] = {
        "metadata": {"labels": {"their": "label"}, "annotations": {"their.io/note": "kept"}},
        "data": {"theirs": "kept"},
    }
    scene.write(path, theirs, manager="helpful")
    # Only what is ours is put right, in the same object and by the same watch.
    scene.write(path, {"data": {"a": "two"}}, manager="unhelpful")
    until("ours is back", lambda: (scene.object(path) or {})["data"]["a"] == "one")
    found = scene.object(path) or {}
    assert found["data"] == {"a": "one", "theirs": "kept"}
    assert found["metadata"]["labels"]["their"] == "label"
    assert found["metadata"]["annotations"]["their.io/note"] == "kept"
    scene.until_event("others", "Drifted", "unhelpful")
    notes = [each["note"] for each in scene.events("others", "Drifted")]
    assert len(notes) == 1, notes


def test_labels_and_annotations_of_others_on_a_secret_are_no_drift(scene: Scene) -> None:
    scene.follow("decorated", secret("decorated", a="one"))
    path = scene.secret_path("decorated")
    scene.write(path, {"metadata": {"labels": {"their": "label"}, "annotations": {"their.io/note": "kept"}}})
    version = (scene.object(path) or {})["metadata"]["resourceVersion"]
    # Something that is drift, in the same kind's watch and after it, is dealt with: so the former was seen too.
    scene.follow("decorated-last", secret("decorated-last", a="one"))
    scene.write(scene.secret_path("decorated-last"), {"data": {"a": _b64("x")}})
    until("the later one is corrected", lambda: scene.data("decorated-last") == {"a": "one"})
    assert (scene.object(path) or {})["metadata"]["resourceVersion"] == version
    assert scene.events("decorated", "Drifted") == []


def test_keys_that_were_there_when_the_secret_was_taken_over_stay(scene: Scene) -> None:
    scene.lab.admin.call(
        "POST",
        f"/api/v1/namespaces/{scene.namespace}/secrets?fieldManager=first",
        secret("taken-over", theirs="kept", shared="old"),
    ).ok()
    scene.follow("taken-over", secret("taken-over", shared="new", ours="one"))
    assert scene.data("taken-over") == {"theirs": "kept", "shared": "new", "ours": "one"}
    scene.write(scene.secret_path("taken-over"), {"data": {"later": _b64("x")}})
    wanted = {"theirs": "kept", "shared": "new", "ours": "one"}
    took = seconds_until("only the later key goes", lambda: scene.data("taken-over") == wanted)
    assert took < FAST_SECONDS
    [entry] = scene.status("taken-over")["inventory"]
    assert entry["keptKeys"] == ["theirs"]


def test_a_deployment_and_its_foreign_fields(scene: Scene) -> None:
    scene.follow("workload", deployment("workload"))
    path = scene.deployment_path("workload")
    # Replicas are not in git: an autoscaler's to set.
    scene.write(path, {"spec": {"replicas": 3}}, manager="autoscaler")
    containers = [{"name": "app", "image": "evil.example/app:2"}]
    scene.write(path, {"spec": {"template": {"spec": {"containers": containers}}}}, manager="attacker")

    def image() -> str:
        return str((scene.object(path) or {})["spec"]["template"]["spec"]["containers"][0]["image"])

    assert seconds_until("the image is back", lambda: image() == "example.org/app:1") < FAST_SECONDS
    scene.until_event("workload", "Drifted", "Deployment", "attacker")
    assert (scene.object(path) or {})["spec"]["replicas"] == 3
    scene.lab.admin.call("DELETE", path).ok()
    assert seconds_until("it is back", lambda: scene.object(path) is not None) < FAST_SECONDS


def test_a_custom_resource(scene: Scene) -> None:
    definition: dict[str, Any] = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.drift.example"},
        "spec": {
            "group": "drift.example",
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    },
                }
            ],
        },
    }
    scene.lab.admin.apply(definition).ok()
    prefix = f"/apis/drift.example/v1/namespaces/{scene.namespace}/things"
    until("things are served", lambda: scene.lab.admin.call("GET", prefix).status == 200)
    thing = {
        "apiVersion": "drift.example/v1",
        "kind": "Thing",
        "metadata": {"name": "thing"},
        "spec": {"size": 1, "deep": {"colour": "blue"}},
    }
    try:
        scene.follow("custom", thing)
        path = f"{prefix}/thing"
        scene.write(path, {"spec": {"deep": {"colour": "red"}, "theirs": True}}, manager="painter")
        wanted = {"size": 1, "deep": {"colour": "blue"}, "theirs": True}
        took = seconds_until("the colour is back", lambda: (scene.object(path) or {})["spec"] == wanted)
        assert took < FAST_SECONDS
        scene.until_event("custom", "Drifted", "Thing", "painter")
        scene.lab.admin.call("DELETE", path).ok()
        assert seconds_until("it is back", lambda: scene.object(path) is not None) < FAST_SECONDS
    finally:
        scene.delete_decryptor("custom")
        scene.lab.admin.call(
            "DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.drift.example"
        ).ok()


def test_reported_drift_is_not_corrected_until_a_commit_applies_the_object(scene: Scene) -> None:
    repository, first = scene.follow("reported", secret("reported", a="one"), driftPolicy="Report")
    scene.write(scene.secret_path("reported"), {"data": {"a": _b64("theirs")}}, manager="editor")
    found = scene.until_condition("reported", "Drifted", "True", "Reported", seconds=FAST_SECONDS)
    assert "Secret" in found["message"]
    assert "editor" in found["message"]
    event = scene.until_event("reported", "Drifted", "editor", "Report")
    assert event["action"] == "Report"
    assert scene.condition("reported", "Ready")["status"] == "True"
    scene.write(scene.secret_path("reported"), {"metadata": {"labels": {"their": "label"}}})
    time.sleep(1)  # a correction would take less
    assert scene.data("reported") == {"a": "theirs"}
    assert scene.status("reported")["current"]["revision"] == first

    second = scene.commit(repository, secret("reported", a="two"))
    scene.annotate("reported", reconcile_at="now")
    scene.until_settled("reported", second)
    assert scene.data("reported") == {"a": "two"}
    until("nothing differs", lambda: not scene.condition("reported", "Drifted"), seconds=FAST_SECONDS)


def test_reported_drift_that_the_other_takes_back_is_no_longer_shown(scene: Scene) -> None:
    scene.follow("returned", secret("returned", a="one"), driftPolicy="Report")
    scene.write(scene.secret_path("returned"), {"data": {"extra": _b64("x")}}, manager="editor")
    found = scene.until_condition("returned", "Drifted", "True", "Reported", seconds=FAST_SECONDS)
    assert "extra" in found["message"]
    scene.write(scene.secret_path("returned"), {"data": {"extra": None}}, manager="editor")
    until("nothing differs", lambda: not scene.condition("returned", "Drifted"), seconds=FAST_SECONDS)


def test_a_reported_deletion_is_reported_and_the_policy_changed_to_correct_puts_it_right(scene: Scene) -> None:
    repository, _ = scene.follow("missing", secret("missing", a="one"), driftPolicy="Report")
    scene.lab.admin.call("DELETE", scene.secret_path("missing")).ok()
    found = scene.until_condition("missing", "Drifted", "True", "Reported", seconds=FAST_SECONDS)
    assert "was deleted" in found["message"]
    assert scene.object(scene.secret_path("missing")) is None
    scene.put("missing", repository.url)
    until("it is back", lambda: scene.data("missing") == {"a": "one"})
    until("nothing differs", lambda: not scene.condition("missing", "Drifted"), seconds=FAST_SECONDS)


@contextmanager
def _writing_back(scene: Scene, path: str, value: str) -> Iterator[list[float]]:
    """Another controller, which wants another value and has it whenever it looks."""
    writes: list[float] = []

    def insist() -> None:
        found = scene.object(path)
        if found is not None and found["data"].get("a") != value:
            scene.write(path, {"data": {"a": value}}, manager="rival")
            writes.append(time.monotonic())

    with again_and_again(insist, pause_seconds=0.1):
        yield writes


def test_a_fight_is_noticed_backed_off_from_and_reported(scene: Scene) -> None:
    scene.follow("fight", config_map("fight", a="ours"))
    with _writing_back(scene, scene.config_path("fight"), "theirs") as writes:
        found = scene.until_condition("fight", "Drifted", "True", "DriftConflict")
        assert "rival" in found["message"]
        ready = scene.until_condition("fight", "Ready", "False", "DriftConflict")
        assert "rival" in ready["message"]
        event = scene.until_event("fight", "DriftConflict", "rival")
        assert (event["type"], event["action"]) == ("Warning", "BackOff")
        number = len(writes)
        time.sleep(3)
        assert len(writes) == number, "while it is backed off from, nobody has to write"
        assert number <= 5
    assert (scene.object(scene.config_path("fight")) or {})["data"] == {"a": "theirs"}
    assert len(scene.events("fight", "DriftConflict")) == 1


def test_drift_while_miwen_was_down_is_corrected_after_its_start(lab: Lab) -> None:
    scene = Scene(lab, lab.namespace("e2e-drift-down"))
    _, address = lab.start_krapao(name="down")
    miwen = lab.start_miwen(address, scene.namespace, interval="10m")
    scene.follow("down-changed", secret("down-changed", a="one"))
    scene.follow("down-added", secret("down-added", a="one"))
    scene.follow("down-deleted", secret("down-deleted", a="one"))
    scene.follow("down-config", config_map("down-config", a="one"))
    scene.follow("down-unlabelled", config_map("down-unlabelled", a="one"))
    scene.follow("down-same", secret("down-same", a="one"))
    untouched = scene.object(scene.secret_path("down-same"))
    assert miwen.end() == 0
    scene.write(scene.secret_path("down-changed"), {"data": {"a": _b64("x")}}, manager="night-shift")
    scene.write(scene.secret_path("down-added"), {"data": {"extra": _b64("x")}}, manager="night-shift")
    scene.lab.admin.call("DELETE", scene.secret_path("down-deleted")).ok()
    scene.lab.admin.call("DELETE", scene.config_path("down-config")).ok()
    scene.write(scene.config_path("down-unlabelled"), {"metadata": {"labels": {NAME_LABEL: None}}})

    lab.start_miwen(address, scene.namespace, interval="10m")
    names = ("down-changed", "down-added", "down-deleted")
    until("the Secrets are right", lambda: all(scene.data(name) == {"a": "one"} for name in names), seconds=15)
    until("down-config is back", lambda: scene.object(scene.config_path("down-config")) is not None, seconds=15)
    until(
        "down-unlabelled is labelled",
        lambda: scene.is_labelled(scene.config_path("down-unlabelled"), "down-unlabelled"),
        seconds=15,
    )
    scene.until_event("down-changed", "Drifted", "night-shift")
    scene.until_event("down-added", "Drifted", "night-shift", "extra")
    scene.until_event("down-deleted", "Drifted", "was deleted")
    assert scene.object(scene.secret_path("down-same")) == untouched


def test_without_the_right_to_watch_a_kind_it_is_applied_and_the_condition_says_what_is_missing(lab: Lab) -> None:
    scene = Scene(lab, lab.namespace("e2e-drift-blind"))
    rules = [
        {
            "apiGroups": ["jiemi.cr"],
            "resources": ["decryptors", "decryptors/status"],
            "verbs": ["get", "list", "watch", "patch"],
        },
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch", "delete"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
    ]
    place = {"namespace": scene.namespace, "name": "blind"}
    rbac = "rbac.authorization.k8s.io"
    lab.admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place}).ok()
    role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": place, "rules": rules}
    lab.admin.apply(role).ok()
    lab.admin.apply(
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": place,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "blind"},
            "subjects": [{"kind": "ServiceAccount", **place}],
        }
    ).ok()
    kubeconfig = lab.service_account_kubeconfig(scene.namespace, "blind")
    _, address = lab.start_krapao(name="blind")
    lab.start_miwen(address, scene.namespace, interval="10m", kubeconfig=kubeconfig)

    repository, _ = scene.follow("blind", config_map("blind", a="one"), secret("blind", a="one"))
    found = scene.until_condition("blind", "Drifted", "Unknown", "WatchForbidden")
    for word in ("list", "watch", "configmaps"):
        assert word in found["message"], found
    assert condition(scene.status("blind"), "Ready")["status"] == "True"
    # The kind that may be watched is.
    scene.write(scene.secret_path("blind"), {"data": {"a": _b64("x")}})
    assert seconds_until("the Secret is right", lambda: scene.data("blind") == {"a": "one"}) < FAST_SECONDS
    # And what is new in git is applied.
    revision = scene.commit(repository, config_map("blind", a="two"), secret("blind", a="two"))
    scene.annotate("blind", reconcile_at="1")
    scene.until_settled("blind", revision)
    assert (scene.object(scene.config_path("blind")) or {})["data"] == {"a": "two"}
    assert scene.condition("blind", "Drifted")["reason"] == "WatchForbidden"
