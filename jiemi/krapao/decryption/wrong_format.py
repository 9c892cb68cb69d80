"""What to say of an encrypted file that sops can't take for one, by what is to be seen in its bytes."""

from __future__ import annotations

import itertools
import re

from jiemi.core.content.ciphertext import format_of_content
from jiemi.core.content.formats import ENDINGS_OF, Format
from jiemi.core.errors import JiemiError

_CONFLICT = re.compile(rb"^<{7} ", re.MULTILINE)
_SOPS_BLOCK = re.compile(rb"""^\s*["']?sops["']?\s*:|["']sops["']\s*:|^\[sops\]|^sops_""", re.MULTILINE)
_MAC = re.compile(rb"""(?:^|[\s{,"'_])mac["']?\s*[:=]\s*["']?(ENC\[)?""", re.MULTILINE)
_TOP_BLOCK = re.compile(rb"^sops:", re.MULTILINE)
_SEPARATOR = re.compile(rb"^---", re.MULTILINE)
_TAB = re.compile(rb"^ *\t", re.MULTILINE)


def not_the_format(data: bytes, format: Format) -> JiemiError:
    """The reason for which sops can't take a file apart.

    Args:
        data: the file, as it is in git.
        format: what its name or spec.source.format tells.
    """
    found = other_format(data, format)
    if found is not None:
        return JiemiError(
            "UnknownFormat",
            f"{_told_by_name(format)}, but sops has encrypted it as {found.value}",
            state_or_name(found),
        )
    if (conflict := _CONFLICT.search(data)) is not None:
        return JiemiError(
            "UnknownFormat",
            f"the encrypted file holds a conflict of git's, from line {_line(data, conflict)} on",
            "Take one side of the conflict whole, and change that with `sops edit FILE`.",
        )
    if format is Format.YAML and (tab := _TAB.search(data)) is not None:
        return JiemiError(
            "UnknownFormat",
            f"the encrypted file is no YAML: line {_line(data, tab)} is indented by a tab",
            "Restore the file from the last good commit, and change it with `sops edit FILE` only.",
        )
    if format is Format.YAML and (line := _joined_at(data)) is not None:
        return JiemiError(
            "UnknownFormat",
            f"two encrypted files follow one another in it with no line --- between them: line {line} begins the sops "
            "block of the second",
            "Put a line --- between the two, or keep them in two files.",
        )
    if format is Format.BINARY:
        return JiemiError(
            "UnknownFormat",
            f"{_told_by_name(format)}, and it is no file of bytes that sops has encrypted",
            "State its format in spec.source.format, or give it the ending (.yaml, .json, .env, .ini) that it had when "
            "it was encrypted.",
        )
    return JiemiError(
        "UnknownFormat",
        f"the encrypted file can't be read as {format.value}",
        "Restore it from the last good commit, and change it with `sops edit FILE` only.",
    )


def other_format(data: bytes, format: Format) -> Format | None:
    """What sops has encrypted a file as, where it was read as another format; None where it was not, or that can't be
    seen."""
    found = format_of_content(data)
    return None if found == format else found


def state_or_name(found: Format) -> str:
    """What to do about a file of a format that nothing tells."""
    ending = f", or give the file the ending {' or '.join(ENDINGS_OF[found])}" if found in ENDINGS_OF else ""
    return f"State {found.value} in spec.source.format{ending}."


def no_mac(data: bytes) -> str | None:
    """What is wrong with the MAC in the sops block of a file, where it is none that sops wrote.

    None where it is one, as far as the bytes tell. A text that looks so counts as one, and the file as changed.
    """
    block = _SOPS_BLOCK.search(data)
    if block is None:
        return None
    found = [each[1] for each in _MAC.finditer(data, block.start())]
    if any(found):
        return None
    return "has a mac that sops did not write" if found else "has no MAC"


def _joined_at(data: bytes) -> int | None:
    """The line of a second sops block that no `---` is before."""
    blocks = list(_TOP_BLOCK.finditer(data))
    for first, second in itertools.pairwise(blocks):
        if _SEPARATOR.search(data, first.end(), second.start()) is None:
            return _line(data, second)
    return None


def _line(data: bytes, found: re.Match[bytes]) -> int:
    return data.count(b"\n", 0, found.start()) + 1


def _told_by_name(format: Format) -> str:
    if format is Format.BINARY:
        return "nothing tells the file's format, so it counts as bytes"
    return f"the file's name or spec.source.format tells {format.value}"
