"""Tree objects as anyone may write them, in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.glob_search import Found
from jiemi.krapao.git.tree_paths import split_path
from jiemi.krapao.git.trees import Trees

FILE, EXECUTABLE, LINK, FOLDER, SUBMODULE = "100644", "100755", "120000", "40000", "160000"


REVISION = "c" * 40


PLENTY = {"max_entries": 100_000, "max_files": 1_000}


@attrs.frozen
class Link:
    """A symbolic link to a path."""

    to: str


Nested = Mapping[str, "str | Link | Nested"]


@attrs.define
class Store:
    """Tree objects, what links hold, and how often each tree was read."""

    trees: dict[str, bytes] = attrs.field(factory=dict)
    links: dict[str, bytes] = attrs.field(factory=dict)
    reads: list[str] = attrs.field(factory=list)

    def add(self, *entries: tuple[str, bytes, str]) -> str:
        """A tree with these entries (mode, name, hash) in this order, whatever they are."""
        raw = b"".join(b"%s %s\0" % (mode.encode(), name) + bytes.fromhex(sha) for mode, name, sha in entries)
        return self.add_raw(raw)

    def add_raw(self, raw: bytes) -> str:
        sha = hashlib.sha1(b"tree %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()
        self.trees[sha] = raw
        return sha

    def nested(self, content: Nested) -> str:
        """A tree of files, each of which is its own hash's word."""
        entries = []
        for name, value in content.items():
            if isinstance(value, Link):
                mode, sha = LINK, self.link(value.to.encode())
            else:
                mode, sha = (FILE, blob(value)) if isinstance(value, str) else (FOLDER, self.nested(value))
            entries.append((mode, name.encode(), sha))
        return self.add(*entries)

    def link(self, to: bytes) -> str:
        """What a symbolic link holds; returns its hash."""
        sha = hashlib.sha1(b"link" + to, usedforsecurity=False).hexdigest()
        self.links[sha] = to
        return sha

    def load(self, sha: str) -> bytes | None:
        self.reads.append(sha)
        return self.trees.get(sha)

    def at(self, root: str, **options: Any) -> Trees:
        return Trees(root, self.load, read_link=self.links.get, **options)


def blob(content: str) -> str:
    return hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()


def found(store: Store, root: str, *globs: str, exclude: tuple[str, ...] = (), **bounds: int) -> list[str]:
    return sorted(store.at(root).search(globs, exclude, **{**PLENTY, **bounds}))


def looked_up(store: Store, root: str, *paths: str) -> dict[str, Found]:
    return store.at(root).look_up({path: split_path(path) for path in paths}, REVISION)


def reason(store: Store, root: str, *paths: str) -> str:
    with pytest.raises(JiemiError) as caught:
        looked_up(store, root, *paths)
    return str(caught.value)
