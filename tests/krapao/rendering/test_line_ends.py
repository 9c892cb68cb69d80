"""Carriage returns in values of dotenv and INI files are told by name; the values stay as sops has them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.content.formats import Format
from jiemi.krapao.rendering.line_ends import MAX_NAMES, with_carriage_returns


def of_values(value: object, format: Format = Format.DOTENV) -> tuple[str, ...]:
    return with_carriage_returns([json.dumps(value).encode()], None, format)


def of_file(content: bytes, format: Format = Format.DOTENV) -> tuple[str, ...]:
    return with_carriage_returns([], content, format)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"A": "1\r", "B": "2\r", "C": "3"}, ("A", "B")),
        ({"A": "1", "B": ""}, ()),
        ({"A": "\r"}, ("A",)),
        ({"A": "1\r2"}, ("A",)),
        ({"A": "1\r\n2"}, ("A",)),
        ({"A\r": "1"}, ("A",)),
        ({"A B": "1\r"}, ("…",)),
        ({"s": {"A": "1\r", "B": "2"}, "DEFAULT": {}}, ("s.A",)),
    ],
)
def test_values_that_hold_one_are_named(value: object, names: tuple[str, ...]) -> None:
    assert of_values(value) == names


@pytest.mark.parametrize(
    ("content", "format", "names"),
    [
        (b"A=1\r\nB=2\n#c\r\nC=3\r", Format.DOTENV, ("A", "C")),
        (b"A=\r\n", Format.DOTENV, ("A",)),
        (b"A=1\nB=2\n", Format.DOTENV, ()),
        (b"[s]\r\na = 1\r\nb = 2\r\n", Format.INI, ()),
        (b"[s]\na = 1\rx\n; b = 1\r2\n", Format.INI, ("a",)),
        (b"a: 1\r\n", Format.YAML, ()),
        (b"\r\n", Format.BINARY, ()),
    ],
)
def test_in_a_file_that_is_kept_whole_they_are_named_by_line(
    content: bytes, format: Format, names: tuple[str, ...]
) -> None:
    assert of_file(content, format) == names


def test_other_formats_are_not_looked_into() -> None:
    assert of_values({"A": "1\r"}, Format.YAML) == of_values({"A": "1\r"}, Format.JSON) == ()


def test_the_names_are_bounded() -> None:
    assert len(of_values({f"A{number}": "\r" for number in range(1000)})) == MAX_NAMES


@given(st.dictionaries(st.from_regex(r"\A[A-Z]{1,5}\Z"), st.from_regex(r"\A[a-z\r ]{0,5}\Z"), max_size=6))
def test_the_file_and_its_values_tell_the_same(values: dict[str, str]) -> None:
    content = "".join(f"{name}={value}\n" for name, value in values.items()).encode()
    assert sorted(of_file(content)) == sorted(of_values(values))
