"""Opening a session: the protocol's version, the secret, and whether it was compared."""

from __future__ import annotations

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.codec.failures import read_failure, write_failure
from jiemi.rpc.codec.fields import Builder, Reader, get_optional, put_text

PROTOCOL_VERSION = 1
"""protocolVersion in schema/krapao.capnp."""


def write_session_request(builder: Builder, secret: SensitiveText | None) -> None:
    builder.protocolVersion = PROTOCOL_VERSION
    put_text(builder, "secret", None if secret is None else secret.reveal())


def read_secret(reader: Reader) -> str | None:
    """The secret that a client shows; None where it shows none. Raises as `get_text`."""
    return get_optional(reader, "secret")


def write_session(builder: Builder, session: object, failure: Failure | None, *, checked: bool) -> None:
    """`session` is a capability of the bridge."""
    builder.protocolVersion = PROTOCOL_VERSION
    builder.session = session
    builder.secretChecked = checked
    if failure is not None:
        write_failure(builder.init("failure"), failure)


def read_session_checked(reader: Reader) -> bool:
    """Whether the server compared the secret. Raises the JiemiError that the answer holds."""
    if reader._has("failure"):
        raise JiemiError.of(read_failure(reader.failure))
    return bool(reader.secretChecked)
