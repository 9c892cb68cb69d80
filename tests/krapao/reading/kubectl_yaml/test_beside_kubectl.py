"""Plain manifests come to what kubectl's own library makes of them: the same JSON, or refused by both."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
from support.krapao.kubectl_yaml_program import ask_kubectl, kubectl_yaml_program
from support.krapao.kubectl_yaml_samples import DOCUMENTS, documents, scalars

from jiemi.core.errors import JiemiError
from jiemi.krapao.reading.kubectl_yaml.parser import MORE_AFTER_THE_END
from jiemi.krapao.reading.kubectl_yaml.scalars import BINARY_NO_TEXT
from jiemi.krapao.reading.kubectl_yaml.stream import read_stream
from jiemi.krapao.reading.kubectl_yaml.values import KEY_TWICE

ROOT = Path(__file__).parents[4]
STRICTER = (
    KEY_TWICE,
    KEY_TWICE.replace("mapping", "object"),
    MORE_AFTER_THE_END,
    BINARY_NO_TEXT,
    "a byte order mark",
    "half of a surrogate pair",
    "its content is not UTF-8 text",
    "LimitExceeded: ",
)
"""All that we refuse and kubectl takes (the list in `stream`)."""


@pytest.fixture(scope="module")
def kubectl() -> Path:
    return trio.run(kubectl_yaml_program)


def read(data: bytes, *, named_json: bool = False) -> tuple[list[Any] | None, str]:
    """The documents, or None and why."""
    try:
        found = read_stream(data, named_json=named_json, max_documents=1000, max_bytes=1 << 22)
    except JiemiError as error:
        assert error.__cause__ is None
        return None, str(error)
    return [json.loads(each) for each in found], ""


def as_sent(value: Any) -> Any:
    """With numbers as the API server takes them: an integer of 64 bits, else a double."""
    if isinstance(value, dict):
        return {key: as_sent(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_sent(each) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, int) and value in range(-(2**63), 2**63):
        return ("integer", value)
    number = float(value)
    return ("integer", int(number)) if number.is_integer() and abs(number) < 2**63 else ("double", number)


def disagreements(kubectl: Path, inputs: Iterable[bytes], *, named_json: bool = False) -> tuple[list[object], int]:
    """Where the readers differ, and how many inputs both read."""
    found: list[object] = []
    read_by_both = 0
    inputs = list(inputs)
    for data, answer in zip(inputs, ask_kubectl(kubectl, inputs), strict=True):
        ours, why = read(data, named_json=named_json)
        theirs = answer.get("documents")
        if ours is None and theirs is not None and any(each in why for each in STRICTER):
            continue
        read_by_both += ours is not None and theirs is not None
        if repr(as_sent(_sorted(ours))) != repr(as_sent(_sorted(theirs))):
            found.append((data, theirs or answer, ours if ours is not None else why))
    return found, read_by_both


def _sorted(value: Any) -> Any:
    return json.loads(json.dumps(value, sort_keys=True))


@pytest.mark.parametrize("seed", [1, 2])
def test_scalars_mean_what_they_mean_to_kubectl(kubectl: Path, seed: int) -> None:
    found, read_by_both = disagreements(kubectl, scalars(seed, 6_000))
    assert found == []
    assert read_by_both > 4_500


@pytest.mark.parametrize("seed", [1, 2])
def test_documents_come_to_what_they_come_to_for_kubectl(kubectl: Path, seed: int) -> None:
    found, read_by_both = disagreements(kubectl, documents(seed, 5_000))
    assert found == []
    assert read_by_both > 1_000


def test_the_ending_json_changes_nothing_for_kubectl_and_so_nothing_here(kubectl: Path) -> None:
    written = [
        *(
            b'{"a": 1, "b": 2,}\n',
            b'{\n  # why\n  "a": 1\n}\n',
            b"a: yes\n",
            b'{"a": 1}\n---\n{"b": 2}\n',
            b"[{}]",
            b"",
        ),
        *(b'{"a": 1}\n{"b": 2}\n', b"{a: 1, 'b': on}", b'// no\n{"a": 1}', b'{"a": 1', b'{"a": 0x10}', b"null\n"),
        *(b"\xef\xbb\xbf---no?", b'\xef\xbb\xbf{"a": 1}', b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}'),
    ]
    found, read_by_both = disagreements(kubectl, [*written, *documents(3, 2_000)], named_json=True)
    assert found == []
    assert read_by_both > 400


def test_this_repositorys_own_manifests_do_too(kubectl: Path) -> None:
    paths = [*ROOT.glob("deploy/**/*.yaml"), *ROOT.glob("examples/**/*.yaml")]
    found, read_by_both = disagreements(kubectl, (path.read_bytes() for path in paths))
    assert found == []
    assert read_by_both >= len(paths) - 1 > 3


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a: 1\na: 2\n", KEY_TWICE),
        (b"{a: 1, 'a': 2}", KEY_TWICE),
        (b"yes: 1\ntrue: 2\n", KEY_TWICE),
        (b"1: a\n'1': b\n", KEY_TWICE),
        (b'{"a": 1, "a": 2}', "twice in one object"),
        (b"a: 1\n...\nb: 2\n", MORE_AFTER_THE_END),
        (b"a: 1\n...\n]: [", MORE_AFTER_THE_END),
        (b"[a] b\n", MORE_AFTER_THE_END),
        (b"{a: b}}\n", MORE_AFTER_THE_END),
        (b"a: !!binary /w==\n", BINARY_NO_TEXT),
        (b'{"a": "\\ud800"}', "half of a surrogate pair"),
        ("\ufeff---\na: b\n".encode("utf-16-be"), "not UTF-8"),
        (b"- " * 101 + b"a", "LimitExceeded: "),
        (b"[" * 101 + b"]" * 101, "LimitExceeded: "),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "LimitExceeded: "),
        (b"- a\n" * 200_001, "LimitExceeded: "),
        (b"---\na: b\n" * 1_001, "LimitExceeded: "),
        (b"a: &a '" + b"x" * 100_000 + b"'\nb: [" + b"*a, " * 50 + b"]", "LimitExceeded: "),
    ],
)
def test_what_is_refused_although_kubectl_takes_it_is_in_the_list(kubectl: Path, data: bytes, why: str) -> None:
    [answer] = ask_kubectl(kubectl, [data])
    assert "documents" in answer
    ours, told = read(data)
    assert ours is None
    assert why in told
    assert any(each in told for each in STRICTER)


def test_no_two_of_the_documents_by_hand_are_alike() -> None:
    assert len(set(DOCUMENTS)) == len(DOCUMENTS) > 35
