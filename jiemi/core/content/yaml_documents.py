"""YAML -> the values of its documents, as JSON has them.

It is read from the parser's events (YAML 1.2, https://yaml.org/spec/1.2.2/), not by a library's constructor, because
three things must be ours. What a plain scalar means: as in yaml.v3 (resolve.go), which sops writes with, and which
quotes each string that it would read back as another type. So timestamps, `yes`, `on` and `1:20` stay text here as they
were text there, and so does a number too large for it, like a long one in hexadecimal: it writes a string of that form
without quotes. What is refused: duplicate keys, keys that are no strings, tags that JSON has no value for, NaN and the
infinities. And how much is built: nodes, depth, documents, and what aliases stand for are counted before they are
built, so that neither a deep nor a "billion laughs" document gets far.

The builder keeps a stack of the collections that are open; an anchor remembers the value built and how many nodes
it stands for. A message names the document by number (counting from 1) and the line, never a key or a value: both
are secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import attrs
from ruamel.yaml import YAML
from ruamel.yaml import events as yaml_events
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from jiemi.core.content.document_limits import MAX_DEPTH, MAX_NODES, MAX_NUMBER_CHARACTERS
from jiemi.core.errors import JiemiError

_TAG = "tag:yaml.org,2002:"
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_PREFIXED = re.compile(r"([-+]?)0(?:x([0-9a-fA-F_]+)|o([0-7_]+)|b([01_]+)|([0-7_]+))")
_SIGNED, _UNSIGNED = range(-(2**63), 2**63), range(2**64)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

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
        """Take the next event. Returns whether a document is complete and waits in `pop`."""
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
                    self.refuse("UnknownFormat", "a merge key (<<) whose value is not a mapping")
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


def _plain(text: str) -> Any:  # noqa: PLR0911 - a table, except for the numbers
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


def parse_yaml(text: str, max_bytes: int) -> Iterator[Any]:
    """The values of a text's documents in their order, None for one that holds nothing.

    Args:
        text: YAML.
        max_bytes: the most characters that aliases may repeat.

    Raises:
        JiemiError: UnknownFormat where the text is not YAML or holds what JSON can't; LimitExceeded.
    """
    builder = _Builder(max_bytes)
    for event in _events(text):
        if builder.take(event):
            yield builder.pop()


def _events(text: str) -> Iterator[Any]:
    """The parser's events. No error of the parser is passed on or chained, because it quotes the document."""
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "somewhere"
    except YAMLError:
        where = "a character that YAML forbids"
    except Exception:  # noqa: BLE001 - it lets bare ones out, of chr() for one: "\\UFFFFFFFF"
        where = "an escape or a directive that YAML does not have"
    else:
        return
    raise JiemiError("UnknownFormat", f"its content is not YAML: {where}")
