"""The age that an answer may have, and the revision."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rpc.codec.messages import REVISIONS, through

from jiemi.core.errors import JiemiError
from jiemi.rpc import codec
from jiemi.rpc.contract import Head


@given(REVISIONS)
def test_a_head_comes_back(revision: str) -> None:
    back = through("HeadResult", lambda b: codec.write_head_result(b, Head(revision)), codec.read_head_result)
    assert back == Head(revision)


@given(st.floats(min_value=0, allow_nan=False))
def test_an_age_comes_back(seconds: float) -> None:
    params = SimpleNamespace()
    codec.write_max_age(params, seconds)
    assert codec.read_max_age(params) == seconds


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("-inf")])
def test_an_age_below_zero_is_refused(seconds: float) -> None:
    with pytest.raises(JiemiError, match="InvalidSpec: maxAgeSeconds"):
        codec.read_max_age(SimpleNamespace(maxAgeSeconds=seconds))


def test_an_empty_result_is_a_typed_failure() -> None:
    # An answer that was never filled: a null head.
    with pytest.raises(JiemiError, match="InternalError: Krapao answered with a revision that is no full commit hash"):
        through("HeadResult", lambda _: None, codec.read_head_result)
