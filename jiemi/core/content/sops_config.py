"""A repository's .sops.yaml -> which recipients of a file it no longer names, and how sops indents what it decrypts.

The first is for a warning only: `sops updatekeys` is to be run where a key was taken out of .sops.yaml and a file is
still encrypted for it. All rules count as one, because regular expressions that a repository's writer chose decide
which of them a file falls under, and those are not run here.
https://getsops.io/docs/#using-sops-yaml-conf-to-select-kms-pgp-and-age-for-new-files
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError

_BY_PREFIX = ("Azure Key Vault ", "Vault ")
"""Of these a file's metadata shows the server, and .sops.yaml a key's whole URL."""


_MAX_DOCUMENTS = 10
_MAX_INDENT = 64
"""The widest indentation that is obeyed. Each line of JSON has it once for each level."""


@attrs.frozen
class Indents:
    """How sops indents what it decrypts (`stores` in .sops.yaml); without a .sops.yaml as here.

    Attributes:
        yaml: in spaces. yaml.v3 takes 2 for what is below 2 or above 9.
        json: in spaces; -1 for a tab.
    """

    yaml: int = 4
    json: int = -1


def read_indents(config: bytes) -> Indents:
    """What a .sops.yaml says of indentation; as without one where it says nothing that sops takes.

    https://getsops.io/docs/#json-and-json_binary-indentation
    """
    value = _first_document(config)
    stores = value.get("stores") if isinstance(value, dict) else None

    def of(store: str, least: int) -> int | None:
        found = stores.get(store) if isinstance(stores, dict) else None
        indent = found.get("indent") if isinstance(found, dict) else None
        return indent if type(indent) is int and least <= indent <= _MAX_INDENT else None

    yaml, json_ = of("yaml", 1), of("json", -1)
    return Indents(Indents().yaml if yaml is None else yaml, Indents().json if json_ is None else json_)


def stale_recipients(recipients: Iterable[str], config: bytes) -> tuple[str, ...]:
    """The recipients of a file that a .sops.yaml does not name; none where it names nobody or can't be read.

    Args:
        recipients: kind and name of each, as in `Encryption`.
        config: the .sops.yaml.
    """
    named = _names(config)
    if not named:
        return ()
    return tuple(each for each in recipients if not _is_named(each, named))


def _is_named(recipient: str, named: frozenset[str]) -> bool:
    for kind in _BY_PREFIX:
        if recipient.startswith(kind):
            server = recipient.removeprefix(kind).rstrip("/")
            return any(name == server or name.startswith(f"{server}/") for name in named)
    if recipient.startswith("pgp "):
        fingerprint = recipient.removeprefix("pgp ").upper()
        ids = (name.upper().replace(" ", "").removeprefix("0X").removesuffix("!") for name in named)
        return any(len(each) >= 8 and (fingerprint.endswith(each) or each.endswith(fingerprint)) for each in ids)
    for kind in ("age ", "AWS KMS ", "GCP KMS ", "Huawei Cloud KMS "):
        if recipient.startswith(kind):
            return recipient.removeprefix(kind) in named
    return True


def _names(config: bytes) -> frozenset[str]:
    value = _first_document(config)
    rules = value.get("creation_rules") if isinstance(value, dict) else None
    return frozenset(_texts(rules))


def _first_document(config: bytes) -> Any:
    """What sops reads of it; None where it can't be read."""
    try:
        documents = parse_documents(config, Format.YAML, max_documents=_MAX_DOCUMENTS)
    except JiemiError:
        return None
    return json.loads(documents[0]) if documents else None


def _texts(value: Any) -> Iterator[str]:
    """Every name in a rule: of lists, of texts with commas, of mappings with an ARN or URL; and that of a key without
    the role and context that may follow it."""
    if isinstance(value, str):
        for part in value.split(","):
            yield part.strip()
            yield re.split(r"[+|]", part, maxsplit=1)[0].strip()
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
