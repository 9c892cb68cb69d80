"""Documents become manifests, and what is no object is named by its number and keeps none of the others back."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.json_values import json_values

from jiemi.core.errors import JiemiError
from jiemi.core.objects.manifests import (
    STAGES,
    MadeKind,
    Manifest,
    adjusted,
    described_keys,
    look_like_objects,
    made_kind,
    read_manifests,
    with_encoded_data,
    without_nulls,
)
from jiemi.core.sensitive import SensitiveBytes


def _documents(*values: Any) -> list[SensitiveBytes]:
    return [SensitiveBytes(json.dumps(value).encode()) for value in values]


def _object(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **more}


def _read(*values: Any) -> tuple[Manifest, ...]:
    manifests, failures = read_manifests(_documents(*values), path="f")
    assert failures == ()
    return manifests


def _secret(**more: Any) -> Manifest:
    return Manifest(_object("Secret", "a", **more), 1, "f")


def test_manifests_keep_the_order_of_the_file_and_their_stages_bring_first_what_others_need() -> None:
    kinds = [
        *("Deployment", "Secret", "RoleBinding", "Role", "ConfigMap", "ClusterRoleBinding"),
        *("CustomResourceDefinition", "Tab", "Namespace", "ServiceAccount"),
    ]
    manifests = _read(*(_object(kind, "x") for kind in kinds))
    assert [manifest.kind for manifest in manifests] == kinds
    assert [manifest.kind for manifest in sorted(manifests, key=lambda manifest: manifest.stage)] == [
        *("CustomResourceDefinition", "Namespace"),
        *("Role", "ServiceAccount"),
        *("RoleBinding", "ClusterRoleBinding"),
        *("Secret", "ConfigMap"),
        *("Deployment", "Tab"),
    ]


def test_no_kind_is_in_two_stages() -> None:
    kinds = [kind for stage in STAGES for kind in stage]
    assert len(kinds) == len(set(kinds))
    assert all(Manifest(_object(kind, "x"), 1).stage == index for index, stage in enumerate(STAGES) for kind in stage)
    assert Manifest(_object("RoleBindings", "x"), 1).stage == len(STAGES)


def test_a_list_stands_for_its_items() -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [_object("Secret", "a"), _object("Secret", "b")]}
    assert [(manifest.label, manifest.document) for manifest in _read(_object("Secret", "c"), listed)] == [
        ("Secret c", 1),
        ("Secret a", 2),
        ("Secret b", 2),
    ]
    deep = {"apiVersion": "v1", "kind": "List", "items": [listed, {"apiVersion": "v1", "kind": "SecretList"} | listed]}
    assert len(_read(deep)) == 4
    assert _read({"apiVersion": "v1", "kind": "SecretList", "items": []}) == ()


def test_items_of_a_list_of_one_kind_need_not_say_what_they_are() -> None:
    # As the API server itself answers such a list, and `kubectl get --raw` prints it.
    plain = {"metadata": {"name": "a"}}
    items = [plain, plain | {"kind": "ConfigMap"}, _object("Secret", "c")]
    assert [each.label for each in _read({"apiVersion": "v1", "kind": "SecretList", "items": items})] == [
        "Secret a",
        "ConfigMap a",
        "Secret c",
    ]
    [job] = _read({"apiVersion": "batch/v1", "kind": "JobList", "metadata": {}, "items": [plain]})
    assert (job.api_version, job.kind) == ("batch/v1", "Job")
    _, [failure] = read_manifests(_documents({"apiVersion": "v1", "kind": "List", "items": [plain]}), path="f")
    assert failure.message == "document 1 of f, items[0] has no apiVersion and no kind"


@pytest.mark.parametrize("rest", [{}, {"items": None}, {"items": []}, {"metadata": {}}])
def test_a_list_of_nothing_is_nothing(rest: dict[str, Any]) -> None:
    assert _read({"apiVersion": "v1", "kind": "List"} | rest) == ()


def test_an_object_whose_kind_ends_like_a_list_is_an_object() -> None:
    value = _object("AllowList", "a", spec={}) | {"apiVersion": "example.com/v1"}
    assert [each.label for each in _read(value, value | {"items": None})] == ["AllowList a", "AllowList a"]


def test_documents_that_hold_nothing_are_no_mistake_where_sops_writes_them() -> None:
    documents = _documents(_object("Secret", "a"), {}, _object("Secret", "b"), {})
    manifests, failures = read_manifests(documents, path="f", decrypted=True)
    assert [(each.label, each.document) for each in manifests] == [("Secret a", 1), ("Secret b", 3)]
    assert failures == ()
    # As for kubectl, in a plain file.
    _, failures = read_manifests(documents, path="f")
    assert [each.message for each in failures] == [
        "document 2 of f has no apiVersion and no kind",
        "document 4 of f has no apiVersion and no kind",
    ]


def test_what_only_the_server_sets_is_left_out() -> None:
    metadata = {"name": "a", "uid": "u", "resourceVersion": "1", "managedFields": [], "labels": {"x": "y"}}
    [manifest] = _read(_object("Secret", "a", status={}) | {"metadata": metadata})
    assert manifest.body == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "labels": {"x": "y"}}}


def test_a_manifest_has_its_file_group_and_label() -> None:
    value = _object("Deployment", "web") | {"apiVersion": "apps/v1", "metadata": {"name": "web", "namespace": "a"}}
    [manifest] = _read(value)
    assert (manifest.file, manifest.api_version, manifest.group_kind) == ("f", "apps/v1", ("apps", "Deployment"))
    assert manifest.label == "Deployment a/web"
    assert _secret().group_kind == ("", "Secret")
    assert _secret().label == "Secret a"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "document 2 of f.yaml is a list, not a mapping"),
        ("x", "document 2 of f.yaml is a single value, not a mapping"),
        (None, "document 2 of f.yaml is a single value, not a mapping"),
        (
            {"a": "b"},
            "document 2 of f.yaml has no apiVersion and no kind. Add both, and metadata.name; or set spec.target",
        ),
        ({"kind": "Secret"}, "document 2 of f.yaml has no apiVersion. Add apiVersion to it."),
        ({"apiVersion": "v1", "kind": ""}, "document 2 of f.yaml has no kind"),
        ({"apiVersion": "v1", "kind": ["Secret"]}, "document 2 of f.yaml has no kind"),
        ({"apiVersion": "v1", "kind": "Secret"}, "document 2 of f.yaml has no metadata.name"),
        (
            {"apiVersion": "v1", "kind": "Secret", "metadata": [{"name": "a"}]},
            "metadata of document 2 of f.yaml is a list, not a mapping. Write it as NAME: VALUE",
        ),
        (
            {"apiVersion": "v1", "kind": "Secret", "metadata": "a"},
            "metadata of document 2 of f.yaml is a single value, not a mapping",
        ),
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": 5}}, "Put the name in quotes."),
        (
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"generateName": "a-"}},
            (
                "document 2 of f.yaml has metadata.generateName and no metadata.name: each apply would make another "
                "object. Give it metadata.name in place of metadata.generateName."
            ),
        ),
        (_object("Secret", "My_App"), "Correct metadata.name: at most 253 characters, small letters, digits, - and ."),
        (_object("Service", "1.a"), "Correct metadata.name: at most 63 characters, small letters"),
        (_object("Secret", "ENC[AES256_GCM,data:x]"), "encrypted_regex: ^(data|stringData)$"),
        (
            _object("Secret", "a") | {"metadata": {"name": "a", "namespace": "My"}},
            "Correct metadata.namespace: at most 63",
        ),
        (_object("Secret", "a") | {"metadata": {"name": "a", "namespace": 1}}, "metadata.namespace of document 2"),
        ({"apiVersion": "v1", "kind": "List", "items": [{}]}, "document 2 of f.yaml, items[0] has no apiVersion"),
    ],
)
def test_what_is_no_object_is_named_and_keeps_none_of_the_others_back(value: Any, message: str) -> None:
    documents = _documents(_object("Secret", "a"), value, _object("Secret", "b"))
    manifests, failures = read_manifests(documents, path="f.yaml")
    assert [(manifest.label, manifest.document) for manifest in manifests] == [("Secret a", 1), ("Secret b", 3)]
    [failure] = failures
    assert failure.reason == "NotAKubernetesObject"
    assert message in failure.text


def test_broken_documents_are_reported_one_by_one() -> None:
    manifests, failures = read_manifests(_documents(1, _object("Secret", "a"), {}, []), path="f")
    assert [manifest.label for manifest in manifests] == ["Secret a"]
    assert [failure.message for failure in failures] == [
        "document 1 of f is a single value, not a mapping",
        "document 3 of f has no apiVersion and no kind",
        "document 4 of f is a list, not a mapping",
    ]


def test_a_file_without_documents_has_no_objects() -> None:
    # Whether that may be is not for here to say.
    assert read_manifests([], path="f") == ((), ())


def test_the_body_is_not_in_the_repr() -> None:
    [manifest] = _read(_object("Secret", "a", stringData={"k": "canary"}))
    assert "canary" not in repr(manifest)
    assert "canary" not in repr(adjusted(with_encoded_data(manifest), namespace="x", labels={}, annotations={}))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], False),
        ([_object("Secret", "a")], True),
        ([_object("Secret", "a"), _object("Secret", "b")], True),
        ([{"apiVersion": None, "kind": 7}], True),  # it means to be one: what is wrong with it is reported
        ([{"apiVersion": "v1"}], False),
        ([{"kind": "x"}], False),
        ([{"user": "me"}], False),
        ([_object("Secret", "a"), {"user": "me"}], False),
        (["apiVersion kind"], False),
        ([["apiVersion", "kind"]], False),
        ([None], False),
    ],
)
def test_documents_look_like_objects_where_each_names_a_version_and_a_kind(values: list[Any], expected: bool) -> None:
    assert look_like_objects(_documents(*values)) is expected


# --- stringData


def test_string_data_is_encoded_and_goes_before_data_as_on_the_api_server() -> None:
    before = _secret(stringData={"a": "new", "u": "ü"}, data={"a": "b2xk", "b": "eA=="}, type="Opaque")
    assert with_encoded_data(before).body == _object(
        "Secret", "a", type="Opaque", data={"a": "bmV3", "u": "w7w=", "b": "eA=="}
    )
    assert (with_encoded_data(before).document, with_encoded_data(before).file) == (1, "f")
    assert before.body["stringData"] == {"a": "new", "u": "ü"}


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": {}}])
def test_string_data_needs_no_data(data: dict[str, Any]) -> None:
    assert with_encoded_data(_secret(stringData={"a": ""}, **data)).body == _object("Secret", "a", data={"a": ""})


@pytest.mark.parametrize(
    "manifest",
    [
        _secret(data={"a": "eA=="}),
        _secret(),
        _secret(stringData="text"),
        _secret(stringData=[]),
        _secret(stringData=0),
        _secret(stringData={"a": 1}),
        _secret(stringData={"a": False, "b": None}),
        _secret(stringData={"a": {}, "b": None}),
        _secret(stringData=None, data=[]),
        _secret(stringData={"a": "x"}, data="text"),
        _secret(stringData={"a": "x"}, data=["y"]),
        _secret(stringData={"a": "\ud800"}),
        Manifest(_object("ConfigMap", "a", stringData={"a": "x"}), 1),
        Manifest(_object("Secret", "a", stringData={"a": "x"}) | {"apiVersion": "example.com/v1"}, 1),
    ],
)
def test_what_has_no_string_data_to_encode_is_left_as_it_is(manifest: Manifest) -> None:
    assert with_encoded_data(manifest) is manifest


@pytest.mark.parametrize(
    ("given", "data"),
    [
        ({"stringData": {"a": "x", "b": None}}, {"a": "eA==", "b": ""}),
        ({"stringData": {"b": None}, "data": {"b": "eA=="}}, {"b": ""}),
        ({"stringData": {"b": "x"}, "data": {"b": None}}, {"b": "eA=="}),
        ({"stringData": {"b": "x"}, "data": {"a": None}}, {"a": None, "b": "eA=="}),
        ({"stringData": {"b": None}, "data": None}, {"b": ""}),
        ({"stringData": {}, "data": {"a": "eA=="}}, {"a": "eA=="}),
        ({"stringData": None, "data": {"a": "eA=="}}, {"a": "eA=="}),
    ],
)
def test_a_null_in_string_data_is_the_empty_text_as_on_the_api_server(
    given: dict[str, Any], data: dict[str, Any]
) -> None:
    assert with_encoded_data(_secret(**given)).body == _object("Secret", "a", data=data)
    assert described_keys(_secret(**given)) == set(data)
    assert described_keys(with_encoded_data(_secret(**given))) == set(data)


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
@pytest.mark.parametrize("part", ["data", "binaryData", "stringData"])
def test_nulls_in_maps_of_texts_are_empty_texts_and_maps_that_are_null_are_none(kind: str, part: str) -> None:
    metadata = {"name": "a", "labels": {"a": None, "b": "x"}, "annotations": None}
    given = Manifest(_object(kind, "a", **{part: {"k": None, "n": 1}}) | {"metadata": metadata}, 1)
    assert without_nulls(given).body == _object(kind, "a", **{part: {"k": "", "n": 1}}) | {
        "metadata": {"name": "a", "labels": {"a": "", "b": "x"}}
    }
    assert without_nulls(Manifest(_object(kind, "a", **{part: None}), 1)).body == _object(kind, "a")
    for other in ([None], "x", 0, False):
        assert without_nulls(Manifest(_object(kind, "a", **{part: other}), 1)).body[part] == other


def test_nulls_of_other_kinds_are_the_api_servers_to_judge() -> None:
    for manifest in (
        Manifest(_object("Thing", "a", data={"k": None}, spec=None) | {"apiVersion": "x/v1"}, 1),
        Manifest(_object("Secret", "a", data={"k": None}, spec=None) | {"apiVersion": "x/v1"}, 1),
        Manifest(_object("Service", "a", spec={"k": None}), 1),
    ):
        assert without_nulls(manifest).body == manifest.body


def test_metadata_that_is_null_is_none_as_on_the_api_server() -> None:
    """`namespace:` with nothing behind it, as templates leave it, is what kubectl takes for no namespace."""
    nulls = dict.fromkeys(("namespace", "labels", "annotations", "finalizers", "ownerReferences", "generateName"))
    given = _object("Secret", "a") | {"metadata": {"name": "a", **nulls}}
    [manifest], failures = read_manifests([SensitiveBytes(json.dumps(given).encode())], path="a.yaml")
    assert (manifest.body["metadata"], failures) == ({"name": "a"}, ())


def test_string_data_that_is_null_is_none() -> None:
    assert with_encoded_data(_secret(stringData=None)).body == _object("Secret", "a")


def test_the_keys_that_a_secret_gives_are_known_in_whatever_form_it_is() -> None:
    assert described_keys(_secret(stringData={"a": 1, "c": None}, data={"b": "eA=="})) == {"a", "b", "c"}
    assert described_keys(_secret(stringData="a", data=["b"])) == set()
    assert described_keys(Manifest(_object("ConfigMap", "a", data={"a": "x"}), 1)) == set()
    assert described_keys(Manifest(_object("Secret", "a", data={"a": "x"}) | {"apiVersion": "x/v1"}, 1)) == set()


@given(st.dictionaries(st.text(max_size=3), st.text(st.characters(codec="utf-8"), max_size=9)))
def test_what_is_encoded_is_what_was_said(texts: dict[str, str]) -> None:
    body = with_encoded_data(_secret(stringData=texts)).body
    assert "stringData" not in body
    assert {key: base64.b64decode(value, validate=True).decode() for key, value in body["data"].items()} == texts


# --- adjusted


def _adjusted(metadata: dict[str, Any], **more: Any) -> Any:
    manifest = Manifest(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", **metadata}, "data": {}}, 3, "f"
    )
    found = adjusted(manifest, **({"namespace": None, "labels": {}, "annotations": {}} | more))
    assert (found.document, found.file, found.body["data"]) == (3, "f", {})
    assert manifest.body["metadata"] == {"name": "a", **metadata}
    return {name: value for name, value in found.body["metadata"].items() if name != "name"}


def test_the_namespace_is_replaced_where_one_is_given() -> None:
    assert _adjusted({}) == {}
    assert _adjusted({"namespace": "own"}) == {"namespace": "own"}
    assert _adjusted({"namespace": "own"}, namespace="given") == {"namespace": "given"}
    assert _adjusted({}, namespace="given") == {"namespace": "given"}


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_labels_and_annotations_that_are_given_go_over_the_manifests_own(field: str) -> None:
    assert _adjusted({field: {"a": "own", "b": "own"}}, **{field: {"b": "given", "c": "given"}}) == {
        field: {"a": "own", "b": "given", "c": "given"}
    }
    assert _adjusted({}, **{field: {"a": "given"}}) == {field: {"a": "given"}}
    assert _adjusted({field: None}, **{field: {"a": "given"}}) == {field: {"a": "given"}}
    assert _adjusted({field: {"a": "own"}}) == {field: {"a": "own"}}


@pytest.mark.parametrize("field", ["labels", "annotations"])
@pytest.mark.parametrize("own", [["a"], "a=b", 7, True, [], "", 0, False])
def test_labels_and_annotations_that_are_no_mapping_are_named(field: str, own: Any) -> None:
    with pytest.raises(JiemiError, match=f"NotAKubernetesObject: Secret a: metadata.{field} is no mapping"):
        _adjusted({field: own})


# --- kinds that are made


def _definition(**more: Any) -> Manifest:
    versions = [{"name": "v1", "served": True}, {"name": "v2", "served": True}, {"name": "v0", "served": False}]
    spec = {"group": "example.com", "names": {"kind": "Tab"}, "scope": "Namespaced", "versions": versions} | more
    return Manifest(_object("CustomResourceDefinition", "tabs.example.com", spec=spec), 1)


def test_a_definition_makes_a_kind_in_the_versions_that_are_served() -> None:
    assert made_kind(_definition()) == MadeKind("example.com", "Tab", True, ("v1", "v2"))
    assert made_kind(_definition(scope="Cluster")) == MadeKind("example.com", "Tab", False, ("v1", "v2"))


@pytest.mark.parametrize("versions", [None, {}, "v1", [], ["v1"], [{"name": "v1"}], [{"name": "v1", "served": "true"}]])
def test_versions_that_are_not_served_are_none(versions: Any) -> None:
    assert made_kind(_definition(versions=versions)) == MadeKind("example.com", "Tab", True, ())


@pytest.mark.parametrize(
    "manifest",
    [
        _secret(spec={"group": "example.com", "names": {"kind": "Tab"}}),
        _definition(names=None),
        _definition(names=["Tab"]),
        Manifest(_object("CustomResourceDefinition", "x"), 1),
        Manifest(_object("CustomResourceDefinition", "x", spec=[]), 1),
    ],
)
def test_other_manifests_make_no_kind(manifest: Manifest) -> None:
    assert made_kind(manifest) is None


# --- whatever stands there


_JSON = json_values(
    st.sampled_from(
        ["apiVersion", "kind", "metadata", "name", "items", "namespace", "labels", "stringData", "data", "spec"]
    ),
    st.sampled_from(["Secret", "List", "v1"]),
    max_keys=10,
    max_leaves=12,
)


@given(
    st.lists(
        _JSON
        | st.fixed_dictionaries({}, optional=dict.fromkeys(["spec", "data", "stringData"], _JSON)).map(
            lambda more: _object("Secret", "a", **more)
        ),
        max_size=4,
    )
)
def test_each_document_gives_its_objects_or_the_typed_failure(values: list[Any]) -> None:
    manifests, failures = read_manifests(_documents(*values), path="f")
    assert {failure.reason for failure in failures} <= {"NotAKubernetesObject"}
    assert all(" of f" in failure.text for failure in failures)
    described = {manifest.document for manifest in manifests}
    assert len(failures) + len(described) <= len(values)
    for number, value in enumerate(values, start=1):
        [alone, wrong] = read_manifests(_documents(value), path="f")
        assert [manifest.body for manifest in manifests if manifest.document == number] == [
            manifest.body for manifest in alone
        ]
        assert not (alone and wrong)
    for manifest in manifests:
        assert isinstance(manifest.body["metadata"]["name"], str)
        made_kind(manifest)
        try:
            adjusted(with_encoded_data(manifest), namespace="x", labels={"a": "b"}, annotations={})
        except JiemiError as error:
            assert error.failure.reason == "NotAKubernetesObject"


def test_a_document_of_too_many_values_is_refused_before_it_is_read() -> None:
    bomb = b'{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "x": [' + b"{}," * 1_600_000 + b"0]}"
    manifests, [failure] = read_manifests([SensitiveBytes(bomb)], path="f.yaml")
    assert manifests == ()
    assert failure.reason == "LimitExceeded"
    assert "document 1 of f.yaml" in failure.text


def test_a_long_list_of_usual_objects_is_read() -> None:
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "x,y:z{" * 300}}
    listed = {"apiVersion": "v1", "kind": "List", "items": [item] * 1_500}
    manifests, failures = read_manifests([SensitiveBytes(json.dumps(listed).encode())], path="f.yaml")
    assert (len(manifests), failures) == (1_500, ())
