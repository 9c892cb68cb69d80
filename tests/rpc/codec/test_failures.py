"""A failure comes out of a message as an error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from rpc.codec.messages import FAILURES, SCHEMA, TEXT, through

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.reasons import REASONS, Kind
from jiemi.rpc import codec


@given(FAILURES)
def test_a_failure_comes_back_as_an_error(failure: Failure) -> None:
    with pytest.raises(JiemiError) as caught:
        through("HeadResult", lambda b: codec.write_head_result(b, failure), codec.read_head_result)
    assert caught.value.failure == failure
    with pytest.raises(JiemiError) as caught:
        through("RenderResult", lambda b: codec.write_render_result(b, failure), codec.read_render_result)
    assert caught.value.failure == failure
    with pytest.raises(JiemiError) as caught:
        through("FilesResult", lambda b: codec.write_files_result(b, failure), codec.read_files_result)
    assert caught.value.failure == failure


def test_a_failure_whose_message_is_not_unicode_is_reported_all_the_same() -> None:
    failure: Any = SimpleNamespace(
        reason="FileNotFound", message="no \udcff.yaml", own_remedy="mend \udcff", path="\udcff", kind=Kind.STALLED
    )
    with pytest.raises(JiemiError, match=r"FileNotFound: no \?\.yaml"):
        through(
            "HeadResult",
            lambda b: codec.write_failure(b.init("failure"), failure),
            codec.read_head_result,
        )


@given(TEXT, TEXT)
def test_a_reason_that_only_a_newer_peer_knows_becomes_an_internal_error(newer: Any, reason: str, message: str) -> None:
    result = newer.HeadResult.new_message()
    failure = result.init("failure")
    failure.reason, failure.message, failure.retry = reason, message, "later"
    with SCHEMA.HeadResult.from_bytes(result.to_bytes()) as reader, pytest.raises(JiemiError) as caught:
        codec.read_head_result(reader)
    assert caught.value.failure.reason == (reason if reason in REASONS else "InternalError")


def test_the_name_of_an_unknown_reason_is_kept() -> None:
    told = "Krapao reported DiskOnFire, which this Miwen does not know: hot"
    for remedy, shown in (("", "Bring Miwen to the release of Krapao."), ("Put it out.", "Put it out.")):
        failure = codec.read_failure(SimpleNamespace(reason="DiskOnFire", message="hot", remedy=remedy, path=""))
        assert failure == Failure("InternalError", told, shown)
