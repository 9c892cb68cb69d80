"""Whether an object that was applied is at work yet: one object's JSON in, ready, progressing or failed out.

The rules are those of kstatus, which kpt and Flux wait by:
https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus

First what holds for any object: one that is being deleted, or whose controller has not seen the newest generation, or
says that it is Reconciling or Stalled, needs no further look. Then the rules of its kind, by group and kind. Then, for
kinds that have none, the condition Ready. What says nothing at all is ready.

Where it serves who waits, the rules here are stricter: a Service of type LoadBalancer waits for an address, a Pod that
ended badly has failed, crash loops of init containers count too, and Namespaces and APIServices have rules.

The object may be of any shape, since a custom resource's controller is anyone's: what is of another type than it should
be is as if it were not there. A message is made of our words, counts, and reasons that look like reasons; a condition's
message is never repeated, because it may quote a value.
"""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from jiemi.core.objects.identity import group_of

D = TypeVar("D", bound=int | None)

SCHEDULE_WINDOW = datetime.timedelta(seconds=15)
"""How long a new Pod may be unschedulable before that is a failure; kstatus's number."""

_REASON = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
"""The reasons that are shown. The API's own pattern allows more (a colon, 1024 characters), and so for more than names:
https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/#condition-v1-meta"""

_INT64 = range(-(2**63), 2**63)
"""Numbers of the Kubernetes API. Python's text of a number without bound can be refused."""

_NO_DEADLINE = 2**31 - 1
"""The progressDeadlineSeconds by which Kubernetes says that a Deployment has none, and so no condition Progressing."""


class State(enum.Enum):
    """How far an object is."""

    READY = "ready"
    """Nothing to wait for."""
    PROGRESSING = "progressing"
    """Its controller is still at it, or has not begun."""
    FAILED = "failed"
    """Its controller has given up, or says that it can't go on."""


@attrs.frozen
class Readiness:
    """What an object says of itself.

    Attributes:
        state: how far it is.
        message: why, in a few words that are safe to show anyone; without the object's name.
    """

    state: State
    message: str


@attrs.frozen
class _Condition:
    type: str
    status: str
    reason: str

    @property
    def told(self) -> str:
        """For messages: " (Reason)", or nothing where the reason is none that may be shown."""
        return f" ({self.reason})" if _REASON.fullmatch(self.reason) else ""


@attrs.frozen
class _Facts:
    """What the rules look at, whatever shape the object is of."""

    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    conditions: tuple[_Condition, ...]
    now: datetime.datetime | None

    @classmethod
    def of(cls, obj: Mapping[str, Any], now: datetime.datetime | None) -> _Facts:
        status = _mapping(obj.get("status"))
        conditions = tuple(
            _Condition(_text(each.get("type")), _text(each.get("status")), _text(each.get("reason")))
            for each in _mappings(status.get("conditions"))
        )
        return cls(_mapping(obj.get("metadata")), _mapping(obj.get("spec")), status, conditions, now)

    def condition(self, kind: str) -> _Condition | None:
        return next((each for each in self.conditions if each.type == kind), None)

    def is_true(self, kind: str) -> bool:
        found = self.condition(kind)
        return found is not None and found.status == "True"

    def count(self, name: str) -> int:
        """A number of the status; 0 where there is none, as controllers leave zeros out."""
        return _number(self.status.get(name), 0)

    @property
    def replicas(self) -> int:
        """How many are wanted; the API server's default is 1."""
        return _number(self.spec.get("replicas"), 1)


def readiness(obj: Mapping[str, Any], *, now: datetime.datetime | None = None) -> Readiness:
    """How far an object is.

    Args:
        obj: the whole object as the API server gives it, with its status. Nothing is taken for granted about it.
        now: with a time zone. Only the 15 s within which a new Pod may be unschedulable are measured by it; without
            it they are not granted.

    Returns:
        Always an answer: nothing is raised, whatever the object is.
    """
    obj = _mapping(obj)
    facts = _Facts.of(obj, now)
    rule = _RULES.get((group_of(_text(obj.get("apiVersion"))), _text(obj.get("kind"))), _any_kind)
    return _of_any_object(facts) or rule(facts)


def _of_any_object(facts: _Facts) -> Readiness | None:
    if _text(facts.metadata.get("deletionTimestamp")):
        return _progressing("is being deleted")
    generation = _number(facts.metadata.get("generation"), None)
    observed = _number(facts.status.get("observedGeneration"), None)
    if generation is not None and observed is not None and generation != observed:
        return _progressing(f"its controller has not seen generation {generation} yet, but {observed}")
    # A controller must not set both. If it does, the first one counts, as in kstatus.
    for each in facts.conditions:
        if (each.type, each.status) == ("Reconciling", "True"):
            return _progressing(f"condition Reconciling is True{each.told}")
        if (each.type, each.status) == ("Stalled", "True"):
            return _failed(f"condition Stalled is True{each.told}")
    return None


def _any_kind(facts: _Facts) -> Readiness:
    found = facts.condition("Ready")
    if found is None:
        return _ready("its kind has nothing to wait for")
    return _by_condition(found, "Ready")


def _always_ready(_: _Facts) -> Readiness:
    return _ready("its kind has nothing to wait for")


def _deployment(facts: _Facts) -> Readiness:
    progress = facts.condition("Progressing")
    if progress is not None and progress.reason == "ProgressDeadlineExceeded":
        return _failed("made no progress within progressDeadlineSeconds (ProgressDeadlineExceeded)")
    wanted, updated = facts.replicas, facts.count("updatedReplicas")
    behind = _behind(
        (facts.count("replicas"), wanted, "replicas"),
        (updated, wanted, "updated replicas"),
        (facts.count("availableReplicas"), updated, "available replicas"),
        (facts.count("readyReplicas"), wanted, "ready replicas"),
    ) or _surplus(facts.count("replicas"), wanted)
    if behind is not None:
        return behind
    # Counts alone could be those of the ReplicaSet before. Without a deadline, there is no such condition to wait for.
    has_deadline = _number(facts.spec.get("progressDeadlineSeconds"), _NO_DEADLINE) != _NO_DEADLINE
    if has_deadline and (progress is None or (progress.status, progress.reason) != ("True", "NewReplicaSetAvailable")):
        return _progressing("its new ReplicaSet is not available yet")
    if not facts.is_true("Available"):
        return _progressing("condition Available is not True")
    return _ready(f"available replicas: {wanted}")


def _replica_set(facts: _Facts) -> Readiness:
    if facts.is_true("ReplicaFailure"):
        # It is tried again for ever, so it is no failure for good: a quota may grow.
        return _progressing("condition ReplicaFailure is True: Pods can't be made or deleted")
    wanted = facts.replicas
    return (
        _behind(
            (facts.count("fullyLabeledReplicas"), wanted, "labelled replicas"),
            (facts.count("availableReplicas"), wanted, "available replicas"),
            (facts.count("readyReplicas"), wanted, "ready replicas"),
        )
        or _surplus(facts.count("replicas"), wanted)
        or _ready(f"available replicas: {wanted}")
    )


def _stateful_set(facts: _Facts) -> Readiness:
    strategy = _mapping(facts.spec.get("updateStrategy"))
    if strategy.get("type") == "OnDelete":
        return _ready("its Pods are replaced when the user deletes them (OnDelete)")
    wanted, updated = facts.replicas, facts.count("updatedReplicas")
    behind = _behind(
        (facts.count("replicas"), wanted, "replicas"),
        (facts.count("readyReplicas"), wanted, "ready replicas"),
    ) or _surplus(facts.count("replicas"), wanted)
    if behind is not None:
        return behind
    # https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#partitions: Pods below stay at the old
    # revision on purpose, so neither the current ones nor the two revisions say anything.
    partition = _number(_mapping(strategy.get("rollingUpdate")).get("partition"), None)
    if partition is not None:
        rolled = _behind((updated, wanted - partition, "updated replicas"))
        return rolled or _ready(f"ready replicas: {wanted}, updated down to partition {partition}")
    behind = _behind((facts.count("currentReplicas"), wanted, "replicas of the current revision"))
    if behind is not None:
        return behind
    if _text(facts.status.get("currentRevision")) != _text(facts.status.get("updateRevision")):
        return _progressing("its newest revision is not the current one yet")
    return _ready(f"ready replicas: {wanted}")


def _daemon_set(facts: _Facts) -> Readiness:
    # Zeros are what a DaemonSet that fits no node has too, so only a controller that was there is believed.
    if _number(facts.metadata.get("generation"), None) is None:
        return _progressing("has no metadata.generation")
    if _number(facts.status.get("observedGeneration"), None) is None:
        return _progressing("its controller has not seen it yet")
    wanted = _number(facts.status.get("desiredNumberScheduled"), None)
    if wanted is None:
        return _progressing("the number of its nodes is not known yet")
    return _behind(
        (facts.count("currentNumberScheduled"), wanted, "scheduled Pods"),
        (facts.count("updatedNumberScheduled"), wanted, "updated Pods"),
        (facts.count("numberAvailable"), wanted, "available Pods"),
        (facts.count("numberReady"), wanted, "ready Pods"),
    ) or _ready(f"available Pods: {wanted}")


def _pod(facts: _Facts) -> Readiness:
    phase = _text(facts.status.get("phase"))
    if phase in _POD_PHASES:
        return _POD_PHASES[phase](facts)
    return _progressing("its phase is not known")


def _pod_running(facts: _Facts) -> Readiness:
    if facts.is_true("Ready"):
        return _ready("condition Ready is True")
    return _crash_loop(facts) or _progressing("is running, but not ready")


def _pod_pending(facts: _Facts) -> Readiness:
    scheduled = facts.condition("PodScheduled")
    if scheduled is None or (scheduled.status, scheduled.reason) != ("False", "Unschedulable"):
        return _crash_loop(facts) or _progressing("is pending")
    if _is_new(facts):
        return _progressing("is not scheduled yet")
    return _failed("fits no node (Unschedulable)")


_POD_PHASES: Mapping[str, Callable[[_Facts], Readiness]] = {
    "Pending": _pod_pending,
    "Running": _pod_running,
    "Succeeded": lambda _: _ready("has ended well"),
    "Failed": lambda _: _failed("has ended, and not well"),
}


def _crash_loop(facts: _Facts) -> Readiness | None:
    statuses = (
        *_mappings(facts.status.get("initContainerStatuses")),
        *_mappings(facts.status.get("containerStatuses")),
    )
    waiting = (_mapping(_mapping(each.get("state")).get("waiting")) for each in statuses)
    looping = sum(each.get("reason") == "CrashLoopBackOff" for each in waiting)
    return _failed(f"containers that crash again and again: {looping} (CrashLoopBackOff)") if looping else None


def _is_new(facts: _Facts) -> bool:
    """Whether the object was made within the window of scheduling."""
    if facts.now is None:
        return False
    try:
        created = datetime.datetime.fromisoformat(_text(facts.metadata.get("creationTimestamp")))
    except ValueError:
        return False
    return created.tzinfo is not None and facts.now - created < SCHEDULE_WINDOW


def _job(facts: _Facts) -> Readiness:
    # As in kstatus, a Job that runs is ready: it may run for days, and what waits for its end asks for that.
    succeeded, failed = facts.count("succeeded"), facts.count("failed")
    if facts.is_true("Failed"):
        reason = facts.condition("Failed")
        return _failed(f"condition Failed is True{reason.told if reason else ''}; failed Pods: {failed}")
    if facts.is_true("Complete"):
        wanted = _number(facts.spec.get("completions"), _number(facts.spec.get("parallelism"), 1))
        return _ready(f"completed; Pods that succeeded: {succeeded} of {wanted}")
    if facts.is_true("Suspended"):
        return _ready("is suspended")
    if not _text(facts.status.get("startTime")):
        return _progressing("has not started")
    return _ready(f"runs; active Pods: {facts.count('active')}, succeeded: {succeeded}, failed: {failed}")


def _claim(facts: _Facts) -> Readiness:
    phase = _text(facts.status.get("phase"))
    if phase == "Bound":
        return _ready("is bound to a volume")
    if phase == "Lost":
        return _progressing("is not bound: its volume is lost")
    return _progressing("is not bound to a volume yet")


def _service(facts: _Facts) -> Readiness:
    if facts.spec.get("type") != "LoadBalancer":
        return _always_ready(facts)
    if not _text(facts.spec.get("clusterIP")):
        return _progressing("has no cluster IP yet")
    if not any(_mappings(_mapping(facts.status.get("loadBalancer")).get("ingress"))):
        return _progressing("its load balancer has no address yet")
    return _ready("its load balancer has an address")


def _definition(facts: _Facts) -> Readiness:
    names, established = facts.condition("NamesAccepted"), facts.condition("Established")
    if names is not None and names.status == "False":
        return _failed(f"condition NamesAccepted is False{names.told}")
    if established is not None and established.status == "True":
        return _ready("condition Established is True")
    if established is not None and established.status == "False" and established.reason != "Installing":
        return _failed(f"condition Established is False{established.told}")
    return _progressing("is being installed")


def _api_service(facts: _Facts) -> Readiness:
    # What serves it may come up later, or restart: that is no failure for good.
    return _by_condition(facts.condition("Available"), "Available")


def _namespace(facts: _Facts) -> Readiness:
    if facts.status.get("phase") == "Terminating":
        return _progressing("is being deleted")
    return _always_ready(facts)


_RULES: Mapping[tuple[str, str], Callable[[_Facts], Readiness]] = {
    ("", "ConfigMap"): _always_ready,
    ("", "Namespace"): _namespace,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Pod"): _pod,
    ("", "Secret"): _always_ready,
    ("", "Service"): _service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("apiregistration.k8s.io", "APIService"): _api_service,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("batch", "CronJob"): _always_ready,
    ("batch", "Job"): _job,
    # Its controller sets no condition when it can't compute; that it has seen the generation is checked for any object.
    ("policy", "PodDisruptionBudget"): _always_ready,
}
"""Group and kind, and the rule for it."""


def _by_condition(found: _Condition | None, kind: str) -> Readiness:
    if found is not None and found.status == "True":
        return _ready(f"condition {kind} is True")
    status = found.status if found is not None and found.status in {"False", "Unknown"} else "not known"
    return _progressing(f"condition {kind} is {status}{found.told if found is not None else ''}")


def _behind(*counts: tuple[int, int, str]) -> Readiness | None:
    """The first of some counts that is less than what is wanted, as (is, wanted, of what)."""
    for found, wanted, what in counts:
        if found < wanted:
            return _progressing(f"{what}: {found} of {wanted}")
    return None


def _surplus(found: int, wanted: int) -> Readiness | None:
    return _progressing(f"replicas that are yet to end: {found - wanted}") if found > wanted else None


def _ready(message: str) -> Readiness:
    return Readiness(State.READY, message)


def _progressing(message: str) -> Readiness:
    return Readiness(State.PROGRESSING, message)


def _failed(message: str) -> Readiness:
    return Readiness(State.FAILED, message)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The mappings among a list's items."""
    return tuple(each for each in value if isinstance(each, Mapping)) if isinstance(value, list) else ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any, default: D) -> int | D:
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _INT64 else default
