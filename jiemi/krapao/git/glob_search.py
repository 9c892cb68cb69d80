"""A search by globs: which folders can hold a match, and how much one search may use up."""

from __future__ import annotations

import attrs

from jiemi.core.content.globs import Glob, Places
from jiemi.core.errors import JiemiError

_MAX_DEPTH = 64
"""The deepest folder that a search goes into. A monorepo's deepest is about 20."""
_MAX_PATH_BYTES = 4_096
"""PATH_MAX of Linux: git itself can check out no longer one."""
_MAX_COMPARISONS = 2_000_000
"""The most names times globs of one search. They take under a second."""
_CHECK_EVERY = 1_024


@attrs.frozen
class Found:
    """A file.

    Attributes:
        blob: its hash, in hexadecimal.
        config: that of the nearest .sops.yaml, or None.
    """

    blob: str
    config: str | None


Globs = list[tuple[Glob, Places]]


@attrs.frozen
class SearchedFolder:
    """A folder that is to be searched.

    Attributes:
        path: with a slash at its end; "" for the root.
        taking, leaving: globs that may match below, and how much of each is used up.
        config: of the nearest .sops.yaml above.
    """

    sha: str
    path: str
    depth: int
    taking: Globs
    leaving: Globs
    config: str | None

    def takes_file(self, name: str) -> bool:
        """Whether a file of that name is wanted."""
        return _takes(_after(self.taking, name), folder=False) and not _takes(_after(self.leaving, name), folder=False)

    def folder_below(self, name: str, sha: str, config: str | None) -> SearchedFolder | None:
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
        return SearchedFolder(sha, path + "/", self.depth + 1, taking, leaving, config)

    def path_below(self, name: str) -> str:
        path = self.path + name
        if len(path.encode()) > _MAX_PATH_BYTES:
            raise JiemiError("LimitExceeded", f"a path is longer than {_MAX_PATH_BYTES} bytes: {path[:200]}…")
        return path


def _after(globs: Globs, name: str) -> Globs:
    return [(glob, after) for glob, places in globs if (after := glob.after(places, name))]


def _takes(globs: Globs, *, folder: bool) -> bool:
    return any(glob.takes(places) and (folder or not glob.folders_only) for glob, places in globs)


@attrs.define
class Search:
    """What one search has found and used up."""

    max_entries: int
    max_files: int
    found: dict[str, Found] = attrs.field(factory=dict)
    links: list[str] = attrs.field(factory=list)
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

    def take_link(self, path: str) -> None:
        self.links.append(path)
        if len(self.links) > self.max_files:
            raise too_many_files(self.max_files)


def too_many_files(most: int) -> JiemiError:
    """For globs that take more files than one Decryptor may have."""
    return JiemiError(
        "LimitExceeded",
        f"more than {most} files match",
        "Give narrower globs, or exclude some files; several Decryptors may share a repository.",
    )
