"""One revision of a clone, read object by object: its folders, and the files in them.

Each object is hashed as it is read. One that is not what its name says means that the clone is damaged; one that is,
but is no folder or file though a folder calls it so, means that the repository's writer made it so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Protocol

from jiemi.core.content.globs import is_glob
from jiemi.core.errors import JiemiError
from jiemi.krapao.git.glob_search import too_many_files
from jiemi.krapao.git.links import MAX_LINK_BYTES
from jiemi.krapao.git.packs import BLOB, COMMIT, KIND_NAMES, MAX_STRUCTURE_BYTES, TAG, TREE
from jiemi.krapao.git.port import Advertised, InSubmodule, Listed, SignedObjects
from jiemi.krapao.git.submodules import FOLLOWED, ROOT, Start
from jiemi.krapao.git.tree_changes import changes_between
from jiemi.krapao.git.tree_paths import Parts, split_path
from jiemi.krapao.git.trees import Trees
from jiemi.rpc.contract import MAX_FILES, Changes, FileEntry, Files, FilesRequest


class Objects(Protocol):
    """Where objects are."""

    def raw(self, sha: str) -> tuple[int, bytes]:
        """An object's kind, as packs number it, and its bytes."""
        ...

    def size(self, sha: str) -> int | None:
        """An object's size without unpacking it, where that can be known."""
        ...

    def vouch(self, sha: str) -> None:
        """Raises LookupError where an object is not as it was written, so that its size is not to be believed."""
        ...

    def has(self, sha: str) -> bool:
        """Whether an object is here."""
        ...


def tree_of(objects: Objects, revision: str) -> str | None:
    """The hash of a commit's tree; None where it is no commit."""
    kind, data = _structure(objects, revision)
    word, _, tree = data.partition(b"\n")[0].partition(b" ")
    if kind != COMMIT or word != b"tree" or len(tree) != len(revision) or tree.strip(b"0123456789abcdef"):
        return None
    return tree.decode()


def is_tree(objects: Objects, sha: str) -> bool:
    """Whether an object is a tree."""
    return _structure(objects, sha)[0] == TREE


_MAX_TAGS = 8
"""How many tags may lead to a commit, one to the next."""

MAX_SIGNED_BYTES = 1024 * 1024
"""The largest commit or tag whose signature is looked at."""


def signed_objects(objects: Objects, wanted: Advertised, *, with_tag: bool) -> SignedObjects:
    """A commit, and the tags that lead to it, each hashed.

    Raises:
        JiemiError: RevisionNotFound where one is not here; LimitExceeded. LookupError where the clone is damaged.
    """
    tags: list[bytes] = []
    sha = wanted.target
    while with_tag and sha != wanted.revision:
        if len(tags) == _MAX_TAGS:
            raise JiemiError("LimitExceeded", f"{wanted.ref}: more than {_MAX_TAGS} tags, each of the next")
        if not objects.has(sha):
            raise JiemiError("RevisionNotFound", f"the tag of revision {wanted.revision[:12]} is not in Krapao's clone")
        kind, data = _small(objects, sha, "tag")
        if kind != TAG:
            break  # whoever reads the tag before it sees that it does not lead to the commit
        tags.append(data)
        word, _, named = data.partition(b"\n")[0].partition(b" ")
        if word != b"object" or len(named) != len(sha) or named.strip(b"0123456789abcdef"):
            break
        sha = named.decode()
    kind, commit = _small(objects, wanted.revision, "commit")
    if kind != COMMIT:
        raise JiemiError("RevisionNotFound", f"revision {wanted.revision[:12]} is no commit")
    return SignedObjects(commit, tuple(tags))


def _small(objects: Objects, sha: str, what: str) -> tuple[int, bytes]:
    size = objects.size(sha)
    if size is not None and size > MAX_SIGNED_BYTES:
        raise JiemiError("LimitExceeded", f"{what} {sha[:12]} has {size} bytes, of {MAX_SIGNED_BYTES} at most")
    return _verified(objects, sha)


def read_file(
    objects: Objects, revision: str, parts: Parts, path: str, *, max_bytes: int, into_submodules: bool
) -> bytes:
    """The file at a path.

    Args:
        parts: of the path.
        path: for the messages.

    Raises:
        InSubmodule: it is in a submodule, and `into_submodules`.
        JiemiError: RevisionNotFound, FileNotFound, NotAFile, LimitExceeded. LookupError where the clone is damaged.
    """
    trees = _trees(objects, revision)
    trees.at = FOLLOWED if into_submodules else ROOT
    found = trees.look_up({path: parts}, revision)
    for submodule in trees.submodules.values():
        raise InSubmodule(submodule)
    [file] = found.values()
    size = _larger(objects, file.blob, max_bytes)
    if size is not None:
        raise JiemiError("LimitExceeded", f"{path}: {size} bytes, more than Krapao's limit of {max_bytes}")
    kind, data = _verified(objects, file.blob)
    if kind != BLOB:
        raise JiemiError("NotAFile", f"{path}: its folder calls it what it is not")
    if len(data) > max_bytes:
        raise JiemiError("LimitExceeded", f"{path}: {len(data)} bytes, more than Krapao's limit of {max_bytes}")
    return data


def match_files(
    objects: Objects,
    request: FilesRequest,
    *,
    max_config_bytes: int,
    max_entries: int,
    check: Callable[[], None],
    at: Start = ROOT,
) -> Listed:
    """The files that match, in the order of their paths.

    Args:
        at: where the revision is in the repository that the request is about.
        max_config_bytes: a larger .sops.yaml is passed over.
        max_entries: how many entries of folders globs may lead to.
        check: raises where the call was cancelled; called often.

    Raises:
        JiemiError: RevisionNotFound, FileNotFound, NotAFile, LimitExceeded. LookupError where the clone is damaged.
    """

    def is_config(sha: str) -> bool:
        return _larger(objects, sha, max_config_bytes) is None

    globs = [pattern for pattern in request.patterns if is_glob(pattern)]
    paths = {pattern: split_path(pattern) for pattern in request.patterns if not is_glob(pattern)}
    above = len(at.parts)
    below = {path: parts[above:] for path, parts in paths.items() if parts[:above] == at.parts and len(parts) > above}
    trees = _trees(objects, request.revision, is_config, check)
    trees.at = at
    found = trees.look_up(below, request.revision, or_glob=True)
    found |= trees.search(globs, request.exclude, max_entries=max_entries, max_files=MAX_FILES)
    if len(found) > MAX_FILES:
        raise too_many_files(MAX_FILES)
    entries = tuple(FileEntry(path, file.blob, file.config) for path, file in sorted(found.items()))
    direct = not trees.followed_links and not trees.submodules
    return Listed(Files(request.revision, entries, direct=direct), tuple(trees.submodules.values()))


def compare_revisions(
    objects: Objects, before: str, after: str, *, max_entries: int, check: Callable[[], None]
) -> Changes:
    """Where two revisions differ.

    Args:
        max_entries: how many entries of folders are looked at.
        check: raises where the call was cancelled; called often.

    Raises:
        JiemiError: RevisionNotFound. LookupError where the clone is damaged.
    """
    old, new = _root_of(objects, before), _root_of(objects, after)
    return changes_between(old, new, partial(load_tree, objects), max_entries=max_entries, check=check)


def _trees(
    objects: Objects,
    revision: str,
    is_config: Callable[[str], bool] = lambda _: False,
    check: Callable[[], None] = lambda: None,
) -> Trees:

    def read_link(sha: str) -> bytes | None:
        if _larger(objects, sha, MAX_LINK_BYTES) is not None:
            return None
        kind, data = _verified(objects, sha)
        return data if kind == BLOB and len(data) <= MAX_LINK_BYTES else None

    root, load = _root_of(objects, revision), partial(load_tree, objects)
    return Trees(root, load, read_link=read_link, is_config=is_config, check=check)


def _root_of(objects: Objects, revision: str) -> str:
    root = tree_of(objects, revision)
    if root is None:
        raise JiemiError("RevisionNotFound", f"revision {revision[:12]} is no commit")
    return root


def load_tree(objects: Objects, sha: str) -> bytes | None:
    kind, data = _structure(objects, sha)
    return data if kind == TREE else None


def verified_object(objects: Objects, sha: str) -> tuple[int, bytes]:
    """A commit or a tree of a bounded size, hashed.

    Raises:
        JiemiError: LimitExceeded. LookupError where the clone is damaged.
    """
    return _structure(objects, sha)


def _structure(objects: Objects, sha: str) -> tuple[int, bytes]:
    """What should be a commit or a tree. What makes them can be small, so their size is looked at first."""
    if _larger(objects, sha, MAX_STRUCTURE_BYTES) is not None:
        raise JiemiError("LimitExceeded", f"a folder or commit is larger than {MAX_STRUCTURE_BYTES} bytes")
    return _verified(objects, sha)


def _larger(objects: Objects, sha: str, limit: int) -> int | None:
    """The size of an object that is larger than a limit; None for any other.

    Raises:
        LookupError: the clone is damaged.
    """
    size = objects.size(sha)
    if size is None or size <= limit:
        return None
    objects.vouch(sha)
    return size


def _verified(objects: Objects, sha: str) -> tuple[int, bytes]:
    kind, data = objects.raw(sha)
    algorithm = hashlib.sha256 if len(sha) == 64 else partial(hashlib.sha1, usedforsecurity=False)
    hash = algorithm(b"%s %d\0" % (KIND_NAMES[kind], len(data)))
    hash.update(data)
    if hash.hexdigest() != sha:
        raise LookupError("an object is not the one that it is called by")
    return kind, data
