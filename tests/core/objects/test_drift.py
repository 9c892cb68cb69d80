"""An object differs from what was applied, or does not, or is known too little of."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.objects.drift import Drift, DriftKind, Observation, drift_of, is_newer, is_outdated, strange_keys
from jiemi.core.objects.managed_fields import FieldOwnership

SECRET = InventoryEntry("v1", "Secret", "app", "default", "f.yaml", fields=5, kept_keys=("legacy",))
CONFIG = attrs.evolve(SECRET, kind="ConfigMap")


def seen(fields: int = 5, last: str | None = None, version: str = "9", **foreign: str) -> Observation:
    return Observation(version, FieldOwnership(fields, foreign, last))


GONE = Observation("9", None)


def test_an_object_with_all_our_fields_is_as_it_was_applied() -> None:
    assert drift_of(SECRET, seen(5)) is None
    assert drift_of(SECRET, seen(6)) is None
    assert drift_of(SECRET, seen(5, "kubectl")) is None


def test_a_field_that_is_no_longer_ours_was_changed() -> None:
    assert drift_of(SECRET, seen(4, "kubectl-edit")) == Drift(DriftKind.CHANGED, "kubectl-edit")
    assert drift_of(SECRET, seen(0)) == Drift(DriftKind.CHANGED, None)
    assert drift_of(CONFIG, seen(4, "a", x="a")) == Drift(DriftKind.CHANGED, "a")


def test_a_key_that_another_added_to_a_secret_is_drift() -> None:
    assert drift_of(SECRET, seen(5, "a", b="a", c="a")) == Drift(DriftKind.ADDED, "a", ("b", "c"))
    assert drift_of(SECRET, seen(4, "z", b="a")) == Drift(DriftKind.CHANGED, "z", ("b",))


def test_a_value_that_another_applied_over_ours_was_changed_though_the_field_is_ours() -> None:
    owned = FieldOwnership(5, {"new": "helm"}, "helm", overwritten={"a": "kubectl", "b": "helm"})
    assert drift_of(SECRET, Observation("9", owned)) == Drift(DriftKind.CHANGED, "kubectl", ("new",))


def test_the_manager_that_changed_an_object_is_found_by_what_it_was_when_it_was_right() -> None:
    owned = FieldOwnership(
        4, {}, "helm", others={"helm": "2026-11-24T03:00:00Z 2", "kubectl": "2026-11-24T02:00:00Z 1"}
    )

    def manager(before: dict[str, str] | None) -> str | None:
        found = drift_of(SECRET, Observation("9", owned, before=before))
        assert found is not None
        return found.manager

    assert manager(None) == "helm"
    assert manager({"helm": "2026-11-24T03:00:00Z 2"}) == "kubectl"
    assert manager({"helm": "2026-11-24T01:00:00Z 2"}) == "helm"
    assert manager(dict(owned.others)) is None


def test_drift_has_the_state_in_which_it_was_seen() -> None:
    changed, added, gone = drift_of(SECRET, seen(4)), drift_of(SECRET, seen(5, b="a")), drift_of(SECRET, GONE)
    assert changed is not None
    assert added is not None
    assert gone is not None
    assert [each.resource_version for each in (changed, added, gone)] == ["9", "9", ""]
    # The same drift in a later state is the same.
    assert drift_of(SECRET, seen(4, version="10")) == changed


def test_keys_of_others_in_other_kinds_are_no_drift() -> None:
    assert drift_of(CONFIG, seen(5, "a", b="a")) is None
    assert drift_of(attrs.evolve(SECRET, api_version="example.com/v1"), seen(5, "a", b="a")) is None


def test_keys_that_were_there_when_it_was_taken_over_stay() -> None:
    assert drift_of(SECRET, seen(5, "a", legacy="a")) is None
    assert strange_keys(SECRET, FieldOwnership(5, {"legacy": "a", "new": "b"}, "b")) == {"new": "b"}
    assert strange_keys(CONFIG, FieldOwnership(5, {"legacy": "a", "new": "b"}, "b")) == {}


def test_an_object_that_is_gone_was_deleted() -> None:
    assert drift_of(SECRET, GONE) == Drift(DriftKind.DELETED)
    assert drift_of(CONFIG, GONE) == Drift(DriftKind.DELETED)


def test_an_object_that_was_never_known_to_be_applied_can_not_differ() -> None:
    unknown = attrs.evolve(SECRET, fields=None)
    for observation in (GONE, seen(0), seen(9, "a", b="a")):
        assert drift_of(unknown, observation) is None


def test_an_object_on_its_way_out_is_waited_for() -> None:
    assert drift_of(SECRET, attrs.evolve(seen(0, "a", b="a"), deleting=True)) is None
    # Once it is gone it is, whether it was said before or not.
    assert drift_of(SECRET, attrs.evolve(GONE, deleting=True)) == Drift(DriftKind.DELETED)


@pytest.mark.parametrize(
    ("drift", "text"),
    [
        (Drift(DriftKind.DELETED), "was deleted (the API server does not keep by whom)"),
        (Drift(DriftKind.CHANGED, "kubectl-edit"), "was changed by field manager kubectl-edit"),
        (
            Drift(DriftKind.CHANGED, "my password is hunter2"),
            "was changed by a field manager whose name has not the form of one, and so is not shown",
        ),
        (Drift(DriftKind.CHANGED), "was changed by a client that owns none of its fields"),
        (Drift(DriftKind.ADDED, "helm", ("a", "b")), "got the keys a, b from field manager helm"),
    ],
)
def test_drift_reads_as_a_sentence(drift: Drift, text: str) -> None:
    assert str(drift) == text


@pytest.mark.parametrize(
    ("metadata", "deleted", "expected"),
    [
        ({"resourceVersion": "7"}, False, Observation("7", FieldOwnership(0, {}, None))),
        ({"resourceVersion": "7"}, True, Observation("7", None)),
        ({}, False, Observation("", FieldOwnership(0, {}, None))),
        ({"resourceVersion": 7}, True, Observation("", None)),
        (
            {"resourceVersion": "7", "deletionTimestamp": "2026-11-24T03:00:00Z"},
            False,
            Observation("7", FieldOwnership(0, {}, None), deleting=True),
        ),
        ({"deletionTimestamp": None}, False, Observation("", FieldOwnership(0, {}, None))),
    ],
)
def test_an_observation_is_what_the_metadata_shows(
    metadata: dict[str, Any], deleted: bool, expected: Observation
) -> None:
    assert Observation.of(metadata, deleted=deleted) == expected


@pytest.mark.parametrize(
    ("version", "applied", "there", "gone"),
    [
        ("8", "9", True, True),
        (
            "9",
            "9",
            True,
            False,
        ),  # that is our own write; but a deletion is reported with the last version that there was
        ("10", "9", False, False),
        ("9", "10", True, True),  # as numbers, not as texts
        ("9", "", False, False),
        ("", "9", False, False),
        ("", "", True, False),
        ("abc", "abc", True, False),
        ("abc", "abd", False, False),
        ("8", "x", False, False),
        ("-1", "9", False, False),
    ],
)
def test_what_is_older_than_what_was_applied_is_of_no_interest(
    version: str, applied: str, there: bool, gone: bool
) -> None:
    assert is_outdated(seen(version=version), applied) is there
    assert is_outdated(Observation(version, None), applied) is gone


@pytest.mark.parametrize(
    ("version", "than", "expected"),
    [("10", "9", True), ("9", "10", False), ("9", "9", False), ("a", "b", True), ("a", "a", False), ("9", "", True)],
)
def test_a_later_version_is_newer_and_of_what_is_no_number_any_other(version: str, than: str, expected: bool) -> None:
    assert is_newer(version, than=than) is expected


@given(st.integers(0, 10**20), st.integers(0, 10**20))
def test_of_two_versions_one_is_newer_unless_they_are_one(one: int, other: int) -> None:
    assert is_newer(str(one), than=str(other)) is (one > other)
    assert is_outdated(seen(version=str(one)), str(other)) is (one <= other)
    assert is_outdated(Observation(str(one), None), str(other)) is (one < other)


@given(st.text(max_size=4), st.text(max_size=4))
def test_no_text_in_place_of_a_version_makes_comparing_fail(one: str, other: str) -> None:
    assert not (is_newer(one, than=other) and one == other)
    assert is_outdated(seen(version=one), one)
    assert not is_outdated(Observation(one, None), one)


_KEYS = st.sets(st.sampled_from(["a", "b", "c"]))


@given(st.integers(0, 9), st.integers(0, 9), _KEYS, _KEYS, st.booleans())
def test_there_is_drift_just_where_fields_are_lost_or_keys_are_strange(
    applied: int, now: int, kept: set[str], foreign: set[str], deleting: bool
) -> None:
    entry = attrs.evolve(SECRET, fields=applied, kept_keys=tuple(sorted(kept)))
    observation = Observation("1", FieldOwnership(now, dict.fromkeys(sorted(foreign), "m"), "m"), deleting)
    found = drift_of(entry, observation)
    assert (found is not None) is (not deleting and (now < applied or bool(foreign - kept)))
    if found is not None:
        assert set(found.keys) == foreign - kept
        assert found.kind is (DriftKind.CHANGED if now < applied else DriftKind.ADDED)
