"""Which values of a dotenv or INI file hold a carriage return.

sops takes a line of a dotenv file to its line feed, so a file with Windows' line ends gives values that end in a
carriage return, and a password that nobody can log in with. The value stays as sops has it; a warning says so. INI
readers take both line ends, so there only a carriage return that ends no line counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from jiemi.core.content.ciphertext import shown
from jiemi.core.content.formats import Format

MAX_NAMES = 20
"""The most names that are reported of one file."""

_LONE = re.compile(rb"\r(?!\n)")


def with_carriage_returns(documents: Iterable[bytes], content: bytes | None, format: Format) -> tuple[str, ...]:
    """Names of the values that hold one, in the order of the file.

    Args:
        documents: of the file, as JSON.
        content: the file itself, decrypted, where there are no documents of it.
    """
    if format not in (Format.DOTENV, Format.INI):
        return ()
    if content is not None:
        names = list(_names_of_lines(content, format))
    else:
        names = [shown(path) for each in documents for path in _names_of_values(json.loads(each), ())]
    return tuple(dict.fromkeys(names))[:MAX_NAMES]


def _names_of_lines(content: bytes, format: Format) -> Iterator[str]:
    for line in content.split(b"\n") if b"\r" in content else ():
        if b"\r" not in line:
            continue
        name, equals, value = line.partition(b"=")
        is_dotenv = format is Format.DOTENV
        held = b"\r" in line if is_dotenv else _LONE.search(line.removesuffix(b"\r")) is not None
        if held and equals and not name.lstrip().startswith((b"#", b";")) and (value or is_dotenv):
            yield shown((name.strip().decode("utf-8", "replace"),))


def _names_of_values(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for name, each in value.items():
            if "\r" in name:
                yield (*path, name.replace("\r", ""))
            else:
                yield from _names_of_values(each, (*path, name))
    elif isinstance(value, str) and "\r" in value:
        yield path
