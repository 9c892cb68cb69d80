"""Symbolic links of a revision: followed within the repository, as a checkout would have them, and never out of it.

A link is a blob that holds a path (gitformat-index(5), mode 120000), which counts from the folder that the link is in.
Whoever writes the repository writes it: it may be absolute, lead up and out, in a circle, or nowhere. Nothing here
touches the file system.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NoReturn

import attrs

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.tree_paths import Parts

MAX_LINKS = 40
"""How many links one path may lead through, as on Linux (path_resolution(7))."""

MAX_LINK_BYTES = 4_096
"""PATH_MAX: the longest path that a link can hold on Linux."""

_SHOWN = 200


@attrs.frozen
class Entry:
    """What a folder has under a name.

    Attributes:
        hash: of the object, in hexadecimal.
        is_folder, is_link, is_file: what it is; none of them for a submodule.
    """

    hash: str
    is_folder: bool
    is_link: bool
    is_file: bool


@attrs.frozen
class Links:
    """Follows links.

    Attributes:
        root: hash of the revision's tree.
        entry: what a folder has under a name, by the folder's hash; None where it has nothing.
        read: a link's content, by its hash; None where that is no file or is too large.
    """

    root: str
    entry: Callable[[str, bytes], Entry | None]
    read: Callable[[str], bytes | None]

    def real(self, path: str, parts: Parts) -> Parts:
        """Where a path leads to: the same path without links.

        Args:
            path: for the messages.

        Raises:
            JiemiError: NotAFile, it leads out of the repository or in a circle; FileNotFound, to nothing;
                LimitExceeded.
        """
        walk = _Walk(path, deque(parts), [(b"", self.root)])
        while walk.left:
            part = walk.left.popleft()
            if part in (b"", b"."):
                continue
            if part == b"..":
                walk.up()
                continue
            found = self.entry(walk.folders[-1][1], part)
            if found is None:
                walk.fail("FileNotFound", "which is not there")
            if found.is_link:
                walk.follow(part, self.read(found.hash))
            elif found.is_folder:
                walk.folders.append((part, found.hash))
            elif walk.left:
                # Also for a `/` or `/.` behind it, which the kernel takes after folders only.
                walk.fail("FileNotFound", "where a folder of it is a file")
            else:
                return (*walk.at(), part)
        if not walk.at():
            walk.fail("NotAFile", "which is the repository's root")
        return walk.at()


@attrs.define
class _Walk:
    """A path on its way.

    Attributes:
        path: as it was given.
        left: the parts that are not used up.
        folders: where it is: names and hashes, the root first.
    """

    path: str
    left: deque[bytes]
    folders: list[tuple[bytes, str]]
    _links: int = 0
    _last: str = ""

    def at(self) -> Parts:
        """The folder where it is."""
        return tuple(name for name, _ in self.folders[1:])

    def up(self) -> None:
        """To the folder above."""
        if len(self.folders) == 1:
            self.fail("NotAFile", "out of the repository")
        self.folders.pop()

    def follow(self, name: bytes, target: bytes | None) -> None:
        """Go where a link leads."""
        link = b"/".join((*self.at(), name)).decode("utf-8", "replace")
        if target is None:
            self._last = f"the symbolic link {link} leads"
            self.fail("NotAFile", f"to a path of more than {MAX_LINK_BYTES} bytes")
        shown = target.decode("utf-8", "replace")
        self._last = f"the symbolic link {link} leads to {shown[:_SHOWN]}{'…' if len(shown) > _SHOWN else ''},"
        self._links += 1
        if target.startswith(b"/"):
            self.fail("NotAFile", "out of the repository")
        if self._links > MAX_LINKS:
            self.fail("NotAFile", f"and so on: more than {MAX_LINKS} links, or a circle of them")
        self.left.extendleft(reversed(target.split(b"/")))

    def fail(self, reason: str, why: str) -> NoReturn:
        raise JiemiError(
            reason,
            f"{self.path}: {self._last} {why}",
            "Let the link lead to a file of this repository by a relative path, or commit the file in its place.",
        )
