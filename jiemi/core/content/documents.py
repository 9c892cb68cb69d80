"""Decrypted bytes -> documents, each as canonical JSON.

`jiemi.core.content.yaml_documents` reads YAML. Where sops decrypts a YAML file to JSON, that is read as JSON, except
for its merge keys (`<<`), which sops keeps as they are. A message never quotes a key or a value: both are secret.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from typing import Any, NoReturn

from jiemi.core.content.document_limits import MAX_DEPTH, MAX_NODES, MAX_NUMBER_CHARACTERS
from jiemi.core.content.formats import Format
from jiemi.core.content.yaml_documents import parse_yaml
from jiemi.core.errors import JiemiError

MAX_BYTES = 8 * 1024 * 1024
"""The default limit for a file's documents together, in JSON."""


def parse_documents(
    data: bytes, format: Format, *, max_documents: int, max_bytes: int = MAX_BYTES
) -> tuple[bytes, ...]:
    """The documents of a file, each as one JSON text in UTF-8 with sorted keys and no spaces.

    Args:
        data: the decrypted file. For a YAML file it may be JSON, and for a dotenv or INI file it always is.
        format: of the file; not BINARY, because such a file has no documents.
        max_documents: how many may be in it; empty ones do not count.
        max_bytes: how large they may be together.

    Returns:
        One JSON value per document, in the order of the file. YAML documents that hold nothing (or null) are left out.

    Raises:
        JiemiError: UnknownFormat where the bytes are not of the format or hold what JSON can't; LimitExceeded.
    """
    text = _decode(data)
    if text is None:
        raise JiemiError("UnknownFormat", "its content is not UTF-8 text")
    if format in (Format.JSON, Format.DOTENV, Format.INI):
        return _bounded([_to_json(_parse_json(text), 1)], max_bytes)
    if text.startswith("{"):
        with contextlib.suppress(_NotJsonError):
            return _bounded([_to_json(_merge(_parse_json(text)), 1)], max_bytes)
    found: list[bytes] = []
    for number, value in enumerate(parse_yaml(text, max_bytes), start=1):
        if value is None:
            continue
        if len(found) == max_documents:
            raise JiemiError("LimitExceeded", f"the file has more than {max_documents} documents")
        found.append(_to_json(value, number))
        _bounded(found, max_bytes)
    return tuple(found)


def _bounded(found: list[bytes], max_bytes: int) -> tuple[bytes, ...]:
    if sum(map(len, found)) > max_bytes:
        raise JiemiError("LimitExceeded", f"the documents are larger than Krapao's limit of {max_bytes} bytes")
    return tuple(found)


def _decode(data: bytes) -> str | None:
    """The text, or None: an error raised from UnicodeDecodeError would carry the data with it."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _to_json(value: Any, number: int) -> bytes:
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
    )
    with contextlib.suppress(UnicodeEncodeError):  # it would carry the document with it
        return text.encode()
    raise JiemiError("UnknownFormat", f"document {number} holds half of a surrogate pair, which is not a character")


# JSON


class _NotJsonError(JiemiError):
    """The text is not JSON, though it may be YAML."""


def _merge(value: Any) -> Any:
    """The value with its merge keys carried out (https://yaml.org/type/merge.html)."""
    if isinstance(value, list):
        return [_merge(each) for each in value]
    if not isinstance(value, dict):
        return value
    merged = {key: _merge(each) for key, each in value.items()}
    others = merged.get("<<")
    others = others if isinstance(others, list) else [others]
    if "<<" in merged and all(isinstance(each, dict) for each in others):
        del merged["<<"]
        for other in others:  # earlier ones win, and the object's own keys over all
            for key, each in other.items():
                merged.setdefault(key, each)
    return merged


def _parse_json(text: str) -> Any:
    depth = deepest = nodes = 0
    # A text that is not closed is taken to the end, so that no part of it is read twice.
    for token in re.finditer(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]|,', text, re.DOTALL):
        match token.group()[0]:
            case "[" | "{":
                depth += 1
                nodes += 1
                deepest = max(deepest, depth)
            case "]" | "}":
                depth -= 1
            case _:
                nodes += 1
    if deepest > MAX_DEPTH:
        raise JiemiError("LimitExceeded", f"the JSON document is nested deeper than {MAX_DEPTH}")
    if nodes > 2 * MAX_NODES:  # keys, values and commas; an estimate, to bound what json builds
        raise JiemiError("LimitExceeded", f"the JSON document has more than {MAX_NODES} values")
    try:
        return json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
    # Out of the handler, so that the error does not carry json's, which holds the document.
    raise _NotJsonError("UnknownFormat", f"its content is not JSON: {where}")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JiemiError("UnknownFormat", "document 1 has the same key twice in one object")
    return found


def _no_constant(_: str) -> NoReturn:
    raise JiemiError("UnknownFormat", "document 1 holds NaN or Infinity, which are not JSON numbers")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JiemiError("UnknownFormat", "document 1 holds a number beyond the range of a double")
    return value


def _bounded_int(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise JiemiError("LimitExceeded", f"document 1 has a number of more than {MAX_NUMBER_CHARACTERS} characters")
    return int(text)
