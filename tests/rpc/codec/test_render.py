"""A request to decrypt and its documents come out of a message as they went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from rpc.codec.messages import RENDERED, REQUESTS, SCHEMA, through

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveBytes
from jiemi.rpc import codec
from jiemi.rpc.contract import NestedPlaces, Rendered, RenderRequest


@given(REQUESTS)
def test_a_request_comes_back(request: RenderRequest) -> None:
    back = through("RenderRequest", lambda b: codec.write_render_request(b, request), codec.read_render_request)
    assert back == request


@pytest.mark.parametrize("indexes", [[1], [0, 0], [2**32 - 1]])
def test_marks_of_documents_that_are_not_there_are_refused(indexes: list[int]) -> None:
    message = SCHEMA.RenderResult.new_message()
    codec.write_render_result(message, Rendered("a" * 40, (SensitiveBytes(b"1"),)))
    message.rendered.plainDocuments = indexes
    with (
        SCHEMA.RenderResult.from_bytes(message.to_bytes()) as reader,
        pytest.raises(JiemiError, match="InternalError"),
    ):
        codec.read_render_result(reader)


def test_a_format_that_only_a_newer_peer_knows_is_reported_as_such() -> None:
    message = SCHEMA.RenderRequest.new_message(format="toml")
    with (
        SCHEMA.RenderRequest.from_bytes(message.to_bytes()) as reader,
        pytest.raises(JiemiError, match="ProviderNotSupportedYet"),
    ):
        codec.read_render_request(reader)


@given(RENDERED)
def test_rendered_documents_come_back(rendered: Rendered) -> None:
    back = through("RenderResult", lambda b: codec.write_render_result(b, rendered), codec.read_render_result)
    assert back == rendered
    assert codec.rendered_bytes(rendered) >= sum(len(document) for document in rendered.documents)


def test_what_the_mac_covers_that_only_a_newer_peer_knows_is_not_taken_for_everything() -> None:
    """As an older Miwen reads it: the number is beyond the enum of this schema."""
    message = SCHEMA.RenderResult.new_message()
    codec.write_render_result(message, Rendered("a" * 40, ()))
    assert codec.read_render_result(message.as_reader()).encryption.mac_only_encrypted is None
    message.rendered.encryption.mac = 7
    assert codec.read_render_result(message.as_reader()).encryption.mac_only_encrypted is True


def test_more_places_for_values_than_there_can_be_are_refused() -> None:
    many = RenderRequest("a" * 40, "x", nested=(NestedPlaces(),) * (codec.MAX_NESTED_PLACES + 1))
    with pytest.raises(JiemiError, match="LimitExceeded"):
        through("RenderRequest", lambda builder: codec.write_render_request(builder, many), codec.read_render_request)
