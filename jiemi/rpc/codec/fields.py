"""Single fields of messages: texts, lists of texts, credentials, the member of a union.

The readers and builders are pycapnp's, used by their attributes only: no module of the codec imports it.
"""

from __future__ import annotations

from typing import Any

from jiemi.core.credential_limits import limit_bytes, size_bytes
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText

Reader = Any
Builder = Any

MAX_TEXT_BYTES = 512 * 1024
"""The longest single text that is taken in a message: a credential, key, bundle of authorities, URL or path."""

MAX_ELEMENTS = 1_000
"""The most elements of one list of texts. A list of empty elements takes no room in a message, so its size limits
nothing."""


def put_text(builder: Builder, field: str, value: str | None) -> None:
    """Set a text field; None leaves it null.

    Raises:
        JiemiError: InvalidSpec where the text is not valid Unicode (a lone surrogate).
    """
    if value is None:
        return
    try:
        setattr(builder, field, value)
    except UnicodeEncodeError:
        # Not chained: the library's exception holds the whole text.
        raise JiemiError("InvalidSpec", f"{field} holds text that is not valid Unicode") from None


def get_text(reader: Reader, field: str) -> str:
    """A text field.

    Raises:
        JiemiError: InvalidSpec where the bytes are not UTF-8, LimitExceeded where they are too many.
    """
    text = get_any_text(reader, field)
    if len(text) > MAX_TEXT_BYTES:
        raise JiemiError("LimitExceeded", f"{field} is longer than {MAX_TEXT_BYTES} bytes")
    return text


def get_any_text(reader: Reader, field: str) -> str:
    """A text field of any length that fits into a message. Raises JiemiError: InvalidSpec, as `get_text`."""
    try:
        return str(getattr(reader, field))
    except UnicodeDecodeError:
        raise JiemiError("InvalidSpec", f"{field} came as text that is not UTF-8") from None


def get_credential(reader: Reader, field: str, path: str) -> SensitiveText:
    """A credential. Equal ones are held once.

    Args:
        path: of the field of a Decryptor that it comes from, whose bound it has.

    Raises:
        JiemiError: InvalidSpec, as `get_text`; CredentialTooLarge.
    """
    value = SensitiveText.shared(get_any_text(reader, field))
    if (size := size_bytes(value)) > (limit := limit_bytes(path)):
        raise JiemiError("CredentialTooLarge", f"{path} came with {size} bytes, of {limit} at most")
    return value


def get_optional(reader: Reader, field: str) -> str | None:
    return get_text(reader, field) if reader._has(field) else None


def member_of(reader: Reader) -> str:
    """The name of a union's member, or "" for one that a newer peer knows."""
    try:
        return str(reader.which)
    except Exception:  # noqa: BLE001  pycapnp's exception, which only the bridge may import
        return ""


def put_texts(builder: Builder, field: str, values: tuple[str, ...]) -> None:
    """Set a list of texts. Raises as `put_text`."""
    texts = builder.init(field, len(values))
    for index, value in enumerate(values):
        try:
            texts[index] = value
        except UnicodeEncodeError:
            raise JiemiError("InvalidSpec", f"{field} holds text that is not valid Unicode") from None


def get_texts(reader: Reader, field: str) -> tuple[str, ...]:
    """A list of texts. Raises JiemiError: InvalidSpec as `get_text`; LimitExceeded."""
    texts = getattr(reader, field)
    if len(texts) > MAX_ELEMENTS:
        raise JiemiError("LimitExceeded", f"{field} has {len(texts)} elements, of {MAX_ELEMENTS} at most")
    try:
        return tuple(str(text) for text in texts)
    except UnicodeDecodeError:
        raise JiemiError("InvalidSpec", f"{field} came as text that is not UTF-8") from None
