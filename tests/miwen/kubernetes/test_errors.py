"""What refusals of the API server mean, and that nothing of their text gets through."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.json_values import json_values

from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.errors import Act, apply_failure, decryptor_refused, kind_unknown
from jiemi.miwen.kubernetes.refusal import Cause, Refusal, read_refusal
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
def test_a_status_that_is_refused_comes_with_a_remedy(field: str, part: str) -> None:
    failure = decryptor_refused(Refusal(422, "Invalid", causes=(Cause("FieldValueTooMany", field),)), ACT).failure
    assert failure.reason == "ApplyRejected"
    assert part in failure.text
    assert CANARY not in failure.text


_JSON = json_values(
    st.sampled_from(["kind", "reason", "message", "details", "causes", "field", "name"]),
    st.text(),
    max_keys=7,
    max_leaves=12,
)


@given(_JSON)
def test_any_status_object_gives_an_error_that_can_be_shown(details: object) -> None:
    status = {"kind": "Status", "reason": "Invalid", "message": CANARY, "details": details}
    for code in (400, 401, 403, 404, 409, 422, 429, 500):
        refusal = read_refusal(code, json.dumps(status).encode())
        assert CANARY not in apply_failure(refusal, ACT).failure.text


def test_a_kind_that_is_gone_is_not_reported_as_what_is_served_instead() -> None:
    """What the cluster serves is known from a minute ago."""
    gone = Resource("example.com/v1", "Widget", "widgets", namespaced=True)
    newer = Resource("example.com/v2", "Widget", "widgets", namespaced=True)
    problem = "the cluster serves no kind Widget of apiVersion example.com/v1"
    assert kind_unknown("example.com/v1", "Widget", [gone]).failure.message == problem
    failure = kind_unknown("example.com/v1", "Widget", [gone, newer]).failure
    assert failure.text.startswith(f"{problem}; it serves Widget of example.com/v2. Correct apiVersion, or")
