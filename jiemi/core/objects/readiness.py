"""Whether an object that was applied is at work yet: one object's JSON in, ready, progressing or failed out.

The rules are those of kstatus, which kpt and Flux wait by:
https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus

First what holds for any object: one that is being deleted, or whose controller has not seen the newest generation, or
says that it is Reconciling or Stalled, needs no further look. Then the rules of its kind, by group and kind. Then, for
kinds that have none, the condition Ready. What says nothing at all is ready.

Where it serves the user who waits, the rules here are stricter: a Service of type LoadBalancer waits for an address, a
Pod that ended badly has failed, crash loops of init containers count too, and Namespaces and APIServices have rules.

The rules for what runs (Deployments, Pods, Jobs and the like) are in `workload_readiness`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from jiemi.core.objects.identity import group_of
from jiemi.core.objects.readiness_facts import (
    Facts,
    Readiness,
    by_condition,
    failed,
    mapping,
    mappings,
    number,
    progressing,
    ready,
    text,
)
from jiemi.core.objects.workload_readiness import daemon_set, deployment, job, pod, replica_set, stateful_set


def readiness(obj: Mapping[str, Any], *, now: datetime.datetime | None = None) -> Readiness:
    """How far an object is.

    Args:
        obj: the whole object as the API server gives it, with its status. Nothing is taken for granted about it.
        now: with a time zone. Only the 15 s within which a new Pod may be unschedulable are measured by it; without
            it they are not granted.

    Returns:
        Always an answer: nothing is raised, whatever the object is.
    """
    obj = mapping(obj)
    facts = Facts.of(obj, now)
    rule = _RULES.get((group_of(text(obj.get("apiVersion"))), text(obj.get("kind"))), _any_kind)
    return _of_any_object(facts) or rule(facts)


def _of_any_object(facts: Facts) -> Readiness | None:
    if text(facts.metadata.get("deletionTimestamp")):
        return progressing("is being deleted")
    generation = number(facts.metadata.get("generation"), None)
    observed = number(facts.status.get("observedGeneration"), None)
    if generation is not None and observed is not None and generation != observed:
        return progressing(f"its controller has not seen generation {generation} yet, but {observed}")
    # A controller must not set both. If it does, the first one counts, as in kstatus.
    for each in facts.conditions:
        if (each.type, each.status) == ("Reconciling", "True"):
            return progressing(f"condition Reconciling is True{each.shown_reason}")
        if (each.type, each.status) == ("Stalled", "True"):
            return failed(f"condition Stalled is True{each.shown_reason}")
    return None


def _any_kind(facts: Facts) -> Readiness:
    found = facts.condition("Ready")
    if found is None:
        return ready("its kind has nothing to wait for")
    return by_condition(found, "Ready")


def _always_ready(_: Facts) -> Readiness:
    return ready("its kind has nothing to wait for")


def _claim(facts: Facts) -> Readiness:
    phase = text(facts.status.get("phase"))
    if phase == "Bound":
        return ready("is bound to a volume")
    if phase == "Lost":
        return progressing("is not bound: its volume is lost")
    return progressing("is not bound to a volume yet")


def _service(facts: Facts) -> Readiness:
    if facts.spec.get("type") != "LoadBalancer":
        return _always_ready(facts)
    if not text(facts.spec.get("clusterIP")):
        return progressing("has no cluster IP yet")
    if not any(mappings(mapping(facts.status.get("loadBalancer")).get("ingress"))):
        return progressing("its load balancer has no address yet")
    return ready("its load balancer has an address")


def _definition(facts: Facts) -> Readiness:
    names, established = facts.condition("NamesAccepted"), facts.condition("Established")
    if names is not None and names.status == "False":
        return failed(f"condition NamesAccepted is False{names.shown_reason}")
    if established is not None and established.status == "True":
        return ready("condition Established is True")
    if established is not None and established.status == "False" and established.reason != "Installing":
        return failed(f"condition Established is False{established.shown_reason}")
    return progressing("is being installed")


def _api_service(facts: Facts) -> Readiness:
    # What serves it may come up later, or restart: that is no failure for good.
    return by_condition(facts.condition("Available"), "Available")


def _namespace(facts: Facts) -> Readiness:
    if facts.status.get("phase") == "Terminating":
        return progressing("is being deleted")
    return _always_ready(facts)


_RULES: Mapping[tuple[str, str], Callable[[Facts], Readiness]] = {
    ("", "ConfigMap"): _always_ready,
    ("", "Namespace"): _namespace,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Pod"): pod,
    ("", "Secret"): _always_ready,
    ("", "Service"): _service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("apiregistration.k8s.io", "APIService"): _api_service,
    ("apps", "DaemonSet"): daemon_set,
    ("apps", "Deployment"): deployment,
    ("apps", "ReplicaSet"): replica_set,
    ("apps", "StatefulSet"): stateful_set,
    ("batch", "CronJob"): _always_ready,
    ("batch", "Job"): job,
    # Its controller sets no condition when it can't compute; that it has seen the generation is checked for any object.
    ("policy", "PodDisruptionBudget"): _always_ready,
}
"""Group and kind, and the rule for it."""
