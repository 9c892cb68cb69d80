"""Documents become ordered manifests, and what is no object is named by its number."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import JiemiError
from jiemi.core.manifests import read_manifests
from jiemi.core.sensitive import SensitiveBytes


def _documents(*values: Any) -> list[SensitiveBytes]:
    return [SensitiveBytes(json.dumps(value).encode()) for value in values]


def _object(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **more}


def test_namespaces_and_definitions_come_first_and_the_rest_keeps_its_order() -> None:
    documents = _documents(
        _object("Secret", "z"),
        _object("Role", "r"),
        _object("ConfigMap", "a"),
        _object("CustomResourceDefinition", "d"),
        _object("Namespace", "n"),
    )
    labels = [manifest.label for manifest in read_manifests(documents, path="f")]
    assert labels == ["Namespace n", "CustomResourceDefinition d", "Role r", "Secret z", "ConfigMap a"]


def test_a_list_stands_for_its_items() -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [_object("Secret", "a"), _object("Secret", "b")]}
    manifests = read_manifests(_documents(_object("Secret", "c"), listed), path="f")
    assert [(manifest.label, manifest.document) for manifest in manifests] == [
        ("Secret c", 1),
        ("Secret a", 2),
        ("Secret b", 2),
    ]


def test_what_only_the_server_sets_is_left_out() -> None:
    metadata = {"name": "a", "uid": "u", "resourceVersion": "1", "managedFields": [], "labels": {"x": "y"}}
    [manifest] = read_manifests(_documents(_object("Secret", "a", status={}) | {"metadata": metadata}), path="f")
    assert manifest.body == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "labels": {"x": "y"}}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "document 2 of f.yaml is no mapping"),
        ({"kind": "Secret"}, "document 2 of f.yaml has no apiVersion"),
        ({"apiVersion": "v1", "kind": ""}, "document 2 of f.yaml has no kind"),
        ({"apiVersion": "v1", "kind": "Secret"}, "document 2 of f.yaml has no metadata.name"),
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": 5}}, "has no metadata.name"),
        (_object("Secret", "a") | {"metadata": {"name": "a", "namespace": 1}}, "metadata.namespace of document 2"),
        ({"apiVersion": "v1", "kind": "List", "items": [{}]}, "document 2 of f.yaml, items[0] has no apiVersion"),
    ],
)
def test_what_is_no_object_is_named(value: Any, message: str) -> None:
    with pytest.raises(JiemiError) as caught:
        read_manifests(_documents(_object("Secret", "a"), value), path="f.yaml")
    assert caught.value.failure.reason == "NotAKubernetesObject"
    assert message in caught.value.failure.message


def test_a_file_without_documents_is_refused_rather_than_taken_for_done() -> None:
    with pytest.raises(JiemiError, match="holds no document"):
        read_manifests([], path="f")


def test_the_body_is_not_in_the_repr() -> None:
    [manifest] = read_manifests(_documents(_object("Secret", "a", stringData={"k": "canary"})), path="f")
    assert "canary" not in repr(manifest)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["apiVersion", "kind", "metadata", "name", "items", "namespace"]), inner)
    ),
    max_leaves=12,
)


@given(st.lists(_JSON, max_size=3))
def test_any_documents_give_manifests_or_the_typed_error(values: list[Any]) -> None:
    try:
        manifests = read_manifests(_documents(*values), path="f")
    except JiemiError as error:
        assert error.failure.reason == "NotAKubernetesObject"
    else:
        assert all(isinstance(manifest.body["metadata"]["name"], str) for manifest in manifests)
