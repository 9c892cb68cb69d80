"""sops's key service protocol: requests for data keys, as values, and their form on the wire.

The protocol is `keyservice/keyservice.proto` of getsops/sops (v3.13; field numbers never change there): one gRPC
service, `KeyService`, with the methods `Encrypt` and `Decrypt`. sops calls what wraps a data key a *master key*; a file
names it with all that is needed to reach it, and so does a request. The messages are described here by name and number,
and read and written by the protobuf library.

Everything that comes is hostile: a file's writer chose it. What can't be read is refused, and no value of it is quoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

DECRYPT = "/KeyService/Decrypt"
ENCRYPT = "/KeyService/Encrypt"


@attrs.frozen
class AgeMasterKey:
    """An age recipient."""

    recipient: str


@attrs.frozen
class PgpMasterKey:
    """An OpenPGP key, by its fingerprint."""

    fingerprint: str


@attrs.frozen
class AwsMasterKey:
    """A key of AWS KMS.

    Attributes:
        arn: the key's.
        role: ARN of a role to assume before, or "".
        context: the encryption context, as sorted pairs.
        profile: a profile of the shared configuration of whoever encrypted, or "".
    """

    arn: str
    role: str = ""
    context: tuple[tuple[str, str], ...] = ()
    profile: str = ""


@attrs.frozen
class GcpMasterKey:
    """A key of Google Cloud KMS: projects/P/locations/L/keyRings/R/cryptoKeys/K."""

    resource_id: str


@attrs.frozen
class AzureMasterKey:
    """A key of Azure Key Vault."""

    vault_url: str
    name: str
    version: str


@attrs.frozen
class VaultMasterKey:
    """A key of a transit engine of HashiCorp Vault or OpenBao."""

    address: str
    engine_path: str
    key_name: str


@attrs.frozen
class HuaweiMasterKey:
    """A key of Huawei Cloud KMS: REGION:UUID."""

    key_id: str


MasterKey = (
    AgeMasterKey | PgpMasterKey | AwsMasterKey | GcpMasterKey | AzureMasterKey | VaultMasterKey | HuaweiMasterKey
)


@attrs.frozen
class DecryptRequest:
    """Asks for a data key.

    Attributes:
        key: the master key that wrapped it, or None for a kind that is not known here.
        ciphertext: the wrapped data key, as the file has it.
    """

    key: MasterKey | None
    ciphertext: bytes = attrs.field(repr=False)


class UnreadableError(Exception):
    """The bytes are no such message."""


_STRING = int(descriptor_pb2.FieldDescriptorProto.TYPE_STRING)
_BYTES = int(descriptor_pb2.FieldDescriptorProto.TYPE_BYTES)
_CONTEXT_ENTRY = ".KmsKey.ContextEntry"

_KINDS: tuple[tuple[str, str, type[Any], tuple[tuple[str, str], ...]], ...] = (
    # The member of Key's union, the message, our class, and (field of the message, attribute of the class) by number
    (
        "kms_key",
        "KmsKey",
        AwsMasterKey,
        (("arn", "arn"), ("role", "role"), ("context", "context"), ("aws_profile", "profile")),
    ),
    ("pgp_key", "PgpKey", PgpMasterKey, (("fingerprint", "fingerprint"),)),
    ("gcp_kms_key", "GcpKmsKey", GcpMasterKey, (("resource_id", "resource_id"),)),
    (
        "azure_keyvault_key",
        "AzureKeyVaultKey",
        AzureMasterKey,
        (("vault_url", "vault_url"), ("name", "name"), ("version", "version")),
    ),
    (
        "vault_key",
        "VaultKey",
        VaultMasterKey,
        (("vault_address", "address"), ("engine_path", "engine_path"), ("key_name", "key_name")),
    ),
    ("age_key", "AgeKey", AgeMasterKey, (("recipient", "recipient"),)),
    ("hckms_key", "HckmsKey", HuaweiMasterKey, (("key_id", "key_id"),)),
)

_MAP = "context"


def _describe() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="jiemi/keyservice.proto", syntax="proto3")
    described: list[tuple[str, list[tuple[str, int | str]]]] = [
        ("Key", [(member, f".{name}") for member, name, _, _ in _KINDS]),
        *(
            (name, [(field, _CONTEXT_ENTRY if field == _MAP else _STRING) for field, _ in fields])
            for _, name, _, fields in _KINDS
        ),
        ("DecryptRequest", [("key", ".Key"), ("ciphertext", _BYTES)]),
        ("DecryptResponse", [("plaintext", _BYTES)]),
    ]
    for name, fields in described:
        _add_fields(file.message_type.add(name=name), fields)
    key = file.message_type[0]
    key.oneof_decl.add(name="key_type")
    for member in key.field:
        member.oneof_index = 0
    entry = next(each for each in file.message_type if each.name == "KmsKey").nested_type.add(name="ContextEntry")
    entry.options.map_entry = True
    _add_fields(entry, [("key", _STRING), ("value", _STRING)])
    pool = descriptor_pool.DescriptorPool()  # one of its own: sops's names have no package
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        for name in ("DecryptRequest", "DecryptResponse")
    }


def _add_fields(message: descriptor_pb2.DescriptorProto, fields: Sequence[tuple[str, int | str]]) -> None:
    """Add fields, numbered from 1: each a scalar's type, or the name of a message."""
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, (name, kind) in enumerate(fields, start=1):
        field = message.field.add(name=name, number=number, label=kinds.LABEL_OPTIONAL)
        if kind == _CONTEXT_ENTRY:
            field.label = kinds.LABEL_REPEATED
        if isinstance(kind, str):
            field.type, field.type_name = kinds.TYPE_MESSAGE, kind
        else:
            field.type = kinds.Type.ValueType(kind)


_MESSAGES = _describe()


def read_decrypt_request(data: bytes) -> DecryptRequest:
    """Raises UnreadableError."""
    message = _parse("DecryptRequest", data)
    member = message.key.WhichOneof("key_type")
    for name, _, kind, fields in _KINDS:
        if name == member:
            found = getattr(message.key, name)
            values = {attribute: _value(getattr(found, field)) for field, attribute in fields}
            return DecryptRequest(kind(**values), bytes(message.ciphertext))
    return DecryptRequest(None, bytes(message.ciphertext))


def write_decrypt_request(request: DecryptRequest) -> bytes:
    """The bytes of a request for a kind of key that is known here."""
    message = _MESSAGES["DecryptRequest"](ciphertext=request.ciphertext)
    for name, _, kind, fields in _KINDS:
        if isinstance(request.key, kind):
            made = getattr(message.key, name)
            made.SetInParent()
            for field, attribute in fields:
                value = getattr(request.key, attribute)
                if field == _MAP:
                    made.context.update(dict(value))
                else:
                    setattr(made, field, value)
            return bytes(message.SerializeToString())
    raise TypeError("a request is for a kind of key that is known")


def read_decrypt_response(data: bytes) -> bytes:
    """The data key. Raises UnreadableError."""
    return bytes(_parse("DecryptResponse", data).plaintext)


def write_decrypt_response(plaintext: bytes) -> bytes:
    return bytes(_MESSAGES["DecryptResponse"](plaintext=plaintext).SerializeToString())


def _value(value: Any) -> Any:
    return value if isinstance(value, str) else tuple(sorted(value.items()))


def _parse(name: str, data: bytes) -> Any:
    try:
        return _MESSAGES[name].FromString(data)
    except (DecodeError, UnicodeDecodeError):
        pass
    raise UnreadableError
