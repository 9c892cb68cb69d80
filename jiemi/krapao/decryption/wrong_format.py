"""What to say of an encrypted file that sops can't take for one, by what is to be seen in its bytes."""

from __future__ import annotations

import re

from jiemi.core.ciphertext import format_of_content
from jiemi.core.documents import ENDINGS_OF, Format
from jiemi.core.errors import JiemiError

_CONFLICT = re.compile(rb"^<{7} ", re.MULTILINE)
_SOPS_BLOCK = re.compile(rb"""^\s*["']?sops["']?\s*:|["']sops["']\s*:|^\[sops\]|^sops_""", re.MULTILINE)
_MAC = re.compile(rb"""(?:^|[\s{,"'_])mac["']?\s*[:=]\s*["']?ENC\[""", re.MULTILINE)
_TAB = re.compile(rb"^ *\t", re.MULTILINE)


def not_the_format(data: bytes, format: Format) -> JiemiError:
    """The reason for which sops can't take a file apart.

    Args:
        data: the file, as it is in git.
        format: what its name tells.
    """
    found = format_of_content(data)
    if found not in (None, format):
        return JiemiError(
            "UnknownFormat",
            f"{_told_by_name(format)}, but sops has encrypted it as {found.value}",
            f"Name the file {' or '.join(ENDINGS_OF[found])}, or encrypt it again under the name that it has."
            if found in ENDINGS_OF
            else "Encrypt it again under the name that it has.",
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
    if format is Format.BINARY:
        return JiemiError(
            "UnknownFormat",
            f"{_told_by_name(format)}, and it is no file of bytes that sops has encrypted",
            "Give it the ending of its format (.yaml, .json, .env, .ini), as it had when it was encrypted.",
        )
    return JiemiError(
        "UnknownFormat",
        f"the encrypted file can't be read as {format.value}",
        "Restore it from the last good commit, and change it with `sops edit FILE` only.",
    )


def has_mac(data: bytes) -> bool:
    """Whether the sops block of a file has a MAC, as far as its bytes tell. A text that looks so counts as one: then
    the file is told as changed."""
    block = _SOPS_BLOCK.search(data)
    return block is None or _MAC.search(data, block.start()) is not None


def _line(data: bytes, found: re.Match[bytes]) -> int:
    return data.count(b"\n", 0, found.start()) + 1


def _told_by_name(format: Format) -> str:
    if format is Format.BINARY:
        return "the file's name tells no format, so it counts as bytes"
    return f"the file's name tells {format.value}"
