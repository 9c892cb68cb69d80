"""Globs of paths: which files of a revision a Decryptor wants, and which of those it leaves out.

A glob and a path are compared part by part, where `/` ends a part. A part that is `**` stands for any number of
folders, none included, and as the last part for all files below; `*` in any other part stands for any characters of
that part, none included; all else stands for itself. `apps/**/*.enc.yaml` takes `apps/x.enc.yaml` and
`apps/a/b/x.enc.yaml`. A `./`, a `name/../` and a `/` too many in a glob mean nothing, but at its end:
`apps/*/` takes no file.

Globs that leave files out are read as in .gitignore (https://git-scm.com/docs/gitignore, PATTERN FORMAT), as far as
they go: one without a `/` before its end is for a name in any folder; one that takes a folder leaves out everything
below; one with a `/` at its end is for folders only.

The path may be hostile, and the glob another tenant's. So this is no regular expression, which would try all ways in
which stars can share a path: it keeps the places in the glob that are reached after each part of the path. Within a
part the first place where a piece fits is the best for all that follow. So it takes time in proportion to the path's
length times the glob's. What walks a tree keeps the places too, and so goes into no folder below which nothing can be
taken (`Glob.leads_on`).
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

_ANY_FOLDERS = "**"

Places = tuple[int, ...]
"""How many of a glob's parts may have been used up so far, each way in which they can be, in ascending order."""


def is_glob(text: str) -> bool:
    """Whether a text is a glob, and not a plain path."""
    return "*" in text


def advice(globs: Iterable[str]) -> str:
    """What to change in globs that took no file, where one holds what means something elsewhere; "" where none does."""
    texts = [glob for glob in globs if is_glob(glob)]
    if any("{" in text for text in texts):
        return "Write one glob for each of what stands in {}: braces stand for themselves."
    if any("?" in text or "[" in text for text in texts):
        return "Only * and ** stand for something else; ? and [] stand for themselves."
    if any(_ANY_FOLDERS in part and part != _ANY_FOLDERS for text in texts for part in text.split("/")):
        return "Write ** as a part of its own, as in **/*.yaml: beside other characters it is a *."
    if any(_ANY_FOLDERS not in text for text in texts):
        return "A * goes into no folder; **/ before it does."
    return ""


def matches_path(path: str, glob: str) -> bool:
    """Whether a glob takes the file at a path."""
    compiled = Glob.of(glob)
    places = compiled.start
    for name in path.split("/"):
        places = compiled.after(places, name)
        if not places:
            return False
    return compiled.takes(places) and not compiled.folders_only


def is_excluded(path: str, globs: Iterable[str]) -> bool:
    """Whether one of the globs, read as in .gitignore, takes the file at a path or a folder that it is in."""
    names = path.split("/")
    return any(_excludes(Glob.exclusion(glob), names) for glob in globs)


def _excludes(glob: Glob, names: list[str]) -> bool:
    places = glob.start
    for left, name in zip(range(len(names) - 1, -1, -1), names, strict=True):
        places = glob.after(places, name)
        if glob.takes(places) and (left > 0 or not glob.folders_only):
            return True
        if not places:
            return False
    return False


@attrs.frozen
class Glob:
    """A glob, taken apart.

    Attributes:
        parts: of each the pieces between its stars; None for `**`. Never two of those in a row: they are as one.
        folders_only: whether it ends in a `/`.
        start: the places before the first name.
    """

    parts: tuple[tuple[str, ...] | None, ...]
    folders_only: bool
    start: Places = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "start", self._with_none_used([0]))

    @classmethod
    def of(cls, text: str) -> Glob:
        """A glob that takes files."""
        return cls._of(text, anywhere=False)

    @classmethod
    def exclusion(cls, text: str) -> Glob:
        """A glob that leaves files out."""
        return cls._of(text, anywhere="/" not in text.rstrip("/"))

    @classmethod
    def _of(cls, text: str, *, anywhere: bool) -> Glob:
        texts: list[str] = []
        for part in text.split("/"):
            if part == ".." and texts and "*" not in texts[-1] and texts[-1] != "..":
                texts.pop()
            elif part not in ("", "."):
                texts.append(part)
        if anywhere and texts:  # nothing takes nothing
            texts.insert(0, _ANY_FOLDERS)
        parts: list[tuple[str, ...] | None] = []
        for part in texts:
            if part != _ANY_FOLDERS:
                parts.append(tuple(part.split("*")))
            elif not parts or parts[-1] is not None:
                parts.append(None)
        return cls(tuple(parts), text.endswith("/"))

    def after(self, places: Places, name: str) -> Places:
        """The places after one more name of a path; none where neither it nor anything below is taken."""
        reached: list[int] = []
        for place in places:
            if place == len(self.parts):
                continue
            pieces = self.parts[place]
            if pieces is None:
                reached.append(place)
                if place == len(self.parts) - 1:
                    reached.append(place + 1)
            elif _fits(name, pieces):
                reached.append(place + 1)
        return self._with_none_used(reached)

    def takes(self, places: Places) -> bool:
        """Whether what was gone through so far is taken."""
        return bool(places) and places[-1] == len(self.parts)

    def leads_on(self, places: Places) -> bool:
        """Whether something below what was gone through so far may be taken."""
        return bool(places) and places[0] < len(self.parts)

    def _with_none_used(self, places: list[int]) -> Places:
        """The places, and those behind each `**` that may stand for no folder; the last one stands for a file."""
        found: list[int] = []
        for place in places:
            if found and found[-1] >= place:
                continue
            found.append(place)
            if place < len(self.parts) - 1 and self.parts[place] is None:
                found.append(place + 1)
        return tuple(found)


def _fits(name: str, pieces: tuple[str, ...]) -> bool:
    """Whether a name is the pieces with anything between them."""
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return name == first
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for piece in pieces[1:-1]:
        at = name.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True
