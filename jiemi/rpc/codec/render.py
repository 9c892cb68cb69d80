"""`render`: one file to decrypt, and the documents in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from jiemi.core.content.formats import Format
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.sensitive import SensitiveBytes
from jiemi.rpc.codec.failures import read_failure, unknown_result, write_failure
from jiemi.rpc.codec.fields import (
    MAX_ELEMENTS,
    Builder,
    Reader,
    get_optional,
    get_text,
    get_texts,
    member_of,
    put_text,
    put_texts,
)
from jiemi.rpc.codec.keys import read_keys, texts_of, write_key
from jiemi.rpc.contract import MAX_DOCUMENTS, MAX_RENDERED_BYTES, Encryption, NestedPlaces, Rendered, RenderRequest

DOCUMENT_OVERHEAD_BYTES = 16
"""A list element's pointer and the padding to whole words, at most (https://capnproto.org/encoding.html)."""

MAX_RENDERED_MESSAGE_BYTES = MAX_RENDERED_BYTES + MAX_DOCUMENTS * DOCUMENT_OVERHEAD_BYTES
"""The most that the documents of one answer take in a message."""

MAX_MESSAGE_BYTES = MAX_RENDERED_MESSAGE_BYTES + 64 * 1024
"""The largest message, with room for what is around the documents. The same for both ends, because Cap'n Proto sends no
message that is larger than the end would itself receive."""

MAX_KEYS = 1_000
"""The most keys in one request, for the same reason as MAX_ELEMENTS."""

MAX_NESTED_PLACES = 10
"""The most places in one request."""


def write_render_request(builder: Builder, request: RenderRequest) -> None:
    put_text(builder, "revision", request.revision)
    put_text(builder, "path", request.path)
    put_text(builder, "sopsPath", request.sops_path)
    builder.wholeFile = request.whole_file
    builder.allowPlain = request.allow_plain
    put_texts(builder, "allowedRecipients", request.allowed_recipients)
    builder.requireFullMac = request.require_full_mac
    put_text(builder, "format", request.format.value if request.format is not None else None)
    nested = builder.init("nested", len(request.nested))
    for index, places in enumerate(request.nested):
        _write_places(nested[index], places)
    keys = builder.init("keys", len(request.keys))
    for index, key in enumerate(request.keys):
        write_key(keys[index], key)


def read_render_request(reader: Reader) -> RenderRequest:
    """Raises JiemiError ProviderNotSupportedYet for a kind of key not known here, LimitExceeded for too many keys."""
    keys = reader.keys
    if len(keys) > MAX_KEYS:
        raise JiemiError("LimitExceeded", f"a request has {len(keys)} keys, of {MAX_KEYS} at most")
    nested = reader.nested
    if len(nested) > MAX_NESTED_PLACES:
        raise JiemiError("LimitExceeded", f"a request has {len(nested)} places, of {MAX_NESTED_PLACES} at most")
    return RenderRequest(
        revision=get_text(reader, "revision"),
        path=get_text(reader, "path"),
        sops_path=get_optional(reader, "sopsPath"),
        keys=read_keys(keys),
        whole_file=bool(reader.wholeFile),
        allowed_recipients=get_texts(reader, "allowedRecipients"),
        allow_plain=bool(reader.allowPlain),
        nested=tuple(_read_places(places) for places in nested),
        require_full_mac=bool(reader.requireFullMac),
        format=_read_format(reader),
    )


_PLACES_TEXTS = ("lacking", "texts", "encoded", "lists", "unless")


def _write_places(builder: Builder, places: NestedPlaces) -> None:
    having = builder.init("having", len(places.having))
    for index, (name, value) in enumerate(places.having):
        put_text(having[index], "name", name)
        put_text(having[index], "value", value)
    for field in _PLACES_TEXTS:
        put_texts(builder, field, getattr(places, field))
    builder.own = places.own
    builder.content = places.content


def _read_places(reader: Reader) -> NestedPlaces:
    having = reader.having
    if len(having) > MAX_ELEMENTS:
        raise JiemiError("LimitExceeded", f"having has {len(having)} elements, of {MAX_ELEMENTS} at most")
    return NestedPlaces(
        having=tuple((get_text(each, "name"), get_text(each, "value")) for each in having),
        own=bool(reader.own),
        content=bool(reader.content),
        **{field: get_texts(reader, field) for field in _PLACES_TEXTS},
    )


def _read_format(reader: Reader) -> Format | None:
    name = get_optional(reader, "format")
    if name is None:
        return None
    try:
        return Format(name)
    except ValueError:
        raise JiemiError("ProviderNotSupportedYet", "a format of a file is stated that is not known here") from None


def request_bytes(request: RenderRequest) -> int:
    """About how many bytes of memory the request takes.

    Counted here, because pycapnp's `total_size` of a reader ends the process where a message is damaged: it lets the
    C++ exception through (seen in 2.2.4; `except +` is missing in its capnp_cpp.pxd).
    """
    texts = (
        request.revision,
        request.path,
        request.sops_path or "",
        *request.allowed_recipients,
        *(text for places in request.nested for text in _texts_of_places(places)),
        *(text for key in request.keys for text in texts_of(key)),
    )
    return sum(map(sys.getsizeof, texts))


def _texts_of_places(places: NestedPlaces) -> Iterator[str]:
    for name, value in places.having:
        yield from (name, value)
    for field in _PLACES_TEXTS:
        yield from getattr(places, field)


def rendered_bytes(rendered: Rendered) -> int:
    """About how many bytes the message for it takes."""
    content = len(rendered.content) if rendered.content is not None else 0
    return content + sum(len(document) + DOCUMENT_OVERHEAD_BYTES for document in rendered.documents)


def write_render_result(builder: Builder, result: Rendered | Failure, receipt: object = None) -> None:
    """Write it; `receipt` is a capability of the bridge, released when the peer has taken the documents."""
    if isinstance(result, Failure):
        write_failure(builder.init("failure"), result)
        return
    rendered = builder.init("rendered")
    put_text(rendered, "revision", result.revision)
    documents = rendered.init("documents", len(result.documents))
    for index, document in enumerate(result.documents):
        documents[index] = document.reveal()
    if result.content is not None:
        rendered.content = result.content.reveal()
    encryption = rendered.init("encryption")
    put_texts(encryption, "recipients", result.encryption.recipients)
    put_text(encryption, "lastModified", result.encryption.last_modified)
    put_text(encryption, "sopsVersion", result.encryption.sops_version)
    put_texts(encryption, "staleRecipients", result.encryption.stale_recipients)
    put_text(encryption, "keyExpiresAt", result.encryption.key_expires_at)
    encryption.mac = _MAC_COVERAGE[result.encryption.mac_only_encrypted]
    put_text(rendered, "vaultAddress", result.vault_address)
    rendered.encrypted = result.encrypted
    rendered.opened = result.opened
    put_texts(rendered, "carriageReturns", result.carriage_returns)
    put_text(rendered, "format", result.format.value if result.format is not None else None)
    if result.plain_documents:
        rendered.plainDocuments = list(result.plain_documents)
    if receipt is not None:
        rendered.receipt = receipt


def read_render_result(reader: Reader) -> Rendered:
    """Raises the JiemiError that the result holds."""
    match member_of(reader):
        case "rendered":
            rendered = reader.rendered
            documents = rendered.documents
            if len(documents) > MAX_DOCUMENTS:
                raise JiemiError("LimitExceeded", f"Krapao gave more than {MAX_DOCUMENTS} documents")
            return Rendered(
                revision=get_text(rendered, "revision"),
                documents=tuple(SensitiveBytes(bytes(document)) for document in documents),
                content=SensitiveBytes(bytes(rendered.content)) if rendered._has("content") else None,
                encryption=_read_encryption(rendered.encryption),
                vault_address=get_optional(rendered, "vaultAddress"),
                encrypted=bool(rendered.encrypted),
                opened=int(rendered.opened),
                carriage_returns=get_texts(rendered, "carriageReturns"),
                format=_read_format(rendered),
                plain_documents=_read_indexes(rendered.plainDocuments, len(documents)),
            )
        case "failure":
            raise JiemiError.of(read_failure(reader.failure))
    raise unknown_result()


def _read_indexes(reader: Reader, count: int) -> tuple[int, ...]:
    """Indexes of a list of so many. Raises JiemiError: InternalError."""
    found = tuple(int(each) for each in reader) if len(reader) <= count else (count,)
    if any(each >= count for each in found):
        raise JiemiError("InternalError", "Krapao marked documents that it did not give")
    return found


def _read_encryption(reader: Reader) -> Encryption:
    return Encryption(
        recipients=get_texts(reader, "recipients"),
        last_modified=get_optional(reader, "lastModified"),
        sops_version=get_optional(reader, "sopsVersion"),
        stale_recipients=get_texts(reader, "staleRecipients"),
        key_expires_at=get_optional(reader, "keyExpiresAt"),
        # By number: one that a newer peer knows has no name here, and is not the whole file.
        mac_only_encrypted=_MAC_COVERAGE_READ.get(int(reader.mac.raw), True),
    )


_MAC_COVERAGE = {None: "unknown", False: "everything", True: "onlyEncrypted"}
_MAC_COVERAGE_READ = dict(enumerate(_MAC_COVERAGE))
