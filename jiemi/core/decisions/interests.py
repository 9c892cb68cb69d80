"""Who is concerned by a push: an index of the patterns of files that each one follows.

A path is one lookup; globs are grouped by the folder that they begin with and by their text, so that many who follow
`apps/*/secret.yaml` cost one comparison. What a push costs here grows with what it changes, and not with who follows.

The result may name someone whose files did not change: below a folder of which only so much is known that something
in it changed; and where a namespace's globs take longer than its share of the time for one push, all of that
namespace's that have globs. It never leaves out one whose files changed.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator

import attrs

from jiemi.core.content.globs import Glob, is_excluded, is_glob, matches_path
from jiemi.core.names import NamespacedName

_MAX_STEPS = 400_000
"""How many parts of paths are compared with parts of globs for one push. They take about a fifth of a second."""

_MIN_STEPS = 4_000
"""What each namespace has of that at least."""

_PATTERN_BYTES = 400
"""What one pattern takes in the index beside its text."""


@attrs.frozen
class Interest:
    """What someone follows.

    Attributes:
        patterns: paths as they are in the repository, without what means nothing in them, and globs.
        exclude: globs of files that are left out of what globs match.
    """

    patterns: tuple[str, ...]
    exclude: tuple[str, ...] = ()

    @property
    def held_bytes(self) -> int:
        """About how much memory it takes in the index."""
        return sum(_PATTERN_BYTES + 2 * len(each) for each in (*self.patterns, *self.exclude))


class Interests:
    """The index. Keys are those of Decryptors."""

    def __init__(self) -> None:
        self._interests: dict[NamespacedName, Interest] = {}
        self._spaces: dict[str, _Space] = {}

    def __contains__(self, key: NamespacedName) -> bool:
        return key in self._interests

    def __len__(self) -> int:
        return len(self._interests)

    def __iter__(self) -> Iterator[NamespacedName]:
        return iter(self._interests)

    def put(self, key: NamespacedName, interest: Interest) -> None:
        """Someone follows this, and nothing else."""
        if self._interests.get(key) == interest:
            return
        self.remove(key)
        self._interests[key] = interest
        space = self._spaces.setdefault(key[0], _Space())
        for pattern in interest.patterns:
            space.add(pattern, key)

    def remove(self, key: NamespacedName) -> None:
        """Someone follows nothing."""
        interest = self._interests.pop(key, None)
        if interest is None:
            return
        space = self._spaces[key[0]]
        for pattern in interest.patterns:
            space.discard(pattern, key)
        if space.is_empty:
            del self._spaces[key[0]]

    def concerned(self, paths: Collection[str], folders: Collection[str]) -> set[NamespacedName]:
        """Those who are concerned where so much changed.

        Args:
            paths: of files.
            folders: with a slash at the end, or "" for all: anything below may have changed.
        """
        folders = _outermost(folders)
        with_globs = sum(bool(space.globs) for space in self._spaces.values())
        share = max(_MIN_STEPS, _MAX_STEPS // max(with_globs, 1))
        found: set[NamespacedName] = set()
        for space in self._spaces.values():
            found |= space.by_path(paths, folders)
            if space.globs:
                found |= _GlobSearch(space, self._interests, share).concerned(paths, folders)
        return found


@attrs.define
class _Space:
    """The patterns of one namespace.

    Attributes:
        paths: who follows a path.
        globs: who follows a glob, by the folder that it begins with (with a slash at the end, or "") and its text.
    """

    paths: defaultdict[str, set[NamespacedName]] = attrs.field(factory=lambda: defaultdict(set))
    globs: dict[str, dict[str, set[NamespacedName]]] = attrs.field(factory=dict)
    _sorted: list[str] | None = None

    @property
    def is_empty(self) -> bool:
        return not self.paths and not self.globs

    def add(self, pattern: str, key: NamespacedName) -> None:
        if is_glob(pattern):
            self.globs.setdefault(_first_folder(pattern), {}).setdefault(pattern, set()).add(key)
        else:
            if pattern not in self.paths:
                self._sorted = None
            self.paths[pattern].add(key)

    def discard(self, pattern: str, key: NamespacedName) -> None:
        if is_glob(pattern):
            folder = _first_folder(pattern)
            keys = self.globs.get(folder, {}).get(pattern, set())
            keys.discard(key)
            if not keys and self.globs.get(folder, {}).pop(pattern, None) is not None and not self.globs[folder]:
                del self.globs[folder]
        elif pattern in self.paths:
            self.paths[pattern].discard(key)
            if not self.paths[pattern]:
                del self.paths[pattern]
                self._sorted = None

    def by_path(self, paths: Collection[str], folders: Collection[str]) -> set[NamespacedName]:
        """Who follows one of the paths, or a path below one of the folders."""
        found = {key for path in paths if path in self.paths for key in self.paths[path]}
        if folders and self._sorted is None:
            self._sorted = sorted(self.paths)
        for folder in folders:
            assert self._sorted is not None  # noqa: S101 - narrows the type
            for at in range(bisect.bisect_left(self._sorted, folder), len(self._sorted)):
                if not self._sorted[at].startswith(folder):
                    break
                found |= self.paths[self._sorted[at]]
        return found


class _TooLong(Exception):
    """A namespace's share of the time is used up."""


@attrs.define
class _GlobSearch:
    """One namespace's globs, compared with what changed."""

    space: _Space
    interests: dict[NamespacedName, Interest]
    steps_left: int

    def concerned(self, paths: Collection[str], folders: Collection[str]) -> set[NamespacedName]:
        found: set[NamespacedName] = set()
        try:
            for path in paths:
                for glob, keys in self._beginning_above(path):
                    found |= self._of_path(path, glob, keys - found)
            for folder in folders:
                for glob, keys in self._meeting(folder):
                    found |= self._of_folder(folder, glob, keys - found)
        except _TooLong:
            return {key for globs in self.space.globs.values() for keys in globs.values() for key in keys}
        return found

    def _of_path(self, path: str, glob: str, keys: set[NamespacedName]) -> set[NamespacedName]:
        if not keys or not self._compare(path, glob, lambda: matches_path(path, glob)):
            return set()
        return {key for key in keys if not self._is_excluded(path, self.interests[key].exclude)}

    def _of_folder(self, folder: str, glob: str, keys: set[NamespacedName]) -> set[NamespacedName]:
        return keys if keys and self._compare(folder, glob, lambda: _may_match_below(folder, glob)) else set()

    def _is_excluded(self, path: str, exclude: tuple[str, ...]) -> bool:
        return any(self._compare(path, glob, lambda glob=glob: is_excluded(path, (glob,))) for glob in exclude)  # type: ignore[misc]

    def _compare(self, path: str, glob: str, compare: Callable[[], bool]) -> bool:
        parts, pieces = path.count("/") + 1, glob.count("/") + glob.count("*")
        # Taking the glob apart, and comparing: a ** has each part of the path compared with each of the glob.
        self._step(2 + pieces + len(glob) // 16 + (parts * pieces if "**" in glob else 0))
        return compare()

    def _step(self, steps: int = 1) -> None:
        self.steps_left -= steps
        if self.steps_left < 0:
            raise _TooLong

    def _beginning_above(self, path: str) -> Iterator[tuple[str, set[NamespacedName]]]:
        """The globs that begin with a folder which a path is in."""
        at = 0
        while True:
            yield from self.space.globs.get(path[:at], {}).items()
            at = path.find("/", at) + 1
            if at == 0:
                return

    def _meeting(self, folder: str) -> Iterator[tuple[str, set[NamespacedName]]]:
        """The globs that begin with a folder above that one, with itself, or with one below it."""
        yield from self._beginning_above(folder)
        for first, globs in self.space.globs.items():
            self._step()
            if len(first) > len(folder) and first.startswith(folder):
                yield from globs.items()


def _outermost(folders: Collection[str]) -> list[str]:
    """The folders without those that are in another one of them."""
    found: list[str] = []
    for folder in sorted(folders):
        if not found or not folder.startswith(found[-1]):
            found.append(folder)
    return found


def _first_folder(glob: str) -> str:
    """The folders that a glob begins with, up to its first star: with a slash at the end, or ""."""
    if "." in (parts := glob.split("/")) or ".." in parts or "" in parts[:-1]:
        return ""  # it is compared with everything: it is not written as paths are
    return glob[: glob.index("*")].rpartition("/")[0] + "/" if "/" in glob[: glob.index("*")] else ""


def _may_match_below(folder: str, glob: str) -> bool:
    compiled = Glob.of(glob)
    places = compiled.start
    for name in folder.split("/")[:-1]:
        places = compiled.after(places, name)
        if not places:
            return False
    return compiled.leads_on(places)
