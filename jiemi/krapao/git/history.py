"""Which commits brought files into the form that they have in a revision.

From the revision back, through commits in which a file is the same: each that differs there from one of its parents, or
has none, brought the file into this form. A merge does where it took the file from one side, so whoever merges and
whoever wrote both count. Nothing is looked at behind a commit in which the file is another: what it was before does
not count, though it was once the same.

For that reason a commit does not count either that one of those others has in its history: the file was like this, then
another, and somebody took the old form back by merging the old commit. That is seen as far as the history reaches that
is here.

A file in a submodule has the form that the submodule's commit gives it, so the commits that brought that one count.

A clone has no history of its own. It is fetched so deep as is asked for (`jiemi.krapao.git.clone`), without the files'
contents where the host leaves them out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import attrs

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.packs import COMMIT, TREE
from jiemi.krapao.git.port import FileHistory
from jiemi.krapao.git.revision import Objects, verified_object
from jiemi.krapao.git.tree_paths import split_path

_MAX_TREE_BYTES = 64 * 1024 * 1024
"""Of all folders that are looked into. In memory they take some times as much."""

_MAX_COMMIT_BYTES = 16 * 1024 * 1024
_FOLDER, _SUBMODULE, _REGULAR = b"40000", b"160000", frozenset({b"100644", b"100755", b"100664"})

Entry = tuple[bytes, bytes]
"""The mode and the hash of an entry of a folder."""


def histories(
    objects: Objects, revision: str, paths: Iterable[str], *, max_commits: int, check: Callable[[], None]
) -> dict[str, FileHistory]:
    """The commits of each file.

    Args:
        max_commits: how many commits are looked at for each file.
        check: raises where the call was cancelled; called often.

    Raises:
        JiemiError: RevisionNotFound; FileNotFound, NotAFile; LimitExceeded. LookupError where the clone is damaged.
    """
    if not objects.has(revision):
        raise JiemiError("RevisionNotFound", f"revision {revision[:12]} is not in Krapao's clone")
    walk = _Walk(objects, check)
    return {path: walk.history(revision, path, max_commits) for path in paths}


@attrs.define
class _Commit:
    tree: str
    parents: tuple[str, ...]
    data: bytes


@attrs.define
class _Walk:
    """What was read, which many files share."""

    _objects: Objects
    _check: Callable[[], None]
    _commits: dict[str, _Commit | None] = attrs.field(factory=dict)
    _trees: dict[str, dict[bytes, Entry] | None] = attrs.field(factory=dict)
    _tree_bytes: int = 0
    _commit_bytes: int = 0

    def history(self, revision: str, path: str, max_commits: int) -> FileHistory:
        parts = split_path(path)
        newest = self._commit(revision)
        present = self._entry(newest, parts) if newest is not None else None
        if newest is None or present is None:
            raise JiemiError("FileNotFound", f"{path}: not in revision {revision[:12]}")
        if present[0] not in _REGULAR | {_SUBMODULE}:
            raise JiemiError("NotAFile", f"{path}: a symbolic link or no file, whose signers can't be counted")
        found: dict[str, bytes] = {}
        others: set[str] = set()
        seen, left, is_whole = {revision}, deque([revision]), True
        while left:
            sha = left.popleft()
            commit = self._commit(sha)
            if commit is None:
                is_whole = False
                continue
            brought = not commit.parents
            for parent in commit.parents:
                before = self._commit(parent)
                if before is None:
                    is_whole = False
                elif self._entry(before, parts) != present:
                    brought = True
                    others.add(parent)
                elif parent not in seen:
                    if len(seen) >= max_commits:
                        is_whole = False
                        continue
                    seen.add(parent)
                    left.append(parent)
            if brought:
                found[sha] = commit.data
        for old in self._among_ancestors(others, found.keys(), max_commits):
            del found[old]
        return FileHistory(found, is_whole)

    def _among_ancestors(self, of: set[str], wanted: Iterable[str], max_commits: int) -> set[str]:
        """Which of the wanted commits are in the history of some, as far as it is here."""
        looked_for = set(wanted)
        seen, left = set(of), deque(of)
        while left and len(seen) <= max_commits + len(of):
            commit = self._commit(left.popleft())
            for parent in commit.parents if commit is not None else ():
                if parent not in seen:
                    seen.add(parent)
                    left.append(parent)
        return looked_for & seen

    def _commit(self, sha: str) -> _Commit | None:
        """A commit; None where it or its folder is not here."""
        if sha not in self._commits:
            self._check()
            self._commits[sha] = self._read_commit(sha)
        return self._commits[sha]

    def _read_commit(self, sha: str) -> _Commit | None:
        if not self._objects.has(sha):
            return None
        kind, data = verified_object(self._objects, sha)
        self._commit_bytes += len(data)
        if self._commit_bytes > _MAX_COMMIT_BYTES:
            raise JiemiError("LimitExceeded", f"the commits to look through are larger than {_MAX_COMMIT_BYTES} bytes")
        lines = data.split(b"\n")
        if kind != COMMIT or not _is_hash(lines[0], b"tree ", sha):
            return None
        parents = []
        for line in lines[1:]:
            if not _is_hash(line, b"parent ", sha):
                break
            parents.append(line[7:].decode())
        tree = lines[0][5:].decode()
        return _Commit(tree, tuple(parents), data) if self._objects.has(tree) else None

    def _entry(self, commit: _Commit, parts: tuple[bytes, ...]) -> Entry | None:
        tree = commit.tree
        for part in parts[:-1]:
            entry = (self._tree(tree) or {}).get(part)
            if entry is not None and entry[0] == _SUBMODULE:
                return entry
            if entry is None or entry[0] != _FOLDER:
                return None
            tree = entry[1].hex()
        return (self._tree(tree) or {}).get(parts[-1])

    def _tree(self, sha: str) -> dict[bytes, Entry] | None:
        if sha not in self._trees:
            self._check()
            # What is missing is not the same as what is not there: the clone is not what it should be.
            kind, data = verified_object(self._objects, sha)
            self._tree_bytes += len(data)
            if self._tree_bytes > _MAX_TREE_BYTES:
                raise JiemiError(
                    "LimitExceeded", f"the folders to look through are larger than {_MAX_TREE_BYTES} bytes"
                )
            self._trees[sha] = dict(_entries(data, len(sha) // 2)) if kind == TREE else None
        return self._trees[sha]


def _is_hash(line: bytes, word: bytes, like: str) -> bool:
    value = line.removeprefix(word)
    return line.startswith(word) and len(value) == len(like) and not value.strip(b"0123456789abcdef")


def _entries(data: bytes, hash_bytes: int) -> Iterator[tuple[bytes, Entry]]:
    place = 0
    while place < len(data):
        space = data.find(b" ", place)
        null = data.find(b"\0", space + 1)
        end = null + 1 + hash_bytes
        if space < 0 or null < 0 or end > len(data):
            raise JiemiError("NotAFile", "a folder that git itself can't read")
        yield data[space + 1 : null], (data[place:space].lstrip(b"0"), data[null + 1 : end])
        place = end
