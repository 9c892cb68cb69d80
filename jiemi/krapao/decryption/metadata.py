"""What a file says of its encryption: recipients, when, by which sops. For people only.

Nothing here decides anything, except what `mac.py` says of the MAC. It is searched by pattern, not parsed, in all of
sops's formats at once: a hostile file can make it show a wrong recipient, never a secret. What is asked to open the
file is what the guard sees.
"""

from __future__ import annotations

import datetime
import re

import attrs

from jiemi.core.content.sops_config import stale_recipients
from jiemi.rpc.contract import Encryption

_MAX_RECIPIENTS = 50
MAX_CONFIG_BYTES = 64 * 1024
"""A larger .sops.yaml is not looked into: reading it takes about 1 s a megabyte, and little depends on it."""

_TAIL_BYTES = 256 * 1024
"""sops writes its block at the end of a file."""

_IS = rb"\"?[ \t]*[:=][ \t]*[\"']?"
"""Between a name and its value, in YAML, JSON, dotenv and INI."""

_RECIPIENTS = tuple(
    (re.compile(rb"(?:^|[\s\"{,_])" + name + _IS + b"(" + value + b")", re.MULTILINE), kind)
    for name, value, kind in (
        (rb"recipient", rb"age1[0-9a-z]{20,2500}|ssh-[a-z0-9]{1,32} [A-Za-z0-9+/=]{20,800}", "age "),
        (rb"fp", rb"[0-9A-Fa-f]{16,64}", "pgp "),
        (rb"arn", rb"arn:aws[a-z-]{0,32}:kms:[A-Za-z0-9:/_-]{1,300}", "AWS KMS "),
        (rb"resource_id", rb"projects/[A-Za-z0-9/_.:-]{1,300}", "GCP KMS "),
        (rb"(?:vaultUrl|vault_url)", rb"https?://[A-Za-z0-9.:/_-]{1,300}", "Azure Key Vault "),
        (rb"vault_address", rb"https?://[A-Za-z0-9.:/_-]{1,300}", "Vault "),
        (rb"key_id", rb"[a-z]{2,4}(?:-[a-z0-9]{1,12}){1,4}:[0-9A-Za-z-]{1,64}", "Huawei Cloud KMS "),
    )
)
_LAST_MODIFIED = re.compile(
    rb"lastmodified" + _IS + rb"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2}))"
)
_VERSION = re.compile(
    rb"(?:^|[\s\"{,_])version" + _IS + rb"([0-9]{1,4}\.[0-9]{1,4}\.[0-9A-Za-z.+-]{1,40})", re.MULTILINE
)


def read_encryption(data: bytes) -> Encryption:
    """What a file says of its encryption; empty where it says nothing that is known."""
    tail = data[-_TAIL_BYTES:]
    found = [kind + match.decode() for pattern, kind in _RECIPIENTS for match in pattern.findall(tail)]
    modified, version = _LAST_MODIFIED.findall(tail), _VERSION.findall(tail)
    return Encryption(
        recipients=tuple(dict.fromkeys(found))[:_MAX_RECIPIENTS],
        last_modified=modified[-1].decode() if modified else None,
        sops_version=version[-1].decode() if version else None,
    )


def encryption_of(
    data: bytes, config: bytes | None, key_expires_at: int | None, *, mac_only_encrypted: bool
) -> Encryption:
    """All that is reported of a file's encryption.

    Args:
        data: the encrypted file.
        config: the .sops.yaml that is for it.
        key_expires_at: when the first of the keys expires that opened it (seconds since the epoch), or None.
        mac_only_encrypted: as `is_mac_only_encrypted` says.
    """
    found = attrs.evolve(read_encryption(data), mac_only_encrypted=mac_only_encrypted)
    if key_expires_at is not None:
        moment = datetime.datetime.fromtimestamp(key_expires_at, datetime.UTC)
        found = attrs.evolve(found, key_expires_at=moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
    if config is not None and len(config) <= MAX_CONFIG_BYTES:
        found = attrs.evolve(found, stale_recipients=stale_recipients(found.recipients, config))
    return found


def joined(first: Encryption, *more: Encryption) -> Encryption:
    """What is reported of several files that are one: of a file and those in its values."""

    def texts(name: str) -> tuple[str, ...]:
        found = (text for each in (first, *more) for text in getattr(each, name))
        return tuple(dict.fromkeys(found))[:_MAX_RECIPIENTS]

    def times(name: str) -> list[str]:
        return [getattr(each, name) for each in (first, *more) if getattr(each, name) is not None]

    covers = [each.mac_only_encrypted for each in (first, *more) if each.mac_only_encrypted is not None]
    return Encryption(
        texts("recipients"),
        max(times("last_modified"), default=None),
        next(iter(times("sops_version")), None),
        texts("stale_recipients"),
        min(times("key_expires_at"), default=None),
        any(covers) if covers else None,
    )
