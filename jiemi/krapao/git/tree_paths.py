"""Paths in a repository: their parts, and which names can be among them."""

from __future__ import annotations

from jiemi.core.errors import JiemiError

Parts = tuple[bytes, ...]


def split_path(path: str) -> Parts:
    """The parts of a path that is given.

    Raises:
        JiemiError: FileNotFound for what can be no path.
    """
    if "\0" in path or "\\" in path or any("\ud800" <= char <= "\udfff" for char in path):
        raise JiemiError(
            "FileNotFound",
            f"{path}: holds a backslash, a NUL or half a character",
            "Write the path with / between its parts.",
        )
    if path.startswith("/"):
        raise JiemiError(
            "FileNotFound",
            f"{path}: begins with /, but paths count from the repository's root",
            f"Write it without that: {path.lstrip('/') or 'FOLDER/FILE'}.",
        )
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and not parts:
            raise JiemiError(
                "FileNotFound",
                f"{path}: leads out of the repository",
                "Write the path from the repository's root, with no .. at its beginning.",
            )
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        raise JiemiError(
            "FileNotFound", f"{path or 'the path'}: names no file", "Name a file, or give spec.source.files ** for all."
        )
    return tuple(part.encode() for part in parts)


def usable_name(name: bytes) -> str | None:
    """The text of a name that may stand in a path and be read again; None for any other."""
    if not name or name in (b".", b"..") or name.lower() == b".git" or b"/" in name or b"\\" in name:
        return None
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None
