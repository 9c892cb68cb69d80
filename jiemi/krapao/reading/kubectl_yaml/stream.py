r"""A file -> its documents, as `kubectl apply -f` takes it apart (apimachinery v0.37, pkg/util/yaml/decoder.go).

Documents are told by lines, before any YAML is read: each line that begins with `---` ends one, and nothing but a
comment may follow it there. So `--- {a: b}` is refused, and so is a file with a `%YAML` line. Where the first character
is `{`, JSON values are read as long as they are, and the rest is YAML if there was one at most.

Stricter than kubectl, so that nothing is applied that the file's reader does not see in it, or lost that they do:

- a key twice in one mapping or object, where kubectl takes the last;
- something behind the end of a document (`...`, or behind a flow collection), which kubectl does not read;
- half of a surrogate pair and base64 (`!!binary`) of what is no text, for which kubectl puts U+FFFD;
- UTF-16, and a byte order mark at another line's start than the document's first;
- the limits: documents, depth, values, characters of a number, text that aliases repeat.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from jiemi.core.content.document_limits import MAX_DEPTH, MAX_NODES, MAX_NUMBER_CHARACTERS
from jiemi.core.errors import JiemiError
from jiemi.krapao.reading.kubectl_yaml.cursor import NO_YAML, Refused
from jiemi.krapao.reading.kubectl_yaml.parser import parse
from jiemi.krapao.reading.kubectl_yaml.scalars import number_for_json
from jiemi.krapao.reading.kubectl_yaml.values import KEY_NO_SCALAR, KEY_TWICE, ONE_OF_TWO, value_of

_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""As Go's unicode.IsSpace."""

_LOOKED_AT = 4096
"""How far kubectl looks for the first `{`, in bytes."""

_SEPARATOR = re.compile(r"^---([^\n]*+)\n", re.MULTILINE)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LATE_MARK = re.compile("(?:\\A|[\n\r\x85\u2028\u2029])\ufeff")
_JSON_SPACE = re.compile(r"[ \t\r\n]*+")


def read_stream(
    data: bytes, *, named_json: bool = False, max_documents: int, max_bytes: int, max_values: int = MAX_NODES
) -> tuple[bytes, ...]:
    """The documents of a plain file, each as one JSON text in UTF-8 with sorted keys and no spaces.

    Args:
        named_json: whether the file's name says that it is JSON. kubectl does not look at that, so it may be YAML all
            the same; what is neither is refused as no JSON.
        max_documents: the most that may be in it, empty ones not counted.
        max_bytes: the most text that aliases may repeat, and the most of all documents.
        max_values: the most that are read of one document, where that is less than the limit.

    Returns:
        Any JSON value each, in the order of the file; null is left out.

    Raises:
        JiemiError: UnknownFormat; LimitExceeded.
        OverBudget: it has more than `max_values`.
    """
    text = None
    with contextlib.suppress(UnicodeDecodeError):  # it would carry the data with it
        text = data.decode()
    if text is None:
        raise JiemiError("UnknownFormat", "its content is not UTF-8 text")
    found = _Found(max_documents, max_bytes)
    begin = 0
    no_json: str | None = None
    if data[:_LOOKED_AT].decode("utf-8", "ignore").lstrip(_SPACE).startswith("{"):
        begin, no_json = _read_json(text, found)
    for chunk, first_line in _chunks(text[begin:], text.count("\n", 0, begin)):
        found.number += 1
        if found.number > MAX_NODES:
            raise JiemiError(
                "LimitExceeded",
                f"the file has more than {MAX_NODES} documents, empty ones counted",
                "Split the file.",
            )
        try:
            found.add(_read_chunk(chunk, max_bytes, max_values))
        except Refused as error:
            failure, line, visible = error.failure, first_line + error.line, _visible_fault(chunk, error)
        else:
            continue
        # Out of the handler: the first error's frames hold the document.
        if named_json and no_json is not None and failure.message == NO_YAML:
            raise JiemiError("UnknownFormat", no_json)
        if visible is not None:
            what, remedy, after = visible
            line += after
            raise JiemiError("UnknownFormat", f"document {found.number}, line {line + 1}: {what}", remedy)
        raise JiemiError.of(failure.at(f"document {found.number}, line {line + 1}"))
    return tuple(found.documents)


class _Found:
    """The documents so far."""

    def __init__(self, max_documents: int, max_bytes: int) -> None:
        self._max_documents = max_documents
        self._max_bytes = max_bytes
        self.number = 0
        self.documents: list[bytes] = []

    def add(self, value: Any) -> None:
        if value is None:
            return
        if len(self.documents) == self._max_documents:
            raise JiemiError(
                "LimitExceeded", f"the file has more than {self._max_documents} documents", "Split the file."
            )
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
        )
        document = None
        with contextlib.suppress(UnicodeEncodeError):  # it would carry the document with it
            document = text.encode()
        if document is None:
            raise JiemiError(
                "UnknownFormat", f"document {self.number} holds half of a surrogate pair, which is no character"
            )
        self._max_bytes -= len(document)
        if self._max_bytes < 0:
            raise JiemiError("LimitExceeded", "the documents are larger than Krapao's limit", "Split the file.")
        self.documents.append(document)


# YAML


def _chunks(text: str, line: int) -> Iterator[tuple[str, int]]:
    """The text of each document, and the number of its first line, from 0."""
    text = text.replace("\r\n", "\n")
    if text and not text.endswith("\n"):
        text += "\n"
    begin = 0
    for separator in _SEPARATOR.finditer(text):
        behind = separator[1].strip(_SPACE)
        if behind and not behind.startswith("#"):
            line += text.count("\n", begin, separator.start())
            raise JiemiError(
                "UnknownFormat",
                f"line {line + 1}: something follows `---`, which kubectl takes on a line alone only",
                "Put what follows `---` on the next line.",
            )
        if separator.start() > begin:
            yield text[begin : separator.start()], line
            line += text.count("\n", begin, separator.end())
            begin = separator.end()
    if begin < len(text):
        yield text[begin:], line


def _visible_fault(chunk: str, error: Refused) -> tuple[str, str, int] | None:
    """What a reader of the file would see at once where the parser says no more than that it is no YAML: what it is,
    what to do, and how many lines from where the parser stopped it is."""
    if error.failure.message not in (NO_YAML, KEY_NO_SCALAR):
        return None
    lines = chunk.split("\n")
    if (conflict := next((at for at, line in enumerate(lines) if line.startswith("<<<<<<< ")), None)) is not None:
        return "a conflict of git's is left in it", "Resolve the conflict, and commit the file.", conflict - error.line
    near = [at for at in (error.line, error.line - 1, error.line + 1) if 0 <= at < len(lines)]
    for at in near:
        if "{{" in lines[at]:
            what = "{{ of a template, which Helm or another tool fills in and Jiemi does not"
            return what, "Commit the manifest that comes out, or put a value that holds {{ in quotes.", at - error.line
    if error.failure.message != NO_YAML:
        return None
    for at in near:
        if "\t" in lines[at][: len(lines[at]) - len(lines[at].lstrip())]:
            return "a tab in its indentation", "Indent it by spaces: YAML allows no tabs there.", at - error.line
    return None


def _read_chunk(text: str, max_bytes: int, max_values: int) -> Any:
    text = text.removeprefix("\ufeff")
    for pattern, what in ((_FORBIDDEN, "a character that YAML forbids"), (_LATE_MARK, "a byte order mark")):
        if (bad := pattern.search(text)) is not None:
            raise Refused("UnknownFormat", what, text.count("\n", 0, bad.start()))
    root = parse(text, max_values=max_values)
    return None if root is None else value_of(root, max_bytes=max_bytes, max_values=max_values)


# JSON


def _read_json(text: str, found: _Found) -> tuple[int, str | None]:
    """Take JSON values from the beginning; returns where YAML goes on, and why that is no JSON, if anywhere.

    Raises:
        JiemiError: UnknownFormat, where it does not; LimitExceeded.
    """
    reader = _JsonReader()
    begin = 0
    while (place := _end_of_space(text, begin)) < len(text):
        found.number += 1
        try:
            value, end = reader.read(text, place)
        except json.JSONDecodeError as error:
            why = f"its content is not JSON: line {error.lineno}, column {error.colno}"
        else:
            begin = end
            found.add(value)
            continue
        found.number -= 1
        rest = None if found.number > 1 else _begin_of_yaml(text, begin)
        if rest is None:  # out of the handler: the error carries the text
            raise JiemiError("UnknownFormat", why)
        return rest, why
    return len(text), None


def _end_of_space(text: str, place: int) -> int:
    space = _JSON_SPACE.match(text, place)
    return space.end() if space is not None else place


def _begin_of_yaml(text: str, place: int) -> int | None:
    """Where kubectl takes up YAML, which is behind the first line break if only space is before; None for nowhere.

    It always reads four bytes there, so a shorter rest is none.
    """
    while True:
        if len(text[place : place + 4].encode()) < 4:
            return None
        char = text[place]
        if char not in _SPACE:
            return place
        place += 1
        if char == "\n":
            return place


class _JsonReader:
    """One JSON value after the other; numbers in the form that kubectl sends them in."""

    def __init__(self) -> None:
        self._refusal: tuple[str, str, str] | None = None
        self._values = 0
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=self._constant,
            parse_int=self._int,
            parse_float=self._float,
        )

    def read(self, text: str, place: int) -> tuple[Any, int]:
        """A value, and where it ends.

        Raises:
            json.JSONDecodeError: there is none.
            JiemiError: UnknownFormat, LimitExceeded.
        """
        try:
            value, end = self._decoder.raw_decode(text, place)
        except RecursionError:
            self._refusal = ("LimitExceeded", f"the JSON document is nested deeper than {MAX_DEPTH}", "")
        else:
            if self._refusal is None:
                self._count(value, 1)
                return value, end
        raise JiemiError(*self._refusal)

    def _count(self, value: Any, depth: int) -> None:
        self._values += 1
        if self._values > MAX_NODES:
            raise JiemiError("LimitExceeded", f"the JSON document has more than {MAX_NODES} values")
        if isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                raise JiemiError("LimitExceeded", f"the JSON document is nested deeper than {MAX_DEPTH}")
            for each in value.values() if isinstance(value, dict) else value:
                self._count(each, depth + 1)

    # What is refused is remembered till the value is whole: where that is no JSON, it may be YAML.

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            self._refusal = ("UnknownFormat", KEY_TWICE.replace("mapping", "object"), ONE_OF_TWO)
        self._values += len(found)
        return found

    def _constant(self, name: str) -> Any:
        raise json.JSONDecodeError(name, "", 0)

    def _int(self, text: str) -> int:
        if len(text) > MAX_NUMBER_CHARACTERS:
            self._refusal = ("LimitExceeded", f"a number of more than {MAX_NUMBER_CHARACTERS} characters", "")
            return 0
        return int(text)

    def _float(self, text: str) -> int | float:
        value = float(text)
        if not math.isfinite(value):
            self._refusal = ("UnknownFormat", "a number beyond the range of a double", "")
            return 0
        return number_for_json(value)
