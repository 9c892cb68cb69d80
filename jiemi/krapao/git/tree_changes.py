"""Where the trees of two revisions differ: what decides whether a listing of files may be another.

Folders that are the same object are not gone into, so the work grows with what differs and not with what there is.
Whoever writes the repository writes both trees, so all of it is bounded. What is beyond a bound, or can't be read, or
has a name twice, is reported as a folder of which anything may be different: there may be less to it, never more.

A folder's own .sops.yaml counts for all files below it that have no nearer one; here it stands for the whole folder.
A submodule that differs stands for all that may be in it. Symbolic links count as what they are, blobs: a listing that
followed one is for its asker to make again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.tree_entries import FOLDER, KIND, MAX_TREE_BYTES, REGULAR, SUBMODULE, SYMLINK, entries_of
from jiemi.krapao.git.trees import CONFIG, MAX_CONFIG_DEPTH
from jiemi.rpc.contract import MAX_CHANGES, Changes

_MAX_ANSWER_BYTES = 64 * 1024
"""The most bytes that the paths have together, and the folders."""

_MAX_DEPTH = 64
"""Deeper folders are reported as a whole, as no search goes into them."""

_MAX_PATH_BYTES = 4_096
"""PATH_MAX of Linux. What has a longer path is reported by its folder."""

_ENDS = (8, 4, 2, 1)
"""To how many parts the folders are cut, one after the other, where there are too many."""

_CONFIG_NAME = CONFIG.encode()

_Entries = dict[bytes, tuple[str, bytes]]


@attrs.frozen
class _Pair:
    """A folder that differs: hashes of its trees before and after; None where it is no folder then."""

    path: str
    depth: int
    before: str | None
    after: str | None


class _Unreadable(Exception):
    """A folder that can only be reported as a whole."""


def changes_between(
    before: str,
    after: str,
    load: Callable[[str], bytes | None],
    *,
    max_entries: int,
    check: Callable[[], None] = lambda: None,
) -> Changes:
    """Where two trees differ.

    Args:
        before, after: hashes of the trees, in hexadecimal.
        load: gives a tree object's bytes by its hash; None where the object is no tree, though a folder says so. May
            raise JiemiError.
        max_entries: how many entries of folders are looked at.
        check: raises where the call was cancelled; called often.
    """
    if before == after:
        return Changes()
    walk = _Walk(load, check, max_entries)
    left = deque([_Pair("", 0, before, after)])
    while left:
        walk.step(left.popleft(), left)
    return Changes(tuple(sorted(walk.paths)), _folders(walk.folders))


@attrs.define
class _Walk:
    """What a walk has found and used up."""

    load: Callable[[str], bytes | None]
    check: Callable[[], None]
    entries_left: int
    paths: list[str] = attrs.field(factory=list)
    folders: set[str] = attrs.field(factory=set)
    _bytes_left: int = MAX_TREE_BYTES
    _answer_left: int = _MAX_ANSWER_BYTES

    def step(self, here: _Pair, left: deque[_Pair]) -> None:
        """Compare one folder with itself; the folders in it that differ are left for later."""
        self.check()
        if here.depth > _MAX_DEPTH or not self._has_room:
            self.folders.add(here.path)
            return
        try:
            before, after = self._entries(here.before), self._entries(here.after)
        except _Unreadable:
            self.folders.add(here.path)
            return
        for name in sorted({name for name, _ in before.items() ^ after.items()}):
            text = _text(name)
            if text is None:
                continue  # no pattern leads to it
            old_kind, old_hash = before.get(name, ("", b""))
            new_kind, new_hash = after.get(name, ("", b""))
            if len(here.path) + len(name) > _MAX_PATH_BYTES:
                self.folders.add(here.path)
                continue
            if "folder" in (old_kind, new_kind):
                old = old_hash.hex() if old_kind == "folder" else None
                new = new_hash.hex() if new_kind == "folder" else None
                left.append(_Pair(f"{here.path}{text}/", here.depth + 1, old, new))
            if "submodule" in (old_kind, new_kind):
                self.folders.add(f"{here.path}{text}/")
            if {old_kind, new_kind} & {"file", "link"}:
                self._found(here, text)

    def _found(self, here: _Pair, name: str) -> None:
        path = here.path + name
        self._answer_left -= len(path.encode())
        if name == CONFIG and here.depth <= MAX_CONFIG_DEPTH:
            self.folders.add(here.path)
        if self._has_room:
            self.paths.append(path)
        else:
            self.folders.add(here.path)

    @property
    def _has_room(self) -> bool:
        return (
            self.entries_left > 0 and self._bytes_left > 0 and self._answer_left > 0 and len(self.paths) < MAX_CHANGES
        )

    def _entries(self, sha: str | None) -> _Entries:
        """Kind and hash of each entry that can be looked for, by its name."""
        if sha is None:
            return {}
        try:
            raw = self.load(sha)
        except JiemiError as error:
            raise _Unreadable from error
        if raw is None:
            raise _Unreadable
        self._bytes_left -= len(raw)
        found: _Entries = {}
        count = 0
        try:
            for name, mode, hash in entries_of(raw, "", hash_bytes=len(sha) // 2):
                kind = _kind(mode)
                count += 1
                if name in found or count > self.entries_left:
                    raise _Unreadable
                found[name] = kind, hash if kind else b""
        except JiemiError as error:
            raise _Unreadable from error
        finally:
            self.entries_left -= count
        return found


def _kind(mode: int) -> str:
    """What an entry is for whoever looks for files; "" for what is never one."""
    if mode in REGULAR:
        return "file"
    if mode & KIND == FOLDER:
        return "folder"
    if mode & KIND == SUBMODULE:
        return "submodule"
    return "link" if mode & KIND == SYMLINK else ""


def _text(name: bytes) -> str | None:
    """The name as patterns have it; None for one that no path and no glob can name."""
    if name in (b"", b".", b"..") or b"/" in name or b"\\" in name:
        return None
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None


def _folders(found: set[str]) -> tuple[str, ...]:
    """The folders, cut to their first parts where they are too many or too long."""
    for parts in (_MAX_DEPTH + 1, *_ENDS):
        cut = {_first_parts(folder, parts) for folder in found}
        if len(cut) <= MAX_CHANGES and sum(len(each.encode()) for each in cut) <= _MAX_ANSWER_BYTES:
            return tuple(sorted(cut))
    return ("",)


def _first_parts(folder: str, parts: int) -> str:
    at = 0
    for _ in range(parts):
        end = folder.find("/", at) + 1
        if end == 0:
            break
        at = end
    return folder[:at]
