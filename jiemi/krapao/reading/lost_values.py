"""Whether values of a file became null when sops decrypted it to YAML (`jiemi.krapao.decryption.sops`)."""

from __future__ import annotations

import json
from typing import Any

from jiemi.core.content.document_limits import MAX_NODES
from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format


def lost_values(data: bytes, plain: bytes) -> bool:
    """Whether the decrypted file has more nulls than the encrypted, which has them all: nulls are not encrypted.

    Raises:
        JiemiError: as `parse_documents`.
    """
    return _nulls(plain) > _nulls(data)


def _nulls(data: bytes) -> int:
    found = map(json.loads, parse_documents(data, Format.YAML, max_documents=MAX_NODES))
    return sum(_nulls_in({**each, "sops": 0} if isinstance(each, dict) else each) for each in found)


def _nulls_in(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_nulls_in, value.values()))
    if isinstance(value, list):
        return sum(map(_nulls_in, value))
    return int(value is None)
