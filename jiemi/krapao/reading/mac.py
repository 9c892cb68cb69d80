"""Whether a file's MAC covers only what is encrypted (`mac_only_encrypted`), as sops will read it.

Then someone without a key can change everything else: a Secret's name, namespace and type, and whole documents. An
operator may refuse such files, so the answer must not be No where sops says Yes. It is No where the name is nowhere
in the file, in whatever case (sops compares names without it) and however its letters are escaped; else the file is
parsed, and what can't be, or what sops's parser may see other lines in, counts as Yes.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

from jiemi.core.content.ciphertext import unescaped
from jiemi.core.content.document_limits import MAX_NODES
from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError

_NAME = "mac_only_encrypted"
_LINE = re.compile(r"^[\s\"'`]*(?:sops_)?mac_only_encrypted[\s\"'`]*[=:][ \t]*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_FALSE_TEXTS = frozenset({"", "0", "f", "F", "false", "False", "FALSE"})
"""What sops takes for false: Go's strconv.ParseBool, and nothing at all."""

_OTHER_LINE_ENDS = re.compile("[\x85\u2028\u2029]|\r(?!\n)")
"""What ends a line in YAML 1.1, which sops reads, or in its parser, and so could end a comment there."""


def is_mac_only_encrypted(data: bytes, format: Format) -> bool:
    """Whether the MAC of an encrypted file covers its encrypted values only, or may.

    Args:
        data: the encrypted file, which may be hostile.
    """
    text = _text(data, format)
    if not names_mac_only(data, format):
        return False
    if format in (Format.DOTENV, Format.INI):
        return any(value not in _FALSE_TEXTS for value in _LINE.findall(text))
    if format is Format.YAML and _OTHER_LINE_ENDS.search(text) is not None:
        return True
    try:
        documents = parse_documents(
            data, Format.YAML if format is Format.YAML else Format.JSON, max_documents=MAX_NODES
        )
    except JiemiError:
        return True
    values = [json.loads(each) for each in documents]
    return any(isinstance(value, dict) and _says_so(value.get("sops")) for value in values)


def names_mac_only(data: bytes, format: Format) -> bool:
    """Whether the name stands anywhere in a file. If not, its MAC covers everything; this takes little time."""
    text = _text(data, format)
    return _NAME in text.lower() or _NAME in unescaped(text).lower()


def _says_so(value: Any) -> bool:
    if isinstance(value, dict):
        return any(
            (name.lower() == _NAME and each not in (None, False, 0) and each not in _FALSE_TEXTS)
            if not isinstance(each, dict | list)
            else name.lower() == _NAME or _says_so(each)
            for name, each in value.items()
        )
    return isinstance(value, list) and any(map(_says_so, value))


def _text(data: bytes, format: Format) -> str:
    """The text as sops reads it, or one in which all is that is ASCII there. Only its YAML knows UTF-16."""
    if format is Format.YAML:
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    return (data.replace(b"\0", b"") if format is Format.YAML else data).decode("latin-1")
