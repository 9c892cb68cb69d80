"""Files without SOPS metadata, where the Decryptor allows them: kept apart from encrypted ones, and read as they are.

What must not happen is that a ciphertext is applied as if it were the text: a file whose metadata was lost in a merge,
say. So a file is plain only if nothing in it looks like sops's work. Where its top has `sops` (in a form that sops
itself would look at) and anything is encrypted, it is sops that decides what it is; where it has only one of the two,
it is refused. Both are looked for in the values as they are read, so no way to escape a letter hides them, and where
the file can't be read, in its bytes.

YAML and JSON are read as kubectl reads them (`jiemi.krapao.reading.kubectl_yaml`), and it is in those values that is
looked. A plain dotenv file is read as sops reads it (stores/dotenv/store.go of v3.13): a line is `NAME=VALUE`, `\\n` in
a value is a line's end, `#` begins a comment, and nothing is quoted or trimmed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from jiemi.core.content.ciphertext import ENCRYPTED, format_of_content, leads_to, shown
from jiemi.core.content.document_limits import MAX_NODES
from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import ENDINGS_OF, Format
from jiemi.core.errors import JiemiError
from jiemi.krapao.reading.foreign_files import foreign_file
from jiemi.krapao.reading.kubectl_yaml.stream import read_stream

Kept = tuple[tuple[str, ...], ...]
"""Each as `NestedPlaces.unless`."""

_ENCRYPTED_COMMENT = re.compile(rb"#[ \t]*ENC\[AES256_GCM,data:")
_ENCRYPTED_SOMEWHERE = re.compile(rb"(?:^|[\s=:;#,>|\"'`({\[])ENC\[AES256_GCM,data:", re.MULTILINE)
"""At the beginning of anything that can be a value, in a format that is not taken apart here."""

_SOPS_AT_TOP = re.compile(rb"^sops:\s", re.MULTILINE)
_SOPS_KEY = re.compile(rb"(?:^|[\s{,])[\"']?sops[\"']?\s*:", re.MULTILINE)
_SOPS_SECTION = re.compile(rb"^[ \t]*\[[ \t]*sops[ \t]*\]", re.MULTILINE)
_SOPS_VARIABLE = re.compile(rb"^sops_", re.MULTILINE)


@attrs.frozen(kw_only=True)
class PlainLimits:
    """What may be in a plain file.

    Attributes:
        documents: how many; empty ones are not counted.
        bytes: what they may come to.
        values: as `read_stream`'s max_values.
    """

    documents: int
    bytes: int
    values: int = MAX_NODES


def read_plain(
    data: bytes,
    format: Format,
    *,
    whole: bool,
    limits: PlainLimits,
    kept: Kept = (),
) -> tuple[bytes, ...] | None:
    """The documents of a plain file, each as JSON (`read_stream`); none where the file itself is wanted.

    Args:
        whole: whether the file itself is wanted. Then it need not be of its format.
        limits: the most that may be in it.
        kept: what a mapping says of itself whose encrypted values are meant to stay (`NestedPlaces.unless`).

    Returns:
        None where the file may be encrypted, and sops is to be asked.

    Raises:
        JiemiError: NotEncrypted where it is neither plain nor encrypted; UnknownFormat, LimitExceeded.
        OverBudget: it has more values than the limits let it.
    """
    if (foreign := foreign_file(data, whole=whole)) is not None:
        raise JiemiError("UnknownFormat", f"the file is {foreign[0]}, and no manifest", foreign[1])
    match format:
        case Format.YAML | Format.JSON:
            read = partial(
                read_stream,
                named_json=format is Format.JSON,
                max_documents=limits.documents,
                max_bytes=limits.bytes,
                max_values=limits.values,
            )
            return _read_tree(data, format, whole, read, kept)
        case Format.DOTENV:
            return _read_dotenv(data, whole, limits.documents)
        case Format.INI:
            may_be_encrypted = _SOPS_SECTION.search(data) is not None
        case Format.BINARY:
            may_be_encrypted = _is_binary_of_sops(data)
    if may_be_encrypted:
        _refuse_unless(_ENCRYPTED_SOMEWHERE.search(data) is not None)
        return None
    if _ENCRYPTED_SOMEWHERE.search(data) is not None:
        _refuse_other_format(data, format)
    _refuse_where(_ENCRYPTED_SOMEWHERE.search(data) is not None)
    if format is Format.INI and not whole:
        raise JiemiError(
            "UnknownFormat",
            "a plain INI file can only be put whole under one key",
            "Give spec.target with the key that it is put under.",
        )
    return ()


def _read_tree(
    data: bytes, format: Format, whole: bool, read: Callable[[bytes], tuple[bytes, ...]], kept: Kept
) -> tuple[bytes, ...] | None:
    if format is Format.YAML and _SOPS_AT_TOP.search(data) is not None and ENCRYPTED.encode() in data:
        return None  # as sops writes it: what is in it need not be read
    try:
        found = read(data)
    except JiemiError as error:
        failure = error.failure
    else:
        values = [json.loads(each) for each in found]
        comment = _has_encrypted_comment(data, values)
        if any(isinstance(value, dict) and "sops" in value for value in values):
            _refuse_unless(comment or any(_holds_encrypted(value, ()) for value in values))
            return None
        if not any(isinstance(value, dict | list) for value in values):
            _refuse_other_format(data, format)  # to YAML, lines of another format are one text
        _refuse_where(comment)
        kept = () if whole else kept
        _refuse_where(any(_holds_encrypted(value, kept) for value in values), kept)
        return () if whole else found
    # Sops reads what is not read here: UTF-16, say.
    if _SOPS_KEY.search(data) is not None or _no_utf8(data):
        return None
    # What is too large is refused for that: there may be ciphertext in it that is where it belongs.
    if (whole or failure.reason != "LimitExceeded") and _ENCRYPTED_SOMEWHERE.search(data) is not None:
        _refuse_other_format(data, format)
        _refuse_where(True)
    if whole:
        return ()
    raise JiemiError.of(failure)


def _read_dotenv(data: bytes, whole: bool, max_documents: int) -> tuple[bytes, ...] | None:
    if _SOPS_VARIABLE.search(data) is not None:
        _refuse_unless(_ENCRYPTED_SOMEWHERE.search(data) is not None)
        return None
    if _ENCRYPTED_SOMEWHERE.search(data) is not None:
        _refuse_other_format(data, Format.DOTENV)
    found: dict[str, str] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line:
            continue
        _refuse_where(_ENCRYPTED_COMMENT.match(line) is not None)
        name, equals, value = line.partition(b"=")
        _refuse_where(bool(equals) and value.lstrip(b" \t\"'").startswith(ENCRYPTED.encode()))
        if whole or line.startswith(b"#"):
            continue
        if not equals:
            if line == b"\r":
                raise JiemiError(
                    "UnknownFormat",
                    f"line {number} of the file is a carriage return: the file has line ends of Windows (CR LF)",
                    "Give the file line ends of Unix (`dos2unix FILE`).",
                )
            raise JiemiError(
                "UnknownFormat",
                f"line {number} of the file is neither NAME=VALUE nor a comment",
                "Write a value of several lines with \\n for each line break, and a comment with # before it.",
            )
        if _no_utf8(line):
            raise JiemiError("UnknownFormat", f"line {number} of the file is not UTF-8 text")
        if name.decode() in found:
            raise JiemiError(
                "UnknownFormat",
                f"line {number} of the file gives a name for the second time",
                "Take one of the two lines out.",
            )
        found[name.decode()] = value.decode().replace("\\n", "\n")
    if whole:
        return ()
    return parse_documents(json.dumps(found).encode(), Format.DOTENV, max_documents=max_documents)


def _is_binary_of_sops(data: bytes) -> bool:
    """Whether a file is what sops makes of a binary one: JSON with `data` and `sops`."""
    if not data.lstrip().startswith(b"{"):
        return False
    try:
        [found] = parse_documents(data, Format.JSON, max_documents=1)
    except JiemiError:
        return _SOPS_KEY.search(data) is not None
    return "sops" in json.loads(found)


def _holds_encrypted(value: Any, kept: Kept) -> bool:
    """Not deeper than the parser lets it be."""
    if isinstance(value, dict):
        if any(leads_to(value, names) for names in kept):
            return False
        return any(_holds_encrypted(each, kept) for each in value.values())
    if isinstance(value, list):
        return any(_holds_encrypted(each, kept) for each in value)
    return isinstance(value, str) and value.lstrip().startswith(ENCRYPTED)


def _has_encrypted_comment(data: bytes, values: list[Any]) -> bool:
    """Whether a comment is encrypted. One in a text is no comment: the text may be a SOPS file itself."""
    found = len(_ENCRYPTED_COMMENT.findall(data))
    return found > 0 and found > sum(map(_comments_in_texts, values))


def _comments_in_texts(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_comments_in_texts, value.values()))
    if isinstance(value, list):
        return sum(map(_comments_in_texts, value))
    return len(_ENCRYPTED_COMMENT.findall(value.encode("utf-8", "replace"))) if isinstance(value, str) else 0


def _refuse_where(holds_encrypted: bool, kept: Kept = ()) -> None:
    if holds_encrypted:
        way_out = "".join(f"; if the ciphertext itself is meant, set {shown(each[:-1])}: {each[-1]}" for each in kept)
        raise JiemiError(
            "NotEncrypted",
            "it has encrypted values but no SOPS metadata",
            f"Restore the `sops` block from the last good commit, or encrypt the values again{way_out}.",
        )


def _refuse_other_format(data: bytes, format: Format) -> None:
    """Say that it is a SOPS file of another format than its name tells, where it is."""
    found = format_of_content(data)
    if found not in (None, format):
        raise JiemiError(
            "NotEncrypted",
            f"sops has encrypted it as {found.value}, but its name or spec.source.format tells {format.value}"
            if format is not Format.BINARY
            else f"sops has encrypted it as {found.value}, but its name tells no format",
            f"State {found.value} in spec.source.format"
            + (
                f", or give it an ending that tells it, in lower case ({' or '.join(ENDINGS_OF[found])})."
                if found in ENDINGS_OF
                else "."
            ),
        )


def _refuse_unless(holds_encrypted: bool) -> None:
    if not holds_encrypted:
        raise JiemiError(
            "NotEncrypted",
            "it has `sops` at its top, but nothing in it is encrypted",
            "Take that block out, and encrypt the file with `sops encrypt --in-place FILE`.",
        )


def _no_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False
