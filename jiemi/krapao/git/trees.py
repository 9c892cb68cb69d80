"""Folders of a revision, as git has them: which files match, and what is at a path.

A tree object is `MODE NAME\\0HASH` for each entry (gitformat-pack(5), "tree"). Whoever writes the repository writes its
trees, and need not do so with git: a name may be `..`, hold a slash, be there twice; one folder may be in another many
times, so that few objects make more paths than there is time to walk. So here

- each entry is read from the bytes as it comes, and nothing is kept but what matches;
- a search goes into no folder below which no glob can match, leaves out each entry whose path can't be read again or
  is not the only one of its name, and ends at bounds: of entries, of comparisons, of bytes, of depth, of files;
- a path that is given is looked up as `read` looks it up, and with the same words where it is not there.

The nearest `.sops.yaml` above a file comes along with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from jiemi.core.content.globs import Glob, Places
from jiemi.core.errors import JiemiError
from jiemi.core.near import near

CONFIG = ".sops.yaml"
MAX_CONFIG_DEPTH = 16
"""A .sops.yaml is looked for in so many folders, counted from the root, and in the root itself."""

_CONFIG_NAME = CONFIG.encode()
_MAX_DEPTH = 64
"""The deepest folder that a search goes into. A monorepo's deepest is about 20."""
_MAX_PATH_BYTES = 4_096
"""PATH_MAX of Linux: git itself can check out no longer one."""
_MAX_BYTES = 32 * 1024 * 1024
"""The most bytes of trees that one search reads; Linux's own source has 4 MB of them. They take half a second."""
_MAX_COMPARISONS = 2_000_000
"""The most names times globs of one search. They take under a second."""
_CHECK_EVERY = 1_024

_KIND, _FOLDER, _SYMLINK, _SUBMODULE = 0o170000, 0o040000, 0o120000, 0o160000
_REGULAR = frozenset({0o100644, 0o100755, 0o100664})
_MODES = {b"%o" % mode: mode for mode in (_FOLDER, _SYMLINK, _SUBMODULE, *_REGULAR)}
_KINDS = {_FOLDER: "a directory", _SYMLINK: "a symbolic link", _SUBMODULE: "a submodule"}

Parts = tuple[bytes, ...]


@attrs.frozen
class Found:
    """A file.

    Attributes:
        blob: its hash, in hexadecimal.
        config: that of the nearest .sops.yaml, or None.
    """

    blob: str
    config: str | None


class Trees:
    """The trees of one revision.

    Args:
        root: hash of the revision's tree, in hexadecimal.
        load: gives a tree object's bytes by its hash; None where the object is no tree, though a folder says so.
        is_config: whether a .sops.yaml of that hash is one that is looked into.
        check: raises where the call was cancelled; called often.
    """

    def __init__(
        self,
        root: str,
        load: Callable[[str], bytes | None],
        *,
        is_config: Callable[[str], bool] = lambda _: True,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = root
        self._load = load
        self._is_config = is_config
        self._check = check
        self._bytes = 0

    def look_up(self, paths: Mapping[str, Parts], revision: str, *, or_glob: bool = False) -> dict[str, Found]:
        """The files at paths, by their paths without what means nothing in them.

        Args:
            paths: each with its parts, as `split_path` gives them.
            revision: for the messages.
            or_glob: whether a glob could stand in a path's place, so that the message for a folder may say so.

        Raises:
            JiemiError: FileNotFound, NotAFile, LimitExceeded.
        """
        all_parts = dict(paths)
        told: dict[str, Found | JiemiError] = {}
        left = [_Wanted(self._root, 0, all_parts, None, or_glob)] if all_parts else []
        while left:
            self._step_down(left.pop(), told, left, revision)
        found: dict[str, Found] = {}
        for path, parts in all_parts.items():
            one = told[path]
            if isinstance(one, JiemiError):
                raise one
            found[b"/".join(parts).decode()] = one
        return found

    def _step_down(
        self, here: _Wanted, told: dict[str, Found | JiemiError], left: list[_Wanted], revision: str
    ) -> None:
        """Look up one folder's part of the paths: tell of those that end here, and leave the others."""
        names = {parts[here.depth] for parts in here.paths.values()} | {_CONFIG_NAME}
        entries: dict[bytes, tuple[int, str]] = {}
        raw = self._load(here.sha)
        if raw is None:
            told |= {path: JiemiError("NotAFile", f"{path}: its folder calls it what it is not") for path in here.paths}
            return
        for name, mode, hash in self._entries(raw, next(iter(here.paths))):
            if name in names:
                entries[name] = mode, hash.hex()
        config = self._config(entries.get(_CONFIG_NAME), here.depth, here.config)
        below: dict[str, dict[str, Parts]] = {}
        for path, parts in here.paths.items():
            mode, sha = entries.get(parts[here.depth], (0, ""))
            last = here.depth == len(parts) - 1
            if not mode:
                told[path] = self._missing(path, parts, here.depth, raw, revision)
            elif last and mode in _REGULAR:
                told[path] = Found(sha, config)
            elif last:
                remedy = "Name a regular file in it."
                if mode != _FOLDER:
                    remedy = "Name the file itself that it stands for, or commit a regular file there."
                elif here.or_glob:
                    remedy = f"Name a file in it, or give spec.source.files {path.rstrip('/')}/** for all files in it."
                told[path] = JiemiError("NotAFile", f"{path}: {_KINDS.get(mode & _KIND, 'no regular file')}", remedy)
            elif mode & _KIND == _FOLDER:
                below.setdefault(sha, {})[path] = parts
            else:
                folder = b"/".join(parts[: here.depth + 1]).decode()
                told[path] = JiemiError(
                    "FileNotFound", f"{path}: not in revision {revision[:12]}: {folder} is no folder there"
                )
        left += [
            attrs.evolve(here, sha=sha, depth=here.depth + 1, paths=paths, config=config)
            for sha, paths in below.items()
        ]

    def _missing(self, path: str, parts: Parts, depth: int, raw: bytes, revision: str) -> JiemiError:
        """For a path of which this folder has not the next part; names what it has that is much like it."""
        wanted, folder = parts[depth].decode(), b"/".join(parts[:depth]).decode()
        is_last = depth == len(parts) - 1
        names: list[str] = []
        with contextlib.suppress(JiemiError):
            for name, mode, _ in self._entries(raw, path):
                if (text := _usable(name)) is not None and (mode in _REGULAR if is_last else mode & _KIND == _FOLDER):
                    names.append(text)
        found = [f"{folder}/{name}" if folder else name for name in near(wanted, names)]
        below = (
            "" if is_last else f": there is no folder {folder}/{wanted}" if folder else f": there is no folder {wanted}"
        )
        told = f"{path}: not in revision {revision[:12]}{below}"
        if not found:
            return JiemiError("FileNotFound", told)
        there = f"there is {found[0]}" if len(found) == 1 else f"there are {', '.join(found)}"
        return JiemiError("FileNotFound", f"{told}; {there}")

    def search(
        self, globs: Iterable[str], exclude: Iterable[str], *, max_entries: int, max_files: int
    ) -> dict[str, Found]:
        """The files that globs take, by their paths. No .sops.yaml is among them.

        Args:
            exclude: globs of files and folders that are left out.
            max_entries: how many entries of folders may be looked at.
            max_files: how many may match.

        Raises:
            JiemiError: LimitExceeded; NotAFile where a folder is damaged.
        """
        search = _Search(max_entries, max_files)
        taking = [(glob, glob.start) for glob in map(Glob.of, dict.fromkeys(globs))]
        leaving = [(glob, glob.start) for glob in map(Glob.exclusion, dict.fromkeys(exclude))]
        left = [_Folder(self._root, "", 0, taking, leaving, None)] if taking else []
        while left:
            self._search_one(left.pop(), left, search)
        return search.found

    def _search_one(self, here: _Folder, left: list[_Folder], search: _Search) -> None:
        raw = self._load(here.sha)
        if raw is None:
            return
        entries: dict[bytes, tuple[int, bytes]] = {}
        twice: set[bytes] = set()
        for name, mode, hash in self._entries(raw, here.path):
            search.look_at_one()
            if name in entries:
                twice.add(name)
            entries[name] = mode, hash
        config_mode, config_hash = entries.get(_CONFIG_NAME, (0, b""))
        config = self._config((config_mode, config_hash.hex()), here.depth, here.config)
        comparisons = sum(len(places) for _, places in (*here.taking, *here.leaving))
        for name, (mode, hash) in entries.items():
            text = _usable(name)
            if text is None or name in twice:
                continue
            if search.compare(comparisons):
                self._check()
            if mode & _KIND == _FOLDER:
                folder = here.folder_below(text, hash.hex(), config)
                if folder is not None:
                    left.append(folder)
            elif mode in _REGULAR and text != CONFIG and here.takes_file(text):
                search.take(here.path_below(text), Found(hash.hex(), config))

    def _config(self, entry: tuple[int, str] | None, depth: int, above: str | None) -> str | None:
        """The nearest .sops.yaml of a folder: its own, or the one above."""
        if entry is None or depth > MAX_CONFIG_DEPTH or entry[0] not in _REGULAR or not self._is_config(entry[1]):
            return above
        return entry[1]

    def _entries(self, raw: bytes, where: str) -> Iterator[tuple[bytes, int, bytes]]:
        """Name, mode and hash of each entry.

        Args:
            where: for the message.
        """
        self._check()
        self._bytes += len(raw)
        if self._bytes > _MAX_BYTES:
            raise JiemiError("LimitExceeded", f"the folders to look through are larger than {_MAX_BYTES} bytes")
        at, end, hash_bytes = 0, len(raw), len(self._root) // 2
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


@attrs.frozen
class _Wanted:
    """A folder in which paths are looked up, `depth` parts of each used up."""

    sha: str
    depth: int
    paths: dict[str, Parts]
    config: str | None
    or_glob: bool


_Globs = list[tuple[Glob, Places]]


@attrs.frozen
class _Folder:
    """A folder that is to be searched.

    Attributes:
        path: with a slash at its end; "" for the root.
        taking, leaving: globs that may match below, and how much of each is used up.
        config: of the nearest .sops.yaml above.
    """

    sha: str
    path: str
    depth: int
    taking: _Globs
    leaving: _Globs
    config: str | None

    def takes_file(self, name: str) -> bool:
        """Whether a file of that name is wanted."""
        return _takes(_after(self.taking, name), folder=False) and not _takes(_after(self.leaving, name), folder=False)

    def folder_below(self, name: str, sha: str, config: str | None) -> _Folder | None:
        """A folder in it, where something below that may be wanted."""
        taking = [(glob, places) for glob, places in _after(self.taking, name) if glob.leads_on(places)]
        if not taking:
            return None
        leaving = _after(self.leaving, name)
        if _takes(leaving, folder=True):
            return None
        path = self.path_below(name)
        if self.depth == _MAX_DEPTH:
            raise JiemiError("LimitExceeded", f"folders are nested deeper than {_MAX_DEPTH}: {path[:200]}…")
        return _Folder(sha, path + "/", self.depth + 1, taking, leaving, config)

    def path_below(self, name: str) -> str:
        path = self.path + name
        if len(path.encode()) > _MAX_PATH_BYTES:
            raise JiemiError("LimitExceeded", f"a path is longer than {_MAX_PATH_BYTES} bytes: {path[:200]}…")
        return path


def _after(globs: _Globs, name: str) -> _Globs:
    return [(glob, after) for glob, places in globs if (after := glob.after(places, name))]


def _takes(globs: _Globs, *, folder: bool) -> bool:
    return any(glob.takes(places) and (folder or not glob.folders_only) for glob, places in globs)


@attrs.define
class _Search:
    """What one search has found and used up."""

    max_entries: int
    max_files: int
    found: dict[str, Found] = attrs.field(factory=dict)
    _looked_at: int = 0
    _compared: int = 0
    _checked: int = 0

    def look_at_one(self) -> None:
        self._looked_at += 1
        if self._looked_at > self.max_entries:
            raise JiemiError(
                "LimitExceeded",
                f"the globs lead into folders of more than {self.max_entries} entries",
                "Begin the globs with narrower folders, or exclude some (spec.source.exclude).",
            )

    def compare(self, count: int) -> bool:
        """Count one name's comparisons; whether it is time to see if the call was cancelled."""
        self._compared += count
        if self._compared > _MAX_COMPARISONS:
            raise JiemiError(
                "LimitExceeded",
                f"names times globs are more than {_MAX_COMPARISONS}",
                "Give fewer globs, or begin them with narrower folders.",
            )
        if self._compared < self._checked + _CHECK_EVERY:
            return False
        self._checked = self._compared
        return True

    def take(self, path: str, file: Found) -> None:
        self.found[path] = file
        if len(self.found) > self.max_files:
            raise too_many_files(self.max_files)


def too_many_files(most: int) -> JiemiError:
    """For globs that take more files than one Decryptor may have."""
    return JiemiError(
        "LimitExceeded",
        f"more than {most} files match",
        "Give narrower globs, or exclude some files; several Decryptors may share a repository.",
    )


def _usable(name: bytes) -> str | None:
    """A name as it may stand in a path that can be read again; None for what is none."""
    if not name or name in (b".", b"..") or name.lower() == b".git" or b"/" in name or b"\\" in name:
        return None
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None


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
        raise JiemiError("FileNotFound", f"{path or 'the path'}: names no file")
    return tuple(part.encode() for part in parts)
