"""What a Decryptor says of itself, and what makes Miwen look at it.

Conditions, Events, changed Secrets, suspending, the annotation, intervals.

Miwen looks every 10 minutes here, where a Decryptor says nothing else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyrage import x25519
from support.e2e.lab import Lab, Service, git_server, until
from support.e2e.scene import METRICS, Scene, condition, config_map, metrics_page, seconds_until, secret
from support.metrics_pages import total

from jiemi.core.sensitive import SensitiveText

pytestmark = pytest.mark.e2e

FAST_SECONDS = 5.0
TICKS_SECONDS = 4.0
"""Long enough for some looks at an interval of a second."""


@pytest.fixture(scope="module")
def services(lab: Lab) -> Iterator[tuple[Scene, Service]]:
    namespace = lab.namespace("e2e-signals")
    _, address = lab.start_krapao(name="signals")
    miwen = lab.start_miwen(address, namespace, *METRICS, interval="10m")
    yield Scene(lab, namespace), miwen
    lab.end_services()


@pytest.fixture
def scene(services: tuple[Scene, Service]) -> Scene:
    return services[0]


@pytest.fixture
def miwen(services: tuple[Scene, Service]) -> Service:
    return services[1]


def _may_stop_waiting(found: dict[str, Any], kind: str, status: str = "True") -> bool:
    """The rule of `kubectl wait --for=condition=KIND`:
    https://github.com/kubernetes/kubectl/blob/master/pkg/cmd/wait/condition.go"""
    told = found.get("status", {})
    each = condition(told, kind)
    observed = each.get("observedGeneration", told.get("observedGeneration"))
    return bool(each) and each["status"] == status and (observed is None or observed >= found["metadata"]["generation"])


def _kubectl_waits(scene: Scene, name: str, kind: str, *, seconds: float = 20) -> None:
    """Wait by the rule, and with the real program where there is one."""
    until(f"{name} is {kind}", lambda: _may_stop_waiting(scene.get(name), kind), seconds=seconds)
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return
    done = subprocess.run(
        [
            *(kubectl, "--kubeconfig", str(scene.lab.kubeconfig), "--namespace", scene.namespace),
            *("wait", f"--for=condition={kind}", f"--timeout={seconds:g}s", f"decryptors.jiemi.cr/{name}"),
        ],
        env={"HOME": str(scene.lab.folder), "PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _suspended(scene: Scene, name: str, url: str) -> dict[str, Any]:
    """Suspend a Decryptor, and wait until status tells; that it was acted upon is not told."""
    scene.put(name, url, suspend=True)

    def check() -> dict[str, Any] | None:
        found = scene.get(name)
        status: dict[str, Any] = found.get("status") or {}
        return status if condition(status, "Suspended") else None

    status: dict[str, Any] = until(f"{name} is suspended", check)
    assert status["observedGeneration"] < scene.get(name)["metadata"]["generation"]
    return status


def test_kubectl_can_wait_for_ready_and_does_not_take_an_old_spec_for_the_new(scene: Scene) -> None:
    repository = scene.lab.repository()
    repository.commit(
        {
            "a.yaml": scene.lab.encrypt('{"apiVersion":"v1","kind":"Secret","metadata":{"name":"wait-a"}}'),
            "b.yaml": scene.lab.encrypt('{"apiVersion":"v1","kind":"Secret","metadata":{"name":"wait-b"}}'),
        }
    )
    scene.put("wait", repository.url, source={"fileToDecrypt": "a.yaml"})
    _kubectl_waits(scene, "wait", "Ready")
    assert scene.object(scene.secret_path("wait-a")) is not None
    scene.put("wait", repository.url, source={"fileToDecrypt": "b.yaml"})
    deadline = time.monotonic() + 20
    while not _may_stop_waiting(scene.get("wait"), "Ready"):
        assert time.monotonic() < deadline
    assert scene.object(scene.secret_path("wait-b")) is not None
    found = scene.get("wait")
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 2
    kinds = {each["type"] for each in found["status"]["conditions"]}
    assert kinds == {"Ready"}, "Reconciling and Stalled are True or absent"


def test_what_only_the_user_can_mend_is_stalled_and_the_deployed_revision_stays_reported(scene: Scene) -> None:
    repository, first = scene.follow("stalled", secret("stalled", a="one"), interval="1s")
    second = repository.commit({"secret.enc.yaml": None, "other.yaml": b""})
    _kubectl_waits(scene, "stalled", "Stalled")
    status = scene.status("stalled")
    ready, stalled = condition(status, "Ready"), condition(status, "Stalled")
    assert (ready["status"], ready["reason"]) == ("False", "FileNotFound")
    assert (stalled["reason"], stalled["message"]) == ("FileNotFound", ready["message"])
    assert not condition(status, "Reconciling")
    assert status["lastAttemptedRevision"] == second
    assert (status["current"]["revision"], status["current"]["status"]) == (first, "NotSync")
    assert scene.data("stalled") == {"a": "one"}
    third = scene.commit(repository, secret("stalled", a="three"))
    status = scene.until_settled("stalled", third)
    assert not condition(status, "Stalled")
    assert status["lastAttemptedRevision"] == third


def test_what_may_pass_is_reconciling_and_goes_on_at_once_when_it_is_there(scene: Scene) -> None:
    repository = scene.lab.repository()
    revision = scene.commit(repository, secret("waiting", a="one"))
    provider = {"age": {"privateKey": {"secretName": "waiting-key", "key": "age"}}}
    scene.put("waiting", repository.url, provider=provider)
    status = scene.lab.until_reason(scene.namespace, "waiting", "SecretNotFound")
    assert condition(status, "Ready")["status"] == "False"
    assert condition(status, "Reconciling")["reason"] == "ProgressingWithRetry"
    assert not condition(status, "Stalled")
    time.sleep(4)  # so that the growing pauses are longer than the bound below
    scene.lab.secret(scene.namespace, "waiting-key", age=str(scene.lab.identity))
    assert seconds_until("it is deployed", lambda: scene.data("waiting") == {"a": "one"}) < 2.5
    scene.until_settled("waiting", revision)
    scene.until_event("waiting", "Recovered")


def test_events_tell_applied_failed_recovered_and_pruned_once_each_however_many_looks(scene: Scene) -> None:
    repository, first = scene.follow(
        "told", secret("told", a="one"), config_map("told-config", a="one"), interval="1s", prune=True
    )
    scene.until_event("told", "Applied")
    time.sleep(TICKS_SECONDS)
    [applied] = scene.events("told")
    assert (applied["reason"], applied["type"], applied["action"]) == ("Applied", "Normal", "Apply")
    assert first[:12] in applied["note"]
    regarding = applied["regarding"]
    assert (regarding["apiVersion"], regarding["uid"]) == ("jiemi.cr/v1alpha1", scene.get("told")["metadata"]["uid"])

    broken = repository.commit({"secret.enc.yaml": b"kind: Secret\n"})
    scene.until_event("told", "NotEncrypted")
    time.sleep(TICKS_SECONDS)
    assert [each["reason"] for each in scene.events("told")] == ["Applied", "NotEncrypted"]
    assert scene.status("told")["lastAttemptedRevision"] == broken

    third = scene.commit(repository, secret("told", a="one"))
    scene.until_settled("told", third)
    scene.until_event("told", "Pruned", "ConfigMap", "told-config")
    scene.until_event("told", "Recovered", third[:12])
    time.sleep(TICKS_SECONDS)
    reasons = [each["reason"] for each in scene.events("told")]
    assert sorted(reasons) == ["Applied", "Applied", "NotEncrypted", "Pruned", "Recovered"]
    assert scene.object(scene.config_path("told-config")) is None


def test_a_changed_key_is_used_at_once_and_a_wrong_one_reported_for_as_long_as_it_is_there(scene: Scene) -> None:
    stranger = x25519.Identity.generate()
    scene.lab.secret(scene.namespace, "rotated", age=str(stranger))
    repository = scene.lab.repository()
    revision = scene.commit(repository, secret("rotating", a="one"))
    provider = {"age": {"privateKey": {"secretName": "rotated", "key": "age"}}}
    scene.put("rotating", repository.url, provider=provider)
    scene.lab.until_reason(scene.namespace, "rotating", "KeyMissing")
    scene.lab.secret(scene.namespace, "rotated", age=str(scene.lab.identity))
    assert seconds_until("it is deployed", lambda: scene.data("rotating") == {"a": "one"}) < FAST_SECONDS
    status = scene.until_settled("rotating", revision)
    version = (scene.object(scene.secret_path("rotated")) or {})["metadata"]["resourceVersion"]
    assert status["observedSecrets"] == [{"name": "rotated", "resourceVersion": version}]

    # Looks that follow do not take the failure for passed.
    scene.put("rotating", repository.url, provider=provider, interval="1s")
    until("the interval is taken", lambda: scene.status("rotating")["observedGeneration"] == 2)
    scene.lab.secret(scene.namespace, "rotated", age=str(stranger))
    until(
        "the wrong key is told",
        lambda: scene.condition("rotating", "Ready")["reason"] == "KeyMissing",
        seconds=FAST_SECONDS,
    )
    deadline = time.monotonic() + TICKS_SECONDS
    while time.monotonic() < deadline:
        assert scene.condition("rotating", "Ready")["reason"] == "KeyMissing"
        time.sleep(0.05)
    assert scene.data("rotating") == {"a": "one"}
    scene.lab.secret(scene.namespace, "rotated", age=str(scene.lab.identity))
    scene.until_settled("rotating", revision)


def test_a_changed_git_credential_is_used_at_once(scene: Scene, tmp_path: Path) -> None:
    with git_server(tmp_path, username="me", token=SensitiveText("right-token")) as private:
        url = private.create("private.git")
        source = scene.lab.repository()
        first = scene.commit(source, secret("private", a="one"))
        source.run("push", "--quiet", str(private.root / "private.git"), "HEAD:main")
        scene.lab.secret(scene.namespace, "git-token", user="me", token="wrong-token")
        token = {"secretName": "git-token", "key": "token"}
        manifest = scene.decryptor("private", url)
        manifest["spec"]["source"]["repository"]["credentials"] = {
            "username": {"secretName": "git-token", "key": "user"},
            "token": token,
        }
        scene.lab.admin.apply(manifest).ok()
        status = scene.lab.until_reason(scene.namespace, "private", "RepositoryAccessDenied")
        assert condition(status, "Stalled")
        scene.lab.secret(scene.namespace, "git-token", user="me", token="right-token")
        assert seconds_until("it is deployed", lambda: scene.data("private") == {"a": "one"}) < FAST_SECONDS
        scene.until_settled("private", first)
        # And one that stops working is told at once, though nothing else is to be fetched.
        scene.lab.secret(scene.namespace, "git-token", user="me", token="wrong-again")
        until(
            "the refusal is told",
            lambda: scene.condition("private", "Ready")["reason"] == "RepositoryAccessDenied",
            seconds=FAST_SECONDS,
        )
        scene.lab.secret(scene.namespace, "git-token", user="me", token="right-token")
        scene.until_settled("private", first)
        scene.delete_decryptor("private")


def test_suspended_nothing_is_done_and_resumed_everything(scene: Scene) -> None:
    repository, first = scene.follow("paused", secret("paused", a="one"))
    status = _suspended(scene, "paused", repository.url)
    suspended = condition(status, "Suspended")
    assert (suspended["status"], suspended["reason"]) == ("True", "SpecSuspend")
    assert condition(status, "Ready")["status"] == "True"
    scene.until_event("paused", "Suspended")
    second = scene.commit(repository, secret("paused", a="two"))
    scene.write(scene.secret_path("paused"), {"metadata": {"labels": {"jiemi.cr/decryptor-name": None}}})
    scene.annotate("paused", reconcile_at="while suspended")
    time.sleep(2)
    status = scene.status("paused")
    assert (status["current"]["revision"], scene.data("paused")) == (first, {"a": "one"})
    assert "lastHandledReconcileAt" not in status
    assert not scene.is_labelled(scene.secret_path("paused"), "paused")

    scene.put("paused", repository.url)
    status = scene.until_settled("paused", second)
    assert not condition(status, "Suspended")
    assert scene.data("paused") == {"a": "two"}
    assert scene.is_labelled(scene.secret_path("paused"), "paused")
    until("the annotation is told", lambda: scene.status("paused").get("lastHandledReconcileAt") == "while suspended")
    scene.until_event("paused", "Resumed")

    def reasons() -> list[str]:
        return [each["reason"] for each in scene.events("paused") if each["reason"] != "Drifted"]

    until("the deployment is told too", lambda: len(reasons()) >= 4, on_failure=reasons)
    assert reasons() == ["Applied", "Suspended", "Resumed", "Applied"]


def test_a_failing_one_that_is_suspended_has_not_recovered(scene: Scene, miwen: Service) -> None:
    repository = scene.lab.repository({"secret.enc.yaml": b"kind: Secret\n"})
    scene.put("paused-failing", repository.url)
    scene.lab.until_reason(scene.namespace, "paused-failing", "NotEncrypted")
    deployments = total(metrics_page(miwen), "jiemi_deployments_total")
    status = _suspended(scene, "paused-failing", repository.url)
    assert condition(status, "Ready")["reason"] == "NotEncrypted"
    assert not condition(status, "Stalled"), "nothing is to be done while it is suspended"
    scene.until_event("paused-failing", "Suspended")
    time.sleep(0.5)
    assert [each["reason"] for each in scene.events("paused-failing")] == ["NotEncrypted", "Suspended"]
    assert total(metrics_page(miwen), "jiemi_deployments_total") == deployments


def test_suspending_is_no_deployment(scene: Scene, miwen: Service) -> None:
    repository, _ = scene.follow("paused-good", secret("paused-good", a="one"))
    deployments = total(metrics_page(miwen), "jiemi_deployments_total")
    _suspended(scene, "paused-good", repository.url)
    assert total(metrics_page(miwen), "jiemi_deployments_total") == deployments


def test_the_annotation_decrypts_and_applies_again_now(scene: Scene) -> None:
    repository, first = scene.follow("forced", secret("forced", a="one"), driftPolicy="Report")
    # Something that nothing else would put right.
    scene.write(scene.secret_path("forced"), {"data": {"a": "dGhlaXJz"}})
    scene.until_condition("forced", "Drifted", "True", "Reported")
    renders = _renders(scene, repository.url)
    scene.annotate("forced", reconcile_at="2026-11-24T03:00:00Z")
    assert seconds_until("it is applied again", lambda: scene.data("forced") == {"a": "one"}) < FAST_SECONDS
    until("it is told", lambda: scene.status("forced").get("lastHandledReconcileAt") == "2026-11-24T03:00:00Z")
    status = scene.until_settled("forced", first)
    assert (status["current"]["id"], status["history"]) == (1, [])
    assert _renders(scene, repository.url) == renders + 1
    # The same value again is no new wish; another one is, and asks the repository's host too.
    scene.annotate("forced", reconcile_at="2026-11-24T03:00:00Z", other="x")
    second = scene.commit(repository, secret("forced", a="two"))
    time.sleep(1)
    assert scene.data("forced") == {"a": "one"}
    scene.annotate("forced", reconcile_at="again")
    assert seconds_until("the commit is there", lambda: scene.data("forced") == {"a": "two"}) < FAST_SECONDS
    scene.until_settled("forced", second)


def _renders(scene: Scene, url: str) -> int:
    return sum('"event": "render"' in line and url in line for line in scene.lab.logs().splitlines())


def test_an_interval_of_its_own(scene: Scene) -> None:
    repository, _ = scene.follow("often", secret("often", a="one"), interval="1s")
    second = scene.commit(repository, secret("often", a="two"))
    scene.until_settled("often", second)
    seldom, first = scene.follow("seldom", secret("seldom", a="one"))
    scene.commit(seldom, secret("seldom", a="two"))
    time.sleep(2)
    assert scene.status("seldom")["current"]["revision"] == first


def test_a_retry_interval_of_its_own(scene: Scene, miwen: Service) -> None:
    provider = {"age": {"privateKey": {"secretName": "never-there", "key": "age"}}}
    repository = scene.lab.repository()
    scene.commit(repository, secret("retried", a="one"))

    def tries() -> float:
        return total(metrics_page(miwen), "jiemi_reconcile_total", outcome="SecretNotFound")

    def tries_within(seconds: float, **spec: Any) -> float:
        scene.put("retried", repository.url, provider=provider, **spec)
        scene.lab.until_reason(scene.namespace, "retried", "SecretNotFound")
        before = tries()
        time.sleep(seconds)
        return tries() - before

    assert tries_within(4) <= 2, "growing pauses: after 3 s, then 6"
    assert tries_within(4, retryInterval="1s") >= 3
    scene.delete_decryptor("retried")


@pytest.mark.parametrize(
    "spec",
    [
        {"interval": "soon"},
        {"interval": "-5m"},
        {"retryInterval": "5"},
        {"timeout": ""},
        {"driftPolicy": "Maybe"},
        {"mode": "Preview"},
        {"suspend": "yes"},
        {"dependsOn": [{"namespace": "x"}]},
        {"serviceAccountName": ""},
        {"ref": {"commit": "abc"}},
        {"ref": {"commit": "A" * 40}},
    ],
)
def test_values_that_can_not_be_meant_are_refused_by_the_api_server(scene: Scene, spec: dict[str, Any]) -> None:
    url = scene.lab.git.url_of("none.git")
    answer = scene.lab.admin.apply(scene.decryptor("refused", url, **spec))
    # A field of another type is 500 for a server-side apply, which can't even merge it.
    assert answer.status in {422, 500}, answer.body
    field = next(iter(spec))
    assert field in answer.body["message"]


@pytest.mark.parametrize("field", ["interval", "retryInterval", "timeout"])
@pytest.mark.parametrize("text", ["0s", "500ms"])
def test_a_duration_too_short_is_reported(scene: Scene, field: str, text: str) -> None:
    """The CRD's pattern can't tell how long one is."""
    url = scene.lab.git.url_of("none.git")
    name = f"short-{field.lower()}-{text}"
    scene.put(name, url, **{field: text})
    status = scene.lab.until_reason(scene.namespace, name, "InvalidSpec")
    assert field in condition(status, "Ready")["message"]
    assert condition(status, "Stalled")
