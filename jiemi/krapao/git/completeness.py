"""Whether a host sent all files and folders of a revision.

A pack may hold a commit and lack what the commit refers to. Nobody would notice until the file is read, and by then
what is on the volume would seem to be damaged, with all other revisions in it. So each fetch looks through the folders
that came with it. What a revision has in common with one that is here already was looked through then.

Beyond `MAX_TREE_BYTES` of folders it believes the host: a search would not read more of them either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.pack_store import PackStore
from jiemi.krapao.git.revision import load_tree
from jiemi.krapao.git.tree_entries import FOLDER, KIND, MAX_TREE_BYTES, SUBMODULE, entries_of

_MAX_LOOKUPS = 1_000
"""A lookup takes 20 µs. Beyond so many the names of all objects are read, 1 µs each."""


def missing_object(objects: PackStore, tree: str, before: str | None, *, check: Callable[[], None]) -> str | None:
    """The hash of an object that a revision refers to and that is not here; None where all are.

    Args:
        tree: the revision's.
        before: that of a revision which is complete here, or None.
        check: raises where the call was cancelled; called often.

    Raises:
        LookupError: the clone is damaged.
    """
    here, seen, left = _Here(objects), {tree}, MAX_TREE_BYTES
    folders: list[tuple[str, str | None]] = [(tree, before)]
    while folders:
        check()
        sha, old = folders.pop()
        try:
            entries, size = _entries(objects, sha)
        except KeyError:
            return sha
        left -= size
        if left < 0:
            return None
        known = {} if old is None else {name: (mode, target) for name, mode, target in _entries(objects, old)[0]}
        for name, mode, target in entries:
            kind = mode & KIND
            if kind == SUBMODULE or known.get(name) == (mode, target):
                continue
            if kind != FOLDER:
                if not here.has(target):
                    return target.hex()
            elif target.hex() not in seen:
                seen.add(target.hex())
                was, other = known.get(name, (0, b""))
                folders.append((target.hex(), other.hex() if was & KIND == FOLDER else None))
    return None


def _entries(objects: PackStore, sha: str) -> tuple[Sequence[tuple[bytes, int, bytes]], int]:
    """A folder's entries, and its size. One that can't be read has none: reading it fails with the reason.

    Raises:
        KeyError: it is not here.
        LookupError: the clone is damaged.
    """
    try:
        raw = load_tree(objects, sha) or b""
        return tuple(entries_of(raw, "", hash_bytes=len(sha) // 2)), len(raw)
    except JiemiError:
        return (), 0


@attrs.define
class _Here:
    """Which objects are here."""

    _objects: PackStore
    _lookups: int = 0
    _names: set[bytes] | None = None

    def has(self, name: bytes) -> bool:
        if self._names is not None:
            return name in self._names
        self._lookups += 1
        if self._lookups > _MAX_LOOKUPS:
            self._names = self._objects.names()
        return self._objects.has(name.hex())
