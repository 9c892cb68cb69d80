"""Whose fields become ours alone, and which of others' are in the way: on entries as real API servers write them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.objects.managed_fields import FIELD_MANAGER
from jiemi.core.objects.take_over import DECLARATIVE_MANAGERS, alone, sharers, unblockings

KUBECTL = "kubectl-client-side-apply"

Fields = dict[str, Any]
"""As of managedFields: names, and the same below each."""


def entry(manager: str, fields: Any, operation: str = "Update", **more: Any) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "apps/v1",
        "time": "2026-11-24T03:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    } | more


def ours(fields: Any) -> dict[str, Any]:
    return entry(FIELD_MANAGER, fields, "Apply")


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


def element(name: str) -> str:
    return f'k:{{"name":"{name}"}}'


def test_a_key_that_both_hold_is_ours_alone_and_what_others_hold_beside_it_stays_theirs() -> None:
    theirs: Fields = {"f:data": {".": {}, "f:a": {}, "f:b": {}}, "f:type": {}}
    assert left(theirs, {"f:data": {"f:a": {}}}) == {"f:data": {".": {}, "f:b": {}}, "f:type": {}}
    assert left(theirs, {"f:data": {"f:a": {}, "f:b": {}}, "f:type": {}}) == {"f:data": {".": {}}}
    assert left({"f:data": {"f:a": {}}}, {"f:data": {"f:a": {}}}) == {}
    assert left(theirs, {"f:data": {"f:c": {}}}) is None
    assert left({"f:data": {}}, {"f:data": {"f:c": {}}}) is None
    assert left({"f:data": {".": {}, "f:a": {}}}, {"f:data": {}}) == {"f:data": {"f:a": {}}}


def test_an_element_that_is_ours_leaves_others_no_rump_of_it() -> None:
    """Defaults that kubectl's entry tells would keep half a container there once git drops it."""
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


def pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": spec}}}


def unblocked(metadata: Any, managers: Any, body: Any, refused: list[str], words: Any = ()) -> list[Any] | None:
    """The first way that is no guess."""
    ways = unblockings(metadata, managers, body, refused, words)
    return next((way.managed_fields for way in ways if not way.is_guess), None)


def held_in_pod(**fields: Any) -> dict[str, Any]:
    return {"f:spec": {"f:template": {"f:spec": {f"f:{name}": inner for name, inner in fields.items()}}}}


def test_a_volume_of_another_kind_is_made_ours_so_that_it_can_go() -> None:
    volumes: Fields = {
        ".": {},
        element("v"): {".": {}, "f:name": {}, "f:emptyDir": {}},
        element("w"): {".": {}, "f:name": {}},
    }
    metadata = {"managedFields": [entry(KUBECTL, held_in_pod(volumes=volumes, hostNetwork={}))]}
    body = pod(volumes=[{"name": "v", "secret": {"secretName": "s"}}])
    found = unblocked(metadata, DECLARATIVE_MANAGERS, body, ["spec.template.spec.volumes[0].secret"])
    assert found is not None
    theirs, gained = found
    assert gained["fieldsV1"] == held_in_pod(volumes={element("v"): {"f:emptyDir": {}}})
    assert (gained["manager"], gained["operation"], gained["apiVersion"]) == (FIELD_MANAGER, "Apply", "apps/v1")
    kept: Fields = {".": {}, element("v"): {".": {}, "f:name": {}}, element("w"): {".": {}, "f:name": {}}}
    assert theirs["fieldsV1"] == held_in_pod(volumes=kept, hostNetwork={})


def test_a_field_that_the_api_server_names_and_git_does_not_give_is_made_ours() -> None:
    strategy: Fields = {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}}
    metadata = {
        "managedFields": [ours({"f:spec": {"f:paused": {}}}), entry(KUBECTL, {"f:spec": {"f:strategy": strategy}})]
    }
    body = {"apiVersion": "apps/v1", "spec": {"strategy": {"type": "Recreate"}}}
    found = unblocked(metadata, DECLARATIVE_MANAGERS, body, ["spec.strategy.rollingUpdate"])
    assert found is not None
    taken: Fields = {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}}
    assert found[0]["fieldsV1"] == {"f:spec": {"f:paused": {}, "f:strategy": taken}}
    assert found[1]["fieldsV1"] == {"f:spec": {"f:strategy": {"f:type": {}}}}


def test_a_field_that_the_api_server_spells_in_its_own_way_is_made_ours() -> None:
    held: Fields = {"f:spec": {"f:loadBalancerSourceRanges": {}, "f:type": {}}}
    metadata = {"managedFields": [entry(KUBECTL, held, apiVersion="v1")]}
    body = {"apiVersion": "v1", "spec": {"type": "ClusterIP"}}
    found = unblocked(metadata, DECLARATIVE_MANAGERS, body, ["spec.LoadBalancerSourceRanges"])
    assert found is not None
    assert found[1]["fieldsV1"] == {"f:spec": {"f:loadBalancerSourceRanges": {}}}


def test_what_is_refused_for_itself_takes_nothing_of_others() -> None:
    metadata = {"managedFields": [entry(KUBECTL, held_in_pod(hostNetwork={}, volumes={element("w"): {".": {}}}))]}
    body = pod(hostNetwork=True, containers=[])
    for refused in (
        "spec.template.spec.containers",
        "spec.template.spec.hostNetwork",
        "spec.selector",
        "metadata.name",
        "metadata.annotations",
        "spec",
        "spec.template.spec.volumes[0].name",
        "",
        "[",
        "spec..[]x",
    ):
        assert unblocked(metadata, DECLARATIVE_MANAGERS, body, [refused]) is None
    assert unblocked(metadata, (), pod(), ["spec.template.spec.hostNetwork"]) is None


def test_a_field_that_the_message_mentions_is_made_ours_and_what_is_beside_it_stays_theirs() -> None:
    spec: Fields = {"f:minAvailable": {}, "f:unhealthyPodEvictionPolicy": {}, "f:selector": {}}
    metadata = {"managedFields": [entry(KUBECTL, {"f:spec": spec}, apiVersion="policy/v1")]}
    body = {"apiVersion": "policy/v1", "spec": {"selector": {}, "maxUnavailable": 1}}
    words = {"minAvailable", "and", "maxUnavailable", "cannot", "be", "both", "set"}
    for refused in ("spec", "", "<nil>", "spec.maxUnavailable"):
        found = unblocked(metadata, DECLARATIVE_MANAGERS, body, [refused], words)
        assert found is not None
        assert [each["fieldsV1"] for each in found] == [
            {"f:spec": {"f:unhealthyPodEvictionPolicy": {}, "f:selector": {}}},
            {"f:spec": {"f:minAvailable": {}}},
        ]


def test_where_the_refusal_names_nothing_what_is_not_described_is_a_guess() -> None:
    held: Fields = {"f:spec": {"f:a": {}, "f:keep": {}}, "f:data": {"f:k": {}}, "f:metadata": {"f:labels": {"f:l": {}}}}
    metadata = {"managedFields": [entry(KUBECTL, held)]}
    body = {"apiVersion": "apps/v1", "spec": {"b": "1"}}
    for refused in ("spec", "", "<nil>"):
        [way] = unblockings(metadata, DECLARATIVE_MANAGERS, body, [refused], {"not", "valid"})
        assert way.is_guess
        theirs, gained = way.managed_fields
        assert gained["fieldsV1"] == {"f:spec": {"f:a": {}, "f:keep": {}}}
        assert theirs["fieldsV1"] == {"f:data": {"f:k": {}}, "f:metadata": {"f:labels": {"f:l": {}}}}


_NAMES = st.sampled_from([".", "f:a", "f:b", element("x"), element("y"), "v:1"])
_TREES: st.SearchStrategy[Fields] = st.recursive(
    st.just({}), lambda inner: st.dictionaries(_NAMES, inner, max_size=4), max_leaves=15
)


def _paths(tree: dict[str, Any], before: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for name, inner in tree.items():
        if name == ".":
            found.add(before)
        elif inner:
            found |= _paths(inner, (*before, name))
        else:
            found.add((*before, name))
    return found


@given(_TREES, _TREES)
def test_whatever_is_held_ours_is_alone_after_it_and_nothing_is_gained(
    theirs: dict[str, Any], held: dict[str, Any]
) -> None:
    metadata = {"managedFields": [ours(held), entry(KUBECTL, theirs)]}
    found = alone(metadata, DECLARATIVE_MANAGERS)
    if found is None:
        return
    rest = found[1]["fieldsV1"] if len(found) > 1 else {}
    assert _paths(rest) <= _paths(theirs)
    assert not _paths(rest) & _paths(held)
    assert alone({"managedFields": found}, DECLARATIVE_MANAGERS) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | _NAMES, inner, max_size=3),
    max_leaves=10,
)


@given(_TREES, _JSON, st.lists(st.text(st.sampled_from("ab.[]0:fx"), max_size=12), max_size=3))
def test_whatever_is_refused_nothing_is_raised_and_nothing_is_lost(
    theirs: dict[str, Any], spec: Any, refused: list[str]
) -> None:
    metadata = {"managedFields": [entry(KUBECTL, theirs)]}
    for way in unblockings(metadata, DECLARATIVE_MANAGERS, {"apiVersion": "apps/v1", "a": spec}, refused, {"a", "b"}):
        both: set[tuple[str, ...]] = set()
        for each in way.managed_fields:
            both |= _paths(each["fieldsV1"])
        assert both == _paths(theirs)
