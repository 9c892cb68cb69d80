"""Pointers of Git LFS, which are in a repository in place of files that are kept elsewhere.

Source: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md, "The Pointer".
"""

from __future__ import annotations

from jiemi.core.errors import JiemiError

_BEGINS = (
    b"version https://git-lfs.github.com/spec/v1\n",
    b"version https://hawser.github.com/spec/v1\n",  # of its first releases
)
_MAX_BYTES = 1024
"""Such a file is shorter."""


def require_no_pointer(data: bytes) -> None:
    """Refuse a pointer in place of a file.

    Raises:
        JiemiError: LfsPointer.
    """
    if len(data) < _MAX_BYTES and data.startswith(_BEGINS) and b"\noid " in data:
        raise JiemiError("LfsPointer", "the file is a Git LFS pointer; its content is not in the repository")
