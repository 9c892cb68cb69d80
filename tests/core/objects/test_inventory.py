"""Which objects a Decryptor has: what an entry keeps, and in which order objects are listed and deleted."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.api.decryptor_status import MAX_INVENTORY, MAX_OBJECTS, FileStatus, InventoryEntry
from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectKey, ObjectRef
from jiemi.core.objects.inventory import applied_entry, by_key, entry_of, obsolete, ordered, ref_of, require_room
from jiemi.core.objects.managed_fields import FieldOwnership

SECRET = ObjectRef("v1", "Secret", "default", "app")
FOREIGN = FieldOwnership(4, {"legacy": "kubectl", "old": "helm"}, "helm")


def entry(kind: str, name: str = "x", namespace: str | None = "default", api_version: str = "v1") -> InventoryEntry:
    return InventoryEntry(api_version, kind, name, namespace, "f.yaml")


def test_an_entry_before_the_apply_has_no_fields() -> None:
    assert entry_of(SECRET, "f.yaml") == InventoryEntry("v1", "Secret", "app", "default", "f.yaml", None, ())
    cluster_wide = ObjectRef("v1", "Namespace", "", "team")
    assert entry_of(cluster_wide, "f.yaml").namespace is None
    assert ref_of(entry_of(cluster_wide, "f.yaml")) == cluster_wide


@given(st.builds(ObjectRef, *[st.text(max_size=5)] * 4))
def test_an_entry_names_its_object(ref: ObjectRef) -> None:
    assert ref_of(entry_of(ref, "f")) == ref
    assert list(by_key([entry_of(ref, "f")])) == [ref.key]


def test_keys_that_others_have_in_a_secret_are_kept_when_it_is_taken_over() -> None:
    found = applied_entry(SECRET, "f.yaml", FOREIGN, None)
    assert found == InventoryEntry("v1", "Secret", "app", "default", "f.yaml", 4, ("legacy", "old"))


def test_an_apply_that_may_have_been_broken_off_takes_over_once_more() -> None:
    begun = entry_of(SECRET, "f.yaml")
    assert applied_entry(SECRET, "f.yaml", FOREIGN, begun).kept_keys == ("legacy", "old")
    # What such an entry says of keys was never true of an apply.
    assert applied_entry(SECRET, "f.yaml", FOREIGN, attrs.evolve(begun, kept_keys=("x",))).kept_keys == (
        "legacy",
        "old",
    )


def test_keys_that_came_since_are_not_kept() -> None:
    before = applied_entry(SECRET, "f.yaml", FieldOwnership(4, {"legacy": "kubectl"}, None), None)
    assert applied_entry(SECRET, "f.yaml", FOREIGN, before).kept_keys == ("legacy",)
    ours_alone = applied_entry(SECRET, "f.yaml", FieldOwnership(4, {}, None), None)
    assert applied_entry(SECRET, "f.yaml", FOREIGN, ours_alone).kept_keys == ()


def test_an_entry_has_the_fields_and_the_file_of_the_last_apply() -> None:
    before = applied_entry(SECRET, "old.yaml", FieldOwnership(9, {}, None), None)
    found = applied_entry(SECRET, "new.yaml", FieldOwnership(4, {}, None), before)
    assert (found.fields, found.file) == (4, "new.yaml")


@pytest.mark.parametrize(
    "ref",
    [ObjectRef("v1", "ConfigMap", "default", "app"), ObjectRef("example.com/v1", "Secret", "default", "app")],
)
def test_other_kinds_keep_no_keys(ref: ObjectRef) -> None:
    assert applied_entry(ref, "f.yaml", FOREIGN, None).kept_keys == ()
    assert applied_entry(ref, "f.yaml", FOREIGN, attrs.evolve(entry_of(ref, "f"), fields=1)).kept_keys == ()


def test_two_versions_of_a_group_are_one_object() -> None:
    old = entry("Deployment", api_version="apps/v1beta1")
    new = entry("Deployment", api_version="apps/v1")
    assert by_key([old, new]) == {ObjectKey("apps", "Deployment", "default", "x"): new}


def test_the_inventory_is_ordered_by_group_kind_namespace_and_name() -> None:
    entries = [
        entry("Deployment", api_version="apps/v1"),
        entry("Secret", "b", "b"),
        entry("Secret", "a", "b"),
        entry("Secret", "z", "a"),
        entry("Namespace", "n", None),
        entry("ConfigMap"),
    ]
    assert [ref_of(each).label for each in ordered(by_key(entries))] == [
        "ConfigMap default/x",
        "Namespace n",
        "Secret a/z",
        "Secret b/a",
        "Secret b/b",
        "Deployment default/x",
    ]


@given(st.permutations([entry(kind, name) for kind in ("Secret", "Role", "Pod") for name in ("a", "b")]))
def test_the_order_of_the_inventory_is_that_of_no_history(entries: list[InventoryEntry]) -> None:
    assert ordered(by_key(entries)) == ordered(by_key(sorted(entries, key=str)))


def test_what_a_status_can_not_hold_is_refused() -> None:
    entries = by_key(entry("Secret", f"s{number}") for number in range(MAX_INVENTORY))
    assert MAX_INVENTORY == 2 * MAX_OBJECTS == 4_000
    require_room(MAX_OBJECTS, entries, ())
    with pytest.raises(JiemiError, match="LimitExceeded: 2001 objects: more than 2000 in one Decryptor"):
        require_room(MAX_OBJECTS + 1, entries, ())
    more = {**entries, ObjectKey("", "Secret", "default", "one-more"): entry("Secret", "one-more")}
    with pytest.raises(JiemiError, match="LimitExceeded: the names of 4001 objects"):
        require_room(MAX_OBJECTS, more, ())


def test_long_names_and_paths_count() -> None:
    deep = "d/" * 500 + "f.yaml"
    few = by_key(attrs.evolve(entry("Secret", f"s{number}"), file=deep) for number in range(800))
    require_room(800, few, [FileStatus(deep, "b")])
    many = by_key(attrs.evolve(entry("Secret", f"s{number}"), file=deep) for number in range(900))
    with pytest.raises(JiemiError, match="LimitExceeded: the names of 900 objects and their files"):
        require_room(900, many, [FileStatus(deep, "b")])


def test_what_is_no_longer_wanted_is_left_and_deleted_in_the_opposite_order_of_its_apply() -> None:
    entries = [
        entry("Namespace", "n", None),
        entry("CustomResourceDefinition", "d", None, "apiextensions.k8s.io/v1"),
        entry("ServiceAccount"),
        entry("RoleBinding"),
        entry("Secret", "b"),
        entry("Secret", "a"),
        entry("ConfigMap"),
        entry("Deployment", api_version="apps/v1"),
        entry("CronTab", api_version="example.com/v1"),
    ]
    before = by_key(entries)
    wanted = {ref_of(entries[6]).key, ObjectKey("", "Secret", "default", "new")}
    assert [each.kind + " " + each.name for each in obsolete(before, wanted)] == [
        "CronTab x",
        "Deployment x",
        "Secret a",
        "Secret b",
        "RoleBinding x",
        "ServiceAccount x",
        "CustomResourceDefinition d",
        "Namespace n",
    ]
    assert obsolete(before, before) == ()
    assert obsolete({}, wanted) == ()


@given(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")))
def test_left_are_just_those_that_are_not_wanted(had: set[str], wanted: set[str]) -> None:
    before = by_key(entry("Secret", name) for name in had)
    keys = {ref_of(entry("Secret", name)).key for name in wanted}
    assert {each.name for each in obsolete(before, keys)} == had - wanted
