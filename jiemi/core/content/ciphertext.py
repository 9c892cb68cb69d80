"""Output of sops, recognized by its content: whole files inside of values, and ciphertext that stands on its own.

Elsewhere a file's name implies its format, but a value has no such name. So a SOPS file is recognized by its metadata,
in the form of each of sops's stores, and by one complete encrypted value (its MAC is one). A text that only describes
such a file, with its values left out, is neither.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jiemi.core.content.formats import Format, format_of

ENCRYPTED = "ENC[AES256_GCM,data:"
"""What each value begins with that sops has encrypted (aes/cipher.go)."""

_COMPLETE = re.compile(
    r"ENC\[AES256_GCM,data:[A-Za-z0-9+/=\\]*+,iv:[A-Za-z0-9+/=\\]{20,200},tag:[A-Za-z0-9+/=\\]{10,100},type:[a-z]{1,10}\]"
)
"""A whole encrypted value, in JSON with its slashes escaped too."""

_FORMS = tuple(
    (re.compile(pattern, re.MULTILINE), format)
    for pattern, format in (
        (r"^sops_mac=", Format.DOTENV),
        (r"^[\"']?sops[\"']?[ \t]*:", Format.YAML),
        (r"^[ \t]*\[[ \t]*sops[ \t]*\]", Format.INI),
        (r"^sops_[a-z]", Format.DOTENV),
        (r"(?:^|[{,])[ \t]*[\"']?sops[\"']?[ \t]*:", Format.YAML),
    )
)
"""How a file's metadata begins, the surest first. What is none after all, sops refuses."""

_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|\r?\n[ \t]*)")
"""Escapes of JSON and YAML that can stand for a letter, or for nothing."""

_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{40,}+={0,2}\s*")
"""A shorter one can't be of a complete encrypted value."""

_MAX_LAYERS = 3
"""How many layers of base64 are looked through."""

_SHORTEST_ENCODED = 90
"""The fewest characters that base64 of a complete encrypted value has."""

_RUN = re.compile(rb"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{90,}+")
_NO_PART_OF_CIPHERTEXT = bytes([0, *range(0x80, 0x100)])
"""The NULs of UTF-16 and UTF-32, and what is no ASCII."""

_NO_PART_OF_BASE64 = b" \t\r\n\\"
"""What may stand between the lines of base64, and what JSON may put before a slash."""

_JSON_KEYS = (".json", ".dockerconfigjson")
_SHOWN_NAME = re.compile(r"[-._/a-zA-Z0-9]{1,100}")


def format_of_content(data: bytes) -> Format | None:
    """The format in which bytes are a file that sops has encrypted; None where they are none.

    Args:
        data: UTF-8, or UTF-16 with a byte order mark, as sops reads it.
    """
    text = _text(data)
    if text is None or not (ENCRYPTED in text or ENCRYPTED in unescaped(text)):
        return None
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None  # it may be YAML
        if isinstance(found, dict):
            return _format_of_object(found)
    if not holds_ciphertext(text):
        return None
    plain = unescaped(text)
    return next((format for pattern, format in _FORMS if pattern.search(text) or pattern.search(plain)), None)


def _format_of_object(found: Mapping[str, Any]) -> Format | None:
    block = found.get("sops")
    if not isinstance(block, dict) or _COMPLETE.search(str(block.get("mac"))) is None:
        return None
    is_wrapper = set(found) == {"data", "sops"} and isinstance(found["data"], str)
    return Format.BINARY if is_wrapper else Format.JSON


def format_under(key: str, format: Format, stated: Format | None = None) -> Format:
    """The format in which a file inside of a value is wanted, decrypted.

    As fluxcd/kustomize-controller has it (internal/decryptor): by the ending of the value's key. Where that implies
    none, and where the file was encrypted as bytes, it is the file's own.

    Args:
        stated: what the spec states in place of the key's ending, or None.
    """
    if stated is None and key.endswith(_JSON_KEYS):
        return Format.JSON
    wanted = stated or format_of(key)
    return format if Format.BINARY in (format, wanted) else wanted


def holds_ciphertext(text: str) -> bool:
    """Whether a text is an encrypted value, or has a complete one in it. One that is only described, with `…` for what
    is long, counts only where it begins the text."""
    if ENCRYPTED in text and _has_whole(text):
        return True
    return "\\" in text and _has_whole(unescaped(text))


def _has_whole(text: str) -> bool:
    return text.lstrip().startswith(ENCRYPTED) or _COMPLETE.search(text) is not None


def unescaped(text: str) -> str:
    """The text with the escapes of JSON and YAML carried out behind which letters can be hidden."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_unescape, text)


def _unescape(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    number = int(digits, 16) if digits is not None else None
    return "" if number is None or number > 0x10FFFF else chr(number)


def find_ciphertext(value: Any) -> tuple[str, ...] | None:
    """Where in a value there is ciphertext of sops's: the first place, by names and indexes; None where there is none.

    Texts are looked at as they are, as base64, and for base64 within them. What is compressed is not looked into.
    """
    return next(_places(value, ()), None)


def _places(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, str):
        if _is_ciphertext(value, _MAX_LAYERS):
            yield path
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if holds_ciphertext(name):
                yield (*path, "")
            yield from _places(each, (*path, name))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _places(each, (*path, f"[{index}]"))


def _is_ciphertext(text: str, layers: int) -> bool:
    if holds_ciphertext(text):
        return True
    if not layers:
        return False
    data = decoded(text)
    found = itertools.chain([data] if data is not None else [], _decoded_runs(text))
    return any(_is_ciphertext(each.translate(None, _NO_PART_OF_CIPHERTEXT).decode(), layers - 1) for each in found)


def _encoded_marks(layers: int) -> tuple[bytes, ...]:
    """What base64 of a text has in it if the text has `ENCRYPTED` in it, in one to so many layers.

    Three bytes are four characters, so it is one of three, by how many bytes are before. Of each, only the characters
    count in which nothing else has a part.
    """
    found: list[bytes] = []
    marks = [ENCRYPTED.encode()]
    for _ in range(layers):
        marks = [
            base64.b64encode(b"\0" * before + mark)[-(-8 * before // 6) : 8 * (before + len(mark)) // 6]
            for mark in marks
            for before in range(3)
        ]
        found += marks
    return tuple(found)


_ENCODED_MARKS = _encoded_marks(_MAX_LAYERS)


def _decoded_runs(text: str) -> Iterator[bytes]:
    """What those parts of a text stand for that are base64 and may hold ciphertext: a field of a kubeconfig, say.

    Where a part begins is not known: what is before it may look like a piece of it. So each is tried in four ways.
    """
    if len(text) < _SHORTEST_ENCODED:
        return
    data = text.encode("ascii", "replace").replace(b"\\n", b"").translate(None, _NO_PART_OF_BASE64)
    if not any(mark in data for mark in _ENCODED_MARKS):
        return
    for run in _RUN.findall(data):
        if any(mark in run for mark in _ENCODED_MARKS):
            for skipped in range(4):
                part = run[skipped:] if (len(run) - skipped) % 4 != 1 else run[skipped:-1]
                yield base64.b64decode(part + b"=" * (-len(part) % 4))


def decoded(text: str) -> bytes | None:
    """What a text stands for in base64, as Go's reader takes it (line ends do not count); None where it is none."""
    if len(text) < 40 or _BASE64.fullmatch(text) is None:
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def shown(path: tuple[str, ...]) -> str:
    """A place for a message: names and indexes, and … for a name that is none of Kubernetes'."""
    text = ""
    for name in path:
        is_index = name.startswith("[") and name.endswith("]") and name[1:-1].isdigit()
        plain = name if is_index or _SHOWN_NAME.fullmatch(name) is not None else "…"
        text += plain if is_index or not text else f".{plain}"
    return text


def leads_to(value: Any, names: Sequence[str]) -> bool:
    """Whether names lead to a text in a value, and last that text. No names lead nowhere."""
    for name in names[:-1]:
        value = value.get(name) if isinstance(value, Mapping) else None
    return bool(names) and bool(value == names[-1])


def _text(data: bytes) -> str | None:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None
