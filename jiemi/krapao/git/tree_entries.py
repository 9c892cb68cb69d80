"""A tree object's entries: `MODE NAME\\0HASH` for each (gitformat-pack(5), "tree"), as anyone may write them."""

from __future__ import annotations

from collections.abc import Iterator

from jiemi.core.errors import JiemiError

MAX_TREE_BYTES = 32 * 1024 * 1024
"""The most bytes of trees that one search reads; Linux's own source has 4 MB of them. They take half a second."""

KIND, FOLDER, SYMLINK, SUBMODULE = 0o170000, 0o040000, 0o120000, 0o160000
"""A mode's bits that say what the entry is, and those of three kinds."""

REGULAR = frozenset({0o100644, 0o100755, 0o100664})
"""The modes of files. git knows no other."""

_MODES = {b"%o" % mode: mode for mode in (FOLDER, SYMLINK, SUBMODULE, *REGULAR)}


def entries_of(raw: bytes, where: str, *, hash_bytes: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Name, mode and hash of each entry, in the order in which they are.

    Args:
        raw: the object's bytes.
        where: the folder, for the message.
        hash_bytes: 20 for SHA-1, 32 for SHA-256.

    Raises:
        JiemiError: NotAFile where git itself can't read it.
    """
    at, end = 0, len(raw)
    while at < end:
        space = raw.find(b" ", at)
        null = raw.find(b"\0", space + 1)
        text = raw[at:space]
        mode = _MODES.get(text, -1)
        if mode < 0:
            mode = int(text, 8) if text.isdigit() and not text.strip(b"01234567") and len(text) < 8 else -1
        at = null + 1 + hash_bytes
        if space < 0 or null < 0 or mode < 0 or at > end:
            raise JiemiError("NotAFile", f"{where[:200] or 'the root'}: in a folder that git itself can't read")
        yield raw[space + 1 : null], mode, raw[null + 1 : at]
