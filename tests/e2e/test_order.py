"""One after the other: `dependsOn` between Decryptors, and `wait` for the objects' own readiness.

Deployments have their own controller; what a kubelet would say of their Pods, the tests write. Miwen looks every 10
minutes, at all namespaces: what goes on within seconds does so because something woke it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.e2e.lab import Lab, until
from support.e2e.scene import Scene, condition, deployment, forget_decryptors, seconds_until, secret
from support.kubernetes.stand_in_kubelet import make_pods_ready

pytestmark = pytest.mark.e2e

AT_ONCE_SECONDS = 2.5
"""Less than the first retry of what waits."""

OVERDUE_SECONDS = 3
"""After which a Deployment's controller gives it up."""


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    forget_decryptors(lab)
    namespace = lab.namespace("e2e-order")
    _, address = lab.start_krapao(name="order")
    lab.start("miwen", "--krapao", address, "--kubeconfig", lab.kubeconfig, "--interval", "10m")
    yield Scene(lab, namespace)
    lab.end_services()


def _after(*names: str) -> dict[str, Any]:
    return {"dependsOn": [{"name": name} for name in names]}


def _in(scene: Scene, namespace: str) -> Scene:
    return Scene(scene.lab, scene.lab.namespace(namespace))


def _repository(scene: Scene, name: str) -> tuple[str, str]:
    """The URL of a repository with one Secret of that name, and its revision."""
    repository = scene.lab.repository()
    return repository.url, scene.commit(repository, secret(name, a="one"))


def test_a_dependent_waits_for_one_that_does_not_exist_then_fails_then_is_ready(scene: Scene) -> None:
    url, revision = _repository(scene, "second")
    scene.put("second", url, **_after("first"))
    status = scene.lab.until_reason(scene.namespace, "second", "DependencyNotReady")
    assert f"{scene.namespace}/first does not exist" in condition(status, "Ready")["message"]
    assert condition(status, "Reconciling"), "it may pass by itself"
    assert (status["current"]["id"], status.get("inventory")) == (0, None)

    first = scene.lab.repository({"other.yaml": b""})
    scene.put("first", first.url)
    until(
        "it tells why the other is not ready",
        lambda: "is not ready (FileNotFound)" in scene.condition("second", "Ready")["message"],
    )
    time.sleep(3)  # so that its own pauses are longer than the bound
    assert scene.object(scene.secret_path("second")) is None
    revision_of_first = scene.commit(first, secret("first", a="one"))
    scene.annotate("first", reconcile_at="now")
    scene.until_settled("first", revision_of_first)
    took = seconds_until("it goes on", lambda: scene.data("second") == {"a": "one"})
    assert took < AT_ONCE_SECONDS
    scene.until_settled("second", revision)


def test_one_of_another_namespace_is_waited_for(scene: Scene) -> None:
    other = _in(scene, "e2e-order-other")
    url, _ = _repository(scene, "here")
    scene.put("here", url, dependsOn=[{"name": "there", "namespace": other.namespace}])
    status = scene.lab.until_reason(scene.namespace, "here", "DependencyNotReady")
    assert f"{other.namespace}/there does not exist" in condition(status, "Ready")["message"]
    # One of that name in its own namespace is not meant.
    scene.follow("there", secret("there", a="one"))
    time.sleep(0.5)
    assert scene.condition("here", "Ready")["reason"] == "DependencyNotReady"
    other.follow("there", secret("there", a="one"))
    assert seconds_until("it goes on", lambda: scene.data("here") == {"a": "one"}) < AT_ONCE_SECONDS


def test_what_is_deployed_stays_when_the_other_fails_and_its_drift_is_corrected(scene: Scene) -> None:
    before, _ = scene.follow("before", secret("before", a="one"))
    repository, _ = scene.follow("after", secret("after", a="one"), **_after("before"))
    before.commit({"secret.enc.yaml": b"kind: Secret\n"})
    scene.annotate("before", reconcile_at="1")
    scene.lab.until_reason(scene.namespace, "before", "NotEncrypted")
    time.sleep(0.5)
    assert scene.condition("after", "Ready")["status"] == "True"
    scene.lab.admin.call("DELETE", scene.secret_path("after")).ok()
    until("it is back", lambda: scene.data("after") == {"a": "one"}, seconds=5)
    # A new revision is held back.
    revision = scene.commit(repository, secret("after", a="two"))
    scene.annotate("after", reconcile_at="1")
    scene.lab.until_reason(scene.namespace, "after", "DependencyNotReady")
    assert scene.data("after") == {"a": "one"}
    scene.commit(before, secret("before", a="two"))
    scene.annotate("before", reconcile_at="2")
    scene.until_settled("after", revision)
    assert scene.data("after") == {"a": "two"}


def test_a_circle_is_reported_by_its_names_and_one_behind_it_only_waits(scene: Scene) -> None:
    url, revision = _repository(scene, "circle-a")
    urls = {name: _repository(scene, name)[0] for name in ("circle-b", "circle-c", "circle-d")} | {"circle-a": url}
    scene.put("circle-a", url, **_after("circle-b"))
    scene.put("circle-b", urls["circle-b"], **_after("circle-c"))
    scene.put("circle-d", urls["circle-d"], **_after("circle-a"))
    scene.put("circle-c", urls["circle-c"], **_after("circle-a"))
    ring = [f"{scene.namespace}/circle-{letter}" for letter in "abc"]
    for number, name in enumerate(("circle-a", "circle-b", "circle-c")):
        status = scene.lab.until_reason(scene.namespace, name, "DependencyCycle")
        names = " -> ".join([*ring[number:], *ring[:number], ring[number]])
        assert names in condition(status, "Ready")["message"]
        assert condition(status, "Stalled")
    status = scene.lab.until_reason(scene.namespace, "circle-d", "DependencyNotReady")
    assert not condition(status, "Stalled")
    assert not any(scene.data(name) for name in urls)

    scene.put("circle-c", urls["circle-c"])
    until("all are deployed", lambda: all(scene.data(name) == {"a": "one"} for name in urls), seconds=10)
    scene.until_settled("circle-a", revision)


def test_one_that_waits_for_itself_is_a_circle(scene: Scene) -> None:
    url, _ = _repository(scene, "itself")
    scene.put("itself", url, **_after("itself"))
    status = scene.lab.until_reason(scene.namespace, "itself", "DependencyCycle")
    name = f"{scene.namespace}/itself"
    assert f"{name} -> {name}" in condition(status, "Ready")["message"]


def _roll_out(scene: Scene, name: str) -> None:
    """Report the Pods of a Deployment ready until its controller has replaced all that are not of its newest form."""

    def is_rolled_out() -> bool:
        make_pods_ready(scene.lab.admin, scene.namespace, name)
        found = scene.existing(scene.deployment_path(name))
        status, wanted = found.get("status", {}), found["spec"]["replicas"]
        counts = {status.get(each) for each in ("replicas", "updatedReplicas", "availableReplicas")}
        return status.get("observedGeneration") == found["metadata"]["generation"] and counts == {wanted}

    until(f"Deployment {name} is rolled out", is_rolled_out)


def test_ready_waits_for_a_deployment_and_so_do_dependents(scene: Scene) -> None:
    url, _ = _repository(scene, "behind")
    repository = scene.lab.repository()
    revision = scene.commit(repository, deployment("waited"), secret("waited", a="one"))
    scene.put("behind", url, **_after("waited"))
    scene.put("waited", repository.url, wait=True)
    scene.until_condition("waited", "Ready", "Unknown", "ObjectsNotReady")
    status = scene.status("waited")
    reconciling = condition(status, "Reconciling")
    assert reconciling["reason"] == "WaitingForObjects"
    assert "Deployment" in reconciling["message"]
    assert "waited" in reconciling["message"]
    assert "Secret" not in reconciling["message"], "a Secret is ready as it is"
    assert scene.data("waited") == {"a": "one"}
    time.sleep(1)
    assert scene.condition("waited", "Ready")["status"] == "Unknown"
    assert scene.object(scene.secret_path("behind")) is None
    # Drift is corrected while it waits.
    scene.lab.admin.call("DELETE", scene.secret_path("waited")).ok()
    until("the Secret is back", lambda: scene.data("waited") == {"a": "one"}, seconds=5)

    _roll_out(scene, "waited")
    status = scene.until_settled("waited", revision)
    assert not condition(status, "Reconciling")
    assert (status["current"]["id"], status["history"]) == (1, [])
    until("the dependent goes on", lambda: scene.data("behind") == {"a": "one"}, seconds=5)
    until("it is told", lambda: scene.events("waited", "Applied"))
    assert len(scene.events("waited", "Applied")) == 1


def test_without_wait_ready_does_not_wait(scene: Scene) -> None:
    scene.follow("unwaited", deployment("unwaited"))
    assert scene.condition("unwaited", "Ready")["reason"] == "Synced"


def test_a_new_commit_ends_a_wait_for_the_old_one(scene: Scene) -> None:
    repository = scene.lab.repository()
    scene.commit(repository, deployment("replaced"))
    scene.put("replaced", repository.url, wait=True)
    scene.until_condition("replaced", "Ready", "Unknown", "ObjectsNotReady")
    revision = scene.commit(repository, deployment("replaced", image="example.org/app:2"))
    scene.annotate("replaced", reconcile_at="now")

    def image() -> str:
        template = (scene.object(scene.deployment_path("replaced")) or {})["spec"]["template"]
        return str(template["spec"]["containers"][0]["image"])

    assert seconds_until("the commit is applied", lambda: image() == "example.org/app:2") < 5
    _roll_out(scene, "replaced")
    status = scene.until_settled("replaced", revision)
    assert status["current"]["id"] == 2
    assert scene.events("replaced", "Recovered") == [], "nothing had failed"


def test_what_is_not_ready_within_the_timeout_is_reported_and_recovers(scene: Scene) -> None:
    repository = scene.lab.repository()
    revision = scene.commit(repository, deployment("late"))
    scene.put("late", repository.url, wait=True, timeout="2s", retryInterval="1s")
    found = scene.until_condition("late", "Ready", "False", "ObjectsNotReady", seconds=10)
    assert "Deployment" in found["message"]
    status = scene.status("late")
    assert condition(status, "Reconciling")["reason"] == "ProgressingWithRetry"
    assert status["current"]["revision"] == revision, "it is applied"
    scene.until_event("late", "ObjectsNotReady", "Deployment")
    _roll_out(scene, "late")
    scene.until_settled("late", revision)
    scene.until_event("late", "Recovered")
    assert len(scene.events("late", "ObjectsNotReady")) == 1


def test_an_object_that_gave_up_is_reported_at_once(scene: Scene) -> None:
    repository = scene.lab.repository()
    revision = scene.commit(repository, deployment("given-up", progressDeadlineSeconds=OVERDUE_SECONDS))
    scene.put("given-up", repository.url, wait=True)
    scene.until_condition("given-up", "Ready", "Unknown", "ObjectsNotReady")
    found = scene.until_condition("given-up", "Ready", "False", "ObjectsFailed", seconds=OVERDUE_SECONDS + 6)
    assert "Deployment" in found["message"]
    assert scene.condition("given-up", "Stalled")["reason"] == "ObjectsFailed"
    # It looks again when it is asked to.
    _roll_out(scene, "given-up")
    scene.annotate("given-up", reconcile_at="now")
    scene.until_settled("given-up", revision)
