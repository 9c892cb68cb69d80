"""Decrypted bytes -> documents, each as canonical JSON.

The YAML is read from the parser's events (YAML 1.2, https://yaml.org/spec/1.2.2/), not by a library's constructor,
because three things must be ours. What a plain scalar means: as in yaml.v3 (resolve.go), which sops writes with, and
which quotes each string that it would read back as another type. So timestamps, `yes`, `on` and `1:20` stay text here
as they were text there, and so does a number too large for it, like a long one in hexadecimal: it writes a string of
that form without quotes. What is refused: duplicate keys, keys that are no strings, tags that JSON has no value for,
NaN and the infinities. And how much is built: nodes, depth, documents, and what aliases stand for are counted
before they are built, so that neither a deep nor a "billion laughs" document gets far.

Where sops decrypts a YAML file to JSON, that is read as JSON, but for its merge keys (`<<`), which sops keeps as they
are.

The builder keeps a stack of the collections that are open; an anchor remembers the value built and how many nodes
it stands for. A message names the document by number (counting from 1) and the line, never a key or a value: both
are secret.
"""

from __future__ import annotations

import contextlib
import enum
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import attrs
from ruamel.yaml import YAML
from ruamel.yaml import events as yaml_events
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from jiemi.core.errors import JiemiError

MAX_NODES = 200_000
"""The most scalars and collections in one file, aliases counted as what they stand for. A ConfigMap that fills
etcd's 1.5 MiB with short keys has about 50,000; reading so many takes the parser some 4 s."""

MAX_BYTES = 8 * 1024 * 1024
"""The most that a file's documents may come to, in JSON, where nothing else is said."""

MAX_DEPTH = 100
"""The deepest nesting. A CustomResourceDefinition of a recursive-looking API reaches about 40."""

MAX_NUMBER_CHARACTERS = 400
"""The longest number: a double's largest value has 309 digits, and Python's own reading of digits is quadratic. A
longer one is refused in JSON, and text in YAML, as it is to yaml.v3."""

_TAG = "tag:yaml.org,2002:"
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_PREFIXED = re.compile(r"([-+]?)0(?:x([0-9a-fA-F_]+)|o([0-7_]+)|b([01_]+)|([0-7_]+))")
_SIGNED, _UNSIGNED = range(-(2**63), 2**63), range(2**64)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Format(enum.Enum):
    """How a file is written."""

    YAML = "yaml"
    JSON = "json"
    DOTENV = "dotenv"
    INI = "ini"
    BINARY = "binary"


def format_of(path: str) -> Format:
    """The format that a file's name tells, as it does to sops (cmd/sops/formats/formats.go); any other is binary.

    Endings in capitals tell sops nothing, and so nothing here: it has encrypted such a file as bytes.
    """
    for ending, format in _ENDINGS:
        if path.endswith(ending):
            return format
    return Format.BINARY


def ending_in_capitals(path: str) -> str | None:
    """The ending of a name that would tell a format if it were in lower case; or None."""
    if format_of(path) is not Format.BINARY or format_of(path.lower()) is Format.BINARY:
        return None
    return path[path.rindex(".") :]


_ENDINGS = (
    (".yaml", Format.YAML),
    (".yml", Format.YAML),
    (".json", Format.JSON),
    (".env", Format.DOTENV),
    (".ini", Format.INI),
)

ENDINGS_OF: Mapping[Format, tuple[str, ...]] = {
    format: tuple(ending for ending, each in _ENDINGS if each is format) for format in dict(_ENDINGS).values()
}
"""The endings of each format; a binary file has none."""


def parse_documents(
    data: bytes, format: Format, *, max_documents: int, max_bytes: int = MAX_BYTES
) -> tuple[bytes, ...]:
    """The documents of a file, each as one JSON text in UTF-8 with sorted keys and no spaces.

    Args:
        data: the decrypted file. That of a YAML file may be JSON, and that of a dotenv or INI file is.
        format: not that of a binary file, which has no documents.
        max_documents: the most that may be in it, empty ones not counted.
        max_bytes: the most that they may come to.

    Returns:
        Any JSON value each, in the order of the file. YAML documents that hold nothing (or null) are left out.

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
    for number, value in enumerate(_parse_yaml(text, max_bytes), start=1):
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
    raise JiemiError("UnknownFormat", f"document {number} holds half of a surrogate pair, which is no character")


# JSON


class _NotJsonError(JiemiError):
    """The text is no JSON, though it may be YAML."""


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
    # A text that is not closed is taken to the end, and never looked at twice.
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
    raise JiemiError("UnknownFormat", "document 1 holds NaN or Infinity, which are no JSON numbers")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JiemiError("UnknownFormat", "document 1 holds a number beyond the range of a double")
    return value


def _bounded_int(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise JiemiError("LimitExceeded", f"document 1 has a number of more than {MAX_NUMBER_CHARACTERS} characters")
    return int(text)


# YAML


_NO_KEY = object()
_MERGE_KEY = object()


@attrs.define
class _Open:
    """A collection that is being built."""

    value: dict[str, Any] | list[Any]
    anchor: str | None
    nodes: int = 1
    characters: int = 0
    height: int = 0
    key: Any = _NO_KEY
    merged: list[dict[str, Any]] = attrs.field(factory=list)


class _Builder:
    """Builds one document after the other from the events of the parser."""

    def __init__(self, max_bytes: int) -> None:
        self.number = 0
        self._repeated_bytes_left = max_bytes
        self._line = 0
        self._nodes = 0
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int, int, int]] = {}
        self._root: Any = None

    def refuse(self, reason: str, what: str) -> NoReturn:
        raise JiemiError(reason, f"document {self.number}, line {self._line}: {what}")

    def take(self, event: Any) -> bool:
        """Take the next event; whether a document is complete and waits in `pop`."""
        self._line = event.start_mark.line + 1 if event.start_mark is not None else self._line
        if isinstance(event, yaml_events.DocumentStartEvent):
            self.number += 1
            self._stack.clear()
            self._anchors.clear()
            self._root = None
        elif isinstance(event, yaml_events.DocumentEndEvent):
            return True
        elif isinstance(event, yaml_events.AliasEvent):
            self._alias(event.anchor)
        elif isinstance(event, yaml_events.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, (yaml_events.MappingStartEvent, yaml_events.SequenceStartEvent)):
            self._begin(event)
        elif isinstance(event, (yaml_events.MappingEndEvent, yaml_events.SequenceEndEvent)):
            self._end()
        return False

    def pop(self) -> Any:
        root, self._root = self._root, None
        return root

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise JiemiError(
                "LimitExceeded",
                f"document {self.number}: the file has more than {MAX_NODES} values, aliases counted in full",
            )

    def _begin(self, event: Any) -> None:
        self._count(1)
        mapping = isinstance(event, yaml_events.MappingStartEvent)
        tag = _tag(event)
        if tag not in (None, "!", _TAG + ("map" if mapping else "seq")):
            self.refuse("UnknownFormat", "a tag on a collection that JSON has no value for")
        if len(self._stack) >= MAX_DEPTH:
            self.refuse("LimitExceeded", f"nested deeper than {MAX_DEPTH}")
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is _NO_KEY:
            self.refuse("UnknownFormat", "a key that is a list or a mapping")
        self._stack.append(_Open({} if mapping else [], event.anchor))

    def _end(self) -> None:
        done = self._stack.pop()
        if isinstance(done.value, dict):
            for other in done.merged:  # earlier ones win, and the mapping's own keys over all
                for key, value in other.items():
                    done.value.setdefault(key, value)
        self._place(done.value, done.nodes, done.anchor, done.height + 1, done.characters)

    def _alias(self, anchor: str) -> None:
        if anchor not in self._anchors:
            self.refuse("UnknownFormat", "an alias without its anchor before it")
        value, nodes, height, characters = self._anchors[anchor]
        self._count(nodes)
        self._repeated_bytes_left -= characters
        if self._repeated_bytes_left < 0:
            self.refuse("LimitExceeded", "its aliases repeat too much text")
        if len(self._stack) + height > MAX_DEPTH:
            self.refuse("LimitExceeded", f"nested deeper than {MAX_DEPTH}")
        self._place(value, nodes, None, height, characters)

    def _scalar(self, event: Any) -> None:
        self._count(1)
        parent = self._stack[-1] if self._stack else None
        tag, plain = _tag(event), event.style is None
        if parent is not None and isinstance(parent.value, dict) and parent.key is _NO_KEY:
            self._key(parent, event, tag, plain)
            return
        self._place(self._value(event.value, tag, plain), 1, event.anchor, 0, len(event.value))

    def _key(self, parent: _Open, event: Any, tag: str | None, plain: bool) -> None:
        if tag == _TAG + "merge" or (tag is None and plain and event.value == "<<"):
            parent.key = _MERGE_KEY
            return
        key = self._value(event.value, tag, plain)
        if not isinstance(key, str):  # sops encrypts none such either
            self.refuse("UnknownFormat", "a key that is not text: put it in quotes")
        if key in parent.value:
            self.refuse("UnknownFormat", "the same key twice in one mapping")
        if event.anchor is not None:
            self._anchors[event.anchor] = (key, 1, 0, len(key))
        parent.key = key
        parent.characters += len(key)

    def _value(self, text: str, tag: str | None, plain: bool) -> Any:
        if tag in _TEXT_TAGS or (tag is None and not plain):
            return text
        value = _plain(text)
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse("UnknownFormat", "NaN or an infinity, which JSON has no number for")
        if tag is not None and type(value) not in _TAG_TYPES.get(tag, ()):
            self.refuse("UnknownFormat", "a tag that JSON has no value for, or that does not fit its value")
        return float(value) if tag == _TAG + "float" else value

    def _place(self, value: Any, nodes: int, anchor: str | None, height: int, characters: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, nodes, height, characters)
        if not self._stack:
            self._root = value
            return
        parent = self._stack[-1]
        parent.nodes += nodes
        parent.characters += characters
        parent.height = max(parent.height, height)
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.key is _MERGE_KEY:
            parent.key = _NO_KEY
            for each in value if isinstance(value, list) else [value]:
                if not isinstance(each, dict):
                    self.refuse("UnknownFormat", "a merge key (<<) whose value is no mapping")
                parent.merged.append(each)
        elif parent.key is _NO_KEY:  # an alias as a key
            if not isinstance(value, str) or value in parent.value:
                self.refuse("UnknownFormat", "an alias as a key that is not text, or the same key twice")
            parent.key = value
        else:
            parent.value[parent.key] = value
            parent.key = _NO_KEY


_TEXT_TAGS = ("!", _TAG + "str", _TAG + "merge")  # as a value `!!merge <<` is the text, and sops writes it so
_TAG_TYPES: dict[str, tuple[type, ...]] = {
    _TAG + "int": (int,),
    _TAG + "float": (int, float),
    _TAG + "bool": (bool,),
    _TAG + "null": (type(None),),
}


def _tag(event: Any) -> str | None:
    return None if event.tag is None else str(event.tag)


def _plain(text: str) -> Any:  # noqa: PLR0911 - a table, but for the numbers
    """The value of a plain scalar: null, a boolean, a number, or else the text."""
    if text in _NULLS:
        return None
    if text in _TRUTHS:
        return _TRUTHS[text]
    if text[0] not in "+-.0123456789" or len(text) > MAX_NUMBER_CHARACTERS:
        return text
    if _NOT_FINITE.fullmatch(text):
        return math.nan
    if prefixed := _PREFIXED.fullmatch(text):
        sign, *digits = prefixed.groups()
        for base, found in zip((16, 8, 2, 8), digits, strict=True):
            if found is not None and (bare := found.replace("_", "")):
                value = int(sign + bare, base)
                if value in (_SIGNED if sign else _UNSIGNED):
                    return value
    number = _DECIMAL.fullmatch(text)
    if number is None and _FLOAT.fullmatch(text) is None:
        return text
    digits_only = text.replace("_", "")
    as_double = float(digits_only)
    if not math.isfinite(as_double):
        return text
    return int(digits_only) if number is not None else as_double


def _parse_yaml(text: str, max_bytes: int) -> Iterator[Any]:
    builder = _Builder(max_bytes)
    for event in _events(text):
        if builder.take(event):
            yield builder.pop()


def _events(text: str) -> Iterator[Any]:
    """The parser's events. No error of the parser's goes on, nor is carried: they quote the document."""
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "somewhere"
    except YAMLError:
        where = "a character that YAML forbids"
    except Exception:  # noqa: BLE001 - it lets bare ones out, of chr() for one: "\\UFFFFFFFF"
        where = "an escape or a directive that YAML has not"
    else:
        return
    raise JiemiError("UnknownFormat", f"its content is not YAML: {where}")
