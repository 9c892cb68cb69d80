"""Folders of a revision, as git has them: which files match, and what is at a path.

A tree object is `MODE NAME\\0HASH` for each entry (gitformat-pack(5), "tree"). Whoever writes the repository writes its
trees, and need not do so with git: a name may be `..`, hold a slash, be there twice; one folder may be in another many
times, so that few objects make more paths than there is time to walk. So here

- each entry is read from the bytes as it comes, and nothing is kept but what matches;
- a search goes into no folder below which no glob can match, leaves out each entry whose path can't be read again or
  is not the only one of its name, and ends at bounds: of entries, of comparisons, of bytes, of depth, of files;
- a path that is given is looked up as `read` looks it up, and with the same words where it is not there;
- a symbolic link is followed within the repository (`links`), by a glob only if it leads to a file;
- a submodule is another repository: where something in one is looked for, it is only noted (`Trees.submodules`).

The nearest `.sops.yaml` above a file comes along with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from jiemi.core.content.globs import Glob
from jiemi.core.errors import JiemiError
from jiemi.core.near import near
from jiemi.krapao.git.glob_search import Found, Search, SearchedFolder
from jiemi.krapao.git.links import Entry, Links
from jiemi.krapao.git.submodules import ROOT, Submodule
from jiemi.krapao.git.tree_entries import FOLDER, KIND, MAX_TREE_BYTES, REGULAR, SUBMODULE, SYMLINK, entries_of
from jiemi.krapao.git.tree_paths import Parts, split_path, usable_name

CONFIG = ".sops.yaml"
MAX_CONFIG_DEPTH = 16
"""A .sops.yaml is looked for in so many folders, counted from the root, and in the root itself."""

_CONFIG_NAME = CONFIG.encode()

_KINDS = {FOLDER: "a directory", SUBMODULE: "a submodule"}

_FOLLOW = "To follow submodules, give spec.source.repository.submodules."

_NO_FILE = ("FileNotFound", "NotAFile")
"""Why a link leads to no file. Any other reason is a limit."""

Results = dict[str, Found | Submodule | JiemiError | None]
"""What is at paths; None where there is a symbolic link on the way, and a Submodule where it is in one."""


class Trees:
    """The trees of one revision.

    Args:
        root: hash of the revision's tree, in hexadecimal.
        load: gives a tree object's bytes by its hash; None where the object is no tree, though a folder says so.
        read_link: gives a symbolic link's content by its hash; None where it is no file, or too large.
        is_config: whether a .sops.yaml of that hash is one that is looked into.
        check: raises where the call was cancelled; called often.

    Attributes:
        at: where the root is in the repository that is followed.
        followed_links: whether a symbolic link was come upon where something was looked for.
        submodules: those in which something is to be looked for, by their paths.
    """

    def __init__(
        self,
        root: str,
        load: Callable[[str], bytes | None],
        *,
        read_link: Callable[[str], bytes | None] = lambda _: None,
        is_config: Callable[[str], bool] = lambda _: True,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.at = ROOT
        self.submodules: dict[str, Submodule] = {}
        self._root = root
        self._links = Links(root, self._entry, read_link)
        self._load = load
        self._is_config = is_config
        self._check = check
        self._bytes = 0
        self.followed_links = False

    def look_up(self, paths: Mapping[str, Parts], revision: str, *, or_glob: bool = False) -> dict[str, Found]:
        """The files at paths, by their paths without what means nothing in them. Those in submodules are left out.

        Args:
            paths: each with its parts from the root on, as `split_path` gives them.
            revision: for the messages.
            or_glob: whether a glob could stand in a path's place, so that the message for a folder may say so.

        Raises:
            JiemiError: FileNotFound, NotAFile, LimitExceeded.
        """
        all_parts = dict(paths)
        results = self._look_up(all_parts, revision, or_glob=or_glob)
        through_links = {path: all_parts[path] for path, one in results.items() if one is None}
        if through_links:
            real = {path: self._followed(path, parts) for path, parts in through_links.items()}
            results |= {path: one for path, one in real.items() if isinstance(one, JiemiError)}
            led = {path: parts for path, parts in real.items() if not isinstance(parts, JiemiError)}
            results |= self._look_up(led, revision, or_glob=or_glob)
        found: dict[str, Found] = {}
        for path, parts in all_parts.items():
            one = results[path]
            if isinstance(one, JiemiError):
                raise JiemiError.of(one.failure.about(path)) from one
            if isinstance(one, Found):
                found[self.at.path + b"/".join(parts).decode()] = one
        return found

    def _look_up(self, paths: dict[str, Parts], revision: str, *, or_glob: bool) -> Results:
        results: Results = {}
        left = [_Wanted(self._root, 0, paths, self.at.config, or_glob)] if paths else []
        while left:
            self._step_down(left.pop(), results, left, revision)
        return results

    def _followed(self, path: str, parts: Parts) -> Parts | JiemiError:
        self.followed_links = True
        try:
            return self._links.real(path, parts)
        except JiemiError as error:
            return error

    def _entry(self, folder: str, wanted: bytes) -> Entry | None:
        raw = self._load(folder)
        found = None
        for name, mode, hash in self._entries(raw, "") if raw is not None else ():
            if name == wanted:
                kind = mode & KIND
                found = Entry(hash.hex(), kind == FOLDER, kind == SYMLINK, mode in REGULAR)
        return found

    def _step_down(self, here: _Wanted, results: Results, left: list[_Wanted], revision: str) -> None:
        """Look up one folder's part of the paths: give results for those that end here, and leave the others."""
        names = {parts[here.depth] for parts in here.paths.values()} | {_CONFIG_NAME}
        entries: dict[bytes, tuple[int, str]] = {}
        raw = self._load(here.sha)
        if raw is None:
            results |= {
                path: JiemiError("NotAFile", f"{path}: its folder calls it what it is not") for path in here.paths
            }
            return
        for name, mode, hash in self._entries(raw, next(iter(here.paths))):
            if name in names:
                entries[name] = mode, hash.hex()
        folder_parts = next(iter(here.paths.values()))[: here.depth]
        config = self._config(entries.get(_CONFIG_NAME), folder_parts, here.config)
        below: dict[str, dict[str, Parts]] = {}
        for path, parts in here.paths.items():
            mode, sha = entries.get(parts[here.depth], (0, ""))
            last = here.depth == len(parts) - 1
            if not mode:
                results[path] = self._missing(path, parts, here.depth, raw, revision)
            elif mode & KIND == SYMLINK:
                results[path] = None
            elif last and mode in REGULAR:
                results[path] = Found(sha, config)
            elif last:
                results[path] = self._no_file(path, mode, or_glob=here.or_glob)
            elif mode & KIND == FOLDER:
                below.setdefault(sha, {})[path] = parts
            elif mode & KIND == SUBMODULE:
                results[path] = self._in_submodule(path, parts, here.depth, sha, config)
            else:
                folder = b"/".join(parts[: here.depth + 1]).decode()
                results[path] = JiemiError(
                    "FileNotFound", f"{path}: not in revision {revision[:12]}: {folder} is no folder there"
                )
        left += [
            attrs.evolve(here, sha=sha, depth=here.depth + 1, paths=paths, config=config)
            for sha, paths in below.items()
        ]

    def _no_file(self, path: str, mode: int, *, or_glob: bool) -> JiemiError:
        """For a path at which something else is."""
        kind = mode & KIND
        remedy = "Name a regular file in it."
        if kind == SUBMODULE and not self.at.into_submodules:
            remedy = f"{remedy} {_FOLLOW}"
        elif or_glob and kind in (FOLDER, SUBMODULE):
            remedy = f"Name a file in it, or give spec.source.files {path.rstrip('/')}/** for all files in it."
        return JiemiError("NotAFile", f"{path}: {_KINDS.get(kind, 'no regular file')}", remedy)

    def _in_submodule(
        self, path: str, parts: Parts, depth: int, commit: str, config: str | None
    ) -> Submodule | JiemiError:
        """For a path that leads into a submodule."""
        folder = b"/".join(parts[: depth + 1]).decode()
        if not self.at.into_submodules:
            return JiemiError("FileNotFound", f"{path}: {folder} is a submodule", _FOLLOW)
        return self._note_submodule(self.at.path + folder, commit, config)

    def _note_submodule(self, path: str, commit: str, config: str | None) -> Submodule:
        noted = self.submodules[path] = Submodule(path, commit, config)
        return noted

    def _missing(self, path: str, parts: Parts, depth: int, raw: bytes, revision: str) -> JiemiError:
        """For a path of which this folder has not the next part; names what it has that is much like it."""
        wanted, folder = parts[depth].decode(), b"/".join(parts[:depth]).decode()
        is_last = depth == len(parts) - 1
        names: list[str] = []
        with contextlib.suppress(JiemiError):
            for name, mode, _ in self._entries(raw, path):
                if (text := usable_name(name)) is not None and (mode in REGULAR if is_last else mode & KIND == FOLDER):
                    names.append(text)
        found = [f"{folder}/{name}" if folder else name for name in near(wanted, names)]
        below = (
            "" if is_last else f": there is no folder {folder}/{wanted}" if folder else f": there is no folder {wanted}"
        )
        message = f"{path}: not in revision {revision[:12]}{below}"
        if not found:
            return JiemiError("FileNotFound", message)
        there = f"there is {found[0]}" if len(found) == 1 else f"there are {', '.join(found)}"
        return JiemiError("FileNotFound", f"{message}; {there}")

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
        search = Search(max_entries, max_files)
        taking = [(glob, glob.start) for glob in map(Glob.of, dict.fromkeys(globs))]
        leaving = [(glob, glob.start) for glob in map(Glob.exclusion, dict.fromkeys(exclude))]
        start: SearchedFolder | None = SearchedFolder("", "", 0, taking, leaving, None)
        for part in self.at.parts:
            start = start.folder_below(part.decode(), "", None) if start is not None else None
        left = [attrs.evolve(start, sha=self._root, config=self.at.config)] if taking and start is not None else []
        while left:
            self._search_one(left.pop(), left, search)
        for path in search.links:
            try:
                found = self.look_up({path: self._below_root(split_path(path))}, "")
            except JiemiError as error:
                # One that leads to no file is left out, as all is that is no file. A limit ends the search.
                if error.failure.reason not in _NO_FILE:
                    raise
            else:
                for led, file in found.items():
                    search.take(led, file)
        return search.found

    def _search_one(self, here: SearchedFolder, left: list[SearchedFolder], search: Search) -> None:
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
        folder_parts = self._below_root(tuple(part.encode() for part in here.path.split("/")[:-1]))
        config = self._config((config_mode, config_hash.hex()), folder_parts, here.config)
        comparisons = sum(len(places) for _, places in (*here.taking, *here.leaving))
        for name, (mode, hash) in entries.items():
            text = usable_name(name)
            if text is None or name in twice:
                continue
            if search.compare(comparisons):
                self._check()
            if mode & KIND in (FOLDER, SUBMODULE):
                self._search_below(here.folder_below(text, hash.hex(), config), mode & KIND, left)
            elif mode == SYMLINK and text != CONFIG and here.takes_file(text):
                search.take_link(here.path_below(text))
            elif mode in REGULAR and text != CONFIG and here.takes_file(text):
                search.take(here.path_below(text), Found(hash.hex(), config))

    def _search_below(self, folder: SearchedFolder | None, kind: int, left: list[SearchedFolder]) -> None:
        """Have a folder searched, or a submodule noted; None where nothing in it is wanted."""
        if folder is None:
            return
        if kind == FOLDER:
            left.append(folder)
        elif self.at.into_submodules:
            self._note_submodule(folder.path.removesuffix("/"), folder.sha, folder.config)

    def _below_root(self, parts: Parts) -> Parts:
        """The parts of a path that come after where the root is."""
        return parts[len(self.at.parts) :]

    def _config(self, entry: tuple[int, str] | None, folder: Parts, above: str | None) -> str | None:
        """The nearest .sops.yaml of a folder: its own, or the one above."""
        if entry is None or len(self.at.parts) + len(folder) > MAX_CONFIG_DEPTH:
            return above
        mode, sha = entry
        if mode == SYMLINK:
            sha = self._linked_file((*folder, _CONFIG_NAME)) or ""
        elif mode not in REGULAR:
            return above
        return sha if sha and self._is_config(sha) else above

    def _linked_file(self, parts: Parts) -> str | None:
        """The file that a link leads to, by its hash; None where it leads to none.

        Raises:
            JiemiError: LimitExceeded.
        """
        real = self._followed(CONFIG, parts)
        if isinstance(real, JiemiError):
            if real.failure.reason not in _NO_FILE:
                raise real
            return None
        folder = self._root
        for part in real[:-1]:
            entry = self._entry(folder, part)
            if entry is None:
                return None
            folder = entry.hash
        found = self._entry(folder, real[-1])
        return found.hash if found is not None and found.is_file else None

    def _entries(self, raw: bytes, where: str) -> Iterator[tuple[bytes, int, bytes]]:
        """Name, mode and hash of each entry.

        Args:
            where: for the message.
        """
        self._check()
        self._bytes += len(raw)
        if self._bytes > MAX_TREE_BYTES:
            raise JiemiError("LimitExceeded", f"the folders to look through are larger than {MAX_TREE_BYTES} bytes")
        return entries_of(raw, where, hash_bytes=len(self._root) // 2)


@attrs.frozen
class _Wanted:
    """A folder in which paths are looked up, `depth` parts of each used up."""

    sha: str
    depth: int
    paths: dict[str, Parts]
    config: str | None
    or_glob: bool
