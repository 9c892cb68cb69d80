"""Files that hold no Kubernetes objects become a Secret or ConfigMap, and what can't be a key of it is named."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.json_values import json_values

from jiemi.core.api.file_formats import FormatOfFile
from jiemi.core.api.spec import TargetSpec
from jiemi.core.content.formats import Format, format_of
from jiemi.core.errors import JiemiError
from jiemi.core.objects.target import may_hold_objects, require_form, target_manifest, target_values, wants_whole_file
from jiemi.core.sensitive import SensitiveBytes

SECRET = TargetSpec("app")
CONFIG = TargetSpec("app", "ConfigMap")
WITH_KEY = TargetSpec("app", key="the.key")
CANARY = "canary-value"


def sensitive(content: bytes) -> SensitiveBytes:
    return SensitiveBytes(content)


def values(target: TargetSpec, path: str, *documents: Any, content: bytes | None = None) -> dict[str, bytes]:
    found = target_values(
        target,
        path=path,
        documents=[sensitive(json.dumps(each).encode()) for each in documents],
        content=sensitive(content) if content is not None else None,
    )
    assert "canary" not in repr(found)
    return {key: value.reveal() for key, value in found.items()}


def body(target: TargetSpec, **files: dict[str, bytes]) -> Any:
    found = target_manifest(
        target, {path: {key: sensitive(value) for key, value in keys.items()} for path, keys in files.items()}
    )
    assert "canary" not in repr(found)
    return found.body


@pytest.mark.parametrize(
    ("path", "objects", "whole", "whole_with_key"),
    [
        ("a.yaml", True, False, True),
        ("a.yml", True, False, True),
        ("a.json", True, False, True),
        ("a.env", False, False, True),
        ("a.ini", False, True, True),
        ("a.bin", False, True, True),
        ("a", False, True, True),
    ],
)
def test_the_ending_says_what_a_file_may_hold_and_whether_it_is_kept_whole(
    path: str, objects: bool, whole: bool, whole_with_key: bool
) -> None:
    format = format_of(path)
    assert may_hold_objects(format) is objects
    assert wants_whole_file(SECRET, format) is whole
    assert wants_whole_file(WITH_KEY, format) is whole_with_key
    assert wants_whole_file(None, format) is False


def by_name(path: str) -> FormatOfFile:
    return FormatOfFile(format_of(path))


@pytest.mark.parametrize("path", ["a.bin", "values.yaml.enc", "config.yaml.sops", ".dockerconfigjson", "noending"])
def test_a_file_whose_name_says_nothing_needs_a_target_or_its_format_stated(path: str) -> None:
    require_form(None, "a.yaml", by_name("a.yaml"))
    require_form(SECRET, path, by_name(path))
    require_form(None, path, FormatOfFile(Format.YAML, "spec.source.format"))
    with pytest.raises(JiemiError) as caught:
        require_form(None, path, by_name(path))
    assert f"UnknownFormat: {path} ends in none of .yaml, .yml and .json" in str(caught.value)
    assert "State yaml or json in spec.source.format if it does, or give spec.target" in str(caught.value)


@pytest.mark.parametrize("format", [Format.DOTENV, Format.INI, Format.BINARY])
def test_a_stated_format_without_objects_is_named_by_its_field(format: Format) -> None:
    stated = FormatOfFile(format, "spec.source.formats[2]")
    require_form(SECRET, "a.yaml", stated)
    with pytest.raises(JiemiError) as caught:
        require_form(None, "a.yaml", stated)
    assert f"a.yaml: spec.source.formats[2] states that it is {format.value}" in str(caught.value)


@pytest.mark.parametrize("path", ["deploy/A.JSON", "b.Yml", "C.ENV"])
def test_an_ending_in_capitals_is_reported_as_what_is_wrong(path: str) -> None:
    ending = path[path.rindex(".") :]
    require_form(SECRET, path, by_name(path))
    with pytest.raises(JiemiError) as caught:
        require_form(None, path, by_name(path))
    assert caught.value.failure.reason == "UnknownFormat"
    assert f"{path} ends in {ending}: sops and Jiemi know formats by endings in lower case only" in str(caught.value)
    assert f"Rename it to {ending.lower()}" in caught.value.failure.text
    assert "or state in spec.source.format" in caught.value.failure.text


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("tls/server.key", "server.key"),
        ("tls/server.key.enc", "server.key"),
        ("app.enc.ini", "app.ini"),
        ("encoded", "encoded"),
        ("a.b-c_D9", "a.b-c_D9"),
    ],
)
def test_a_file_that_is_kept_whole_is_put_under_its_name_without_enc(path: str, key: str) -> None:
    content = b"\xff" + CANARY.encode()
    assert values(SECRET, path, content=content) == {key: content}
    assert values(WITH_KEY, path, content=content) == {"the.key": content}


@pytest.mark.parametrize("path", ["folder/.enc", "a b.bin", "é.bin", "x" * 254])
def test_a_file_whose_name_can_be_no_key_wants_one(path: str) -> None:
    with pytest.raises(JiemiError, match=r"InvalidSpec: .* has no name that can be a key .*Give spec\.target\.key"):
        values(SECRET, path, content=b"")
    assert values(WITH_KEY, path, content=b"") == {"the.key": b""}


def test_each_text_on_the_top_is_a_key_of_its_own() -> None:
    document = {"USER": "me", "PASSWORD": CANARY, "port": 5432, "ratio": 0.5, "on": True}
    assert values(SECRET, "a.yaml", document) == {
        "USER": b"me",
        "PASSWORD": CANARY.encode(),
        "port": b"5432",
        "ratio": b"0.5",
        "on": b"true",
    }
    assert values(SECRET, "a.env", {"A": "ü\n"}) == {"A": "ü\n".encode()}
    assert values(SECRET, "a.env", {}) == {}


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        ([], "a.yaml has 0 documents, and spec.target without key needs one mapping"),
        ([{"a": CANARY}, {"b": CANARY}], "a.yaml has 2 documents"),
        ([[CANARY]], "a.yaml is no mapping, and spec.target without key needs one"),
        ([CANARY], "a.yaml is no mapping, and spec.target without key needs one"),
        ([{"a": {"b": CANARY}}], "a.yaml: the value of a is no text but a mapping"),
        ([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CANARY}}], "Take spec.target out"),
        ([{"a": [CANARY]}], "a.yaml: the value of a is no text"),
        ([{"a": None}], "a.yaml: the value of a is no text"),
        ([{"a b": CANARY}], "a.yaml has a name that can be no key"),
        ([{"a\n": CANARY}], "a.yaml has a name that can be no key"),
        ([{"": CANARY}], "a.yaml has a name that can be no key"),
    ],
)
def test_what_is_no_mapping_of_texts_is_refused_without_a_value(documents: list[Any], says: str) -> None:
    with pytest.raises(JiemiError) as caught:
        values(SECRET, "a.yaml", *documents)
    assert caught.value.failure.reason == "UnknownFormat"
    assert says in caught.value.failure.text
    assert "canary" not in caught.value.failure.text


def test_a_secret_has_its_values_in_base64_and_its_type() -> None:
    target = TargetSpec("tls", type="kubernetes.io/tls", labels={"a": "b"}, annotations={"c": "d"})
    assert body(target, file={"tls.crt": b"\xff", "tls.key": b""}) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tls", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": "/w==", "tls.key": ""},
    }
    assert body(SECRET, file={}) == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"}, "data": {}}


def test_a_config_map_has_texts_and_apart_what_is_none() -> None:
    assert body(CONFIG, file={"a": "ü".encode(), "b": b"\xff"}) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "app"},
        "data": {"a": "ü"},
        "binaryData": {"b": "/w=="},
    }
    assert body(CONFIG, file={}) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "app"},
        "data": {},
    }


def test_several_files_give_one_object_together() -> None:
    assert body(SECRET, a={"x": b"1"}, b={"y": b"2", "z": b"3"})["data"] == {"x": "MQ==", "y": "Mg==", "z": "Mw=="}
    found = target_manifest(SECRET, {"b.env": {"x": sensitive(b"1")}, "a.env": {}})
    assert (found.file, found.document, found.label) == ("b.env", 1, "Secret app")
    assert target_manifest(SECRET, {}).file == ""


def test_a_key_that_two_files_give_is_named_with_both() -> None:
    same = {"x": sensitive(CANARY.encode())}
    with pytest.raises(JiemiError) as caught:
        target_manifest(CONFIG, {"a.env": {"w": sensitive(b"")}, "b.env": same, "c.env": same})
    assert str(caught.value) == (
        "DuplicateObject: b.env and c.env both give the key x of ConfigMap app. Take the key out of "
        "one of the two, or that file out of spec.source.files by exclude."
    )


_KEYS = st.dictionaries(st.sampled_from("abcde"), st.binary(max_size=4), max_size=3)


@given(st.dictionaries(st.sampled_from(["f", "g", "h"]), _KEYS), st.sampled_from([SECRET, CONFIG]))
def test_an_object_has_every_key_of_every_file_or_there_is_a_duplicate(
    files: dict[str, dict[str, bytes]], target: TargetSpec
) -> None:
    given_keys = [key for keys in files.values() for key in keys]
    if len(given_keys) != len(set(given_keys)):
        with pytest.raises(JiemiError, match="DuplicateObject"):
            body(target, **files)
        return
    found = body(target, **files)
    texts = found["data"] if target is CONFIG else {}
    others = found.get("binaryData", {}) if target is CONFIG else found["data"]
    assert {key: text.encode() for key, text in texts.items()} | {
        key: base64.b64decode(text, validate=True) for key, text in others.items()
    } == {key: value for keys in files.values() for key, value in keys.items()}


_JSON = json_values(st.text(max_size=4), st.floats(allow_nan=False, allow_infinity=False), max_leaves=8)


@given(st.lists(_JSON | st.dictionaries(st.sampled_from(["a", "b.c", "D_9"]), _JSON), max_size=2))
def test_any_documents_give_values_or_the_typed_error(documents: list[Any]) -> None:
    try:
        found = values(SECRET, "a.yaml", *documents)
    except JiemiError as error:
        assert error.failure.reason == "UnknownFormat"
    else:
        assert found.keys() == documents[0].keys()
        assert body(SECRET, file=found)["data"].keys() == found.keys()
