"""Whatever a stored status holds, what is written of it is within the CustomResourceDefinition's schema."""

from __future__ import annotations

import datetime
import re
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.miwen.stored_statuses import STORED, entry, record

from jiemi.core.api.crd import crd
from jiemi.core.api.decryptor_status import (
    HISTORY_LIMIT,
    MAX_INVENTORY,
    MAX_OBJECTS,
    Condition,
    DecryptorStatus,
    InventoryEntry,
    StatusRecord,
)
from jiemi.core.api.status_bounds import MAX_TEXT, fitted, status_json
from jiemi.core.api.status_reading import read_status
from jiemi.core.decisions.status import after_failure, after_sync, blank, while_reconciling, with_drift
from jiemi.core.errors import Failure

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
SCHEMA: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def wrong(value: Any, schema: dict[str, Any], at: str = "status") -> list[str]:
    """What breaks the schema, as the API server reads it: types, bounds, required and unknown fields."""
    if value is None:
        return [] if schema.get("nullable") else [f"{at} is null"]
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if not isinstance(value, kinds[schema["type"]]) or (schema["type"] == "integer" and isinstance(value, bool)):
        return [f"{at} is no {schema['type']}"]
    found: list[str] = []
    if isinstance(value, dict):
        properties = schema["properties"]
        found += [f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        found += [f"{at}.{name} is unknown" for name in value if name not in properties]
        for name, part in value.items():
            found += wrong(part, properties.get(name, {"type": "object", "properties": {}}), f"{at}.{name}")
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            found.append(f"{at} has {len(value)} items")
        for index, part in enumerate(value):
            found += wrong(part, schema["items"], f"{at}[{index}]")
    elif isinstance(value, str):
        found += _wrong_text(value, schema, at)
    elif isinstance(value, int) and not schema.get("minimum", -(2**63)) <= value < 2**63:
        found.append(f"{at} is out of range")
    return found


def _wrong_text(value: str, schema: dict[str, Any], at: str) -> list[str]:
    found: list[str] = []
    if len(value) > schema.get("maxLength", len(value)):
        found.append(f"{at} has {len(value)} characters")
    if value not in schema.get("enum", [value]):
        found.append(f"{at} is none of the words")
    if schema.get("format") == "date-time" and _TIME.fullmatch(value) is None:
        found.append(f"{at} is no time")
    return found


def _written(value: Any) -> list[Any]:
    """What the steps of a tick write, beginning with a stored status."""
    read = read_status(value, "f.yaml") or blank("f.yaml")
    failure = Failure("KeyMissing", "no key")
    again = [
        read,
        while_reconciling(read, "m", generation=3, now=NOW),
        after_failure(read, generation=3, failure=failure, attempted_revision="b" * 40, now=NOW),
        after_sync(read, generation=3, revision="c" * 40, file="f.yaml", now=NOW),
        with_drift(read, ("True", "Changed", "m"), generation=3, now=NOW),
    ]
    return [status_json(each) for each in again]


@pytest.mark.parametrize("name", STORED)
def test_the_status_written_after_a_stored_one_fits_the_schema(name: str) -> None:
    for written in _written(STORED[name]):
        assert wrong(written, SCHEMA) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["Sync", "True", "Ready"]),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def _of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that are nearly of a schema: of its fields, and of its types or of any other."""
    kind = schema["type"]
    if kind == "object":
        required = schema.get("required", ())
        fields = {name: _of(part) for name, part in schema["properties"].items()}
        near = st.fixed_dictionaries(
            {name: fields[name] for name in required},
            optional={name: part for name, part in fields.items() if name not in required},
        )
        return st.one_of(near, near, near, near, _JSON)
    if kind == "array":
        return st.one_of(st.lists(_of(schema["items"]), max_size=20), _JSON)
    usual: dict[str, st.SearchStrategy[Any]] = {
        "string": st.text(max_size=6) | st.sampled_from(schema.get("enum", ["2026-11-24T03:00:00Z", "x" * 40_000])),
        "integer": st.integers(),
        "boolean": st.booleans(),
    }
    return st.one_of(usual[kind], usual[kind], usual[kind], st.none(), _JSON)


@given(_of(SCHEMA))
@settings(max_examples=150, deadline=None)
@example({"conditions": [{}]})
def test_the_status_written_after_anything_at_all_fits_the_schema(value: Any) -> None:
    for written in _written(value):
        assert wrong(written, SCHEMA) == []


def test_the_newest_entries_of_a_history_stay() -> None:
    read = read_status({"current": record(41), "history": [record(n) for n in range(1, 41)]}, "f")
    assert read is not None
    assert [each.id for each in read.history] == list(range(31, 41))
    assert len(read.history) == HISTORY_LIMIT


def test_the_next_deployment_is_counted_from_the_last_one() -> None:
    read = read_status({"current": record(11), "history": [record(n) for n in range(11)]}, "f")
    assert read is not None
    after = after_sync(read, generation=1, revision="d" * 40, file="secret.enc.yaml", now=NOW)
    assert after.current.id == 12
    assert [each.id for each in fitted(after).history] == list(range(2, 12))


def test_a_status_that_fits_is_unchanged() -> None:
    status = read_status(STORED["a large inventory"], "f")
    assert status is not None
    assert len(status.inventory) == 3_000
    assert status.deployed_generation == 1
    assert fitted(status) is status


def test_own_conditions_stay_where_there_are_too_many() -> None:
    status = read_status(STORED["many conditions"], "f")
    assert status is not None
    assert len(status.conditions) == 16
    assert status.conditions[0].type == "Ready"


def test_an_inventory_that_is_too_large_leaves_room_and_keeps_what_was_applied() -> None:
    maybe = [entry(f"m{n}", fields=None) for n in range(3_000)]
    applied = [entry(f"n{n}") for n in range(1_500)]
    status = read_status({"current": record(1), "inventory": [*maybe, *applied], "deployedGeneration": 1}, "f")
    assert status is not None
    assert len(status.inventory) == MAX_INVENTORY - MAX_OBJECTS
    assert {each.name for each in status.inventory} >= {f"n{n}" for n in range(1_500)}
    assert status.deployed_generation is None


def test_texts_that_say_which_object_it_is_are_never_cut() -> None:
    name = "n" * (2 * MAX_TEXT)
    status = fitted(
        DecryptorStatus(
            StatusRecord(1, "r", "f" * (2 * MAX_TEXT), None, "Sync"), inventory=(InventoryEntry("v1", "Secret", name),)
        )
    )
    assert status.inventory[0].name == name
    assert len(status.current.file_to_decrypt) == MAX_TEXT


@given(st.text(max_size=30) | st.from_regex(_TIME, fullmatch=True))
def test_only_valid_times_are_kept(text: str) -> None:
    made = Condition("Ready", "True", "r", "m", text)
    conditions = fitted(attrs.evolve(blank("f"), conditions=(made,))).conditions
    assert all(_TIME.fullmatch(each.last_transition_time) for each in conditions)
