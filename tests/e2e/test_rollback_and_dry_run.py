"""Going back to a commit that status.history tells, and knowing what an apply would do without doing it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.e2e.lab import Lab, until
from support.e2e.scene import Scene, condition, config_map, deployment, secret
from support.metrics_pages import samples

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    namespace = lab.namespace("e2e-plan")
    _, address = lab.start_krapao(name="plan")
    lab.start_miwen(address, namespace, interval="1s")
    yield Scene(lab, namespace)
    lab.end_services()


# --- rollback


def test_a_commit_of_the_history_is_pinned_while_the_branch_moves_on_and_followed_again_after(scene: Scene) -> None:
    repository, first = scene.follow("pinned", secret("pinned", a="one"))
    second = scene.commit(repository, secret("pinned", a="two"))
    scene.until_settled("pinned", second)
    third = scene.commit(repository, secret("pinned", a="three"))
    status = scene.until_settled("pinned", third)
    # What a user needs to choose: in order, which commit, when, of which file.
    assert [(entry["id"], entry["revision"]) for entry in status["history"]] == [(1, first), (2, second)]
    for entry in status["history"]:
        assert entry["file_to_decrypt"] == "secret.enc.yaml"
        assert entry["deployed_at"].endswith("Z")
        assert (entry["status"], entry["error_message"]) == ("Sync", None)

    chosen = status["history"][0]["revision"]
    scene.put("pinned", repository.url, ref={"commit": chosen})
    status = scene.until_settled("pinned", first)
    assert scene.data("pinned") == {"a": "one"}
    assert (status["current"]["id"], status["current"]["revision"]) == (4, first)
    assert [entry["id"] for entry in status["history"]] == [1, 2, 3]

    fourth = scene.commit(repository, secret("pinned", a="four"))
    time.sleep(3)
    assert scene.data("pinned") == {"a": "one"}
    assert scene.status("pinned")["current"]["revision"] == first
    # Drift is corrected to what is pinned.
    scene.lab.admin.call("DELETE", scene.secret_path("pinned")).ok()
    until("it is back", lambda: scene.data("pinned") == {"a": "one"}, seconds=5)

    scene.put("pinned", repository.url)
    status = scene.until_settled("pinned", fourth)
    assert scene.data("pinned") == {"a": "four"}
    assert [entry["revision"] for entry in status["history"]] == [first, second, third, first]


def test_a_pin_goes_before_the_branch(scene: Scene) -> None:
    repository, first = scene.follow("both", secret("both", a="one"))
    scene.commit(repository, secret("both", a="two"))
    scene.put("both", repository.url, ref={"branch": "main", "commit": first})
    scene.until_settled("both", first)
    assert scene.data("both") == {"a": "one"}


def test_a_commit_that_is_not_there_is_reported_and_the_deployed_one_stays(scene: Scene) -> None:
    repository, first = scene.follow("lost", secret("lost", a="one"))
    scene.put("lost", repository.url, ref={"commit": "0123456789" * 4})
    status = scene.lab.until_reason(scene.namespace, "lost", "RefNotFound")
    assert condition(status, "Stalled")
    assert (status["current"]["revision"], status["current"]["status"]) == (first, "NotSync")
    assert scene.data("lost") == {"a": "one"}
    scene.put("lost", repository.url)
    scene.until_settled("lost", first)


def test_going_back_brings_back_objects_that_were_pruned(scene: Scene) -> None:
    repository, first = scene.follow("brought", secret("brought", a="one"), config_map("brought", a="one"), prune=True)
    second = scene.commit(repository, secret("brought", a="two"))
    scene.until_settled("brought", second)
    assert scene.object(scene.config_path("brought")) is None
    scene.put("brought", repository.url, prune=True, ref={"commit": first})
    scene.until_settled("brought", first)
    assert scene.data("brought") == {"a": "one"}
    assert scene.object(scene.config_path("brought")) is not None


# --- dry run

CANARIES = {"old-value-4c1d", "new-value-93ab", "added-value-77ef", "config-value-20d4"}


def _until_planned(scene: Scene, name: str, revision: str) -> dict[str, Any]:
    """Until status has the plan for that revision and for the newest spec."""

    def check() -> dict[str, Any] | None:
        found = scene.get(name)
        status: dict[str, Any] = found.get("status") or {}
        is_new = status.get("observedGeneration") == found["metadata"]["generation"]
        return status if is_new and (status.get("plan") or {}).get("revision") == revision else None

    found: dict[str, Any] = until(f"{name} is planned", check, on_failure=lambda: scene.lab._why(scene.namespace, name))
    return found


def _planned(status: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The objects of a plan by action, kind and name."""
    return {(each["action"], each["kind"], each["name"]): each for each in status["plan"].get("objects", ())}


def _writes(scene: Scene) -> float:
    """Requests that changed something, as the API server counts them; Decryptors' status, Events and leases aside."""
    return sum(
        value
        for labels, value in samples(scene.lab.admin.text("/metrics"), "apiserver_request_total")
        if labels["verb"] in {"POST", "PUT", "PATCH", "APPLY", "DELETE"}
        and labels["resource"] in {"secrets", "configmaps", "deployments", "namespaces", "decryptors"}
        and labels["subresource"] != "status"
        and labels["dry_run"] == ""
        and labels["code"].startswith("2")
    )


def _dry_runs(scene: Scene) -> float:
    found = samples(scene.lab.admin.text("/metrics"), "apiserver_request_total", dry_run="All")
    return sum(value for _, value in found)


def test_a_plan_of_what_is_not_there_yet_names_what_would_be_made_and_makes_nothing(scene: Scene) -> None:
    repository = scene.lab.repository()
    revision = scene.commit(
        repository, secret("fresh", a="new-value-93ab"), config_map("fresh", c="config-value-20d4"), deployment("fresh")
    )
    scene.put("fresh", repository.url, mode="DryRun")
    status = _until_planned(scene, "fresh", revision)
    plan = status["plan"]
    assert [plan[name] for name in ("created", "changed", "pruned", "unchanged")] == [3, 0, 0, 0]
    objects = _planned(status)
    assert set(objects) == {
        ("Create", "Secret", "fresh"),
        ("Create", "ConfigMap", "fresh"),
        ("Create", "Deployment", "fresh"),
    }
    made = objects["Create", "Secret", "fresh"]
    assert "data.a" in made["added"]
    assert (made["namespace"], made["file"]) == (scene.namespace, "secret.enc.yaml")
    ready = condition(status, "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Planned")
    assert "3 to create" in ready["message"]
    assert (status["current"]["id"], status["current"]["revision"], status.get("inventory")) == (0, "", None)
    for path in (scene.secret_path("fresh"), scene.config_path("fresh"), scene.deployment_path("fresh")):
        assert scene.object(path) is None
    scene.until_event("fresh", "Planned", "3 to create")
    assert scene.events("fresh", "Applied") == [], "nothing is applied"

    # Applying makes what was planned, and the plan is told no more.
    scene.put("fresh", repository.url)
    status = scene.until_settled("fresh", revision)
    assert "plan" not in status
    assert status["current"]["id"] == 1
    assert scene.data("fresh") == {"a": "new-value-93ab"}


def test_a_plan_tells_changes_prunes_and_refusals_by_names_only_and_writes_nothing(scene: Scene) -> None:
    frozen = secret("frozen", a="old-value-4c1d") | {"immutable": True}
    repository, first = scene.follow(
        "planned",
        secret("kept", a="old-value-4c1d", gone="old-value-4c1d", same="same"),
        secret("dropped", a="old-value-4c1d"),
        secret("same", a="same"),
        config_map("config", colour="old-value-4c1d"),
        frozen,
        prune=True,
    )
    scene.put("planned", repository.url, mode="DryRun", prune=True)
    status = _until_planned(scene, "planned", first)
    assert (status["plan"]["unchanged"], status["plan"].get("objects")) == (5, None)

    paths = [scene.secret_path(name) for name in ("kept", "dropped", "same", "frozen")] + [scene.config_path("config")]
    before = [scene.object(path) for path in paths]
    writes = _writes(scene)
    second = scene.commit(
        repository,
        secret("kept", a="new-value-93ab", more="added-value-77ef", same="same"),
        secret("same", a="same"),
        config_map("config", colour="config-value-20d4"),
        secret("made", a="added-value-77ef"),
        frozen | {"stringData": {"a": "new-value-93ab"}},
    )
    status = _until_planned(scene, "planned", second)
    plan = status["plan"]
    assert [plan[name] for name in ("created", "changed", "pruned", "unchanged")] == [1, 2, 1, 1]
    objects = _planned(status)
    assert set(objects) == {
        ("Refused", "Secret", "frozen"),
        ("Change", "Secret", "kept"),
        ("Change", "ConfigMap", "config"),
        ("Create", "Secret", "made"),
        ("Prune", "Secret", "dropped"),
    }
    kept = objects["Change", "Secret", "kept"]
    assert (kept["added"], kept["changed"], kept["removed"]) == (["data.more"], ["data.a"], ["data.gone"])
    assert objects["Change", "ConfigMap", "config"]["changed"] == ["data.colour"]
    refused = objects["Refused", "Secret", "frozen"]["message"]
    assert refused.startswith("FieldImmutable")
    ready = condition(status, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "FieldImmutable")
    assert (status["current"]["revision"], status["lastAttemptedRevision"]) == (first, second)
    assert [entry["name"] for entry in status["inventory"]] == ["config", "dropped", "frozen", "kept", "same"]

    told = json.dumps(scene.get("planned")) + json.dumps(scene.events("planned"))
    assert [canary for canary in CANARIES if canary in told] == []
    time.sleep(2)
    assert [scene.object(path) for path in paths] == before
    assert scene.object(scene.secret_path("made")) is None
    assert _writes(scene) == writes

    # The same, applied.
    third = scene.commit(
        repository,
        secret("kept", a="new-value-93ab", more="added-value-77ef", same="same"),
        secret("same", a="same"),
        config_map("config", colour="config-value-20d4"),
        secret("made", a="added-value-77ef"),
        frozen,
    )
    status = _until_planned(scene, "planned", third)
    assert condition(status, "Ready")["reason"] == "Planned"
    scene.put("planned", repository.url, prune=True)
    scene.until_settled("planned", third)
    assert scene.data("kept") == {"a": "new-value-93ab", "more": "added-value-77ef", "same": "same"}
    assert scene.data("made") == {"a": "added-value-77ef"}
    assert scene.object(scene.secret_path("dropped")) is None


def test_a_plan_is_made_once_for_what_it_is_about(scene: Scene) -> None:
    repository = scene.lab.repository()
    first = scene.commit(repository, secret("once", a="one"))
    scene.put("once", repository.url, mode="DryRun")
    _until_planned(scene, "once", first)
    version = scene.get("once")["metadata"]["resourceVersion"]
    dry_runs = _dry_runs(scene)
    time.sleep(3)
    assert scene.get("once")["metadata"]["resourceVersion"] == version
    assert _dry_runs(scene) == dry_runs
    # Asked for, it is made again: what is in the cluster may be another by now.
    scene.lab.secret(scene.namespace, "once", theirs="kept")
    scene.annotate("once", reconcile_at="now")
    status = until(
        "it is planned again",
        lambda: (found := scene.status("once")).get("lastHandledReconcileAt") == "now" and found,
    )
    [change] = status["plan"]["objects"]
    assert (change["action"], "data.a" in change["added"]) == ("Change", True)
    assert scene.data("once") == {"theirs": "kept"}


def test_while_it_only_plans_drift_is_neither_corrected_nor_reported_as_such(scene: Scene) -> None:
    repository, revision = scene.follow("idle", secret("idle", a="one"))
    scene.put("idle", repository.url, mode="DryRun")
    _until_planned(scene, "idle", revision)
    scene.lab.admin.call("DELETE", scene.secret_path("idle")).ok()
    time.sleep(3)
    assert scene.object(scene.secret_path("idle")) is None
    assert scene.events("idle", "Drifted") == []
    scene.put("idle", repository.url)
    until("applying brings it back", lambda: scene.data("idle") == {"a": "one"})


def test_a_plan_knows_a_namespace_that_would_come_with_it(scene: Scene) -> None:
    repository = scene.lab.repository()
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "e2e-plan-made"}}
    revision = scene.commit(repository, namespace, secret("within", "e2e-plan-made", a="one"))
    scene.put("with-namespace", repository.url, mode="DryRun")
    status = _until_planned(scene, "with-namespace", revision)
    objects = _planned(status)
    assert set(objects) == {("Create", "Namespace", "e2e-plan-made"), ("Create", "Secret", "within")}
    assert "data.a" in objects["Create", "Secret", "within"]["added"]
    assert scene.object("/api/v1/namespaces/e2e-plan-made") is None


def test_a_plan_leaves_objects_of_another_decryptor_out(scene: Scene) -> None:
    scene.follow("owner", secret("owned", a="one"))
    repository = scene.lab.repository()
    revision = scene.commit(repository, secret("owned", a="two"))
    scene.put("claimant", repository.url, mode="DryRun")
    status = _until_planned(scene, "claimant", revision)
    [refused] = status["plan"]["objects"]
    assert refused["action"] == "Refused"
    assert f"{scene.namespace}/owner" in refused["message"]
    # Planning claims nothing: the owner goes on.
    scene.lab.admin.call("DELETE", scene.secret_path("owned")).ok()
    until("it is back", lambda: scene.data("owned") == {"a": "one"})
