"""Each kind's rule by a table, what holds for all kinds, and that nothing an object says raises or is repeated."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.objects.readiness import Readiness, State, readiness

READY, PROGRESSING, FAILED = State.READY, State.PROGRESSING, State.FAILED
SECRET = "hunter2 is the password"
NOW = datetime.datetime(2026, 11, 24, 3, 0, 0, tzinfo=datetime.UTC)


def made(
    kind: str,
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    *conditions: dict[str, Any],
    **metadata: Any,
) -> dict[str, Any]:
    """An object of "apps/v1 Deployment". Its conditions have messages that must not be repeated."""
    version, _, name = kind.rpartition(" ")
    obj: dict[str, Any] = {"apiVersion": version, "kind": name, "metadata": {"name": "x", **metadata}}
    if spec is not None:
        obj["spec"] = spec
    if status is not None or conditions:
        obj["status"] = {**(status or {}), **({"conditions": list(conditions)} if conditions else {})}
    return obj


def condition(kind: str, status: str = "True", reason: Any = "Why") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": SECRET}


def of(obj: Mapping[str, Any], *, now: datetime.datetime | None = None) -> tuple[State, str]:
    found = readiness(obj, now=now)
    return found.state, found.message


CUSTOM = "example.com/v1 Thing"


@pytest.mark.parametrize(
    ("obj", "state", "message"),
    [
        (made(CUSTOM, deletionTimestamp="2026-11-24T03:00:00Z"), PROGRESSING, "is being deleted"),
        (made("v1 Secret", deletionTimestamp="2026-11-24T03:00:00Z"), PROGRESSING, "is being deleted"),
        (made(CUSTOM, deletionTimestamp=None), READY, "its kind has nothing to wait for"),
        # generations
        (
            made(CUSTOM, None, {"observedGeneration": 2}, condition("Ready"), generation=3),
            PROGRESSING,
            "its controller has not seen generation 3 yet, but 2",
        ),
        (
            made(CUSTOM, None, {"observedGeneration": -1}, generation=1),
            PROGRESSING,
            "its controller has not seen generation 1 yet, but -1",
        ),
        (made(CUSTOM, None, {"observedGeneration": 3}, condition("Ready"), generation=3), READY, "is True"),
        (made(CUSTOM, None, {}, condition("Ready"), generation=3), READY, "is True"),
        (made(CUSTOM, None, {"observedGeneration": 3}, condition("Ready")), READY, "is True"),
        (made(CUSTOM, None, {"observedGeneration": "2"}, generation=3), READY, "nothing to wait for"),
        (made(CUSTOM, None, {"observedGeneration": True}, generation=3), READY, "nothing to wait for"),
        (made(CUSTOM, None, {"observedGeneration": 10**5000}, generation=3), READY, "nothing to wait for"),
        # the conditions that kstatus asks controllers to set
        (made(CUSTOM, None, None, condition("Reconciling")), PROGRESSING, "condition Reconciling is True (Why)"),
        (made(CUSTOM, None, None, condition("Stalled")), FAILED, "condition Stalled is True (Why)"),
        (made(CUSTOM, None, None, condition("Ready"), condition("Stalled")), FAILED, "condition Stalled is True (Why)"),
        (made(CUSTOM, None, None, condition("Stalled"), condition("Reconciling")), FAILED, "condition Stalled is True"),
        (made(CUSTOM, None, None, condition("Reconciling"), condition("Stalled")), PROGRESSING, "Reconciling is True"),
        (made(CUSTOM, None, None, condition("Stalled", "False")), READY, "its kind has nothing to wait for"),
        (made("apps/v1 Deployment", None, None, condition("Stalled")), FAILED, "condition Stalled is True (Why)"),
        # Ready, of kinds without a rule
        (made(CUSTOM, None, None, condition("Ready")), READY, "condition Ready is True"),
        (made(CUSTOM, None, None, condition("Ready", "False")), PROGRESSING, "condition Ready is False (Why)"),
        (made(CUSTOM, None, None, condition("Ready", "Unknown")), PROGRESSING, "condition Ready is Unknown (Why)"),
        (made(CUSTOM, None, None, condition("Ready", SECRET)), PROGRESSING, "condition Ready is not known (Why)"),
        (made(CUSTOM, None, None, condition("Ready", "False", SECRET)), PROGRESSING, "condition Ready is False"),
        (made(CUSTOM, None, None, condition("Ready", "False", None)), PROGRESSING, "condition Ready is False"),
        (made(CUSTOM, None, None, condition("Available", "False")), READY, "its kind has nothing to wait for"),
        # nothing to say
        (made(CUSTOM), READY, "its kind has nothing to wait for"),
        (made(CUSTOM, {"replicas": 3}), READY, "its kind has nothing to wait for"),
        (made("v1 ConfigMap"), READY, "its kind has nothing to wait for"),
        (made("v1 Secret"), READY, "its kind has nothing to wait for"),
        (made("v1 ServiceAccount"), READY, "its kind has nothing to wait for"),
        (made("rbac.authorization.k8s.io/v1 Role"), READY, "its kind has nothing to wait for"),
        (
            made("batch/v1 CronJob", {"schedule": "* * * * *"}, {"active": []}),
            READY,
            "its kind has nothing to wait for",
        ),
        (made("v1 Secret", None, None, condition("Ready", "False")), READY, "its kind has nothing to wait for"),
        ({}, READY, "its kind has nothing to wait for"),
    ],
)
def test_what_holds_for_any_object(obj: Mapping[str, Any], state: State, message: str) -> None:
    assert of(obj)[0] is state
    assert message in of(obj)[1]


def test_a_kind_is_known_by_its_group_too() -> None:
    status = {"replicas": 0}
    assert of(made("apps/v1 Deployment", {"replicas": 1}, status))[0] is PROGRESSING
    assert of(made("apps/v1beta2 Deployment", {"replicas": 1}, status))[0] is PROGRESSING
    assert of(made("example.com/v1 Deployment", {"replicas": 1}, status))[0] is READY
    assert of(made("v1 Deployment", {"replicas": 1}, status))[0] is READY
    assert of(made("example.com/v1 Secret", None, None, condition("Ready", "False")))[0] is PROGRESSING


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("CrashLoopBackOff", True),
        ("a", True),
        ("A_1", True),
        ("A" * 100, True),
        ("A" * 101, False),
        ("", False),
        ("1A", False),
        ("_A", False),
        ("A b", False),
        ("A-b", False),
        ("A:b", False),
        ("A\n", False),
        ("Ä", False),
        (SECRET, False),
        (7, False),
        (["A"], False),
    ],
)
def test_a_reason_is_shown_only_where_it_looks_like_one(reason: Any, shown: bool) -> None:
    _, message = of(made(CUSTOM, None, None, condition("Ready", "False", reason)))
    assert message == (f"condition Ready is False ({reason})" if shown else "condition Ready is False")


def deployment(spec: Any = 3, /, **status: int) -> dict[str, Any]:
    """A Deployment that is complete, but for what is given."""
    counts = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "readyReplicas": 3, **status}
    conditions = (condition("Progressing", "True", "NewReplicaSetAvailable"), condition("Available"))
    spec = {"replicas": spec, "progressDeadlineSeconds": 600}
    return made("apps/v1 Deployment", spec, {"observedGeneration": 1, **counts}, *conditions, generation=1)


def with_conditions(obj: dict[str, Any], *conditions: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {**obj, "spec": {**obj["spec"], **spec}, "status": {**obj["status"], "conditions": list(conditions)}}


AVAILABLE = condition("Available")


@pytest.mark.parametrize(
    ("obj", "state", "message"),
    [
        (deployment(), READY, "available replicas: 3"),
        (deployment(replicas=1), PROGRESSING, "replicas: 1 of 3"),
        (deployment(updatedReplicas=1), PROGRESSING, "updated replicas: 1 of 3"),
        (deployment(availableReplicas=2), PROGRESSING, "available replicas: 2 of 3"),
        (deployment(readyReplicas=2), PROGRESSING, "ready replicas: 2 of 3"),
        (deployment(replicas=4), PROGRESSING, "replicas that are yet to end: 1"),
        (deployment(4), PROGRESSING, "replicas: 3 of 4"),
        (deployment(None, replicas=1, updatedReplicas=1, availableReplicas=1), READY, "available replicas: 1"),
        (
            deployment(0, replicas=0, updatedReplicas=0, availableReplicas=0, readyReplicas=0),
            READY,
            "available replicas: 0",
        ),
        (
            with_conditions(deployment(), AVAILABLE, condition("Progressing", "False", "ProgressDeadlineExceeded")),
            FAILED,
            "made no progress within progressDeadlineSeconds (ProgressDeadlineExceeded)",
        ),
        (
            with_conditions(deployment(replicas=1), condition("Progressing", "False", "ProgressDeadlineExceeded")),
            FAILED,
            "made no progress within progressDeadlineSeconds (ProgressDeadlineExceeded)",
        ),
        (
            with_conditions(deployment(), AVAILABLE, condition("Progressing", "True", "ReplicaSetUpdated")),
            PROGRESSING,
            "its new ReplicaSet is not available yet",
        ),
        (with_conditions(deployment(), AVAILABLE), PROGRESSING, "its new ReplicaSet is not available yet"),
        (with_conditions(deployment(), AVAILABLE, progressDeadlineSeconds=None), READY, "available replicas: 3"),
        (with_conditions(deployment(), AVAILABLE, progressDeadlineSeconds=2**31 - 1), READY, "available replicas: 3"),
        (
            with_conditions(deployment(), condition("Progressing", "True", "NewReplicaSetAvailable")),
            PROGRESSING,
            "condition Available is not True",
        ),
        (
            with_conditions(deployment(), condition("Available", "False"), progressDeadlineSeconds=None),
            PROGRESSING,
            "condition Available is not True",
        ),
        (made("apps/v1 Deployment", {"replicas": 2}), PROGRESSING, "replicas: 0 of 2"),
        (made("apps/v1 Deployment"), PROGRESSING, "replicas: 0 of 1"),
    ],
)
def test_a_deployment_is_ready_when_its_new_replicas_are_available_and_the_old_ones_gone(
    obj: Mapping[str, Any], state: State, message: str
) -> None:
    assert of(obj) == (state, message)


COUNTS_OF_SETS = {"replicas": 2, "fullyLabeledReplicas": 2, "availableReplicas": 2, "readyReplicas": 2}


@pytest.mark.parametrize(
    ("status", "state", "message"),
    [
        ({}, READY, "available replicas: 2"),
        ({"fullyLabeledReplicas": 1}, PROGRESSING, "labelled replicas: 1 of 2"),
        ({"availableReplicas": 0}, PROGRESSING, "available replicas: 0 of 2"),
        ({"readyReplicas": 0}, PROGRESSING, "ready replicas: 0 of 2"),
        ({"replicas": 5}, PROGRESSING, "replicas that are yet to end: 3"),
        (
            {"conditions": [condition("ReplicaFailure")]},
            PROGRESSING,
            "condition ReplicaFailure is True: Pods can't be made or deleted",
        ),
        ({"conditions": [condition("ReplicaFailure", "False")]}, READY, "available replicas: 2"),
    ],
)
def test_a_replica_set_is_ready_when_its_replicas_are(status: Any, state: State, message: str) -> None:
    assert of(made("apps/v1 ReplicaSet", {"replicas": 2}, {**COUNTS_OF_SETS, **status})) == (state, message)


ROLLED = {
    "replicas": 3,
    "readyReplicas": 3,
    "currentReplicas": 3,
    "updatedReplicas": 3,
    "currentRevision": "x-1",
    "updateRevision": "x-1",
}


def rolling(partition: Any) -> dict[str, Any]:
    return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}}


@pytest.mark.parametrize(
    ("spec", "status", "state", "message"),
    [
        ({}, {}, READY, "ready replicas: 3"),
        ({}, {"replicas": 1}, PROGRESSING, "replicas: 1 of 3"),
        ({}, {"readyReplicas": 2}, PROGRESSING, "ready replicas: 2 of 3"),
        ({}, {"replicas": 5}, PROGRESSING, "replicas that are yet to end: 2"),
        ({}, {"currentReplicas": 2}, PROGRESSING, "replicas of the current revision: 2 of 3"),
        ({}, {"updateRevision": "x-2"}, PROGRESSING, "its newest revision is not the current one yet"),
        # with a partition, the replicas below it stay behind
        (rolling(0), {"updatedReplicas": 2}, PROGRESSING, "updated replicas: 2 of 3"),
        (rolling(0), {}, READY, "ready replicas: 3, updated down to partition 0"),
        (rolling(2), {"updatedReplicas": 0}, PROGRESSING, "updated replicas: 0 of 1"),
        (
            rolling(2),
            {"updatedReplicas": 1, "currentReplicas": 2, "updateRevision": "x-2"},
            READY,
            "ready replicas: 3, updated down to partition 2",
        ),
        (rolling(9), {"updatedReplicas": 0}, READY, "ready replicas: 3, updated down to partition 9"),
        (rolling(2), {"readyReplicas": 2}, PROGRESSING, "ready replicas: 2 of 3"),
        (rolling("2"), {}, READY, "ready replicas: 3"),
        # nothing is known of one that the user updates
        (
            {"updateStrategy": {"type": "OnDelete"}},
            {"readyReplicas": 0},
            READY,
            "its Pods are replaced when the user deletes them (OnDelete)",
        ),
        ({"replicas": 0}, {"replicas": 0, "readyReplicas": 0, "currentReplicas": 0}, READY, "ready replicas: 0"),
    ],
)
def test_a_stateful_set_is_ready_when_all_that_it_may_update_is(
    spec: Any, status: Any, state: State, message: str
) -> None:
    assert of(made("apps/v1 StatefulSet", {"replicas": 3, **spec}, {**ROLLED, **status})) == (state, message)


SPREAD = {
    "observedGeneration": 1,
    "desiredNumberScheduled": 4,
    "currentNumberScheduled": 4,
    "updatedNumberScheduled": 4,
    "numberAvailable": 4,
    "numberReady": 4,
}


@pytest.mark.parametrize(
    ("status", "state", "message"),
    [
        ({}, READY, "available Pods: 4"),
        ({"currentNumberScheduled": 1}, PROGRESSING, "scheduled Pods: 1 of 4"),
        ({"updatedNumberScheduled": 2}, PROGRESSING, "updated Pods: 2 of 4"),
        ({"numberAvailable": 3}, PROGRESSING, "available Pods: 3 of 4"),
        ({"numberReady": 0}, PROGRESSING, "ready Pods: 0 of 4"),
        ({"desiredNumberScheduled": None}, PROGRESSING, "the number of its nodes is not known yet"),
        ({"desiredNumberScheduled": 0}, READY, "available Pods: 0"),
        ({"observedGeneration": None}, PROGRESSING, "its controller has not seen it yet"),
        ({"observedGeneration": 7}, PROGRESSING, "its controller has not seen generation 1 yet, but 7"),
    ],
)
def test_a_daemon_set_is_ready_when_it_is_on_all_its_nodes(status: Any, state: State, message: str) -> None:
    assert of(made("apps/v1 DaemonSet", {}, {**SPREAD, **status}, generation=1)) == (state, message)


def test_a_daemon_set_that_no_controller_has_seen_is_not_ready() -> None:
    assert of(made("apps/v1 DaemonSet", {}, SPREAD)) == (PROGRESSING, "has no metadata.generation")
    assert of(made("apps/v1 DaemonSet", {}, generation=1)) == (PROGRESSING, "its controller has not seen it yet")


def containers(*reasons: str | None, field: str = "containerStatuses") -> dict[str, Any]:
    return {
        field: [
            {"name": SECRET, "state": {"waiting": {"reason": reason}} if reason else {"running": {}}}
            for reason in reasons
        ]
    }


UNSCHEDULABLE = condition("PodScheduled", "False", "Unschedulable")
LOOPING = "containers that crash again and again"


@pytest.mark.parametrize(
    ("status", "state", "message"),
    [
        ({"phase": "Succeeded"}, READY, "has ended well"),
        ({"phase": "Failed"}, FAILED, "has ended, and not well"),
        ({"phase": "Running", "conditions": [condition("Ready")]}, READY, "condition Ready is True"),
        ({"phase": "Running", "conditions": [condition("Ready", "False")]}, PROGRESSING, "is running, but not ready"),
        ({"phase": "Running"}, PROGRESSING, "is running, but not ready"),
        (
            {"phase": "Running", **containers(None, "CrashLoopBackOff", "ErrImagePull", "CrashLoopBackOff")},
            FAILED,
            f"{LOOPING}: 2 (CrashLoopBackOff)",
        ),
        (
            {"phase": "Running", "conditions": [condition("Ready")], **containers("CrashLoopBackOff")},
            READY,
            "condition Ready is True",
        ),
        ({"phase": "Running", **containers("ContainerCreating")}, PROGRESSING, "is running, but not ready"),
        (
            {"phase": "Pending", **containers("CrashLoopBackOff", field="initContainerStatuses")},
            FAILED,
            f"{LOOPING}: 1 (CrashLoopBackOff)",
        ),
        ({"phase": "Pending"}, PROGRESSING, "is pending"),
        ({"phase": "Pending", **containers("ImagePullBackOff")}, PROGRESSING, "is pending"),
        ({"phase": "Pending", "conditions": [UNSCHEDULABLE]}, FAILED, "fits no node (Unschedulable)"),
        (
            {"phase": "Pending", "conditions": [condition("PodScheduled", "False", "SchedulingGated")]},
            PROGRESSING,
            "is pending",
        ),
        ({"phase": "Pending", "conditions": [condition("PodScheduled")]}, PROGRESSING, "is pending"),
        ({}, PROGRESSING, "its phase is not known"),
        ({"phase": "Unknown"}, PROGRESSING, "its phase is not known"),
        ({"phase": SECRET}, PROGRESSING, "its phase is not known"),
        ({"phase": ["Running"]}, PROGRESSING, "its phase is not known"),
        ({"phase": "Running", "containerStatuses": {"a": 1}}, PROGRESSING, "is running, but not ready"),
        ({"phase": "Running", "containerStatuses": [None, {"state": 7}]}, PROGRESSING, "is running, but not ready"),
    ],
)
def test_a_pod_by_its_phase(status: Any, state: State, message: str) -> None:
    assert of(made("v1 Pod", {}, status)) == (state, message)


@pytest.mark.parametrize(
    ("created", "state"),
    [
        ("2026-11-24T02:59:46Z", PROGRESSING),
        ("2026-11-24T02:59:45Z", FAILED),
        ("2026-11-24T03:59:46+01:00", PROGRESSING),
        ("2026-11-24T03:00:09Z", PROGRESSING),
        ("2026-11-24T02:00:00Z", FAILED),
        ("0001-01-01T00:00:00+23:59", FAILED),
        ("9999-12-31T23:59:59-23:59", PROGRESSING),
        ("2026-11-24T02:59:59", FAILED),
        ("no time", FAILED),
        ("", FAILED),
        (None, FAILED),
        (7, FAILED),
    ],
)
def test_a_new_pod_has_15_seconds_to_find_a_node(created: Any, state: State) -> None:
    pod = made("v1 Pod", {}, {"phase": "Pending"}, UNSCHEDULABLE, creationTimestamp=created)
    assert of(pod, now=NOW)[0] is state
    assert of(pod)[0] is FAILED


@pytest.mark.parametrize(
    ("spec", "status", "state", "message"),
    [
        ({}, {}, PROGRESSING, "has not started"),
        (
            {},
            {"startTime": "2026-11-24T03:00:00Z", "active": 1},
            READY,
            "runs; active Pods: 1, succeeded: 0, failed: 0",
        ),
        (
            {"completions": 5},
            {"startTime": "2026-11-24T03:00:00Z", "active": 1, "succeeded": 2, "failed": 3},
            READY,
            "runs; active Pods: 1, succeeded: 2, failed: 3",
        ),
        (
            {"completions": 5},
            {"succeeded": 5, "conditions": [condition("Complete")]},
            READY,
            "completed; Pods that succeeded: 5 of 5",
        ),
        (
            {"parallelism": 2},
            {"succeeded": 2, "conditions": [condition("Complete")]},
            READY,
            "completed; Pods that succeeded: 2 of 2",
        ),
        (
            {},
            {"failed": 7, "conditions": [condition("Failed", reason="BackoffLimitExceeded")]},
            FAILED,
            "condition Failed is True (BackoffLimitExceeded); failed Pods: 7",
        ),
        ({}, {"conditions": [condition("Failed", reason=SECRET)]}, FAILED, "condition Failed is True; failed Pods: 0"),
        ({}, {"conditions": [condition("Failed", "False")]}, PROGRESSING, "has not started"),
        ({"suspend": True}, {"conditions": [condition("Suspended")]}, READY, "is suspended"),
        ({}, {"conditions": [condition("Suspended", "False")]}, PROGRESSING, "has not started"),
    ],
)
def test_a_job_is_ready_when_it_runs_and_failed_when_it_gave_up(
    spec: Any, status: Any, state: State, message: str
) -> None:
    assert of(made("batch/v1 Job", spec, status)) == (state, message)


@pytest.mark.parametrize(
    ("status", "state", "message"),
    [
        ({"phase": "Bound"}, READY, "is bound to a volume"),
        ({"phase": "Pending"}, PROGRESSING, "is not bound to a volume yet"),
        ({"phase": "Lost"}, PROGRESSING, "is not bound: its volume is lost"),
        ({"phase": SECRET}, PROGRESSING, "is not bound to a volume yet"),
        (None, PROGRESSING, "is not bound to a volume yet"),
    ],
)
def test_a_claim_is_ready_when_it_is_bound(status: Any, state: State, message: str) -> None:
    assert of(made("v1 PersistentVolumeClaim", {}, status)) == (state, message)


BALANCED = {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}


@pytest.mark.parametrize(
    ("spec", "status", "state", "message"),
    [
        ({}, {"loadBalancer": {}}, READY, "its kind has nothing to wait for"),
        ({"type": "ClusterIP"}, None, READY, "its kind has nothing to wait for"),
        ({"type": "ExternalName"}, None, READY, "its kind has nothing to wait for"),
        ({"type": "LoadBalancer"}, None, PROGRESSING, "has no cluster IP yet"),
        (BALANCED, None, PROGRESSING, "its load balancer has no address yet"),
        (BALANCED, {"loadBalancer": {}}, PROGRESSING, "its load balancer has no address yet"),
        (BALANCED, {"loadBalancer": {"ingress": []}}, PROGRESSING, "its load balancer has no address yet"),
        (BALANCED, {"loadBalancer": {"ingress": [{}]}}, PROGRESSING, "its load balancer has no address yet"),
        (BALANCED, {"loadBalancer": {"ingress": "x"}}, PROGRESSING, "its load balancer has no address yet"),
        (BALANCED, {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}, READY, "its load balancer has an address"),
        (BALANCED, {"loadBalancer": {"ingress": [{"hostname": "a.b"}]}}, READY, "its load balancer has an address"),
    ],
)
def test_a_service_waits_for_its_load_balancer_alone(spec: Any, status: Any, state: State, message: str) -> None:
    assert of(made("v1 Service", spec, status)) == (state, message)


@pytest.mark.parametrize(
    ("status", "state", "message"),
    [
        ({"observedGeneration": 1, "disruptionsAllowed": 0}, READY, "its kind has nothing to wait for"),
        ({"observedGeneration": 0}, PROGRESSING, "its controller has not seen generation 1 yet, but 0"),
    ],
)
def test_a_disruption_budget_is_ready_when_its_controller_has_seen_it(status: Any, state: State, message: str) -> None:
    assert of(made("policy/v1 PodDisruptionBudget", {}, status, generation=1)) == (state, message)


ACCEPTED = condition("NamesAccepted")


@pytest.mark.parametrize(
    ("conditions", "state", "message"),
    [
        ((), PROGRESSING, "is being installed"),
        ((ACCEPTED,), PROGRESSING, "is being installed"),
        ((ACCEPTED, condition("Established")), READY, "condition Established is True"),
        ((condition("Established"), ACCEPTED), READY, "condition Established is True"),
        ((ACCEPTED, condition("Established", "False", "Installing")), PROGRESSING, "is being installed"),
        ((ACCEPTED, condition("Established", "Unknown")), PROGRESSING, "is being installed"),
        (
            (condition("Established", "False", "NotAccepted"),),
            FAILED,
            "condition Established is False (NotAccepted)",
        ),
        (
            (condition("NamesAccepted", "False", "ListKindConflict"), condition("Established", "False", "Installing")),
            FAILED,
            "condition NamesAccepted is False (ListKindConflict)",
        ),
        # another definition has taken the names of one that worked
        (
            (condition("Established"), condition("NamesAccepted", "False", SECRET)),
            FAILED,
            "condition NamesAccepted is False",
        ),
    ],
)
def test_a_definition_is_ready_when_it_is_established(conditions: Any, state: State, message: str) -> None:
    kind = "apiextensions.k8s.io/v1 CustomResourceDefinition"
    assert of(made(kind, {}, {}, *conditions)) == (state, message)


@pytest.mark.parametrize(
    ("conditions", "state", "message"),
    [
        ((condition("Available", reason="Passed"),), READY, "condition Available is True"),
        (
            (condition("Available", "False", "MissingEndpoints"),),
            PROGRESSING,
            "condition Available is False (MissingEndpoints)",
        ),
        ((), PROGRESSING, "condition Available is not known"),
    ],
)
def test_an_api_service_is_ready_when_it_is_available(conditions: Any, state: State, message: str) -> None:
    assert of(made("apiregistration.k8s.io/v1 APIService", {}, {}, *conditions)) == (state, message)


@pytest.mark.parametrize(
    ("status", "state"),
    [(None, READY), ({"phase": "Active"}, READY), ({"phase": "Terminating"}, PROGRESSING), ({"phase": 1}, READY)],
)
def test_a_namespace_is_ready_unless_it_goes(status: Any, state: State) -> None:
    assert of(made("v1 Namespace", {}, status))[0] is state


KINDS = [
    ("v1", "Secret"),
    ("v1", "Namespace"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("apiregistration.k8s.io/v1", "APIService"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
    ("policy/v1", "PodDisruptionBudget"),
    ("example.com/v1", "Thing"),
]
CANARY = "c4n4ry "  # with a space, so that it is no reason
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400)])
    | st.text(max_size=8)
    | st.text(max_size=3).map(lambda text: f"{text}{CANARY}{text}")
)
JSON = st.recursive(
    SCALARS, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=4), parts, max_size=3)
)


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A mapping with some of the fields, each of which is as it should be, or any JSON at all; or any JSON instead."""
    return st.fixed_dictionaries({}, optional={name: part | JSON for name, part in fields.items()}) | JSON


NUMBERS = st.integers(-1, 3)
TYPES = """
    Ready Available Progressing Stalled Reconciling PodScheduled Established NamesAccepted Complete Failed Suspended
    ReplicaFailure
"""
COUNTS = """
    observedGeneration replicas readyReplicas availableReplicas updatedReplicas currentReplicas fullyLabeledReplicas
    desiredNumberScheduled currentNumberScheduled updatedNumberScheduled numberAvailable numberReady succeeded failed
    active
"""
CONDITIONS = st.lists(
    maybe(
        type=st.sampled_from(TYPES.split()),
        status=st.sampled_from(["True", "False", "Unknown"]),
        reason=st.sampled_from(["Unschedulable", "Installing", "NewReplicaSetAvailable", CANARY]),
        message=st.just(CANARY),
    ),
    max_size=4,
)
CONTAINERS = st.lists(maybe(state=maybe(waiting=maybe(reason=st.just("CrashLoopBackOff")))), max_size=2)
STATUSES = maybe(
    conditions=CONDITIONS,
    phase=st.sampled_from(["Running", "Pending", "Failed", "Bound", "Lost", "Terminating"]),
    containerStatuses=CONTAINERS,
    initContainerStatuses=CONTAINERS,
    loadBalancer=maybe(ingress=st.lists(JSON, max_size=2)),
    startTime=JSON,
    currentRevision=JSON,
    **dict.fromkeys(COUNTS.split(), NUMBERS),
)
SPECS = maybe(
    replicas=NUMBERS,
    progressDeadlineSeconds=NUMBERS,
    type=st.just("LoadBalancer"),
    clusterIP=st.text(max_size=2),
    completions=NUMBERS,
    updateStrategy=maybe(type=st.just("OnDelete"), rollingUpdate=maybe(partition=NUMBERS)),
)
METADATA = maybe(
    generation=NUMBERS,
    deletionTimestamp=st.text(max_size=2),
    creationTimestamp=st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
)
OBJECTS = st.builds(
    lambda kind, parts: {"apiVersion": kind[0], "kind": kind[1], **parts},
    st.sampled_from(KINDS),
    st.fixed_dictionaries({"status": STATUSES}, optional={"metadata": METADATA, "spec": SPECS}),
)


@given(OBJECTS, st.none() | st.datetimes(timezones=st.just(datetime.UTC)))
def test_no_shape_of_a_known_kind_raises_and_nothing_of_it_is_repeated(obj: Any, now: datetime.datetime | None) -> None:
    found = readiness(obj, now=now)
    assert isinstance(found, Readiness)
    assert found.message
    assert CANARY.strip() not in found.message
    assert found.message.isprintable()
    assert found.message.isascii()
    assert len(found.message) <= 250


@given(JSON | maybe(apiVersion=JSON, kind=JSON, metadata=JSON, spec=JSON, status=JSON))
def test_any_json_has_an_answer(obj: Any) -> None:
    found = readiness(obj)
    assert CANARY.strip() not in found.message
    assert found.state in State
