"""The formats of files, and which one a file's name implies, as in sops."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Format(enum.Enum):
    """How a file is written."""

    YAML = "yaml"
    JSON = "json"
    DOTENV = "dotenv"
    INI = "ini"
    BINARY = "binary"


def format_of(path: str) -> Format:
    """The format that a file's name implies, as in sops (cmd/sops/formats/formats.go); any other name implies binary.

    Endings in capitals mean nothing to sops, and so nothing here: it has encrypted such a file as bytes.
    """
    for ending, format in _ENDINGS:
        if path.endswith(ending):
            return format
    return Format.BINARY


def ending_in_capitals(path: str) -> str | None:
    """The ending of a name that would imply a format if it were in lower case; or None."""
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
