"""A status is read late, and as much of it as can be read."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jiemi.core.api import status_reading
from jiemi.core.api.decryptor import read_decryptor
from jiemi.core.api.decryptor_status import (
    Condition,
    DecryptorStatus,
    EncryptionStatus,
    FileStatus,
    InventoryEntry,
    SecretVersion,
    StatusRecord,
)
from jiemi.core.api.fields import unstructure
from jiemi.core.api.status_reading import Status, read_status
from jiemi.core.decisions.conditions import condition
from jiemi.core.decisions.status import blank

RECORDS = tuple(StatusRecord(id, str(id) * 40, "f", "2026-11-24T03:00:00Z", "Sync") for id in (1, 2, 3))
WHOLE = DecryptorStatus(
    RECORDS[2],
    history=RECORDS[:2],
    conditions=(
        Condition("Drifted", "True", "Drifted", "…", "2026-11-24T03:00:00Z", 3),
        Condition("Ready", "True", "Synced", "…", "2026-11-24T03:00:00Z", 3),
    ),
    observed_generation=3,
    deployed_generation=3,
    encryption=EncryptionStatus(("age a",)),
    vault_address="https://vault.example",
    inventory=(
        InventoryEntry("v1", "Secret", "x", "default", "f", 4, ("k",)),
        InventoryEntry("v1", "Pod", "y", "default", "f", 2),
    ),
    files=(FileStatus("f", "1" * 40, None), FileStatus("g", "2" * 40, None)),
    observed_secrets=(SecretVersion("git", "7"), SecretVersion("age", "8")),
)
UNCERTAIN = attrs.evolve(WHOLE, deployed_generation=None)
"""The same, once a part of it was lost."""


def spoilt(path: str, value: Any) -> Any:
    """The status in JSON with another value at a place such as "inventory.0.fields"."""
    status = copy.deepcopy(unstructure(WHOLE))
    *way, last = (int(part) if part.isdecimal() else part for part in path.split("."))
    holder: Any = status
    for part in way:
        holder = holder[part]
    holder[last] = value
    return status


@pytest.mark.parametrize(
    ("path", "value", "lost"),
    [
        ("history", "none", {"history": ()}),
        ("history.0.revision", 7, {"history": RECORDS[1:2]}),
        ("conditions", {}, {"conditions": ()}),
        ("conditions.0", "Drifted", {"conditions": WHOLE.conditions[1:]}),
        ("observedGeneration", "3", {"observed_generation": None}),
        ("deployedGeneration", "3", {}),
        ("encryption", 7, {"encryption": None}),
        ("encryption.recipients", "age", {"encryption": None}),
        ("vaultAddress", 7, {"vault_address": None}),
        ("inventory", "all", {"inventory": ()}),
        ("inventory.0", None, {"inventory": WHOLE.inventory[1:]}),
        ("inventory.0.name", 7, {"inventory": WHOLE.inventory[1:]}),
        ("inventory.0.namespace", ["default"], {"inventory": WHOLE.inventory[1:]}),
        ("files.0.blob", None, {"files": WHOLE.files[1:]}),
        ("observedSecrets.1", [], {"observed_secrets": WHOLE.observed_secrets[:1]}),
        ("plan", "none", {}),
        ("failedObjects", [{"kind": 7}], {}),
        ("current", None, {"current": attrs.evolve(RECORDS[1], status="NotSync"), "history": RECORDS[:1]}),
        ("current.id", "3", {"current": attrs.evolve(RECORDS[1], status="NotSync"), "history": RECORDS[:1]}),
    ],
)
def test_a_bad_part_of_a_status_does_not_lose_the_rest(path: str, value: Any, lost: dict[str, Any]) -> None:
    assert read_status(spoilt(path, value), "f") == attrs.evolve(UNCERTAIN, **lost)


@pytest.mark.parametrize(
    ("path", "value", "left"),
    [
        ("inventory.0.fields", "four", {"fields": 0}),
        ("inventory.0.file", 7, {"file": ""}),
        # Whose its keys are is not known: it counts as not applied, so that the next apply keeps what it finds.
        ("inventory.0.keptKeys", "k", {"fields": None, "kept_keys": ()}),
        ("inventory.0.keptKeys", [7], {"fields": None, "kept_keys": ()}),
    ],
)
def test_an_object_stays_in_the_inventory_while_it_is_known_which_one_it_is(
    path: str, value: Any, left: dict[str, Any]
) -> None:
    entry = attrs.evolve(WHOLE.inventory[0], **left)
    assert read_status(spoilt(path, value), "f") == attrs.evolve(UNCERTAIN, inventory=(entry, WHOLE.inventory[1]))


def test_an_entry_that_was_only_about_to_be_applied_does_not_become_applied() -> None:
    status = spoilt("inventory.0", {"apiVersion": "v1", "kind": "Secret", "name": "x", "file": 7})
    read = read_status(status, "f")
    assert read is not None
    assert read.inventory[0] == InventoryEntry("v1", "Secret", "x")


def test_without_any_readable_deployment_there_was_none() -> None:
    status = spoilt("current", 7)
    del status["history"]
    read = read_status(status, "file.yaml")
    assert read is not None
    assert (read.current, read.inventory) == (blank("file.yaml").current, WHOLE.inventory)


def test_a_status_is_read_once_and_not_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    def counted(value: Any, file: str) -> DecryptorStatus | None:
        read.append(value)
        return read_status(value, file)

    monkeypatch.setattr(status_reading, "read_status", counted)
    metadata = {"namespace": "a", "name": "b", "uid": "u", "resourceVersion": "1", "generation": 3}
    raw = {"metadata": metadata, "spec": {}, "status": unstructure(WHOLE)}
    decryptor, again = read_decryptor(raw), read_decryptor(copy.deepcopy(raw))
    assert decryptor == again
    assert (decryptor.ready, decryptor.observed_generation) == (WHOLE.conditions[1], 3)
    assert read == []
    assert decryptor.status == WHOLE
    assert decryptor.status is decryptor.status
    assert read == [raw["status"]]
    assert hash(decryptor) == hash(again)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        decryptor.spec = again.spec  # type: ignore[misc]  # which is what must fail


def test_a_status_may_be_given_and_compares_by_what_it_says() -> None:
    metadata = {"namespace": "a", "name": "b", "uid": "u", "resourceVersion": "1", "generation": 3}
    bare = read_decryptor({"metadata": metadata})
    assert (bare.status, bare.ready, bare.observed_generation) == (None, None, None)
    given = attrs.evolve(bare, status=WHOLE)
    assert (given.status, given.ready, given.observed_generation) == (WHOLE, WHOLE.conditions[1], 3)
    assert given == attrs.evolve(bare, status=unstructure_and_read())
    assert given != bare
    assert attrs.evolve(given, status=None) == bare
    assert attrs.evolve(given, meta=bare.meta) == given
    assert repr(WHOLE) in repr(given)


def unstructure_and_read() -> Status:
    return Status({**unstructure(WHOLE), "ofAnotherRelease": True}, "g")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
_PLACES = [
    *unstructure(WHOLE),
    *(f"current.{name}" for name in unstructure(WHOLE.current)),
    *(f"conditions.1.{name}" for name in unstructure(WHOLE.conditions[1])),
    *(f"inventory.0.{name}" for name in unstructure(WHOLE.inventory[0])),
    *(f"{name}.0" for name in ("history", "conditions", "inventory", "files", "observedSecrets")),
]


@given(st.sampled_from(_PLACES), _JSON)
@example("conditions.1.lastTransitionTime", "")
@example("conditions.1.status", "Perhaps")
@example("observedGeneration", 2**70)
def test_whatever_the_status_holds_early_and_full_reading_agree(path: str, value: Any) -> None:
    raw = spoilt(path, value)
    status = Status(raw, "f")
    ready, observed = status.ready, status.observed_generation
    assert status.value is not None
    assert (ready, observed) == (condition(status.value, "Ready"), status.value.observed_generation)
    if not path.startswith("inventory"):
        assert status.value.inventory == WHOLE.inventory
    else:
        assert WHOLE.inventory[1] in status.value.inventory or path == "inventory"


@given(_JSON)
def test_any_json_is_a_status_or_none(value: Any) -> None:
    status = Status(value, "f")
    assert status.value is None or isinstance(status.value, DecryptorStatus)
