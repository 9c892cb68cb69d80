"""Whose fields become ours alone: on entries as real API servers write them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from support.kubernetes.managed_entries import KUBECTL, TREES, Fields, element, entry, ours, paths_in

from jiemi.core.objects.take_over import DECLARATIVE_MANAGERS, alone, sharers


def left(theirs: Any, held: Any) -> Any:
    """What kubectl has left of its fields when ours is alone; None where nothing is to be done."""
    metadata = {"managedFields": [ours(held), entry(KUBECTL, theirs)]}
    before = copy.deepcopy(metadata)
    found = alone(metadata, DECLARATIVE_MANAGERS)
    assert metadata == before
    assert (found is None) == (sharers(metadata) == frozenset())
    if found is None:
        return None
    assert found[0] == metadata["managedFields"][0]
    return found[1]["fieldsV1"] if len(found) > 1 else {}


def test_a_key_that_both_hold_is_ours_alone_and_what_others_hold_beside_it_stays_theirs() -> None:
    theirs: Fields = {"f:data": {".": {}, "f:a": {}, "f:b": {}}, "f:type": {}}
    assert left(theirs, {"f:data": {"f:a": {}}}) == {"f:data": {".": {}, "f:b": {}}, "f:type": {}}
    assert left(theirs, {"f:data": {"f:a": {}, "f:b": {}}, "f:type": {}}) == {"f:data": {".": {}}}
    assert left({"f:data": {"f:a": {}}}, {"f:data": {"f:a": {}}}) == {}
    assert left(theirs, {"f:data": {"f:c": {}}}) is None
    assert left({"f:data": {}}, {"f:data": {"f:c": {}}}) is None
    assert left({"f:data": {".": {}, "f:a": {}}}, {"f:data": {}}) == {"f:data": {"f:a": {}}}


def test_an_element_that_is_ours_leaves_others_no_rump_of_it() -> None:
    """Defaults that kubectl's entry has would keep half a container there once git drops it."""
    theirs = {
        element("app"): {
            ".": {},
            "f:name": {},
            "f:image": {},
            "f:imagePullPolicy": {},
            "f:livenessProbe": {".": {}, "f:httpGet": {".": {}, "f:path": {}}, "f:periodSeconds": {}},
            "f:env": {".": {}, element("X"): {".": {}, "f:name": {}, "f:value": {}}, element("E"): {".": {}}},
        },
        element("theirs"): {".": {}, "f:image": {}},
    }
    held: Fields = {
        element("app"): {".": {}, "f:name": {}, "f:image": {}, "f:env": {element("E"): {".": {}, "f:name": {}}}}
    }
    assert left({"f:containers": theirs}, {"f:containers": held}) == {
        "f:containers": {
            element("app"): {"f:env": {element("X"): {".": {}, "f:name": {}, "f:value": {}}}},
            element("theirs"): {".": {}, "f:image": {}},
        }
    }


def test_other_managers_and_subresources_are_left_alone() -> None:
    fields: Fields = {"f:spec": {"f:replicas": {}}}
    for other in (
        entry("kube-controller-manager", fields),
        entry("horizontal-pod-autoscaler", fields, "Apply"),
        entry("kubectl-argo-rollouts", fields),
        entry(KUBECTL, fields, subresource="scale"),
        entry("kubectl", fields, subresource="scale"),
        entry(KUBECTL, fields, apiVersion="other.example/v1"),
    ):
        assert alone({"managedFields": [ours(fields), other]}, DECLARATIVE_MANAGERS) is None
    for manager in DECLARATIVE_MANAGERS:
        for operation in ("Apply", "Update"):
            both = {"managedFields": [ours(fields), entry(manager, fields, operation)]}
            assert alone(both, DECLARATIVE_MANAGERS) == [ours(fields)]
            assert alone(both, ()) is None


def test_an_entry_in_another_version_of_the_api_is_taken_by_the_fields_that_both_name() -> None:
    """kubectl made a HorizontalPodAutoscaler as autoscaling/v1, and git has autoscaling/v2."""
    held = ours({"f:spec": {"f:maxReplicas": {}, "f:metrics": {}}}) | {"apiVersion": "autoscaling/v2"}
    theirs: Fields = {"f:spec": {"f:maxReplicas": {}, "f:targetCPUUtilizationPercentage": {}}}
    found = alone({"managedFields": [held, entry(KUBECTL, theirs, apiVersion="autoscaling/v1")]}, DECLARATIVE_MANAGERS)
    left_over: Fields = {"f:spec": {"f:targetCPUUtilizationPercentage": {}}}
    assert found == [held, entry(KUBECTL, left_over, apiVersion="autoscaling/v1")]


def test_nothing_is_taken_where_nothing_is_ours() -> None:
    fields: Fields = {"f:data": {"f:a": {}}}
    entries: tuple[Any, ...] = ([entry(KUBECTL, fields)], [ours({}), entry(KUBECTL, fields)], None, "x", [None, 5, {}])
    for managed in entries:
        assert alone({"managedFields": managed}, DECLARATIVE_MANAGERS) is None
        assert sharers({"managedFields": managed}) == frozenset()


@given(TREES, TREES)
def test_whatever_is_held_ours_is_alone_after_it_and_nothing_is_gained(
    theirs: dict[str, Any], held: dict[str, Any]
) -> None:
    metadata = {"managedFields": [ours(held), entry(KUBECTL, theirs)]}
    found = alone(metadata, DECLARATIVE_MANAGERS)
    if found is None:
        return
    rest = found[1]["fieldsV1"] if len(found) > 1 else {}
    assert paths_in(rest) <= paths_in(theirs)
    assert not paths_in(rest) & paths_in(held)
    assert alone({"managedFields": found}, DECLARATIVE_MANAGERS) is None
