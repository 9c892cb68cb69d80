"""Sets of fields: what two of them hold together, and what one holds without the other."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.kubernetes.managed_entries import KUBECTL, TREES, entry, ours, paths_in

from jiemi.core.objects.field_sets import (
    carried_over,
    is_ours,
    minus,
    others,
    our_fields,
    our_version,
    replaced,
    union,
)


def test_our_entry_is_the_one_that_we_applied_to_the_object_itself() -> None:
    mine = ours({"f:data": {}})
    metadata = {"managedFields": [entry(KUBECTL, {"f:type": {}}), mine | {"subresource": "status"}, mine]}
    assert our_fields(metadata) == {"f:data": {}}
    assert our_version(metadata) == "apps/v1"
    assert not is_ours(mine | {"operation": "Update"})
    assert [each["manager"] for each in others(metadata)] == [KUBECTL]


def test_an_entry_that_holds_nothing_any_longer_is_left_out() -> None:
    metadata = {"managedFields": [entry(KUBECTL, {"f:a": {}}), entry("helm", {"f:b": {}})]}
    first, second = metadata["managedFields"]
    assert replaced(metadata, {id(first): {}, id(second): {"f:c": {}}}) == [entry("helm", {"f:c": {}})]


def test_a_field_held_itself_stays_so_when_something_below_it_is_held_too() -> None:
    assert union({"f:data": {}}, {"f:data": {"f:a": {}}}) == {"f:data": {".": {}, "f:a": {}}}


@given(TREES, TREES)
def test_the_fields_of_both_are_in_their_union(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert paths_in(union(one, other)) == paths_in(one) | paths_in(other)


@given(TREES, TREES)
def test_without_another_set_nothing_is_gained_and_of_itself_nothing_remains(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert paths_in(minus(one, other)) <= paths_in(one)
    assert minus(one, one) == {}


def test_what_was_meant_for_an_object_as_it_was_is_done_to_it_as_it_is() -> None:
    """A controller wrote the status meanwhile, and somebody else a label."""
    status, later = (entry("kube-controller-manager", {"f:status": {}}, subresource="status", time=at) for at in "12")
    mine, theirs, labels = ours({"f:a": {}}), entry(KUBECTL, {"f:a": {}, "f:b": {}}), entry("x", {"f:labels": {}})
    left = entry(KUBECTL, {"f:b": {}})
    assert carried_over([mine, theirs, status], [mine, left, status], [labels, mine, theirs, later]) == [
        *(labels, mine, left, later)
    ]
    # And back.
    assert carried_over([mine, left], [mine, theirs], [mine, later, left]) == [mine, later, theirs]


def test_an_entry_that_went_comes_back_and_one_that_came_goes() -> None:
    mine, theirs, other = ours({"f:a": {}}), entry(KUBECTL, {"f:a": {}}), entry("x", {"f:b": {}})
    assert carried_over([theirs], [mine], [other, theirs]) == [other, mine]
    assert carried_over([mine], [theirs], [mine, other]) == [other, theirs]
    assert carried_over([mine], [theirs], [other, theirs]) is None


def test_what_its_manager_wrote_meanwhile_stays() -> None:
    theirs, now = entry(KUBECTL, {"f:a": {}, "f:b": {}}), entry(KUBECTL, {"f:a": {}, "f:c": {}})
    assert carried_over([theirs], [entry(KUBECTL, {"f:b": {}})], [now]) == [entry(KUBECTL, {"f:c": {}})]
    assert carried_over([theirs], [], []) is None
    assert carried_over([], [theirs], [entry(KUBECTL, {"f:c": {}})]) == [
        entry(KUBECTL, {"f:a": {}, "f:b": {}, "f:c": {}})
    ]


ENTRIES = st.dictionaries(st.sampled_from([KUBECTL, "helm", "x"]), TREES.filter(bool), max_size=3).map(
    lambda trees: [entry(manager, tree) for manager, tree in trees.items()]
)


@given(ENTRIES, ENTRIES, ENTRIES)
def test_where_nothing_was_written_meanwhile_it_is_as_it_was_meant(
    before: list[Any], after: list[Any], others_now: list[Any]
) -> None:
    def of(listed: list[Any]) -> dict[str, Any]:
        return {each["manager"]: each["fieldsV1"] for each in listed}

    apart = [each | {"subresource": "status"} for each in others_now]
    found = carried_over(before, after, [*apart, *before])
    assert (found is None) == (of(before) == of(after))
    if found is not None:
        assert [each for each in found if "subresource" in each] == apart
        assert of([each for each in found if "subresource" not in each]) == of(after)


@given(ENTRIES, ENTRIES, ENTRIES)
def test_whatever_was_written_meanwhile_nothing_is_gained_but_what_was_meant(
    before: list[Any], after: list[Any], now: list[Any]
) -> None:
    def paths(listed: list[Any]) -> set[tuple[str, tuple[str, ...]]]:
        return {(each["manager"], path) for each in listed for path in paths_in(each["fieldsV1"])}

    found = carried_over(before, after, now)
    if found is not None:
        assert paths(found) <= paths(now) | paths(after)
        assert len({each["manager"] for each in found}) == len(found)
