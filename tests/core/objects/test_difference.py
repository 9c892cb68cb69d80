"""A difference has names, all of them or how many more, and nothing of a value."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.objects.difference import MAX_NAMES, NAME_LIMIT_CHARACTERS, Difference, difference

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "x", "namespace": "a", "labels": {"app": "web"}},
    "type": "Opaque",
    "data": {"token": "b25l", "tls.crt": "dHdv"},
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "x", "namespace": "a"},
    "spec": {
        "replicas": 1,
        "template": {
            "spec": {"containers": [{"name": "web", "image": "one", "env": [{"name": "A", "value": "s3cret"}]}]}
        },
    },
}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def edited(obj: dict[str, Any], *path: str | int, to: Any) -> dict[str, Any]:
    """A copy with the value at a path set, or taken out where it is to be `...`."""
    result = copy.deepcopy(obj)
    place: Any = result
    for step in path[:-1]:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return result


@pytest.mark.parametrize("obj", [SECRET, DEPLOYMENT, {}])
def test_what_is_equal_is_unchanged(obj: dict[str, Any]) -> None:
    assert difference(obj, copy.deepcopy(obj)) == Difference("Unchanged")


@pytest.mark.parametrize(
    ("path", "to", "expected"),
    [
        (("data", "token"), "bmV3", Difference("Change", changed=("data.token",))),
        (("data", "new"), "bmV3", Difference("Change", added=("data.new",))),
        (("data", "tls.crt"), ..., Difference("Change", removed=("data.tls.crt",))),
        (("data",), ..., Difference("Change", removed=("data.tls.crt", "data.token"))),
        (("stringData", "new"), "x", Difference("Change", added=("data.new",))),
        (("stringData", "token"), "two", Difference("Change", changed=("data.token",))),
        (("stringData", "token"), "one", Difference("Unchanged")),
        (("stringData", "new"), "\ud800", Difference("Change", added=("data.new",))),
        (("stringData",), {}, Difference("Unchanged")),
        (("stringData",), None, Difference("Unchanged")),
        (("data",), "junk", Difference("Change", ("data",), (), ("data.tls.crt", "data.token"))),
        (("data", "token"), {"deep": {"er": 1}}, Difference("Change", changed=("data.token",))),
        (("type",), "kubernetes.io/tls", Difference("Change", changed=("type",))),
        (("immutable",), True, Difference("Change", added=("immutable",))),
        (("metadata", "labels", "app"), "api", Difference("Change", changed=("metadata.labels.app",))),
        (("metadata", "labels"), ..., Difference("Change", removed=("metadata.labels.app",))),
        (("metadata", "labels"), {}, Difference("Change", removed=("metadata.labels.app",))),
        (
            ("metadata", "labels", "app.kubernetes.io/name"),
            "api",
            Difference("Change", added=("metadata.labels.app.kubernetes.io/name",)),
        ),
        (("metadata", "annotations", "note"), "x", Difference("Change", added=("metadata.annotations.note",))),
        (("metadata", "annotations"), {}, Difference("Unchanged")),
        (("metadata", "finalizers"), ["x"], Difference("Change", added=("metadata.finalizers",))),
    ],
)
def test_a_secret_differs_by_its_keys(path: tuple[str, ...], to: Any, expected: Difference) -> None:
    assert difference(SECRET, edited(SECRET, *path, to=to)) == expected


def test_a_config_map_differs_by_its_keys_in_either_field() -> None:
    live = {"kind": "ConfigMap", "data": {"a": "b25l", "b": "x"}, "binaryData": {"c": "b25l"}}
    planned = {"kind": "ConfigMap", "data": {"b": "y"}, "binaryData": {"a": "b25l", "d": ""}}
    assert difference(live, planned) == Difference("Change", ("data.d",), ("data.a", "data.b"), ("data.c",))


def test_data_of_other_kinds_differs_by_path() -> None:
    live, planned = {"kind": "Thing", "data": {"a": {"b": 1}}}, {"kind": "Thing", "data": {"a": {"b": 2}}}
    assert difference(live, planned).changed == ("data.a.b",)


@pytest.mark.parametrize(
    ("path", "to", "expected"),
    [
        (("spec", "replicas"), 3, Difference("Change", changed=("spec.replicas",))),
        (("spec", "replicas"), True, Difference("Change", changed=("spec.replicas",))),
        (("spec", "replicas"), 1.0, Difference("Unchanged")),
        (("spec", "paused"), False, Difference("Change", added=("spec.paused",))),
        (("spec", "strategy"), {"type": "Recreate"}, Difference("Change", added=("spec.strategy",))),
        (("spec", "replicas"), ..., Difference("Change", removed=("spec.replicas",))),
        (("spec", "replicas"), {"a": 1}, Difference("Change", changed=("spec.replicas",))),
        (("spec",), {}, Difference("Change", removed=("spec.replicas", "spec.template"))),
        (
            ("spec", "template", "spec", "containers", 0, "image"),
            "two",
            Difference("Change", changed=("spec.template.spec.containers[0].image",)),
        ),
        (
            ("spec", "template", "spec", "containers", 0, "env", 0, "value"),
            "other",
            Difference("Change", changed=("spec.template.spec.containers[0].env",)),
        ),
        (
            ("spec", "template", "spec", "containers"),
            [],
            Difference("Change", removed=("spec.template.spec.containers[0]",)),
        ),
        (("spec", "template", "spec"), [], Difference("Change", changed=("spec.template.spec",))),
    ],
)
def test_other_kinds_differ_by_path_down_to_six_levels(
    path: tuple[str | int, ...], to: Any, expected: Difference
) -> None:
    assert difference(DEPLOYMENT, edited(DEPLOYMENT, *path, to=to)) == expected


def test_what_a_list_gains_is_named_by_index() -> None:
    live, planned = {"spec": {"ports": [1, 2]}}, {"spec": {"ports": [1, 3, 4]}}
    assert difference(live, planned) == Difference("Change", ("spec.ports[2]",), ("spec.ports[1]",))


@pytest.mark.parametrize(
    ("obj", "added"),
    [
        (SECRET, ("data.tls.crt", "data.token", "metadata.labels.app", "type")),
        (DEPLOYMENT, ("spec",)),
        ({"kind": "Secret", "metadata": {"name": "x"}, "stringData": {"a": "b"}}, ("data.a",)),
        ({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "x"}}, ()),
        ({}, ()),
    ],
)
def test_a_new_object_is_created_with_its_names_but_not_what_names_it(
    obj: dict[str, Any], added: tuple[str, ...]
) -> None:
    assert difference(None, obj) == Difference("Create", added=added)


@pytest.mark.parametrize(
    "name",
    [
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
        "uid",
    ],
)
def test_metadata_that_the_server_sets_is_ignored_there_and_nowhere_else(name: str) -> None:
    assert difference(SECRET, edited(SECRET, "metadata", name, to="x")).action == "Unchanged"
    assert difference(edited(SECRET, "metadata", name, to=[{"v": 1}]), SECRET).action == "Unchanged"
    assert difference(DEPLOYMENT, edited(DEPLOYMENT, "spec", name, to="x")).added == (f"spec.{name}",)


def test_status_is_ignored_at_the_top_and_nowhere_else() -> None:
    assert difference(DEPLOYMENT, edited(DEPLOYMENT, "status", "replicas", to=1)).action == "Unchanged"
    assert difference(DEPLOYMENT, edited(DEPLOYMENT, "spec", "status", to=1)).added == ("spec.status",)


@pytest.mark.parametrize("value", [json.dumps(SECRET), {"canary": ["canary"]}, None])
def test_kubectls_copy_of_the_object_is_not_looked_into(value: Any) -> None:
    copied = edited(SECRET, "metadata", "annotations", LAST_APPLIED, to=value)
    assert difference(SECRET, copied).action == "Unchanged"
    assert difference(copied, SECRET).action == "Unchanged"
    assert difference(edited(copied, "metadata", "annotations", "a", to="b"), copied).removed == (
        "metadata.annotations.a",
    )


def test_a_value_of_a_label_or_annotation_is_never_looked_into() -> None:
    live = edited(SECRET, "metadata", "annotations", "a", to={"canary": 1})
    planned = edited(SECRET, "metadata", "annotations", "a", to={"canary": 2, "other": 1})
    assert difference(live, planned).changed == ("metadata.annotations.a",)


def test_one_that_becomes_a_secret_is_treated_as_one_on_both_sides() -> None:
    live = {"kind": "Thing", "data": {"a": {"canary": 1}}}
    planned = {"kind": "Secret", "data": {"a": {"canary": 2}}}
    for before, after in ((live, planned), (planned, live)):
        assert difference(before, after) == Difference("Change", changed=("data.a", "kind"))


def test_more_names_than_fit_are_counted() -> None:
    data = {f"k{number:03}": b64("x") for number in range(MAX_NAMES + 7)}
    result = difference({"kind": "Secret"}, {"kind": "Secret", "data": data, "type": "Opaque"})
    assert (result.action, len(result.added), result.more) == ("Change", MAX_NAMES, 8)
    assert result.changed == result.removed == ()


def test_names_are_shared_out_in_order_among_the_three() -> None:
    live = {"kind": "Secret", "data": {f"k{number:03}": b64("x") for number in range(0, 90, 2)}}
    planned = {"kind": "Secret", "data": {f"k{number:03}": b64("y") for number in range(0, 90, 3)}}
    result = difference(live, planned)
    assert len(result.added) + len(result.changed) + len(result.removed) == MAX_NAMES
    assert (len(result.added), len(result.changed), len(result.removed), result.more) == (12, 13, 25, 10)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a\nb\x1b[31m", "data.a?b?[31m"),
        ("\u202egnp", "data.?gnp"),
        ("\ud800", "data.?"),
        ("密钥", "data.密钥"),
        ("", 'data.""'),
        ("x" * 10_000, "data." + "x" * (NAME_LIMIT_CHARACTERS - 6) + "…"),
    ],
)
def test_names_are_printable_and_cut(key: str, name: str) -> None:
    assert difference({"kind": "Secret"}, {"kind": "Secret", "data": {key: "eA=="}}).added == (name,)
    assert difference({}, {"data": {}, "x": {key: 1}}).added == ("data", "x")


def test_long_names_of_every_level_stay_within_the_limit() -> None:
    key = "k" * 150
    live: Any = {key: {key: {key: [{key: {key: {key: 1}}}]}}}
    planned: Any = {key: {key: {key: [{key: {key: {key: 2}}}]}}}
    [name] = difference(live, planned).changed
    assert len(name) == NAME_LIMIT_CHARACTERS


def nested(depth: int, value: Any) -> Any:
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


def test_depth_is_no_limit() -> None:
    live, planned = {"kind": "Secret", "data": {"a": nested(50_000, 1)}}, {"spec": nested(50_000, 1)}
    assert difference(live, {"kind": "Secret", "data": {"a": nested(50_000, 2)}}).changed == ("data.a",)
    assert difference(live, {"kind": "Secret", "data": {"a": nested(50_000, 1)}}).action == "Unchanged"
    assert difference(planned, {"spec": nested(50_000, 2)}).changed == ("spec[0].a[0].a[0]",)


CANARY = "c4n4ry"
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.text(max_size=5).map(lambda text: f"{text}{CANARY}{text}")
)
KEYS = st.sampled_from(["a", "b", "name", "labels", "data", "token"]) | st.text(max_size=4)
JSON = st.recursive(
    SCALARS, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(KEYS, parts, max_size=3), max_leaves=8
)
BELOW_A_KEY = st.recursive(
    SCALARS,
    lambda parts: st.lists(parts, max_size=2) | st.dictionaries(st.just(CANARY) | KEYS, parts, max_size=2),
    max_leaves=5,
)
KEYED = st.dictionaries(KEYS | st.just(LAST_APPLIED), BELOW_A_KEY, max_size=3)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(max_size=3),
        "labels": KEYED | SCALARS,
        "annotations": KEYED | SCALARS,
        "managedFields": JSON,
        "uid": JSON,
        "finalizers": JSON,
    },
)
FIELDS = {
    "apiVersion": st.just("v1") | JSON,
    "metadata": METADATA | SCALARS,
    "type": JSON,
    "spec": JSON,
    "status": JSON,
}
HOLDERS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["Secret", "ConfigMap"])},
    optional={**FIELDS, "data": KEYED | SCALARS, "binaryData": KEYED | SCALARS, "stringData": KEYED | SCALARS},
)
OTHERS = st.fixed_dictionaries({"kind": st.just("Deployment") | JSON}, optional=FIELDS)
OBJECTS: st.SearchStrategy[Any] = HOLDERS | OTHERS | st.dictionaries(KEYS, JSON, max_size=4)


@given(st.none() | OBJECTS, OBJECTS)
def test_no_value_gets_into_the_result_and_all_of_it_is_bounded(live: Any, planned: Any) -> None:
    result = difference(live, planned)
    assert CANARY not in repr(result)
    names = (*result.added, *result.changed, *result.removed)
    assert len(names) <= MAX_NAMES
    assert all(name.isprintable() and 0 < len(name) <= NAME_LIMIT_CHARACTERS for name in names)
    assert (result.action == "Create") is (live is None)
    if live is not None:
        assert (result.action == "Unchanged") is (names == () and result.more == 0)


@given(JSON, JSON)
def test_any_json_has_an_answer(live: Any, planned: Any) -> None:
    assert difference(live, planned).action in {"Create", "Change", "Unchanged"}


def plain(obj: Any) -> str:
    """What is left of an object when all that counts as equal is made the same, as text in which true is no 1."""
    obj = copy.deepcopy(obj)
    obj.pop("status", None)
    fields = [(obj, "metadata")]
    if isinstance(obj.get("metadata"), dict):
        metadata = obj["metadata"]
        for name in ("managedFields", "uid"):
            metadata.pop(name, None)
        if isinstance(metadata.get("annotations"), dict):
            metadata["annotations"].pop(LAST_APPLIED, None)
        fields = [(metadata, "labels"), (metadata, "annotations"), *fields]
    if obj["kind"] in ("Secret", "ConfigMap"):
        if (
            obj["kind"] == "Secret"
            and isinstance(obj.get("stringData"), dict)
            and isinstance(obj.get("data"), dict | None)
        ):
            strings = obj.pop("stringData")
            encoded = {key: b64(value) if isinstance(value, str) else value for key, value in strings.items()}
            obj["data"] = {**(obj.get("data") or {}), **encoded}
        fields += [(obj, "data"), (obj, "binaryData"), (obj, "stringData")]
    for place, name in fields:
        if place.get(name, None) in ({}, None):
            place.pop(name, None)
    return json.dumps(obj, sort_keys=True)


# Floats that are whole are equal to integers, and are not in this text.
PAIRED = HOLDERS.filter(lambda obj: obj.get("data") is None or isinstance(obj["data"], dict)) | OTHERS.filter(
    lambda obj: obj["kind"] not in ("Secret", "ConfigMap")
)


def _without_floats(value: Any) -> Any:
    """With texts in place of floats, and of NaN, which is not equal to itself and which no API server gives."""
    return json.loads(json.dumps(value), parse_float=str, parse_constant=str)


@given(PAIRED, PAIRED)
def test_what_is_unchanged_is_what_is_equal_except_for_what_is_ignored(live: Any, planned: Any) -> None:
    live, planned = _without_floats(live), _without_floats(planned)
    if live["kind"] == planned["kind"]:
        assert (difference(live, planned).action == "Unchanged") is (plain(live) == plain(planned))
    else:
        assert difference(live, planned).action == "Change"


@given(PAIRED, st.data())
def test_one_edit_is_seen_and_is_unchanged_where_it_is_ignored(obj: Any, data: st.DataObject) -> None:
    """Random pairs are hardly ever alike: so here are two that are alike but for one place."""
    obj = _without_floats(obj)
    places: list[tuple[Any, Any]] = []
    copied = copy.deepcopy(obj)
    waiting = [copied]
    while waiting:
        place = waiting.pop()
        steps = list(place) if isinstance(place, dict) else range(len(place))
        places += [(place, step) for step in steps if not (place is copied and step == "kind")]
        waiting += [place[step] for step in steps if isinstance(place[step], dict | list)]
    if places:
        place, step = data.draw(st.sampled_from(places))
        place[step] = data.draw(st.just(place[step]) | SCALARS.filter(lambda value: not isinstance(value, float)))
    if obj["kind"] == "Secret" and not isinstance(copied.get("data"), dict | None):
        return
    assert (difference(obj, copied).action == "Unchanged") is (plain(obj) == plain(copied))


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
@pytest.mark.parametrize("part", ["data", "stringData", "labels", "annotations"])
def test_a_null_in_a_map_of_texts_is_the_empty_text(kind: str, part: str) -> None:
    def made(value: Any, of: str) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": "a"} | ({of: {"k": value}} if of in {"labels", "annotations"} else {})
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata} | (
            {of: {"k": value}} if of.endswith("ata") else {}
        )

    live = made("", "data" if kind == "Secret" and part == "stringData" else part)
    assert difference(live, made(None, part)).action == "Unchanged"
