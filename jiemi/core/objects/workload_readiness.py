"""The rules of readiness for what runs: Deployments, ReplicaSets, StatefulSets, DaemonSets, Pods and Jobs.

They are kstatus's, except where those would make a user wait in vain: a Pod that ended badly has failed, and crash
loops of init containers count too. https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping

from jiemi.core.objects.readiness_facts import (
    Facts,
    Readiness,
    behind,
    failed,
    mapping,
    mappings,
    number,
    progressing,
    ready,
    surplus,
    text,
)

SCHEDULE_WINDOW = datetime.timedelta(seconds=15)
"""How long a new Pod may be unschedulable before that is a failure; kstatus's number."""

_NO_DEADLINE = 2**31 - 1
"""The progressDeadlineSeconds by which Kubernetes says that a Deployment has none, and so no condition Progressing."""


def deployment(facts: Facts) -> Readiness:
    """Whether its new replicas are available and the old ones gone."""
    progress = facts.condition("Progressing")
    if progress is not None and progress.reason == "ProgressDeadlineExceeded":
        return failed("made no progress within progressDeadlineSeconds (ProgressDeadlineExceeded)")
    wanted, updated = facts.replicas, facts.count("updatedReplicas")
    lacking = behind(
        (facts.count("replicas"), wanted, "replicas"),
        (updated, wanted, "updated replicas"),
        (facts.count("availableReplicas"), updated, "available replicas"),
        (facts.count("readyReplicas"), wanted, "ready replicas"),
    ) or surplus(facts.count("replicas"), wanted)
    if lacking is not None:
        return lacking
    # Counts alone could be those of the ReplicaSet before. Without a deadline, there is no such condition to wait for.
    has_deadline = number(facts.spec.get("progressDeadlineSeconds"), _NO_DEADLINE) != _NO_DEADLINE
    if has_deadline and (progress is None or (progress.status, progress.reason) != ("True", "NewReplicaSetAvailable")):
        return progressing("its new ReplicaSet is not available yet")
    if not facts.is_true("Available"):
        return progressing("condition Available is not True")
    return ready(f"available replicas: {wanted}")


def replica_set(facts: Facts) -> Readiness:
    """Whether its replicas are available."""
    if facts.is_true("ReplicaFailure"):
        # It is tried again forever, so it is no failure for good: a quota may grow.
        return progressing("condition ReplicaFailure is True: Pods can't be made or deleted")
    wanted = facts.replicas
    return (
        behind(
            (facts.count("fullyLabeledReplicas"), wanted, "labelled replicas"),
            (facts.count("availableReplicas"), wanted, "available replicas"),
            (facts.count("readyReplicas"), wanted, "ready replicas"),
        )
        or surplus(facts.count("replicas"), wanted)
        or ready(f"available replicas: {wanted}")
    )


def stateful_set(facts: Facts) -> Readiness:
    """Whether all Pods that it may update are of the newest revision, and ready."""
    strategy = mapping(facts.spec.get("updateStrategy"))
    if strategy.get("type") == "OnDelete":
        return ready("its Pods are replaced when the user deletes them (OnDelete)")
    wanted, updated = facts.replicas, facts.count("updatedReplicas")
    lacking = behind(
        (facts.count("replicas"), wanted, "replicas"),
        (facts.count("readyReplicas"), wanted, "ready replicas"),
    ) or surplus(facts.count("replicas"), wanted)
    if lacking is not None:
        return lacking
    # https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#partitions: Pods below stay at the old
    # revision on purpose, so neither the current ones nor the two revisions say anything.
    partition = number(mapping(strategy.get("rollingUpdate")).get("partition"), None)
    if partition is not None:
        rolled = behind((updated, wanted - partition, "updated replicas"))
        return rolled or ready(f"ready replicas: {wanted}, updated down to partition {partition}")
    lacking = behind((facts.count("currentReplicas"), wanted, "replicas of the current revision"))
    if lacking is not None:
        return lacking
    if text(facts.status.get("currentRevision")) != text(facts.status.get("updateRevision")):
        return progressing("its newest revision is not the current one yet")
    return ready(f"ready replicas: {wanted}")


def daemon_set(facts: Facts) -> Readiness:
    """Whether its Pods are available on all its nodes."""
    # Zeros are what a DaemonSet that fits no node has too, so only a controller that was there is believed.
    if number(facts.metadata.get("generation"), None) is None:
        return progressing("has no metadata.generation")
    if number(facts.status.get("observedGeneration"), None) is None:
        return progressing("its controller has not seen it yet")
    wanted = number(facts.status.get("desiredNumberScheduled"), None)
    if wanted is None:
        return progressing("the number of its nodes is not known yet")
    return behind(
        (facts.count("currentNumberScheduled"), wanted, "scheduled Pods"),
        (facts.count("updatedNumberScheduled"), wanted, "updated Pods"),
        (facts.count("numberAvailable"), wanted, "available Pods"),
        (facts.count("numberReady"), wanted, "ready Pods"),
    ) or ready(f"available Pods: {wanted}")


def pod(facts: Facts) -> Readiness:
    """What its phase says."""
    phase = text(facts.status.get("phase"))
    if phase in _POD_PHASES:
        return _POD_PHASES[phase](facts)
    return progressing("its phase is not known")


def _pod_running(facts: Facts) -> Readiness:
    if facts.is_true("Ready"):
        return ready("condition Ready is True")
    return _crash_loop(facts) or progressing("is running, but not ready")


def _pod_pending(facts: Facts) -> Readiness:
    scheduled = facts.condition("PodScheduled")
    if scheduled is None or (scheduled.status, scheduled.reason) != ("False", "Unschedulable"):
        return _crash_loop(facts) or progressing("is pending")
    if _is_new(facts):
        return progressing("is not scheduled yet")
    return failed("fits no node (Unschedulable)")


_POD_PHASES: Mapping[str, Callable[[Facts], Readiness]] = {
    "Pending": _pod_pending,
    "Running": _pod_running,
    "Succeeded": lambda _: ready("has ended well"),
    "Failed": lambda _: failed("has ended, and not well"),
}


def _crash_loop(facts: Facts) -> Readiness | None:
    statuses = (
        *mappings(facts.status.get("initContainerStatuses")),
        *mappings(facts.status.get("containerStatuses")),
    )
    waiting = (mapping(mapping(each.get("state")).get("waiting")) for each in statuses)
    looping = sum(each.get("reason") == "CrashLoopBackOff" for each in waiting)
    return failed(f"containers that crash again and again: {looping} (CrashLoopBackOff)") if looping else None


def _is_new(facts: Facts) -> bool:
    """Whether the object was made within the window of scheduling."""
    if facts.now is None:
        return False
    try:
        created = datetime.datetime.fromisoformat(text(facts.metadata.get("creationTimestamp")))
    except ValueError:
        return False
    return created.tzinfo is not None and facts.now - created < SCHEDULE_WINDOW


def job(facts: Facts) -> Readiness:
    """As in kstatus, a Job that runs is ready: it may run for days, and what waits for its end asks for that."""
    succeeded, failures = facts.count("succeeded"), facts.count("failed")
    if facts.is_true("Failed"):
        reason = facts.condition("Failed")
        return failed(f"condition Failed is True{reason.shown_reason if reason else ''}; failed Pods: {failures}")
    if facts.is_true("Complete"):
        wanted = number(facts.spec.get("completions"), number(facts.spec.get("parallelism"), 1))
        return ready(f"completed; Pods that succeeded: {succeeded} of {wanted}")
    if facts.is_true("Suspended"):
        return ready("is suspended")
    if not text(facts.status.get("startTime")):
        return progressing("has not started")
    return ready(f"runs; active Pods: {facts.count('active')}, succeeded: {succeeded}, failed: {failures}")
