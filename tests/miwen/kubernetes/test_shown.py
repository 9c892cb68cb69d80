"""Of an API server's answer no more is shown than what the manifest, or Kubernetes' own API, has as a name."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.errors import Act, apply_failure
from jiemi.miwen.kubernetes.refusal import Cause, Refusal, read_refusal
from jiemi.miwen.kubernetes.shown import Shown

CANARY = "canaryValue7"
MANIFEST = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "made",
        "labels": {"example.com/team": "blue"},
        "annotations": {"example.com/note": CANARY},
        "finalizers": [CANARY],
    },
    "data": {"tls.crt": base64.b64encode(CANARY.encode()).decode(), "tls": "", "number": 12345678},
    "spec": {"ports": [{"name": "http", "port": 80}], "x-y_z": 1, "map": {}, "strange key": 1},
}
SHOWN = Shown(MANIFEST)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("data[tls.crt]", "data[tls.crt]"),
        (".data.tls.crt", "data.tls.crt"),
        ("metadata.annotations[example.com/note]", "metadata.annotations[example.com/note]"),
        ("metadata.labels.example.com/team", "metadata.labels.example.com/team"),
        ("spec.ports[0].name", "spec.ports[0].name"),
        (".spec.x-y_z", "spec.x-y_z"),
        ("spec.template.spec.containers[0].image", "spec.template.spec.containers[0].image"),
        ('spec.ports[port=80,protocol="TCP"].name', "spec.ports…"),
        (f'metadata.finalizers["{CANARY}"]', "metadata.finalizers…"),
        (f"metadata.labels[{CANARY}]", "metadata.labels…"),
        (f"spec.map[{CANARY}]", "spec.map…"),
        (f"spec.{CANARY}.name", "spec…"),
        (f"data[{CANARY}]", "data…"),
        (f"data[tls.crt]{CANARY}", "data[tls.crt]…"),
        (f"data[tls.crt{CANARY}]", "data…"),
        (f"data{CANARY}", ""),
        (CANARY, ""),
        ("spec.ports[99999999999]", "spec.ports…"),
        ("[]", ""),
        ("<nil>", ""),
        ("", ""),
    ],
)
def test_a_path_is_shown_as_far_as_the_manifest_has_its_parts(path: str, shown: str) -> None:
    assert SHOWN.field(path) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("kubectl-client-side-apply", True),
        ("argocd-controller", True),
        (CANARY, False),
        (CANARY.upper(), False),
        (f"x-{CANARY}-y", False),
        (CANARY[:6], False),
        (base64.b64encode(CANARY.encode()).decode().rstrip("="), False),
        ("12345678", False),
        ("a b", False),
        ("a" * 65, False),
        ("", False),
        ("-x", False),
    ],
)
def test_a_manager_is_named_where_its_name_shares_nothing_with_a_value(name: str, shown: bool) -> None:
    assert SHOWN.manager(name) == (name if shown else None)


@given(st.text(), st.text(min_size=6))
def test_nothing_is_shown_that_the_manifest_does_not_have(path: str, value: str) -> None:
    shown = Shown({"data": {"a": value}})
    for text in (path, f"data[{value}]", f"data.{value}", f"{value}.data", f"data.a.{path}"):
        found = shown.field(text)
        assert set(found) <= set(text) | {"…"}
        assert not set(found) & set("\"'={} \n")
    assert shown.manager(value) is None


@pytest.mark.parametrize("code", [400, 403, 404, 409, 422, 500])
def test_no_answer_brings_a_value_into_a_message(code: int) -> None:
    fields = [
        f"data[{CANARY}]",
        f"{CANARY}",
        f"spec.{CANARY}",
        f"metadata.labels.{CANARY}",
        f'spec.ports[name="{CANARY}"]',
    ]
    for reason in ("FieldManagerConflict", "FieldValueInvalid", "FieldValueNotSupported", CANARY):
        for field in fields:
            message = f'conflict with "{CANARY}" using v1: .data.{CANARY}'
            cause = {"reason": reason, "field": field, "message": message}
            status = {"kind": "Status", "reason": reason, "message": CANARY, "details": {"causes": [cause]}}
            refusal = read_refusal(code, json.dumps(status).encode())
            act = Act("applying Secret a/b", "Secret a/b", Resource("v1", "Secret", "secrets", namespaced=True), "a")
            for known in (Shown(MANIFEST), Shown()):
                act = Act(act.doing, act.label, act.resource, act.namespace, None, known)
                shown = apply_failure(refusal, act).failure.text
                assert CANARY not in shown


def test_a_manager_that_is_nobody_s_value_is_still_named() -> None:
    cause = Cause("FieldManagerConflict", ".data.tls.crt", 'conflict with "helm" using v1: .data.tls.crt')
    act = Act("a", "Secret a/b", Resource("v1", "Secret", "secrets", namespaced=True), "a", None, SHOWN)
    message = apply_failure(Refusal(409, "Conflict", causes=(cause,)), act).failure.text
    assert "data.tls.crt (owned by helm). " in message
