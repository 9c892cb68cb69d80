"""What is written in the form of the API, and what is left out of it; paths in the errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.api.fields import FieldError, api, structure, unstructure


@attrs.frozen
class Inner:
    names: tuple[str, ...] = api("", default=())
    flag: bool = api("", default=False)

    def __attrs_post_init__(self) -> None:
        if "bad" in self.names:
            raise FieldError("must not be bad @ names")
        if "worse" in self.names:
            raise FieldError("is worse")


@attrs.frozen
class Outer:
    inner: Inner = api("")
    many_inners: tuple[Inner, ...] = api("", default=())
    texts: Mapping[str, str] = api("", default={})
    maybe: str | None = api("", default=None)
    null: str | None = api("", default=None, nullable=True)
    null_list: tuple[str, ...] = api("", default=(), nullable=True)
    needed_list: tuple[int, ...] = api("", default=(1,))
    odd_name: int | None = api("", default=None, json_name="odd_name")


def test_empty_lists_and_missing_values_are_left_out_unless_they_are_nullable() -> None:
    assert unstructure(Outer(Inner())) == {
        "inner": {"flag": False},
        "texts": {},
        "null": None,
        "nullList": [],
        "neededList": [1],
    }


def test_a_list_that_is_not_empty_is_written() -> None:
    found = unstructure(Outer(Inner(("a",)), (Inner(),), {"k": "v"}, "x", "y", ("z",), (), 0))
    assert found == {
        "inner": {"names": ["a"], "flag": False},
        "manyInners": [{"flag": False}],
        "texts": {"k": "v"},
        "maybe": "x",
        "null": "y",
        "nullList": ["z"],
        "neededList": [],  # not the default, so it is said
        "odd_name": 0,
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "required field missing @ top.inner"),
        ({"inner": []}, "must be an object @ top.inner"),
        ({"inner": {"names": "abc"}}, "must be a list @ top.inner.names"),
        ({"inner": {"names": {"a": "b"}}}, "must be a list @ top.inner.names"),
        ({"inner": {"names": ["a", 1]}}, "must be a string @ top.inner.names[1]"),
        ({"inner": {"flag": 1}}, "must be true or false @ top.inner.flag"),
        ({"inner": {"names": ["bad"]}}, "must not be bad @ top.inner.names"),
        ({"inner": {"names": ["worse"]}}, "is worse @ top.inner"),
        ({"inner": {}, "manyInners": [{}, {"names": ["bad"]}]}, "must not be bad @ top.manyInners[1].names"),
        ({"inner": {}, "manyInners": [{}, {"names": [None]}]}, "must be a string @ top.manyInners[1].names[0]"),
        ({"inner": {}, "texts": {"k": 1}}, "must be a string @ top.texts[k]"),
        ({"inner": {}, "neededList": [True]}, "must be a whole number @ top.neededList[0]"),
        ({"inner": {}, "neededList": [1.0]}, "must be a whole number @ top.neededList[0]"),
    ],
)
def test_an_error_names_one_path(value: Any, message: str) -> None:
    with pytest.raises(FieldError) as caught:
        structure(value, Outer, "top")
    assert str(caught.value) == message


_TEXT = st.text(max_size=3)
_INNER = st.builds(Inner, st.lists(_TEXT, max_size=2).map(tuple), st.booleans())


@given(
    st.builds(
        Outer,
        _INNER,
        st.lists(_INNER, max_size=2).map(tuple),
        st.dictionaries(_TEXT, _TEXT, max_size=2),
        st.none() | _TEXT,
        st.none() | _TEXT,
        st.lists(_TEXT, max_size=2).map(tuple),
        st.lists(st.integers(), max_size=2).map(tuple),
        st.none() | st.integers(),
    )
)
def test_a_value_that_was_left_out_is_read_back_unchanged(value: Outer) -> None:
    assert structure(unstructure(value), Outer, "top") == value
