"""Revisions that are compared, and where they differ, come out of a message as they went in."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from rpc.codec.messages import CHANGES, REVISIONS, SCHEMA, through

from jiemi.core.errors import JiemiError
from jiemi.rpc import codec
from jiemi.rpc.contract import Changes


@given(REVISIONS, REVISIONS)
def test_two_revisions_come_back(before: str, after: str) -> None:
    back = through(
        "ChangesRequest", lambda b: codec.write_changes_request(b, before, after), codec.read_changes_request
    )
    assert back == (before, after)


@given(CHANGES)
def test_changes_come_back_and_take_no_more_room_than_is_counted(changes: Changes) -> None:
    back = through("ChangesResult", lambda b: codec.write_changes_result(b, changes), codec.read_changes_result)
    assert back == changes
    empty, full = SCHEMA.ChangesResult.new_message(), SCHEMA.ChangesResult.new_message()
    codec.write_changes_result(empty, attrs.evolve(changes, paths=(), folders=()))
    codec.write_changes_result(full, changes)
    assert (full.total_size.word_count - empty.total_size.word_count) * 8 <= codec.changes_bytes(changes) + 8


@pytest.mark.parametrize(("before", "after"), [("", "a" * 40), ("a" * 40, "main"), ("A" * 40, "a" * 40)])
def test_what_is_no_revision_is_refused(before: str, after: str) -> None:
    with pytest.raises(JiemiError, match="RevisionNotFound: a revision is no full commit hash"):
        through("ChangesRequest", lambda b: codec.write_changes_request(b, before, after), codec.read_changes_request)


def test_a_folder_that_is_none_is_refused() -> None:
    changes = Changes((), ("apps",))
    with pytest.raises(JiemiError, match="InternalError: Krapao answered with a folder that is none"):
        through("ChangesResult", lambda b: codec.write_changes_result(b, changes), codec.read_changes_result)
