"""What is wrong with an object's fields is named without their values, and with what to do about it."""

from __future__ import annotations

import pytest

from jiemi.core.errors import JiemiError
from jiemi.core.objects.unblocking import RefusedFields
from jiemi.miwen.kubernetes.refusal import Cause, Refusal
from jiemi.miwen.kubernetes.rejected_fields import FieldsRejected, fields_failure
from jiemi.miwen.kubernetes.shown import Shown

CANARY = "canary-5f1e9c"
SHOWN = Shown({"metadata": {"name": "made"}, "data": {"a": "", "dataa": ""}, "spec": {f"f{n}": n for n in range(15)}})


def found(refusal: Refusal) -> JiemiError:
    error = fields_failure(refusal, "Secret team/made", SHOWN)
    assert error is not None
    return error


def test_the_fields_of_a_typed_patch_are_named_without_their_values() -> None:
    message = (
        "failed to create typed patch object (team/made; /v1, Kind=Secret): errors:\n"
        f"  .stringData.a: expected string, got &value.valueUnstructured{{Value:{CANARY}}}\n"
        "  .dataa: field not declared in schema\n"
        f'  .list[key="{CANARY}"].x: expected numeric (int or float), got {CANARY}\n'
    )
    failure = found(Refusal(500, message=message)).failure
    assert failure.message.endswith(
        ": stringData.a (expected string), dataa (field not declared in schema), list… (expected numeric)"
    )
    assert "Put the value in quotes" in failure.remedy
    assert "Write data, if that is meant" in failure.remedy
    assert "(500)" not in failure.text


@pytest.mark.parametrize(
    ("causes", "says"),
    [
        ((Cause("FieldValueInvalid", "data[my key]"),), "Name the key with letters, digits"),
        ((Cause("FieldValueInvalid", "stringData[ä]"), Cause("FieldValueInvalid", "data[..]")), "Name the key"),
        # The key is one; its value is no Docker config.
        ((Cause("FieldValueInvalid", "data[.dockerconfigjson]"),), "what Docker has in its config.json"),
        ((Cause("FieldValueTooLong", "data"),), "1 MiB"),
        ((Cause("FieldValueRequired", "data[tls.key]"),), "these keys, which its type wants"),
        ((Cause("FieldValueRequired", "spec.selector"),), "the field that is missing"),
        ((Cause("FieldValueInvalid", "metadata.labels"),), "A label has at most 63 characters"),
        ((Cause("FieldValueDuplicate", "spec.ports[1].name"),), "another value in that field"),
        (
            (Cause("FieldValueInvalid", "spec.a"), Cause("FieldValueTooLong", "data")),
            "Correct the fields that the message names.",
        ),
    ],
)
def test_the_remedy_follows_from_the_fields_and_what_is_wrong_with_them(causes: tuple[Cause, ...], says: str) -> None:
    assert says in found(Refusal(422, "Invalid", causes=causes)).failure.text


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("stringData.a: expected string, got 5", "Put the value in quotes"),
        ("spec.ports: duplicate entries for key [port=80]", "Two elements of that list have the same key"),
        ("stringdata: field not declared in schema", "Write stringData, if that is meant"),
        ("metadata.label: field not declared in schema", "Write labels, if that is meant"),
        ("replicas: field not declared in schema", "correct its name"),
        ("spec.dat: field not declared in schema", "correct its name"),
        ("stringData.a: expected string, got &value.valueUnstructured{Value:map[string]interface {}{", "one text"),
        ("stringData.a: expected string, got &value.valueUnstructured{Value:[]interface {}{", "one text"),
        ("stringData.a: expected string, got &value.valueUnstructured{Value:map}", "Put the value in quotes"),
        ("immutable: expected boolean, got x", "Write true or false"),
    ],
)
def test_the_remedy_for_a_typed_patch_names_no_code(fault: str, says: str) -> None:
    message = f"failed to create typed patch object (team/made; /v1, Kind=Secret): .{fault}"
    text = found(Refusal(500, message=message)).failure.text
    assert says in text
    assert "500" not in text


def test_a_long_list_of_fields_is_cut_and_repetitions_are_left_out() -> None:
    causes = tuple(Cause("FieldValueRequired", f"spec.f{number // 2}") for number in range(30))
    message = found(Refusal(422, causes=causes)).failure.message
    assert message.endswith("spec.f9 (FieldValueRequired) and 5 more")


def test_a_refusal_of_another_kind_says_nothing_of_fields() -> None:
    assert fields_failure(Refusal(500, "InternalError", message=CANARY), "Secret team/made", SHOWN) is None


def test_fields_in_other_words_are_the_same_fields() -> None:
    causes = (Cause("FieldValueDuplicate", "spec.f1", "Duplicate value: other"), Cause("FieldValueInvalid", "spec.f2"))
    error = found(Refusal(422, "Invalid", causes=causes))
    assert isinstance(error, FieldsRejected)
    again = error.saying("in other words")
    assert again.failure.message == "in other words"
    assert again.failure.remedy == error.failure.remedy
    assert again.is_invalid
    assert again.refused == RefusedFields(("spec.f1", "spec.f2"), frozenset({"other"}), ("spec.f1",))
    assert "other" not in repr(again.refused)
