"""Each kind's rule by a table, what holds for all kinds, and that nothing an object says raises or is repeated.

The rules for what runs are in `test_workload_readiness`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kubernetes.readiness_objects import FAILED, PROGRESSING, READY, SECRET, condition, made, of

from jiemi.core.objects.readiness import readiness
from jiemi.core.objects.readiness_facts import Readiness, State

NOW = datetime.datetime(2026, 11, 24, 3, 0, 0, tzinfo=datetime.UTC)


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
