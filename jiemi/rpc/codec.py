"""The contract's values to and from Cap'n Proto messages.

The readers and builders are pycapnp's, used by their attributes only: this module doesn't import it. Whoever calls is
in the bridge's thread, and only the frozen values leave it. Each field is read once, because a reader counts what it
traverses against its message's limit.

A peer may be newer or damaged: an unknown member of a union, an unknown reason or a value out of its range becomes a
typed failure here, and nothing is trusted that the types inside rely on.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from jiemi.core.content.formats import Format
from jiemi.core.credential_limits import MAX_PRIVATE_KEYS, limit_bytes, require_total, size_bytes, values_of
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.reasons import REASONS
from jiemi.core.sensitive import SensitiveBytes, SensitiveText
from jiemi.rpc.contract import (
    MAX_DOCUMENTS,
    MAX_FILES,
    MAX_RENDERED_BYTES,
    Encryption,
    FileEntry,
    Files,
    FilesRequest,
    GitCredentials,
    Head,
    NestedPlaces,
    Rendered,
    RenderRequest,
    Source,
    is_revision,
    require_tenant,
)
from jiemi.rpc.keys import AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, HuaweiKey, KeyOrigin, PgpKey, VaultKey

Reader = Any
Builder = Any

PROTOCOL_VERSION = 1
"""protocolVersion in schema/krapao.capnp."""

DOCUMENT_OVERHEAD_BYTES = 16
"""A list element's pointer and the padding to whole words, at most (https://capnproto.org/encoding.html)."""

_ENTRY_OVERHEAD_BYTES = 48
"""A file's three pointers, and the padding of three texts to whole words, at most."""

MAX_RENDERED_MESSAGE_BYTES = MAX_RENDERED_BYTES + MAX_DOCUMENTS * DOCUMENT_OVERHEAD_BYTES
"""The most that the documents of one answer take in a message."""

MAX_KEYS = 1_000
"""The most keys in one request. A list of empty elements takes no room in a message, so its size limits nothing."""

MAX_NESTED_PLACES = 10
"""The most places in one request."""

MAX_MESSAGE_BYTES = MAX_RENDERED_MESSAGE_BYTES + 64 * 1024
"""The largest message, with room for what is around the documents. The same for both ends, because Cap'n Proto sends no
message that is larger than the end would itself receive."""

MAX_TEXT_BYTES = 512 * 1024
"""The longest single text that is taken in a message: a credential, key, bundle of authorities, URL or path."""

_REASON = re.compile(r"[A-Z][A-Za-z]{0,63}")


def _put_text(builder: Builder, field: str, value: str | None) -> None:
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


def _get_text(reader: Reader, field: str) -> str:
    """A text field.

    Raises:
        JiemiError: InvalidSpec where the bytes are not UTF-8, LimitExceeded where they are too many.
    """
    text = _get_any_text(reader, field)
    if len(text) > MAX_TEXT_BYTES:
        raise JiemiError("LimitExceeded", f"{field} is longer than {MAX_TEXT_BYTES} bytes")
    return text


def _get_any_text(reader: Reader, field: str) -> str:
    """A text field of any length that fits into a message. Raises JiemiError: InvalidSpec, as `_get_text`."""
    try:
        return str(getattr(reader, field))
    except UnicodeDecodeError:
        raise JiemiError("InvalidSpec", f"{field} came as text that is not UTF-8") from None


def _get_credential(reader: Reader, field: str, path: str) -> SensitiveText:
    """A credential. Equal ones are held once.

    Args:
        path: of the field of a Decryptor that it comes from, whose bound it has.

    Raises:
        JiemiError: InvalidSpec, as `_get_text`; CredentialTooLarge.
    """
    value = SensitiveText.shared(_get_any_text(reader, field))
    if (size := size_bytes(value)) > (limit := limit_bytes(path)):
        raise JiemiError("CredentialTooLarge", f"{path} came with {size} bytes, of {limit} at most")
    return value


def _get_optional(reader: Reader, field: str) -> str | None:
    return _get_text(reader, field) if reader._has(field) else None


def _which(reader: Reader) -> str:
    """The name of a union's member, or "" for one that a newer peer knows."""
    try:
        return str(reader.which)
    except Exception:  # noqa: BLE001  pycapnp's exception, which only the bridge may import
        return ""


# The session


def write_session_request(builder: Builder, secret: SensitiveText | None) -> None:
    builder.protocolVersion = PROTOCOL_VERSION
    _put_text(builder, "secret", None if secret is None else secret.reveal())


def read_secret(reader: Reader) -> str | None:
    """The secret that a client shows; None where it shows none. Raises as `_get_text`."""
    return _get_optional(reader, "secret")


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


# Source and credentials


def write_source(builder: Builder, source: Source) -> None:
    _put_text(builder, "url", source.url)
    _put_text(builder.ref, "branch", source.branch)
    _put_text(builder.ref, "tag", source.tag)
    _put_text(builder.ref, "commit", source.commit)


def read_source(reader: Reader) -> Source:
    """Raises JiemiError InvalidSpec for a kind of ref that is not known here."""
    url, ref = _get_text(reader, "url"), reader.ref
    match _which(ref):
        case "head":
            return Source(url)
        case "branch":
            return Source(url, branch=_get_text(ref, "branch"))
        case "tag":
            return Source(url, tag=_get_text(ref, "tag"))
        case "commit":
            return Source(url, commit=_get_text(ref, "commit"))
    raise JiemiError("InvalidSpec", "this Krapao does not know the kind of ref that is asked for; upgrade it")


def write_tenant(builder: Builder, tenant: str) -> None:
    _put_text(builder, "tenant", tenant)


def read_tenant(reader: Reader) -> str:
    """ "" where an older peer gives none.

    Raises:
        JiemiError: InvalidSpec where it is too long or has other characters.
    """
    tenant = _get_text(reader, "tenant")
    require_tenant(tenant)
    return tenant


_CREDENTIALS = {"username": "username", "token": "token", "ssh": "ssh", "known_hosts": "knownHosts"}


def write_credentials(builder: Builder, credentials: GitCredentials) -> None:
    for name, field in _CREDENTIALS.items():
        value: SensitiveText | None = getattr(credentials, name)
        _put_text(builder, field, None if value is None else value.reveal())


def read_credentials(reader: Reader) -> GitCredentials:
    """Raises JiemiError CredentialTooLarge: whoever calls is bound as a Decryptor is."""
    at = "spec.source.repository.credentials"
    found = GitCredentials(
        **{
            name: _get_credential(reader, field, f"{at}.{field}")
            for name, field in _CREDENTIALS.items()
            if reader._has(field)
        }
    )
    require_total(values_of(found), at)
    return found


def source_bytes(source: Source) -> int:
    """About how many bytes of memory a source takes."""
    return sum(map(sys.getsizeof, (source.url, source.branch, source.tag, source.commit)))


def credentials_bytes(credentials: GitCredentials) -> int:
    """About how many bytes of memory credentials take: text of four bytes a character where one needs that."""
    values = (credentials.username, credentials.token, credentials.ssh, credentials.known_hosts)
    return sum(sys.getsizeof(value.reveal()) for value in values if value is not None)


# head


def write_max_age(builder: Builder, max_age_seconds: float) -> None:
    builder.maxAgeSeconds = float(max_age_seconds)


def read_max_age(reader: Reader) -> float:
    """Raises JiemiError InvalidSpec for a negative number or NaN."""
    seconds = float(reader.maxAgeSeconds)
    if math.isnan(seconds) or seconds < 0:
        raise JiemiError("InvalidSpec", "maxAgeSeconds must be zero or more")
    return seconds


def write_head(builder: Builder, head: Head) -> None:
    _put_text(builder, "revision", head.revision)


def read_head(reader: Reader) -> Head:
    """Raises JiemiError InternalError for what is no full commit hash."""
    revision = _get_text(reader, "revision")
    if not is_revision(revision):
        raise JiemiError("InternalError", "Krapao told a revision that is no full commit hash")
    return Head(revision)


def write_head_result(builder: Builder, result: Head | Failure) -> None:
    if isinstance(result, Failure):
        write_failure(builder.init("failure"), result)
    else:
        write_head(builder.init("head"), result)


def read_head_result(reader: Reader) -> Head:
    """Raises the JiemiError that the result holds."""
    match _which(reader):
        case "head":
            return read_head(reader.head)
        case "failure":
            raise JiemiError.of(read_failure(reader.failure))
    raise _unknown_result()


# files


def write_files_request(builder: Builder, request: FilesRequest) -> None:
    _put_text(builder, "revision", request.revision)
    _put_texts(builder, "patterns", request.patterns)
    _put_texts(builder, "exclude", request.exclude)


def read_files_request(reader: Reader) -> FilesRequest:
    """Raises JiemiError LimitExceeded for too many patterns."""
    return FilesRequest(
        revision=_get_text(reader, "revision"),
        patterns=_get_texts(reader, "patterns"),
        exclude=_get_texts(reader, "exclude"),
    )


def files_request_bytes(request: FilesRequest) -> int:
    """About how many bytes of memory the request takes."""
    return sum(map(sys.getsizeof, (*request.patterns, *request.exclude)))


def files_bytes(files: Files) -> int:
    """About how many bytes the message for it takes."""
    return sum(
        len(each.path.encode("utf-8", "replace")) + len(each.blob) + len(each.config or "") + _ENTRY_OVERHEAD_BYTES
        for each in files.entries
    )


def write_files_result(builder: Builder, result: Files | Failure, receipt: object = None) -> None:
    """As `write_render_result`."""
    if isinstance(result, Failure):
        write_failure(builder.init("failure"), result)
        return
    files = builder.init("files")
    _put_text(files, "revision", result.revision)
    entries = files.init("entries", len(result.entries))
    for entry, each in zip(entries, result.entries, strict=True):
        _put_text(entry, "path", each.path)
        _put_text(entry, "blob", each.blob)
        _put_text(entry, "config", each.config)
    if receipt is not None:
        files.receipt = receipt


def read_files_result(reader: Reader) -> Files:
    """Raises the JiemiError that the result holds."""
    match _which(reader):
        case "files":
            files = reader.files
            entries = files.entries
            if len(entries) > MAX_FILES:
                raise JiemiError("LimitExceeded", f"Krapao gave more than {MAX_FILES} files")
            return Files(_get_text(files, "revision"), tuple(_read_entry(each) for each in entries))
        case "failure":
            raise JiemiError.of(read_failure(reader.failure))
    raise _unknown_result()


def _read_entry(reader: Reader) -> FileEntry:
    blob, config = _get_text(reader, "blob"), _get_optional(reader, "config")
    if not is_revision(blob) or (config is not None and not is_revision(config)):
        raise JiemiError("InternalError", "Krapao told a file's hash that is none")
    return FileEntry(_get_text(reader, "path"), blob, config)


# render


def write_render_request(builder: Builder, request: RenderRequest) -> None:
    _put_text(builder, "revision", request.revision)
    _put_text(builder, "path", request.path)
    _put_text(builder, "sopsPath", request.sops_path)
    builder.wholeFile = request.whole_file
    builder.allowPlain = request.allow_plain
    _put_texts(builder, "allowedRecipients", request.allowed_recipients)
    builder.requireFullMac = request.require_full_mac
    _put_text(builder, "format", request.format.value if request.format is not None else None)
    nested = builder.init("nested", len(request.nested))
    for index, places in enumerate(request.nested):
        _write_places(nested[index], places)
    keys = builder.init("keys", len(request.keys))
    for index, key in enumerate(request.keys):
        _write_key(keys[index], key)


def read_render_request(reader: Reader) -> RenderRequest:
    """Raises JiemiError ProviderNotSupportedYet for a kind of key not known here, LimitExceeded for too many keys."""
    keys = reader.keys
    if len(keys) > MAX_KEYS:
        raise JiemiError("LimitExceeded", f"a request has {len(keys)} keys, of {MAX_KEYS} at most")
    nested = reader.nested
    if len(nested) > MAX_NESTED_PLACES:
        raise JiemiError("LimitExceeded", f"a request has {len(nested)} places, of {MAX_NESTED_PLACES} at most")
    return RenderRequest(
        revision=_get_text(reader, "revision"),
        path=_get_text(reader, "path"),
        sops_path=_get_optional(reader, "sopsPath"),
        keys=_read_keys(keys),
        whole_file=bool(reader.wholeFile),
        allowed_recipients=_get_texts(reader, "allowedRecipients"),
        allow_plain=bool(reader.allowPlain),
        nested=tuple(_read_places(places) for places in nested),
        require_full_mac=bool(reader.requireFullMac),
        format=_read_format(reader),
    )


def _read_format(reader: Reader) -> Format | None:
    name = _get_optional(reader, "format")
    if name is None:
        return None
    try:
        return Format(name)
    except ValueError:
        raise JiemiError("ProviderNotSupportedYet", "a format of a file is stated that is not known here") from None


_PLACES_TEXTS = ("lacking", "texts", "encoded", "lists", "unless")


def _write_places(builder: Builder, places: NestedPlaces) -> None:
    having = builder.init("having", len(places.having))
    for index, (name, value) in enumerate(places.having):
        _put_text(having[index], "name", name)
        _put_text(having[index], "value", value)
    for field in _PLACES_TEXTS:
        _put_texts(builder, field, getattr(places, field))
    builder.own = places.own
    builder.content = places.content


def _read_places(reader: Reader) -> NestedPlaces:
    having = reader.having
    if len(having) > MAX_PATTERNS:
        raise JiemiError("LimitExceeded", f"having has {len(having)} elements, of {MAX_PATTERNS} at most")
    return NestedPlaces(
        having=tuple((_get_text(each, "name"), _get_text(each, "value")) for each in having),
        own=bool(reader.own),
        content=bool(reader.content),
        **{field: _get_texts(reader, field) for field in _PLACES_TEXTS},
    )


_KEY_CLASSES: dict[str, type[AwsKey | GcpKey | AzureKey | VaultKey | HuaweiKey]] = {
    each.provider: each for each in (AwsKey, GcpKey, AzureKey, VaultKey, HuaweiKey)
}
"""Those whose fields are those of a struct of the same name."""

MAX_PATTERNS = 1_000
"""The most elements of one list of texts, for the same reason as MAX_KEYS."""


def _write_key(builder: Builder, key: DecryptionKey) -> None:
    if isinstance(key, AgeKey):
        _put_text(builder, "age", key.private_key.reveal())
        _write_origins(builder, key.origins)
    elif isinstance(key, PgpKey):
        _put_text(builder, "pgp", key.private_key.reveal())
        _put_text(builder, "pgpPassphrase", key.passphrase.reveal() if key.passphrase is not None else None)
        _write_origins(builder, key.origins)
    else:
        struct = builder.init(key.provider)
        for attribute in attrs.fields(type(key)):
            value = getattr(key, attribute.name)
            if isinstance(value, tuple):
                _put_texts(struct, _camel(attribute.name), value)
            else:
                _put_text(struct, _camel(attribute.name), value.reveal() if isinstance(value, SensitiveText) else value)


def _write_origins(builder: Builder, origins: tuple[KeyOrigin, ...]) -> None:
    found = builder.init("origins", len(origins))
    for index, each in enumerate(origins):
        _put_text(found[index], "name", each.name)
        found[index].lines = each.lines


def _read_origins(reader: Reader) -> tuple[KeyOrigin, ...]:
    origins = reader.origins
    if len(origins) > MAX_PRIVATE_KEYS:
        raise JiemiError("LimitExceeded", f"a key has {len(origins)} origins, of {MAX_PRIVATE_KEYS} at most")
    return tuple(KeyOrigin(_get_text(each, "name"), int(each.lines)) for each in origins)


def _read_keys(readers: Iterable[Reader]) -> tuple[DecryptionKey, ...]:
    keys = tuple(map(_read_key, readers))
    require_total([value for key in keys for value in values_of(key)], "spec.provider")
    return keys


def _read_key(reader: Reader) -> DecryptionKey:
    which = _which(reader)
    match which:
        case "age":
            return AgeKey(_get_credential(reader, "age", "spec.provider.age.privateKey"), _read_origins(reader))
        case "pgp":
            has_passphrase = reader._has("pgpPassphrase")
            return PgpKey(
                _get_credential(reader, "pgp", "spec.provider.pgp.privateKey"),
                _get_credential(reader, "pgpPassphrase", "spec.provider.pgp.passphrase") if has_passphrase else None,
                _read_origins(reader),
            )
    if which not in _KEY_CLASSES:
        raise JiemiError("ProviderNotSupportedYet", "this Krapao is older than the Miwen that asks; upgrade it")
    kind, struct = _KEY_CLASSES[which], getattr(reader, which)
    values: dict[str, Any] = {}
    for attribute in attrs.fields(kind):
        field = _camel(attribute.name)
        if attribute.default == ():
            values[attribute.name] = _get_texts(struct, field)
        elif struct._has(field):
            values[attribute.name] = (
                _get_text(struct, field)
                if attribute.name in _PUBLIC
                else _get_credential(struct, field, f"spec.provider.{which}.{field}")
            )
        elif attribute.default is attrs.NOTHING:
            raise JiemiError("InvalidSpec", f"{which}.{field} is missing in the request")
    return kind(**values)


_PUBLIC = frozenset({"pinned_address"})


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _put_texts(builder: Builder, field: str, values: tuple[str, ...]) -> None:
    """Set a list of texts. Raises as `_put_text`."""
    texts = builder.init(field, len(values))
    for index, value in enumerate(values):
        try:
            texts[index] = value
        except UnicodeEncodeError:
            raise JiemiError("InvalidSpec", f"{field} holds text that is not valid Unicode") from None


def _get_texts(reader: Reader, field: str) -> tuple[str, ...]:
    """A list of texts. Raises JiemiError: InvalidSpec as `_get_text`; LimitExceeded."""
    texts = getattr(reader, field)
    if len(texts) > MAX_PATTERNS:
        raise JiemiError("LimitExceeded", f"{field} has {len(texts)} elements, of {MAX_PATTERNS} at most")
    try:
        return tuple(str(text) for text in texts)
    except UnicodeDecodeError:
        raise JiemiError("InvalidSpec", f"{field} came as text that is not UTF-8") from None


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
        *(text for key in request.keys for text in _texts_of(key)),
    )
    return sum(map(sys.getsizeof, texts))


def _texts_of_places(places: NestedPlaces) -> Iterator[str]:
    for name, value in places.having:
        yield from (name, value)
    for field in _PLACES_TEXTS:
        yield from getattr(places, field)


def _texts_of(key: DecryptionKey) -> Iterator[str]:
    for value in attrs.astuple(key, recurse=False):
        if isinstance(value, SensitiveText):
            yield value.reveal()
        elif isinstance(value, tuple):
            yield from (each.name if isinstance(each, KeyOrigin) else each for each in value)
        elif value is not None:
            yield value


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
    _put_text(rendered, "revision", result.revision)
    documents = rendered.init("documents", len(result.documents))
    for index, document in enumerate(result.documents):
        documents[index] = document.reveal()
    if result.content is not None:
        rendered.content = result.content.reveal()
    encryption = rendered.init("encryption")
    _put_texts(encryption, "recipients", result.encryption.recipients)
    _put_text(encryption, "lastModified", result.encryption.last_modified)
    _put_text(encryption, "sopsVersion", result.encryption.sops_version)
    _put_texts(encryption, "staleRecipients", result.encryption.stale_recipients)
    _put_text(encryption, "keyExpiresAt", result.encryption.key_expires_at)
    encryption.mac = _MAC_COVERAGE[result.encryption.mac_only_encrypted]
    _put_text(rendered, "vaultAddress", result.vault_address)
    rendered.encrypted = result.encrypted
    rendered.opened = result.opened
    _put_texts(rendered, "carriageReturns", result.carriage_returns)
    _put_text(rendered, "format", result.format.value if result.format is not None else None)
    if result.plain_documents:
        rendered.plainDocuments = list(result.plain_documents)
    if receipt is not None:
        rendered.receipt = receipt


def read_render_result(reader: Reader) -> Rendered:
    """Raises the JiemiError that the result holds."""
    match _which(reader):
        case "rendered":
            rendered = reader.rendered
            documents = rendered.documents
            if len(documents) > MAX_DOCUMENTS:
                raise JiemiError("LimitExceeded", f"Krapao gave more than {MAX_DOCUMENTS} documents")
            return Rendered(
                revision=_get_text(rendered, "revision"),
                documents=tuple(SensitiveBytes(bytes(document)) for document in documents),
                content=SensitiveBytes(bytes(rendered.content)) if rendered._has("content") else None,
                encryption=_read_encryption(rendered.encryption),
                vault_address=_get_optional(rendered, "vaultAddress"),
                encrypted=bool(rendered.encrypted),
                opened=int(rendered.opened),
                carriage_returns=_get_texts(rendered, "carriageReturns"),
                format=_read_format(rendered),
                plain_documents=_read_indexes(rendered.plainDocuments, len(documents)),
            )
        case "failure":
            raise JiemiError.of(read_failure(reader.failure))
    raise _unknown_result()


def _read_indexes(reader: Reader, count: int) -> tuple[int, ...]:
    """Indexes of a list of so many. Raises JiemiError: InternalError."""
    found = tuple(int(each) for each in reader) if len(reader) <= count else (count,)
    if any(each >= count for each in found):
        raise JiemiError("InternalError", "Krapao told of documents that it did not give")
    return found


def _read_encryption(reader: Reader) -> Encryption:
    return Encryption(
        recipients=_get_texts(reader, "recipients"),
        last_modified=_get_optional(reader, "lastModified"),
        sops_version=_get_optional(reader, "sopsVersion"),
        stale_recipients=_get_texts(reader, "staleRecipients"),
        key_expires_at=_get_optional(reader, "keyExpiresAt"),
        # By number: one that a newer peer knows has no name here, and is not the whole file.
        mac_only_encrypted=_MAC_COVERAGE_READ.get(int(reader.mac.raw), True),
    )


_MAC_COVERAGE = {None: "unknown", False: "everything", True: "onlyEncrypted"}
_MAC_COVERAGE_READ = dict(enumerate(_MAC_COVERAGE))


def _unknown_result() -> JiemiError:
    return JiemiError("InternalError", "Krapao answered in a way that this Miwen does not know; upgrade Miwen")


# Failures


def write_failure(builder: Builder, failure: Failure) -> None:
    # A message may quote a path, and a path in git is any bytes: no lone surrogate may keep a failure from being told.
    builder.reason = failure.reason
    builder.message = failure.message.encode("utf-8", "replace").decode()
    builder.remedy = failure.own_remedy.encode("utf-8", "replace").decode()
    builder.retry = failure.kind.value


def read_failure(reader: Reader) -> Failure:
    """The failure. A reason that is not known here becomes InternalError, which is tried again, with its name kept."""
    reason, message, remedy = (_get_text(reader, name) for name in ("reason", "message", "remedy"))
    if reason in REASONS:
        return Failure(reason, message, remedy)
    name = reason if _REASON.fullmatch(reason) else "a reason without a name"
    return Failure(
        "InternalError",
        f"Krapao told of {name}, which this Miwen does not know: {message}",
        remedy or "Bring Miwen to the release of Krapao.",
    )
