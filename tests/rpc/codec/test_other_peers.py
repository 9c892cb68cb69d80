"""What a newer, an older or a damaged peer sends is a value or a typed failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import capnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rpc.codec.messages import SCHEMA, through

from jiemi.core.errors import JiemiError
from jiemi.rpc import codec


@pytest.mark.parametrize(
    ("struct", "fill", "read", "reason"),
    [
        ("HeadResult", lambda b: setattr(b, "later", "x"), codec.read_head_result, "InternalError"),
        ("RenderResult", lambda b: setattr(b, "later", "x"), codec.read_render_result, "InternalError"),
        ("FilesResult", lambda b: setattr(b, "later", "x"), codec.read_files_result, "InternalError"),
        ("ChangesResult", lambda b: setattr(b, "later", "x"), codec.read_changes_result, "InternalError"),
        ("Source", lambda b: setattr(b.ref, "later", "x"), codec.read_source, "InvalidSpec"),
        (
            "RenderRequest",
            lambda b: setattr(b.init("keys", 1)[0], "later", "x"),
            codec.read_render_request,
            "ProviderNotSupportedYet",
        ),
    ],
)
def test_a_member_that_only_a_newer_peer_knows_is_a_typed_failure(
    newer: Any, struct: str, fill: Callable[[Any], None], read: Callable[[Any], object], reason: str
) -> None:
    message = getattr(newer, struct).new_message()
    fill(message)
    with (
        getattr(SCHEMA, struct).from_bytes(message.to_bytes()) as reader,
        pytest.raises(JiemiError, match=f"^{reason}: .*upgrade"),
    ):
        read(reader)


def test_a_list_of_more_keys_or_documents_than_anyone_has_is_refused() -> None:
    # A million empty documents are 8 MB of null pointers, and would be a million objects here.
    with pytest.raises(JiemiError, match="LimitExceeded: a request has 1001 keys"):
        through("RenderRequest", lambda b: b.init("keys", 1_001), codec.read_render_request)
    with pytest.raises(JiemiError, match="LimitExceeded: Krapao gave more than 1000 documents"):
        through("RenderResult", lambda b: b.init("rendered").init("documents", 1_001), codec.read_render_result)
    with pytest.raises(JiemiError, match="LimitExceeded: Krapao gave more than 1000 files"):
        through("FilesResult", lambda b: b.init("files").init("entries", 1_001), codec.read_files_result)
    with pytest.raises(JiemiError, match="LimitExceeded: paths has 1001 elements"):
        through("ChangesResult", lambda b: b.init("changes").init("paths", 1_001), codec.read_changes_result)


def test_a_list_of_more_patterns_than_anyone_has_is_refused() -> None:
    def fill(builder: Any) -> None:
        builder.init("keys", 1)[0].init("aws").init("allowedKeys", 1_001)

    with pytest.raises(JiemiError, match="LimitExceeded: allowedKeys has 1001 elements"):
        through("RenderRequest", fill, codec.read_render_request)
    for field in ("patterns", "exclude"):

        def fill_field(builder: Any, field: str = field) -> None:
            builder.init(field, 1_001)

        with pytest.raises(JiemiError, match=f"LimitExceeded: {field} has 1001 elements"):
            through("FilesRequest", fill_field, codec.read_files_request)


def test_what_an_older_peer_leaves_out_means_what_it_means_there() -> None:
    # A default in the schema must be what a peer does that does not know the field.
    rendered = through("RenderResult", lambda b: b.init("rendered"), codec.read_render_result)
    assert rendered.encrypted
    request = through("RenderRequest", lambda _: None, codec.read_render_request)
    assert not request.allow_plain
    # It does not say whether it followed links, and so it may have.
    assert not through("FilesResult", lambda b: b.init("files"), codec.read_files_result).direct


@given(st.binary(max_size=400))
def test_any_bytes_read_as_a_result_are_a_value_or_a_typed_failure(garbage: bytes) -> None:
    # What pycapnp itself can't read ends the connection; here it is what lies behind that.
    try:
        with SCHEMA.RenderResult.from_bytes(garbage + bytes(-len(garbage) % 8)) as reader:
            codec.read_render_result(reader)
    except (JiemiError, capnp.KjException):
        pass
    try:
        with SCHEMA.FilesResult.from_bytes(garbage + bytes(-len(garbage) % 8)) as reader:
            codec.read_files_result(reader)
    except (JiemiError, capnp.KjException):
        pass
    try:
        with SCHEMA.ChangesResult.from_bytes(garbage + bytes(-len(garbage) % 8)) as reader:
            codec.read_changes_result(reader)
    except (JiemiError, capnp.KjException):
        pass
