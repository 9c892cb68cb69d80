"""What users of plain manifests may rely on, and what no content can do."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.krapao.kubectl_yaml_samples import DOCUMENTS

from jiemi.core.errors import JiemiError
from jiemi.krapao.reading.kubectl_yaml.cursor import OverBudget
from jiemi.krapao.reading.kubectl_yaml.stream import read_stream

CANARY = "kanariesecret"


def read(data: bytes | str) -> list[object]:
    raw = data.encode() if isinstance(data, str) else data
    return [json.loads(each) for each in read_stream(raw, max_documents=20, max_bytes=1 << 20)]


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("enabled: off\npaused: yes\nn: y\n", [{"enabled": False, "paused": True, "false": True}]),
        ("mode: 0644\nother: 0o644\nbig: 1_000\nbits: 0b101\n", [{"mode": 420, "other": 420, "big": 1000, "bits": 5}]),
        ("time: 12:30:45\nday: 2001-01-01\n", [{"time": "12:30:45", "day": "2001-01-01"}]),
        ("a:\tb\nc: [\t1]\t# x\n", [{"a": "b", "c": [1]}]),
        ("1: a\ntrue: b\n1.5: c\n", [{"1": "a", "true": "b", "1.5": "c"}]),
        ("a: 1e3\nb: 1.0\nc: 1e400\n", [{"a": 1000, "b": 1, "c": "1e400"}]),
        ("a: 'off'\nb: \"0644\"\n", [{"a": "off", "b": "0644"}]),
        ("x: {a: 1, <<: {a: 2, b: 3}, b: 4}\n", [{"x": {"a": 2, "b": 4}}]),
        ('{"a": 1.0}{"b": 2}\n', [{"a": 1}, {"b": 2}]),
        ("# nothing\n---\n---\na: b\n---\nnull\n", [{"a": "b"}]),
    ],
)
def test_the_rules_that_differ_from_yaml_1_2(text: str, documents: list[object]) -> None:
    assert read(text) == documents


TEMPLATE = "{{ of a template, which Helm or another tool fills in and Jiemi does not"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: 1\n---\nb: [\n", "UnknownFormat: document 2, line 4: it is not YAML"),
        (
            "a: b\n--- c: d\n",
            "UnknownFormat: line 2: something follows `---`, which kubectl takes on a line alone only",
        ),
        *(
            (text, f"UnknownFormat: document 1, line {line}: {TEMPLATE}")
            for text, line in (
                ("a: b\nname: {{ .Release.Name }}-x\n", 2),
                ("a: {{ .Values.a }}\n", 1),
                ("{{- if .Values.x }}\na: b\n{{- end }}\n", 1),
                ('a: b\n{{ include "labels" . | nindent 4 }}\nc: d\n', 2),
            )
        ),
        ("a: .inf\n", "UnknownFormat: document 1, line 1: NaN or an infinity, which JSON has no number for"),
        ("a: b\n\n? [x]\n: y\n", "UnknownFormat: document 1, line 3: a key that is a list or a mapping"),
        ("~: y\n", "UnknownFormat: document 1, line 1: a key that can't be made a text"),
        ("<<: [1]\n", "UnknownFormat: document 1, line 1: a merge key (<<) whose value is no mapping"),
        ("a: &a [*a]\n", "UnknownFormat: document 1, line 1: an alias that contains itself"),
        ("a: !!int x\n", "UnknownFormat: document 1, line 1: a value that does not fit its tag"),
        ("a: \x01\n", "UnknownFormat: document 1, line 1: a character that YAML forbids"),
        ('{"a": 1}{"b": 2}{"c"', "UnknownFormat: its content is not JSON: line 1, column 21"),
    ],
)
def test_a_refusal_names_the_document_and_the_line(text: str, why: str) -> None:
    with pytest.raises(JiemiError) as caught:
        read(text)
    assert f"{caught.value.failure.reason}: {caught.value.failure.message}" == why


@given(st.binary(max_size=80) | st.text("aA:=#{}[]\"'\n -\t?&*!|>%.,01<~\r\\xe", max_size=60))
@example(b"\x85")
@example("---\n...\n---\n")
@example("{" * 300)
@example("? " * 300)
def test_any_bytes_are_read_or_reported_by_a_reason(data: bytes | str) -> None:
    try:
        found = read(data)
    except JiemiError as error:
        assert error.failure.reason in ("UnknownFormat", "LimitExceeded")
        assert error.__cause__ is None
        return
    # What is read stays the same, written as JSON; none of it is null.
    assert None not in found
    again = "\n---\n".join(json.dumps(each) for each in found)
    if not any(isinstance(each, str | float) for each in found):
        assert read(again) == found


@given(
    st.sampled_from(DOCUMENTS), st.integers(0, 400), st.sampled_from(["", "]", ": :", "\t- ", "\n&", "!<", '"', "*"])
)
def test_no_refusal_repeats_what_the_file_holds(document: bytes, place: int, broken: str) -> None:
    data = document[:place] + f"\n{CANARY}: '{CANARY}' {broken}{CANARY}\n".encode() + document[place:]
    try:
        read(data)
    except JiemiError as error:
        assert CANARY not in str(error)
        assert error.__context__ is None or CANARY not in repr(error.__context__)


@pytest.mark.parametrize(
    "data",
    [
        *(
            char.encode() * 300_000
            for char in (":", "-", "?", "!", "'", '"', "|", "[", "{", "&", "*", "%", "\t", "\r", "é")
        ),
        *(
            char.encode() * 150_000
            for char in ("- ", ": ", "? ", "a\n", "a ", "#\n", "''", "\\x", "&a", "*a", ", ", "[]", "{}")
        ),
        b"a: |\n" + b"  x\n" * 75_000,
        b"a: >\n" + b"  x\n\n" * 60_000,
        b"'" + b"x\n" * 150_000 + b"'",
        b'"' + b"\\\n" * 150_000 + b'"',
        b"a: " + b"x\n  " * 75_000,
        b"- 0x" + b"f" * 300_000,
        b"- " + b"9" * 300_000,
        b"a: !!binary " + b"A" * 300_000,
        b"---\n" * 75_000,
        b"a: 1\n---\n" * 33_000,
        b"".join(b"- &a%d x\n" % number for number in range(30_000)),
        b"a: &a {b: c}\nd:\n" + b"  <<: *a\n" * 30_000,
        b"a: &a {b: c}\nd: {<<: [" + b"*a," * 75_000 + b"]}",
        b"- {" + b",".join(b"k%d: 1" % number for number in range(25_000)) + b"}",
    ],
    ids=lambda data: repr(data[:14]),
)
def test_the_time_for_300_kib_is_bounded_whatever_they_are(data: bytes) -> None:
    began = time.process_time()
    try:
        read_stream(data, max_documents=1_000, max_bytes=1 << 20)
    except JiemiError as error:
        assert error.failure.reason in ("UnknownFormat", "LimitExceeded")
    assert time.process_time() - began < 5


def test_a_budget_ends_the_reading() -> None:
    for data in (b"- a\n" * 30, b"a: &a [1, 2, 3]\nb: [*a, *a, *a, *a]\n"):
        with pytest.raises(OverBudget):
            read_stream(data, max_documents=1, max_bytes=100, max_values=20)
        assert len(read_stream(data, max_documents=1, max_bytes=1_000, max_values=100)) == 1
