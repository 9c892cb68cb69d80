"""Encrypted files as an attacker makes them: sops's format written by hand, with any block and any data key.

What sops does (v3.13: aes/cipher.go, sops.go) is done here without it: each value is sealed with AES-256-GCM under a
nonce of 32 bytes, with its path as additional data; the MAC is the SHA-512 of all values in order, sealed with the
time of the last change. Whoever knows a tenant's public key can write all of this, so nothing of it is a secret.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import pyrage
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NOW = "2026-01-02T03:04:05Z"
_TAG_BYTES = 16
_MAC_ONLY_ENCRYPTED = hashlib.sha256(b"sops").digest()  # sops.go, MACOnlyEncryptedInitialization
Tree = Mapping[str, Any]


@attrs.frozen
class Raw:
    """A value that stands in the file as it is, in no MAC and not sealed: what an attacker put there afterwards."""

    value: Any


def seal(value: Any, data_key: bytes, additional: str, kind: str | None = None) -> str:
    """A value as sops writes it: ENC[AES256_GCM,…]."""
    found, text = _text(value)
    nonce = os.urandom(32)
    sealed = AESGCM(data_key).encrypt(nonce, text, additional.encode())
    parts = (sealed[:-_TAG_BYTES], nonce, sealed[-_TAG_BYTES:])
    data, iv, tag = (base64.b64encode(each).decode() for each in parts)
    return f"ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:{kind or found}]"


def _text(value: Any) -> tuple[str, bytes]:
    if isinstance(value, bool):
        return "bool", b"True" if value else b"False"
    if isinstance(value, int):
        return "int", str(value).encode()
    return "str", str(value).encode()


def age_wrap(data_key: bytes, *recipients: str) -> str:
    """A data key (or anything else) encrypted for age recipients, in armor."""
    to = [pyrage.x25519.Recipient.from_str(each) for each in recipients]
    armor: bytes = pyrage.encrypt(data_key, to, armored=True)
    return armor.decode()


def for_age(data_key: bytes, recipient: str) -> dict[str, Any]:
    """What a block says of one age recipient."""
    return {"age": [{"recipient": recipient, "enc": age_wrap(data_key, recipient)}]}


@attrs.frozen
class Sealed:
    """Documents sealed with one data key, and their MAC.

    Attributes:
        documents: without the block.
        mac: as it stands in the block.
    """

    documents: tuple[dict[str, Any], ...]
    mac: str


def seal_documents(
    documents: Sequence[Tree],
    data_key: bytes,
    *,
    encrypted: Callable[[tuple[str, ...]], bool] = lambda _: True,
    mac_only_encrypted: bool = False,
    changed_at: str = NOW,
) -> Sealed:
    """Seal the values of documents.

    Args:
        encrypted: whether what is at a path is sealed; sops finds that out by the rules in the block.
    """
    digest = hashlib.sha512(_MAC_ONLY_ENCRYPTED if mac_only_encrypted else b"")

    def walk(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, Raw):
            return value.value
        if isinstance(value, Mapping):
            return {key: walk(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [walk(each, path) for each in value]
        if value is None:
            return None
        sealed = encrypted(path)
        if sealed or not mac_only_encrypted:
            digest.update(_text(value)[1])
        return seal(value, data_key, ":".join(path) + ":") if sealed and value != "" else value

    made = tuple({key: walk(value, (key,)) for key, value in each.items()} for each in documents)
    return Sealed(made, seal(digest.hexdigest().upper(), data_key, changed_at))


def block(sealed: Sealed, *parts: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """The sops block: what each part and field says, over what an innocent one has."""
    found: dict[str, Any] = {"lastmodified": NOW, "mac": sealed.mac, "version": "3.13.3"}
    for part in parts:
        found |= part
    return {name: value for name, value in (found | fields).items() if value is not ...}


def as_json(document: Tree) -> bytes:
    return json.dumps(document, indent=1).encode()


def as_yaml(*documents: Tree) -> bytes:
    """Documents in YAML's block style; each leaf is a JSON text, which YAML reads too."""
    return "---\n".join("".join(_lines(each, "")) for each in documents).encode()


def _lines(value: Tree, indent: str) -> Sequence[str]:
    lines: list[str] = []
    for key, each in value.items():
        name = json.dumps(key, ensure_ascii=False)
        if isinstance(each, Mapping) and each:
            lines += [f"{indent}{name}:\n", *_lines(each, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {json.dumps(each, ensure_ascii=False)}\n")
    return lines


def shares(secret: bytes, count: int) -> list[bytes]:
    """A secret divided so that any two of the shares give it back, as sops divides (shamir/shamir.go)."""
    slope = os.urandom(len(secret))
    return [
        bytes(each ^ _times(rise, number) for each, rise in zip(secret, slope, strict=True)) + bytes([number])
        for number in range(1, count + 1)
    ]


def _times(left: int, right: int) -> int:
    """Multiplication in the field of 256 elements that AES has."""
    product = 0
    while right:
        product ^= left if right & 1 else 0
        left = left << 1 ^ (0x11B if left & 0x80 else 0)
        right >>= 1
    return product
