"""What is deployed after an apply, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from jiemi.core.api.decryptor_status import FileStatus, InventoryEntry
from jiemi.core.decisions.deployment import Attempted, after_apply, after_correction, objection
from jiemi.core.errors import Failure
from jiemi.core.objects.identity import ObjectKey
from jiemi.core.objects.inventory import Refused, by_key, ref_of

A, B = FileStatus("a.yaml", "1" * 40), FileStatus("b.yaml", "2" * 40)
STALLED = Failure("MacMismatch", "the MAC does not match")
TRANSIENT = Failure("ClusterUnavailable", "no answer")


def entry(name: str, file: str = "a.yaml", **more: Any) -> InventoryEntry:
    return InventoryEntry("v1", "Secret", name, "default", file, 1, **more)


def keyed(*entries: InventoryEntry) -> dict[ObjectKey, InventoryEntry]:
    return dict(by_key(entries))


def attempted(**more: Any) -> Attempted:
    found: dict[str, Any] = {
        "revision": "r2",
        "files": (A, B),
        "rendered": frozenset({"a.yaml"}),
        "wanted": set(keyed(entry("x"), entry("y", "b.yaml"))),
        "broken": {},
        "refused": (),
    }
    return Attempted(**(found | more))


def refused(name: str, failure: Failure = STALLED, file: str = "a.yaml") -> Refused:
    return Refused(ref_of(entry(name)), file, failure)


def files(inventory: Mapping[ObjectKey, InventoryEntry]) -> dict[str, tuple[str, str | None]]:
    """By name: the file of each, and the one that it left."""
    return {key.name: (each.file, each.left_file) for key, each in inventory.items()}


def test_all_that_is_in_order_is_certain_and_may_be_pruned() -> None:
    before = keyed(entry("x"), entry("y", "b.yaml"), entry("gone"))
    found = after_apply(attempted(), keyed(entry("x")), before, (A, B))
    assert (found.files, found.is_certain, found.may_prune) == ((A, B), True, True)
    assert files(found.inventory) == {"x": ("a.yaml", None), "y": ("b.yaml", None), "gone": ("", None)}
    assert {key.name: each.revision for key, each in found.inventory.items()} == {"x": "r2", "y": None, "gone": None}


@pytest.mark.parametrize("wrong", [{"broken": {"b.yaml": STALLED}}, {"refused": (refused("y", file="b.yaml"),)}])
def test_a_file_that_is_not_known_whole_has_no_blob_and_nothing_is_pruned(wrong: dict[str, Any]) -> None:
    before = keyed(entry("x"), entry("gone"), entry("elsewhere", "b.yaml"))
    found = after_apply(attempted(is_all_known=False, **wrong), keyed(entry("x")), before, (A, B))
    assert (found.files, found.may_prune) == ((A, FileStatus("b.yaml", "")), False)
    # The other file may have it by now; what the broken one has is not known.
    assert files(found.inventory) == {
        "x": ("a.yaml", None),
        "gone": ("", "a.yaml"),
        "elsewhere": ("b.yaml", None),
    }


def test_what_no_file_describes_left_for_certain_though_the_api_server_refused_an_object() -> None:
    before = keyed(entry("x"), entry("gone"))
    found = after_apply(attempted(refused=(refused("y", file="b.yaml"),)), keyed(entry("x")), before, (A, B))
    assert (found.files, found.may_prune) == ((A, FileStatus("b.yaml", "")), False)
    assert files(found.inventory) == {"x": ("a.yaml", None), "gone": ("", None)}


def test_what_was_of_a_file_that_is_wanted_no_longer_left_it_once_all_are_read() -> None:
    found = after_apply(attempted(files=(A,), wanted=set(keyed(entry("x")))), {}, keyed(entry("old", "c.yaml")), (A,))
    assert files(found.inventory) == {"old": ("", None)}


def test_a_file_whose_blob_is_not_known_yet_prunes_nothing() -> None:
    assert not after_apply(attempted(files=(A, attrs.evolve(B, blob=""))), {}, {}, (A,)).may_prune


@pytest.mark.parametrize("is_resync", [True, False])
def test_what_is_held_back_changes_nothing_and_is_certain_unless_the_spec_is_new(is_resync: bool) -> None:
    before = keyed(entry("x"), entry("gone"))
    one = attempted(broken={"b.yaml": STALLED}, is_held_back=True, is_resync=is_resync)
    found = after_apply(one, {}, before, (A,))
    assert (found.inventory, found.files) == (before, (A,))
    assert (found.is_certain, found.may_prune) == (not is_resync, False)


def test_nothing_is_said_where_nothing_failed() -> None:
    assert objection(attempted(), {}) is None


@pytest.mark.parametrize(
    ("more", "inventory", "says"),
    [
        ({"broken": {"b.yaml": STALLED}}, (), "1 of 2 files was not applied, the first: the MAC does not match"),
        ({"files": (A,), "wanted": set(), "broken": {"a.yaml": STALLED}}, (), "the MAC does not match"),
        ({"refused": (refused("x"),)}, (), "1 of 2 objects was not applied, the first: the MAC does not match"),
        ({"refused": (refused("z"),)}, (), "1 of 3 objects was not applied, the first: the MAC does not match"),
        (
            {"refused": (refused("x"),), "broken": {"b.yaml": TRANSIENT}},
            (),
            "2 of 3 objects were not applied, the first: no answer",
        ),
        (
            {"refused": (refused("x"),)},
            (entry("kept", "c.yaml"), entry("left", "")),
            "1 of 3 objects was not applied, the first: the MAC does not match",
        ),
        (
            {"refused": (refused("x"),), "is_held_back": True},
            (),
            "1 of 2 objects was refused, so none is applied (applyPolicy: Atomic), the first: the MAC does not match",
        ),
        (
            {"refused": (refused("x", Failure("DuplicateObject", "it is there twice")),)},
            (),
            "1 of 3 objects was not applied, the first: it is there twice",
        ),
    ],
)
def test_what_is_said_counts_what_there_is(
    more: dict[str, Any], inventory: tuple[InventoryEntry, ...], says: str
) -> None:
    found = objection(attempted(**more), keyed(*inventory))
    assert found is not None
    assert found.failure.message == says


def test_what_was_corrected_stays_of_the_file_and_the_revision_that_it_was_of() -> None:
    x, left = entry("x", revision="r1"), entry("left", "", left_file="b.yaml")
    before = keyed(x, left, entry("y", "b.yaml"))
    applied = keyed(attrs.evolve(entry("x", "other.yaml"), fields=1), attrs.evolve(entry("left"), fields=2))
    assert after_correction(before, applied) == {
        **before,
        **keyed(attrs.evolve(x, fields=1), attrs.evolve(left, fields=2)),
    }
    assert after_correction(before, {}) == before
