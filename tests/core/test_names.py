"""Names that no object can have are decrypted text, and are shown nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.names import is_api_version, is_kind, is_namespace_name, is_object_name
from jiemi.core.objects.manifests import read_manifests
from jiemi.core.sensitive import SensitiveBytes

CANARY = "Hunter2 is my Pass_word!"


def _read(**changes: Any) -> tuple[list[str], list[str]]:
    """Labels of the objects that a document gives, and what is said of it."""
    metadata = {"name": "a", "namespace": "b", **changes.pop("metadata", {})}
    value = {"apiVersion": "v1", "kind": "Secret", **changes, "metadata": metadata}
    manifests, failures = read_manifests([SensitiveBytes(json.dumps(value).encode())], path="f.yaml")
    return [each.label for each in manifests], [str(each) for each in failures]


@pytest.mark.parametrize("text", [CANARY, "Hunter2", "-a", "a..b", "a/b", "..", "a" * 254, "a\n", "hunter_2", "ä"])
@pytest.mark.parametrize("field", ["name", "namespace"])
def test_a_name_that_no_object_can_have_is_not_shown(field: str, text: str) -> None:
    labels, [failure] = _read(metadata={field: text})
    assert labels == []
    assert failure.startswith("NotAKubernetesObject: metadata.")
    assert "document 1 of f.yaml" in failure
    assert text not in failure.replace("document 1 of f.yaml", "").replace("NotAKubernetesObject", "")


@pytest.mark.parametrize(
    "changes", [{"kind": CANARY}, {"apiVersion": CANARY}, {"apiVersion": f"{CANARY}/v1"}, {"kind": "9"}]
)
def test_a_kind_or_version_that_no_object_can_have_is_not_shown(changes: dict[str, str]) -> None:
    labels, [failure] = _read(**changes)
    assert labels == []
    assert CANARY not in failure
    assert "document 1 of f.yaml" in failure


@pytest.mark.parametrize(
    ("name", "group", "kind"),
    [
        ("a", "", "Secret"),
        ("a.b-c.9", "", "ConfigMap"),
        ("a" * 253, "", "Secret"),
        ("system:admin", "rbac.authorization.k8s.io", "ClusterRole"),
        ("Admin", "rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ("2001:db8::1", "networking.k8s.io", "IPAddress"),
        ("kube:admin", "user.openshift.io", "User"),
        ("plurals.example.com", "apiextensions.k8s.io", "CustomResourceDefinition"),
        ("v1beta1.metrics.k8s.io", "apiregistration.k8s.io", "APIService"),
    ],
)
def test_names_of_real_objects_are_accepted(name: str, group: str, kind: str) -> None:
    assert is_object_name(name, group=group, kind=kind)


@pytest.mark.parametrize(("name", "kind"), [("a.b", "Namespace"), ("a" * 64, "Service"), ("A", "Namespace")])
def test_kinds_with_stricter_names_are_checked_by_their_own_rule(name: str, kind: str) -> None:
    assert not is_object_name(name, group="", kind=kind)


@given(st.text(alphabet=st.characters(exclude_categories=["Ll", "Nd"]), min_size=1))
def test_a_text_with_other_characters_is_not_a_name(text: str) -> None:
    assert not is_object_name(text, group="", kind="Secret")
    assert not is_namespace_name(text)


@pytest.mark.parametrize("text", ["v1", "apps/v1", "jiemi.cr/v1alpha1", "gateway.networking.k8s.io/v1"])
def test_versions_are_accepted(text: str) -> None:
    assert is_api_version(text)
    assert is_kind("HTTPRoute")
