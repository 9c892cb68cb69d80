"""Sets of fields: what two of them hold together, and what one holds without the other."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from support.kubernetes.managed_entries import KUBECTL, TREES, entry, ours, paths_in

from jiemi.core.objects.field_sets import is_ours, minus, others, our_fields, our_version, replaced, union


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
