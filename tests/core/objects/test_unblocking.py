"""Which fields of others are in the way: on entries as real API servers write them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.json_values import json_values
from support.kubernetes.managed_entries import KUBECTL, NAMES, TREES, Fields, element, entry, ours, paths_in

from jiemi.core.objects.managed_fields import FIELD_MANAGER
from jiemi.core.objects.take_over import DECLARATIVE_MANAGERS
from jiemi.core.objects.unblocking import RefusedFields, unblockings


def pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": spec}}}


def unblocked(
    metadata: Any, managers: Any, body: Any, refused: list[str], words: frozenset[str] = frozenset()
) -> list[Any] | None:
    """The first way that is no guess."""
    ways = unblockings(metadata, managers, body, RefusedFields(tuple(refused), words))
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
    words = frozenset({"minAvailable", "and", "maxUnavailable", "cannot", "be", "both", "set"})
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
        [way] = unblockings(
            metadata, DECLARATIVE_MANAGERS, body, RefusedFields((refused,), frozenset({"not", "valid"}))
        )
        assert way.is_guess
        theirs, gained = way.managed_fields
        assert gained["fieldsV1"] == {"f:spec": {"f:a": {}, "f:keep": {}}}
        assert theirs["fieldsV1"] == {"f:data": {"f:k": {}}, "f:metadata": {"f:labels": {"f:l": {}}}}


_JSON = json_values(st.text(max_size=4) | NAMES)


@given(TREES, _JSON, st.lists(st.text(st.sampled_from("ab.[]0:fx"), max_size=12), max_size=3))
def test_whatever_is_refused_nothing_is_raised_and_nothing_is_lost(
    theirs: dict[str, Any], spec: Any, refused: list[str]
) -> None:
    metadata = {"managedFields": [entry(KUBECTL, theirs)]}
    said = RefusedFields(tuple(refused), frozenset({"a", "b"}))
    for way in unblockings(metadata, DECLARATIVE_MANAGERS, {"apiVersion": "apps/v1", "a": spec}, said):
        both: set[tuple[str, ...]] = set()
        for each in way.managed_fields:
            both |= paths_in(each["fieldsV1"])
        assert both == paths_in(theirs)
