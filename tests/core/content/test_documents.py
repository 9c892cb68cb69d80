"""Decrypted bytes -> documents: what each scalar means, what is refused, what is bounded."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jiemi.core.content.documents import MAX_DEPTH, MAX_NODES, Format, ending_in_capitals, format_of, parse_documents
from jiemi.core.errors import JiemiError


def yaml(text: str, *, max_documents: int = 10) -> list[Any]:
    return [json.loads(one) for one in parse_documents(text.encode(), Format.YAML, max_documents=max_documents)]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("n", "n"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("2020-01-01", "2020-01-01"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        ("1:20", "1:20"),
        ("12", 12),
        ("-3", -3),
        ("+7", 7),
        ("0x1F", 31),
        ("0o14", 12),
        ("014", 12),
        ("0b101", 5),
        ("1_000", 1000),
        ("089", 89.0),
        ("12345678901234567890123", 12345678901234567890123),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("-", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 1", "1"),
        ("!!int '1'", 1),
        ("!!float 1", 1.0),
        ("! 12", "12"),
        ("!!merge <<", "<<"),
        ("_1", "_1"),
        ("0x", "0x"),
        ("0xffffffffffffffff", 2**64 - 1),
        ("+0xffffffffffffffff", "+0xffffffffffffffff"),
        ("-0x8000000000000000", -(2**63)),
        ("0xdeadbeefdeadbeefdeadbeef", "0xdeadbeefdeadbeefdeadbeef"),  # sops writes such a text without quotes
        ("0o7777777777777777777777777", "0o7777777777777777777777777"),
        ("1e999", "1e999"),
        ("9" * 309, "9" * 309),
        ("1" * 500, "1" * 500),
        ("abcdef0123456789" * 40, "abcdef0123456789" * 40),
    ],
)
def test_a_scalar_means_what_it_meant_to_the_writer(scalar: str, value: object) -> None:
    if scalar == "-":
        assert yaml("a:\n  -") == [{"a": [None]}]
        return
    [found] = yaml(f"a: {scalar}\n")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


def test_documents_come_in_order_and_empty_ones_are_left_out() -> None:
    assert yaml("a: 1\n---\n---\n# nothing\n---\nnull\n---\n- 2\n...\n---\nthree\n") == [{"a": 1}, [2], "three"]
    assert yaml("") == []
    assert yaml("# only a comment\n") == []


def test_the_json_is_canonical() -> None:
    [one] = parse_documents("b: [1, {d: é, c: 2}]\na: x\n".encode(), Format.YAML, max_documents=1)
    assert one == '{"a":"x","b":[1,{"c":2,"d":"é"}]}'.encode()
    [two] = parse_documents(b'\xef\xbb\xbf{"b": 1.0, "a": 18446744073709551616}', Format.JSON, max_documents=1)
    assert two == b'{"a":18446744073709551616,"b":1.0}'


def test_aliases_and_merge_keys_are_what_they_stand_for() -> None:
    assert yaml("x: &a {z: 1, q: 0}\ny: *a\nm:\n  !!merge <<: *a\n  q: 2\nn: {<<: [{k: 1}, {k: 2, l: 3}]}\n") == [
        {"x": {"z": 1, "q": 0}, "y": {"z": 1, "q": 0}, "m": {"z": 1, "q": 2}, "n": {"k": 1, "l": 3}}
    ]
    assert yaml("&k a: *k\nb: &k c\n*k : d\n") == [{"a": "a", "b": "c", "c": "d"}]


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
    ("text", "reason", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "UnknownFormat", "document 1, line 3: the same key twice"),
        ("ok: 1\n---\n1: SECRET\n", "UnknownFormat", "document 2, line 3: a key that is not text"),
        ("? [a]\n: SECRET\n", "UnknownFormat", "a key that is a list or a mapping"),
        ("? {a: 1}\n: SECRET\n", "UnknownFormat", "a key that is a list or a mapping"),
        ("a: .nan\n", "UnknownFormat", "NaN or an infinity"),
        ("a: -.inf\n", "UnknownFormat", "NaN or an infinity"),
        ("a: !!binary SECRET\n", "UnknownFormat", "a tag"),
        ("a: !!timestamp 2020-01-01\n", "UnknownFormat", "a tag"),
        ("a: !!set {SECRET}\n", "UnknownFormat", "a tag on a collection"),
        ("a: !!python/object:os.system SECRET\n", "UnknownFormat", "a tag"),
        ("a: !!int SECRET\n", "UnknownFormat", "does not fit its value"),
        ("a: &x [*x]\n", "UnknownFormat", "an alias without its anchor"),
        ("a: &x 1\n---\nb: *x\n", "UnknownFormat", "an alias without its anchor"),
        ("a: &x 1\n*x : 2\n", "UnknownFormat", "an alias as a key"),
        ("<<: 3\n", "UnknownFormat", "a merge key"),
        ("a: [SECRET\n", "UnknownFormat", "is not YAML: line"),
        ("a: SECRET\n\tb: 1\n", "UnknownFormat", "is not YAML: line"),
        ("a: SECRET\x07\n", "UnknownFormat", "is not YAML"),
        ("[" * (MAX_DEPTH + 1), "LimitExceeded", "nested deeper"),
        ("a: !!int " + "1" * 500, "UnknownFormat", "does not fit its value"),
        ('a: "SECRET \\UFFFFFFFF"\n', "UnknownFormat", "an escape or a directive"),
        ("%YAML 1.11\n--- SECRET\n", "UnknownFormat", "an escape or a directive"),
        ("a\n---\n" * 11, "LimitExceeded", "more than 10 documents"),
    ],
)
def test_what_is_refused_is_named_by_document_and_line_and_never_quoted(text: str, reason: str, says: str) -> None:
    with pytest.raises(JiemiError) as caught:
        yaml(text)
    assert caught.value.failure.reason == reason
    assert says in caught.value.failure.text
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


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
def test_json_that_is_none_is_refused(data: bytes, says: str) -> None:
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


def test_a_billion_laughs_is_counted_before_it_is_built() -> None:
    text = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    with pytest.raises(JiemiError) as caught:
        yaml(text)
    assert caught.value.failure.reason == "LimitExceeded"


def test_depth_made_of_aliases_counts_as_depth() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, MAX_DEPTH + 1))
    with pytest.raises(JiemiError) as caught:
        yaml(text)
    assert caught.value.failure.reason == "LimitExceeded"


def test_many_small_documents_of_nothing_are_bounded_too() -> None:
    with pytest.raises(JiemiError) as caught:
        parse_documents(b"---\n" * (MAX_NODES + 1), Format.YAML, max_documents=1)
    assert caught.value.failure.reason == "LimitExceeded"


@pytest.mark.parametrize("path", ["a.yaml", "x/b.yml", "C.yaml", "d.enc.yaml", ".yaml"])
def test_yaml_is_known_by_its_name(path: str) -> None:
    assert format_of(path) is Format.YAML


def test_json_is_known_by_its_name_and_others_wait_for_a_later_release() -> None:
    assert format_of("dir.yaml/x.json") is Format.JSON
    assert format_of("config/x.env") is Format.DOTENV
    assert format_of("config/.env") is Format.DOTENV
    assert format_of("x.ini") is Format.INI
    for path in ("x", "yaml", "x.yaml/y", "x.pem"):
        assert format_of(path) is Format.BINARY


@pytest.mark.parametrize("path", ["A.JSON", "b.YML", "b.Yaml", "C.ENV", "x/D.Ini", ".Env", "E.yAML"])
def test_an_ending_in_capitals_tells_no_format_as_it_tells_sops_none(path: str) -> None:
    assert format_of(path) is Format.BINARY
    assert ending_in_capitals(path) == path[path.rindex(".") :]


@pytest.mark.parametrize("path", ["a.yaml", "A.json", "x.pem", "X.PEM", "YAML", "x.YAML/y", "x.JSON.enc", "x.", ""])
def test_other_names_have_no_ending_in_capitals(path: str) -> None:
    assert ending_in_capitals(path) is None


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
