"""Whether a host sent all files and folders of a revision.

A pack may hold a commit and lack what the commit refers to. Nobody would notice until the file is read, and by then
what is on the volume would seem to be damaged, with all other revisions in it. So each fetch looks through the folders
that came with it. What a revision has in common with one that is here already was looked through then.

Beyond `MAX_TREE_BYTES` of folders it believes the host (a search would not read more of them either), and so it does
where more objects are here than there is memory for their names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet

import attrs

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.pack_store import PackStore
from jiemi.krapao.git.revision import load_tree
from jiemi.krapao.git.tree_entries import FOLDER, KIND, MAX_TREE_BYTES, REGULAR, SYMLINK, entries_of

_MAX_LOOKUPS = 1_000
"""A lookup takes 20 µs. Beyond so many the names of all objects are read, 1 µs each."""

_MAX_NAMES = 300_000
"""They take 100 bytes each for as long as it looks."""


def missing_object(
    objects: PackStore, tree: str, before: str | None, *, arrived: AbstractSet[bytes], check: Callable[[], None]
) -> str | None:
    """The hash of an object that a revision refers to and that is not here; None where all are.

    Args:
        tree: the revision's.
        before: that of a revision which is complete here, or None.
        arrived: the hashes of some objects that are here: those that came.
        check: raises where the call was cancelled; called often.

    Raises:
        LookupError: the clone is damaged.
    """
    here, seen, left = _Here(objects, arrived), {tree}, MAX_TREE_BYTES
    folders: list[tuple[str, str | None]] = [(tree, before)]
    while folders:
        check()
        sha, old = folders.pop()
        try:
            raw = _folder(objects, sha)
        except KeyError:
            return sha
        left -= len(raw)
        if left < 0:
            return None
        known = {name: (mode, target) for name, mode, target in _entries(_old(objects, old), len(sha))}
        for name, mode, target in _entries(raw, len(sha)):
            kind = mode & KIND
            if known.get(name) == (mode, target):
                continue
            if kind == FOLDER and target.hex() not in seen:
                seen.add(target.hex())
                was, other = known.get(name, (0, b""))
                folders.append((target.hex(), other.hex() if was & KIND == FOLDER else None))
            # What is neither a file nor a link is never read, and of some modes git does not send it.
            if (mode in REGULAR or kind == SYMLINK) and not here.has(target):
                return target.hex()
    return None


def _folder(objects: PackStore, sha: str) -> bytes:
    """A folder. One that is too large, or none, is an empty one: whoever reads it gets the reason.

    Raises:
        KeyError: it is not here.
        LookupError: the clone is damaged.
    """
    try:
        return load_tree(objects, sha) or b""
    except JiemiError:
        return b""


def _old(objects: PackStore, sha: str | None) -> bytes:
    """A folder of what was here before. One that is not to be had is an empty one: nothing is known of it then."""
    try:
        return b"" if sha is None else _folder(objects, sha)
    except KeyError:
        return b""


def _entries(raw: bytes, hash_digits: int) -> Iterator[tuple[bytes, int, bytes]]:
    """A folder's entries, as far as it can be read."""
    with contextlib.suppress(JiemiError):
        yield from entries_of(raw, "", hash_bytes=hash_digits // 2)


@attrs.define
class _Here:
    """Which objects are here."""

    _objects: PackStore
    _arrived: AbstractSet[bytes]
    _lookups: int = 0
    _names: set[bytes] | None = None

    def has(self, name: bytes) -> bool:
        if name in self._arrived:
            return True
        if self._names is not None:
            return name in self._names
        self._lookups += 1
        if self._lookups <= _MAX_LOOKUPS:
            return self._objects.has(name.hex())
        if self._objects.count() > _MAX_NAMES:
            return True
        self._names = self._objects.names()
        return name in self._names
