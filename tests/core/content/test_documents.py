"""Decrypted bytes -> documents: what each scalar means, what is refused, what is bounded."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jiemi.core.content.document_limits import MAX_NODES
from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError


def yaml(text: str, *, max_documents: int = 10) -> list[Any]:
    return [json.loads(one) for one in parse_documents(text.encode(), Format.YAML, max_documents=max_documents)]


def test_documents_come_in_order_and_empty_ones_are_left_out() -> None:
    assert yaml("a: 1\n---\n---\n# nothing\n---\nnull\n---\n- 2\n...\n---\nthree\n") == [{"a": 1}, [2], "three"]
    assert yaml("") == []
    assert yaml("# only a comment\n") == []


def test_the_json_is_canonical() -> None:
    [one] = parse_documents("b: [1, {d: é, c: 2}]\na: x\n".encode(), Format.YAML, max_documents=1)
    assert one == '{"a":"x","b":[1,{"c":2,"d":"é"}]}'.encode()
    [two] = parse_documents(b'\xef\xbb\xbf{"b": 1.0, "a": 18446744073709551616}', Format.JSON, max_documents=1)
    assert two == b'{"a":18446744073709551616,"b":1.0}'


def test_json_in_place_of_yaml_is_read_as_json_with_merge_keys() -> None:
    text = (
        '{"a": [{"<<": {"k": 1, "z": 0}, "z": 2}], "b": {"<<": [{"k": 1}, {"k": 2}]}, "c": {"<<": "x"}, "d": "\\ta\\n"}'
    )
    own = json.loads(text)
    merged = {"a": [{"k": 1, "z": 2}], "b": {"k": 1}, "c": {"<<": "x"}, "d": "\ta\n"}
    assert yaml(text) == [merged]
    assert [json.loads(one) for one in parse_documents(text.encode(), Format.JSON, max_documents=1)] == [own]
    assert yaml("{a: yes, b: [1]}") == [{"a": "yes", "b": [1]}]
    with pytest.raises(JiemiError, match="the same key twice"):
        yaml('{"a": 1, "a": 2}')


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"a": 1, "a": "SECRET"}', "the same key twice"),
        (b'{"a": NaN}', "NaN or Infinity"),
        (b'{"a": 1e999}', "beyond the range"),
        (b'{"a": "SECRET', "is not JSON: line 1, column 7"),
        (b'{"a": "\\ud800"}', "document 1"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "is not JSON"),
        (b'{"a": "' + b"[" * 200 + b'"} x', "is not JSON"),
    ],
)
def test_invalid_json_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(JiemiError) as caught:
        parse_documents(data, Format.JSON, max_documents=1)
    assert caught.value.failure.reason == "UnknownFormat"
    assert says in caught.value.failure.text
    assert "SECRET" not in str(caught.value)
    assert not isinstance(caught.value.__context__, ValueError)  # which would carry the document


def test_json_that_is_deep_or_has_a_huge_number_is_refused_before_it_is_built() -> None:
    for data in (b"[" * 100_000, b"9" * 10_000, b"[" + b"[]," * MAX_NODES * 2 + b"1]"):
        with pytest.raises(JiemiError) as caught:
            parse_documents(data, Format.JSON, max_documents=1)
        assert caught.value.failure.reason == "LimitExceeded"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_every_json_value_comes_back_equal(value: Any) -> None:
    [found] = parse_documents(json.dumps(value).encode(), Format.JSON, max_documents=1)
    assert json.loads(found) == value


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.text("-:[]{}&*!<>|'\"#%@`?,a1 \n\t~.").map(str.encode)
    | st.text('\\uUxFNa10"').map(lambda text: f'"{text}"'.encode())
    | st.text("%YAMLTG 1.!\n-").map(lambda text: f"%YAML 1.{text}\n--- a\n".encode())
)
@settings(max_examples=400)
def test_any_bytes_give_documents_or_a_typed_error(data: bytes) -> None:
    for format in Format:
        try:
            documents = parse_documents(data, format, max_documents=5)
        except JiemiError as error:
            assert error.failure.reason in ("UnknownFormat", "LimitExceeded")
        else:
            for document in documents:
                value = json.loads(document)
                assert not (isinstance(value, float) and not math.isfinite(value))
