"""What each scalar of YAML means, what is refused, what is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jiemi.core.content.document_limits import MAX_DEPTH, MAX_NODES
from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
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
def test_a_scalar_has_the_value_that_its_writer_meant(scalar: str, value: object) -> None:
    if scalar == "-":
        assert yaml("a:\n  -") == [{"a": [None]}]
        return
    [found] = yaml(f"a: {scalar}\n")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


def test_aliases_and_merge_keys_are_resolved() -> None:
    assert yaml("x: &a {z: 1, q: 0}\ny: *a\nm:\n  !!merge <<: *a\n  q: 2\nn: {<<: [{k: 1}, {k: 2, l: 3}]}\n") == [
        {"x": {"z": 1, "q": 0}, "y": {"z": 1, "q": 0}, "m": {"z": 1, "q": 2}, "n": {"k": 1, "l": 3}}
    ]
    assert yaml("&k a: *k\nb: &k c\n*k : d\n") == [{"a": "a", "b": "c", "c": "d"}]


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
def test_errors_name_the_document_and_line_and_never_quote_them(text: str, reason: str, says: str) -> None:
    with pytest.raises(JiemiError) as caught:
        yaml(text)
    assert caught.value.failure.reason == reason
    assert says in caught.value.failure.text
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


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


def test_many_empty_documents_are_bounded_too() -> None:
    with pytest.raises(JiemiError) as caught:
        parse_documents(b"---\n" * (MAX_NODES + 1), Format.YAML, max_documents=1)
    assert caught.value.failure.reason == "LimitExceeded"
