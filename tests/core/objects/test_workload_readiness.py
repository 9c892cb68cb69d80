"""Each rule for what runs, by a table."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pytest
from support.kubernetes.readiness_objects import FAILED, PROGRESSING, READY, SECRET, condition, made, of

from jiemi.core.objects.readiness_facts import State

NOW = datetime.datetime(2026, 11, 24, 3, 0, 0, tzinfo=datetime.UTC)


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
