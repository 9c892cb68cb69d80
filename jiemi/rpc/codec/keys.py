"""Keys on the wire: what may open a file's data key, one member of a union per provider."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from jiemi.core.credential_limits import MAX_PRIVATE_KEYS, require_total, values_of
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.codec.fields import (
    Builder,
    Reader,
    get_credential,
    get_text,
    get_texts,
    member_of,
    put_text,
    put_texts,
)
from jiemi.rpc.keys import AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, HuaweiKey, KeyOrigin, PgpKey, VaultKey

_KEY_CLASSES: dict[str, type[AwsKey | GcpKey | AzureKey | VaultKey | HuaweiKey]] = {
    each.provider: each for each in (AwsKey, GcpKey, AzureKey, VaultKey, HuaweiKey)
}
"""Those whose fields are those of a struct of the same name."""


def write_key(builder: Builder, key: DecryptionKey) -> None:
    if isinstance(key, AgeKey):
        put_text(builder, "age", key.private_key.reveal())
        _write_origins(builder, key.origins)
    elif isinstance(key, PgpKey):
        put_text(builder, "pgp", key.private_key.reveal())
        put_text(builder, "pgpPassphrase", key.passphrase.reveal() if key.passphrase is not None else None)
        _write_origins(builder, key.origins)
    else:
        struct = builder.init(key.provider)
        for attribute in attrs.fields(type(key)):
            value = getattr(key, attribute.name)
            if isinstance(value, tuple):
                put_texts(struct, _camel(attribute.name), value)
            else:
                put_text(struct, _camel(attribute.name), value.reveal() if isinstance(value, SensitiveText) else value)


def _write_origins(builder: Builder, origins: tuple[KeyOrigin, ...]) -> None:
    found = builder.init("origins", len(origins))
    for index, each in enumerate(origins):
        put_text(found[index], "name", each.name)
        found[index].lines = each.lines


def _read_origins(reader: Reader) -> tuple[KeyOrigin, ...]:
    origins = reader.origins
    if len(origins) > MAX_PRIVATE_KEYS:
        raise JiemiError("LimitExceeded", f"a key has {len(origins)} origins, of {MAX_PRIVATE_KEYS} at most")
    return tuple(KeyOrigin(get_text(each, "name"), int(each.lines)) for each in origins)


def read_keys(readers: Iterable[Reader]) -> tuple[DecryptionKey, ...]:
    keys = tuple(map(_read_key, readers))
    require_total([value for key in keys for value in values_of(key)], "spec.provider")
    return keys


def _read_key(reader: Reader) -> DecryptionKey:
    which = member_of(reader)
    match which:
        case "age":
            return AgeKey(get_credential(reader, "age", "spec.provider.age.privateKey"), _read_origins(reader))
        case "pgp":
            has_passphrase = reader._has("pgpPassphrase")
            return PgpKey(
                get_credential(reader, "pgp", "spec.provider.pgp.privateKey"),
                get_credential(reader, "pgpPassphrase", "spec.provider.pgp.passphrase") if has_passphrase else None,
                _read_origins(reader),
            )
    if which not in _KEY_CLASSES:
        raise JiemiError("ProviderNotSupportedYet", "this Krapao is older than the Miwen that asks; upgrade it")
    kind, struct = _KEY_CLASSES[which], getattr(reader, which)
    values: dict[str, Any] = {}
    for attribute in attrs.fields(kind):
        field = _camel(attribute.name)
        if attribute.default == ():
            values[attribute.name] = get_texts(struct, field)
        elif struct._has(field):
            values[attribute.name] = (
                get_text(struct, field)
                if attribute.name in _PUBLIC
                else get_credential(struct, field, f"spec.provider.{which}.{field}")
            )
        elif attribute.default is attrs.NOTHING:
            raise JiemiError("InvalidSpec", f"{which}.{field} is missing in the request")
    return kind(**values)


_PUBLIC = frozenset({"pinned_address"})


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def texts_of(key: DecryptionKey) -> Iterator[str]:
    """All texts of a key, to count its size."""
    for value in attrs.astuple(key, recurse=False):
        if isinstance(value, SensitiveText):
            yield value.reveal()
        elif isinstance(value, tuple):
            yield from (each.name if isinstance(each, KeyOrigin) else each for each in value)
        elif value is not None:
            yield value
