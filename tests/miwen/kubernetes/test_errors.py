"""What refusals of the API server mean, and that nothing of their text gets through."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.errors import Act, Cause, Refusal, apply_failure, decryptor_refused, read_refusal
from jiemi.miwen.kubernetes.shown import Shown

SECRETS = Resource("v1", "Secret", "secrets", namespaced=True)
CANARY = "canary-5f1e9c"
MANIFEST = {"metadata": {"name": "made"}, "data": {"a": "", "dataa": ""}, "spec": {f"f{n}": n for n in range(15)}}
ACT = Act("applying Secret team/made", "Secret team/made", SECRETS, "team", None, Shown(MANIFEST))


@pytest.mark.parametrize(
    ("refusal", "reason", "part"),
    [
        (Refusal(400, "BadRequest", message=CANARY), "ApplyRejected", "names no field"),
        (
            Refusal(400, "BadRequest", message='admission webhook "a.example" does not support dry run'),
            "AdmissionDenied",
            "webhook a.example takes no dry runs",
        ),
        (
            Refusal(403, "Forbidden", message=f'x is forbidden: User "{CANARY}" cannot patch resource "x"'),
            "ApplyForbidden",
            "Grant",
        ),
        (Refusal(403, "Forbidden", message=CANARY), "ApplyForbidden", "admission rule or a quota"),
        (Refusal(403, causes=(Cause("NamespaceTerminating", "x"),)), "NamespaceNotFound", "being deleted"),
        (Refusal(404, "NotFound", of_kind="namespaces"), "NamespaceNotFound", "no namespace team"),
        (Refusal(404), "KindUnknown", "no kind Secret of apiVersion v1"),
        (Refusal(409, "Conflict", message=CANARY), "ApplyConflict", "by another"),
        (Refusal(413), "ApplyRejected", "larger than"),
        (Refusal(422, "Invalid", causes=(Cause("FieldValueInvalid", "data[a]"),)), "ApplyRejected", "data[a] (FieldV"),
        (Refusal(401, "Unauthorized", message=CANARY), "ClusterAccessDenied", "Renew Miwen's own credentials"),
        (Refusal(429, "TooManyRequests", message=CANARY), "ClusterUnavailable", "429 TooManyRequests"),
        (Refusal(500, "InternalError", message=CANARY), "ClusterUnavailable", "500 InternalError"),
        (Refusal(500, message="etcdserver: request is too large"), "ApplyRejected", "larger than"),
        (Refusal(500, message=f"failed to convert new object: {CANARY}"), "ApplyRejected", "wrong form"),
        (Refusal(503), "ClusterUnavailable", "503"),
        (Refusal(302), "ClusterUnavailable", "302"),
    ],
)
def test_each_refusal_of_an_apply_has_its_reason(refusal: Refusal, reason: str, part: str) -> None:
    failure = apply_failure(refusal, ACT).failure
    assert failure.reason == reason
    assert part in failure.text
    assert CANARY not in failure.text
    assert CANARY not in repr(refusal)


def test_the_fields_of_a_typed_patch_are_named_without_their_values() -> None:
    message = (
        "failed to create typed patch object (team/made; /v1, Kind=Secret): errors:\n"
        f"  .stringData.a: expected string, got &value.valueUnstructured{{Value:{CANARY}}}\n"
        "  .dataa: field not declared in schema\n"
        f'  .list[key="{CANARY}"].x: expected numeric (int or float), got {CANARY}\n'
    )
    failure = apply_failure(Refusal(500, message=message), ACT).failure
    assert failure.message.endswith(
        ": stringData.a (expected string), dataa (field not declared in schema), list… (expected numeric)"
    )
    assert "Put the value in quotes" in failure.remedy
    assert "Write data, if that is meant" in failure.remedy
    assert "(500)" not in failure.text


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("status.history", "status.history. Apply this release's deploy/crd.yaml"),
        (
            "spec.provider.pgp.privateKey.literal",
            "own spec is not as the CustomResourceDefinition allows: spec.provider.pgp",
        ),
        (f"status.{CANARY}", "status… Apply this release's"),
        ("<nil>", "the object as a whole"),
    ],
)
def test_a_status_that_is_refused_is_told_with_what_to_do_about_it(field: str, part: str) -> None:
    failure = decryptor_refused(Refusal(422, "Invalid", causes=(Cause("FieldValueTooMany", field),)), ACT).failure
    assert failure.reason == "ApplyRejected"
    assert part in failure.text
    assert CANARY not in failure.text


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
        ((Cause("FieldValueInvalid", "spec.a"), Cause("FieldValueTooLong", "data")), "Correct the object's fields"),
    ],
)
def test_what_to_do_is_told_by_the_fields_and_what_is_wrong_with_them(causes: tuple[Cause, ...], says: str) -> None:
    assert says in apply_failure(Refusal(422, "Invalid", causes=causes), ACT).failure.text


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("stringData.a: expected string, got 5", "Put the value in quotes"),
        ("spec.ports: duplicate entries for key [port=80]", "Two elements of that list have the same key"),
        ("stringdata: field not declared in schema", "Write stringData, if that is meant"),
        ("metadata.label: field not declared in schema", "Write labels, if that is meant"),
        ("replicas: field not declared in schema", "correct its name"),
        ("spec.dat: field not declared in schema", "correct its name"),
        (
            "stringData.a: expected string, got &value.valueUnstructured{Value:map[string]interface {}{",
            "Write one text",
        ),
        ("stringData.a: expected string, got &value.valueUnstructured{Value:[]interface {}{", "Write one text"),
        ("stringData.a: expected string, got &value.valueUnstructured{Value:map}", "Put the value in quotes"),
        ("immutable: expected boolean, got x", "Write true or false"),
    ],
)
def test_what_to_do_about_a_typed_patch_is_told_without_a_code(fault: str, says: str) -> None:
    message = f"failed to create typed patch object (team/made; /v1, Kind=Secret): .{fault}"
    text = apply_failure(Refusal(500, message=message), ACT).failure.text
    assert says in text
    assert "500" not in text


def test_a_long_list_of_fields_is_cut_and_repetitions_are_left_out() -> None:
    causes = tuple(Cause("FieldValueRequired", f"spec.f{number // 2}") for number in range(30))
    message = apply_failure(Refusal(422, causes=causes), ACT).failure.message
    assert message.endswith("spec.f9 (FieldValueRequired) and 5 more")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "reason", "message", "details", "causes", "field", "name"]), inner)
    ),
    max_leaves=12,
)


@given(st.binary() | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_read_as_some_refusal(body: bytes) -> None:
    assert read_refusal(500, body).code == 500


@given(_JSON)
def test_any_status_object_gives_an_error_that_can_be_shown(details: object) -> None:
    status = {"kind": "Status", "reason": "Invalid", "message": CANARY, "details": details}
    for code in (400, 401, 403, 404, 409, 422, 429, 500):
        refusal = read_refusal(code, json.dumps(status).encode())
        assert CANARY not in apply_failure(refusal, ACT).failure.text


def test_a_body_that_is_no_status_is_told_by_its_code() -> None:
    assert read_refusal(502, b"<html>bad gateway") == Refusal(502)
    assert read_refusal(502, b"[" * 100_000) == Refusal(502)
    assert read_refusal(404, b'{"kind": "Secret", "data": {}}') == Refusal(404)
