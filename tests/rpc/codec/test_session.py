"""The protocol's version is that of the schema."""

from __future__ import annotations

from rpc.codec.messages import SCHEMA

from jiemi.core.reasons import Kind
from jiemi.rpc import codec


def test_the_protocol_version_and_the_retry_kinds_are_those_of_the_schema() -> None:
    assert SCHEMA.protocolVersion == codec.PROTOCOL_VERSION
    assert set(SCHEMA.RetryKind.schema.enumerants) == {kind.value for kind in Kind}
