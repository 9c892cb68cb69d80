"""Whose the fields of an object are: as real API servers write managedFields, and whatever stands there instead."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from fakes import managed_fields
from hypothesis import given
from hypothesis import strategies as st
from support.json_values import json_values

from jiemi.core.objects.managed_fields import FIELD_MANAGER, FieldOwnership, field_ownership

NOBODY = FieldOwnership(0, {}, None)


def entry(manager: Any = "kubectl", operation: Any = "Update", **more: Any) -> dict[str, Any]:
    """An entry of managedFields; `keys` are those of `data`."""
    keys = more.pop("keys", ())
    fields: dict[str, Any] = {"f:data": {".": {}} | {f"f:{key}": {} for key in keys}} if keys else {"f:type": {}}
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "v1",
        "time": "2026-11-24T03:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    } | more


def ours(*keys: str, **more: Any) -> dict[str, Any]:
    return entry(FIELD_MANAGER, "Apply", keys=keys, **more)


def owned(*entries: Any) -> FieldOwnership:
    return field_ownership({"managedFields": list(entries)})


TAKEN_OVER: dict[str, Any] = {
    # A Secret that kubectl created, Jiemi applied and Lens edited, in the form in which the API server shows it.
    "name": "app",
    "namespace": "default",
    "uid": "9c2c1c2e-6e0a-4e62-9f6a-3f0d2b6f7a11",
    "resourceVersion": "1174",
    "creationTimestamp": "2026-11-24T03:00:00Z",
    "labels": {"jiemi.cr/decryptor-name": "app", "jiemi.cr/decryptor-namespace": "default"},
    "managedFields": [
        {
            "manager": "jiemi",
            "operation": "Apply",
            "apiVersion": "v1",
            "time": "2026-11-24T03:05:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:data": {"f:password": {}, "f:user": {}},
                "f:metadata": {
                    "f:labels": {"f:jiemi.cr/decryptor-name": {}, "f:jiemi.cr/decryptor-namespace": {}},
                },
                "f:type": {},
            },
        },
        {
            "manager": "kubectl-create",
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2026-11-24T03:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {".": {}, "f:legacy": {}, "f:user": {}}, "f:type": {}},
        },
        {
            "manager": "node-fetch",
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2026-11-24T03:09:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {"f:extra": {}}, "f:metadata": {"f:annotations": {".": {}, "f:note": {}}}},
        },
    ],
}

DEPLOYMENT: dict[str, Any] = {
    "managedFields": [
        {
            "manager": "jiemi",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": "2026-11-24T03:05:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:spec": {
                    "f:replicas": {},
                    "f:template": {
                        "f:spec": {
                            "f:containers": {
                                'k:{"name":"web"}': {
                                    ".": {},
                                    "f:image": {},
                                    "f:name": {},
                                    "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:name": {}}},
                                }
                            }
                        }
                    },
                }
            },
        },
        {
            "manager": "kube-controller-manager",
            "operation": "Update",
            "apiVersion": "apps/v1",
            "time": "2026-11-24T03:30:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:status": {"f:readyReplicas": {}}},
            "subresource": "status",
        },
        {
            "manager": "kube-controller-manager",
            "operation": "Update",
            "apiVersion": "apps/v1",
            "time": "2026-11-24T03:05:01Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:deployment.kubernetes.io/revision": {}}}},
        },
        {
            "manager": "horizontal-autoscaler",
            "operation": "Update",
            "apiVersion": "apps/v1",
            "time": "2026-11-24T03:06:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
            "subresource": "scale",
        },
    ]
}


def test_a_secret_that_others_write_too_is_read_as_the_api_server_shows_it() -> None:
    assert field_ownership(TAKEN_OVER) == FieldOwnership(
        fields=5, foreign_keys={"extra": "node-fetch", "legacy": "kubectl-create"}, last_other="node-fetch"
    )


def test_list_items_count_with_each_of_their_fields() -> None:
    # replicas; of the container itself, image and name; of the port itself and name
    assert field_ownership(DEPLOYMENT) == FieldOwnership(fields=6, foreign_keys={}, last_other="horizontal-autoscaler")


def test_a_field_that_another_took_is_one_fewer_of_ours() -> None:
    changed = copy.deepcopy(TAKEN_OVER)
    del changed["managedFields"][0]["fieldsV1"]["f:data"]["f:password"]
    assert field_ownership(changed).fields == field_ownership(TAKEN_OVER).fields - 1


def test_a_key_that_is_ours_too_is_not_foreign_wherever_its_entry_stands() -> None:
    assert owned(entry("a", keys=["x", "y"]), ours("x")).foreign_keys == {"y": "a"}
    assert owned(ours("x"), entry("a", keys=["x", "y"])).foreign_keys == {"y": "a"}


def test_foreign_keys_are_in_the_order_of_their_names() -> None:
    assert list(owned(entry("a", keys=["z", "b"]), entry("c", keys=["k"])).foreign_keys) == ["b", "k", "z"]


def test_the_map_itself_is_no_key() -> None:
    assert owned(entry("a", keys=["x"])).foreign_keys == {"x": "a"}
    assert owned(entry("a", fieldsV1={"f:data": {".": {}}})).foreign_keys == {}


def test_a_key_may_itself_begin_like_a_field() -> None:
    assert owned(entry("a", keys=["f:x", ".", "k:{}"])).foreign_keys == {"f:x": "a", ".": "a", "k:{}": "a"}


def test_keys_of_other_maps_are_none_of_data() -> None:
    fields = {"f:metadata": {"f:labels": {"f:x": {}}}, "f:binaryData": {"f:y": {}}, "f:stringData": {"f:z": {}}}
    assert owned(entry("a", fieldsV1=fields)).foreign_keys == {}


@pytest.mark.parametrize(
    ("more", "fields", "last"),
    [
        ({}, 2, None),
        ({"operation": "Update"}, 0, FIELD_MANAGER),  # not by an apply: it would not be taken back by the next one
        ({"subresource": "status"}, 0, None),
        ({"subresource": "scale"}, 0, FIELD_MANAGER),
        ({"subresource": ""}, 2, None),
        ({"manager": "jiemi2"}, 0, "jiemi2"),
    ],
)
def test_ours_is_what_our_manager_applied_to_the_object_itself(
    more: dict[str, Any], fields: int, last: str | None
) -> None:
    found = owned(ours("x") | more)
    assert (found.fields, found.last_other) == (fields, last)


def test_the_last_other_is_the_one_by_time_and_not_by_place() -> None:
    early, late = {"time": "2026-11-24T03:00:00Z"}, {"time": "2026-11-24T03:00:01Z"}
    assert owned(entry("late", **late), entry("early", **early)).last_other == "late"
    assert owned(entry("early", **early), entry("late", **late)).last_other == "late"
    assert owned(entry("timeless", time=None), entry("early", **early)).last_other == "early"
    assert owned(entry("only", time=None)).last_other == "only"
    assert owned(ours("x", time="2027-01-01T00:00:00Z"), entry("early", **early)).last_other == "early"


def test_who_writes_the_status_only_is_no_other() -> None:
    status = entry("kubelet", subresource="status", time="2027-01-01T00:00:00Z", keys=["x"])
    assert owned(ours("a"), status) == FieldOwnership(2, {}, None)
    assert owned(ours("a"), status, entry("b")).last_other == "b"


def test_what_the_clusters_own_controllers_put_into_a_secret_is_not_foreign() -> None:
    token = entry("kube-controller-manager", keys=["ca.crt", "namespace", "token"])
    assert owned(ours("extra"), token).foreign_keys == {}
    assert owned(ours("extra"), token).last_other == "kube-controller-manager"
    assert owned(token, entry("vault", keys=["token"])).foreign_keys == {"token": "vault"}


def via_string_data(*keys: str, manager: str = "kubectl", time: Any = "2026-11-24T03:00:01Z") -> dict[str, Any]:
    return entry(manager, "Apply", fieldsV1={"f:stringData": {f"f:{key}": {} for key in keys}}, time=time)


def test_a_value_of_ours_that_another_applied_through_string_data_since_is_found() -> None:
    # The API server leaves the field ours, and the value is the other's (tried with 1.37).
    found = owned(ours("a", "b"), via_string_data("b", "c"))
    assert (found.fields, found.foreign_keys, dict(found.overwritten)) == (3, {}, {"b": "kubectl"})
    assert dict(owned(via_string_data("b"), ours("a", "b")).overwritten) == {"b": "kubectl"}


@pytest.mark.parametrize("time", ["2026-11-24T02:59:59Z", "2026-11-24T03:00:00Z", None, 7])
def test_a_value_that_was_applied_through_string_data_before_us_is_ours_by_now(time: Any) -> None:
    assert dict(owned(ours("a"), via_string_data("a", time=time)).overwritten) == {}


def test_of_several_that_applied_a_value_the_last_one_is_named() -> None:
    first = via_string_data("a", manager="one", time="2026-11-24T03:00:01Z")
    second = via_string_data("a", manager="two", time="2026-11-24T03:00:02Z")
    assert dict(owned(ours("a"), first, second).overwritten) == {"a": "two"}
    assert dict(owned(ours("a"), second, first).overwritten) == {"a": "two"}


def test_who_wrote_since_a_state_that_was_right_is_the_last_writer() -> None:
    helm, edit = entry("helm", time="2026-11-24T02:00:00Z"), entry("kubectl-edit", time="2026-11-24T03:01:00Z")
    right = owned(ours("a"), helm)
    wrong = owned(ours(), helm, edit)
    assert wrong.last_writer(right.others) == "kubectl-edit"
    assert wrong.last_writer(wrong.others) is None
    # Who only takes fields out leaves no trace, and helm did nothing.
    assert owned(ours(), helm).last_writer(right.others) is None
    assert owned(ours(), helm).last_writer(None) == "helm"
    again = entry("helm", time="2026-11-24T03:02:00Z")
    assert owned(ours(), again, edit).last_writer(wrong.others) == "helm"
    assert owned(ours()).last_writer({}) is None
    assert owned(ours()).last_writer(None) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (None, "unknown"),
        ("", "unknown"),
        (7, "unknown"),
        ("\n\x1b", "unknown"),
        ("a\nb\x1b[0m", "ab[0m"),
        ("x" * 200, "x" * 128),
    ],
)
def test_the_name_of_a_manager_is_one_short_line(name: Any, shown: str) -> None:
    found = owned(entry(name, keys=["k"]))
    assert (found.foreign_keys, found.last_other) == ({"k": shown}, shown)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"managedFields": None},
        {"managedFields": []},
        {"managedFields": {}},
        {"managedFields": "jiemi"},
        {"managedFields": [None, 3, "x", [], True]},
        {"managedFields": [{}]},
        {"managedFields": [entry(fieldsV1=None)]},
        {"managedFields": [entry(fieldsV1=[])]},
        {"managedFields": [entry(fieldsV1="f:data")]},
        {"managedFields": [ours("x", fieldsV1=7)]},
    ],
)
def test_what_is_no_entry_counts_for_nothing(metadata: dict[str, Any]) -> None:
    assert field_ownership(metadata) == NOBODY


@pytest.mark.parametrize("data", [None, [], ["f:x"], "f:x", 7, {}, {"x": {}}, {"k:x": {}}, {7: {}}])
def test_data_of_another_form_has_no_keys(data: Any) -> None:
    assert owned(entry("a", fieldsV1={"f:data": data})).foreign_keys == {}


def test_fields_that_are_nested_without_end_are_counted_all_the_same() -> None:
    fields: dict[str, Any] = {"f:leaf": {}}
    for _ in range(20_000):
        fields = {"f:in": fields}
    assert owned(ours(fieldsV1=fields)).fields == 1


_JSON = json_values(
    st.sampled_from(["manager", "operation", "subresource", "time", "fieldsV1", "f:data", "f:x", ".", "managedFields"]),
    st.sampled_from(["jiemi", "Apply", "status"]),
    max_keys=5,
    max_leaves=15,
)

_KEYS = st.sampled_from(["manager", "operation", "subresource", "time", "fieldsType", "fieldsV1", "apiVersion"])


@given(_JSON, st.lists(_JSON, max_size=4))
def test_nothing_that_stands_there_makes_reading_fail(anything: Any, entries: list[Any]) -> None:
    for metadata in ({"managedFields": anything}, {"managedFields": entries}):
        found = field_ownership(metadata)
        assert found.fields >= 0
        for managers in (found.foreign_keys, found.overwritten, found.others):
            assert all(isinstance(text, str) for pair in managers.items() for text in pair)
        assert found.last_writer(found.others) is None
        assert (found.last_writer({}) is None) is (not found.others)


@given(st.lists(st.dictionaries(_KEYS, _JSON), max_size=4))
def test_entries_that_are_broken_keep_none_of_the_good_ones_from_counting(broken: list[dict[str, Any]]) -> None:
    strangers = [{**each, "manager": "x"} for each in broken]
    found = owned(*strangers, ours("a", "b"), entry("late", keys=["c"], time="9999"))
    assert found.fields == 3
    assert found.foreign_keys["c"] == "late"
    assert not {"a", "b"} & found.foreign_keys.keys()


_NAMES = st.sampled_from(["a", "b", "c", "d"])
_VALUES = st.dictionaries(_NAMES, st.sampled_from(["one", "two"]))


def _secret(values: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": dict(values)}


@given(_VALUES, _VALUES)
def test_another_that_writes_after_us_shows_as_fewer_fields_or_foreign_keys(
    applied: dict[str, str], written: dict[str, str]
) -> None:
    obj = managed_fields.applied(None, _secret(applied), FIELD_MANAGER, take_over=True, now="2026-01-01T00:00:00Z")
    assert isinstance(obj, dict)
    before = field_ownership(obj["metadata"])
    assert (before.fields, before.foreign_keys) == (max(len(applied), 1), {})
    new = copy.deepcopy(obj)
    new["data"] = dict(written)
    managed_fields.updated(obj, new, "other", now="2026-01-01T00:00:01Z")
    after = field_ownership(new["metadata"])
    assert set(after.foreign_keys) == {key for key in written if applied.get(key) != written[key]}
    lost = {key for key in applied if written.get(key) != applied[key]}
    if applied:
        assert after.fields == before.fields - len(lost)


def test_of_thousands_of_managers_those_that_wrote_last_are_remembered() -> None:
    entries = [
        {
            "manager": f"m{number}",
            "operation": "Apply",
            "time": f"2026-11-24T03:{number // 60:02}:{number % 60:02}Z",
            "fieldsV1": {"f:data": {f"f:k{number}": {}}},
        }
        for number in range(3_000)
    ]
    found = field_ownership({"managedFields": entries})
    assert (set(found.others), found.last_other) == ({f"m{number}" for number in range(2_990, 3_000)}, "m2999")
    entries[5]["time"] = "2026-11-24T04:00:00Z"
    assert field_ownership({"managedFields": entries}).last_writer(found.others) == "m5"
