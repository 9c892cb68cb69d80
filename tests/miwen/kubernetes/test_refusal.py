"""An answer that is no success is read as a value, whatever is in it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.json_values import json_values

from jiemi.miwen.kubernetes.refusal import Cause, Refusal, read_refusal

ANY_JSON = json_values(
    st.sampled_from(["kind", "reason", "message", "details", "causes", "field", "name"]),
    st.text(),
    max_keys=7,
    max_leaves=12,
)


@given(st.binary() | ANY_JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_read_as_some_refusal(body: bytes) -> None:
    assert read_refusal(500, body).code == 500


def test_a_body_that_is_no_status_gives_its_code_alone() -> None:
    assert read_refusal(502, b"<html>bad gateway") == Refusal(502)
    assert read_refusal(502, b"[" * 100_000) == Refusal(502)
    assert read_refusal(404, b'{"kind": "Secret", "data": {}}') == Refusal(404)


def test_of_a_status_the_reason_the_object_and_the_causes_are_read() -> None:
    cause = {"reason": "FieldValueInvalid", "field": "data[a]", "message": "Invalid value: x"}
    status = {
        "kind": "Status",
        "reason": "Invalid",
        "message": "it is not valid",
        "details": {"kind": "secrets", "name": "app", "causes": [cause, "no cause"]},
    }
    assert read_refusal(422, json.dumps(status).encode()) == Refusal(
        422,
        "Invalid",
        "secrets",
        "app",
        (Cause("FieldValueInvalid", "data[a]", "Invalid value: x"),),
        "it is not valid",
    )


def test_a_reason_that_is_none_of_the_apis_is_left_out() -> None:
    status = {"kind": "Status", "reason": "Whatever a webhook writes"}
    assert read_refusal(403, json.dumps(status).encode()) == Refusal(403)


@pytest.mark.parametrize(
    ("refusal", "answer"),
    [(Refusal(422, "Invalid"), "422 Invalid"), (Refusal(503), "503")],
)
def test_an_answer_is_its_code_and_reason(refusal: Refusal, answer: str) -> None:
    assert refusal.answer == answer


@pytest.mark.parametrize(
    ("refusal", "is_of_patch"),
    [
        (Refusal(422), True),
        (Refusal(422, of_name="app"), False),
        (Refusal(422, causes=(Cause("FieldValueInvalid", "data"),)), False),
        (Refusal(422, message='admission webhook "a.example" denied the request: no'), False),
        (Refusal(409), False),
    ],
)
def test_a_patch_that_does_not_fit_is_known_from_an_object_that_is_not_valid(
    refusal: Refusal, is_of_patch: bool
) -> None:
    assert refusal.of_patch is is_of_patch
