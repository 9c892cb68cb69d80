"""Hostile commits: trees that git itself would not make, followed by the whole service."""

from __future__ import annotations

import hashlib
import stat
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo
from hostile.case import OPENS, tenants_age
from hostile.lab import Keys, Lab

from jiemi.core.reasons import REASONS
from jiemi.rpc.contract import NestedPlaces

MEBIBYTE = 1024 * 1024
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4711\n"
FILE, SYMLINK, FOLDER, SUBMODULE = 0o100644, 0o120000, stat.S_IFDIR, 0o160000


@attrs.define
class Objects:
    """A commit that is made. Nothing checks it."""

    repo: Repo

    def add(self, made: ShaFile) -> ObjectID:
        self.repo.object_store.add_object(made)
        return made.id

    def blob(self, data: bytes) -> ObjectID:
        return self.add(Blob.from_string(data))

    def tree(self, *entries: tuple[bytes, int, ObjectID]) -> ObjectID:
        """A tree with these entries in this order, whatever they are."""
        raw = b"".join(b"%o %s\0" % (mode, name) + bytes.fromhex(sha.decode()) for name, mode, sha in entries)
        return self.add(Tree.from_string(raw))

    def raw_tree(self, raw: bytes) -> ObjectID:
        """A tree of these bytes, which need not be a tree's."""
        data = b"tree %d\0" % len(raw) + raw
        name = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        path = Path(self.repo.path) / "objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(data))
        return ObjectID(name.encode())

    def commit(self, tree: ObjectID, ref: bytes = b"refs/heads/main") -> ObjectID:
        commit = Commit()
        commit.tree = tree
        commit.author = commit.committer = b"evil <evil@jiemi.invalid>"
        commit.author_time = commit.commit_time = 1_700_000_000
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = b"x"
        self.repo.refs[Ref(ref)] = self.add(commit)
        return commit.id


Entries = Sequence[tuple[bytes, int, ObjectID]]


@attrs.frozen(kw_only=True)
class TreeCase:
    """A row.

    Attributes:
        tree: the entries of the root.
        path: what the Decryptor's `fileToDecrypt` names.
        allow_plain: whether it lets files be plain.
        plain: the documents of a file that is taken as a plain one; None for the tenant's Secret, decrypted.
        expected: the same, where they depend on the laboratory.
        is_encrypted: whether the file counts as encrypted; None: it does without `plain` and `expected`.
        nested, require_full_mac: as in `RenderRequest`.
        others as those of `Case`.
    """

    name: str
    tries: str
    tree: Callable[[Objects, Lab], Entries]
    path: str = "s.yaml"
    allow_plain: bool = False
    plain: Sequence[object] | None = None
    expected: Callable[[Lab], Sequence[object]] | None = None
    is_encrypted: bool | None = None
    nested: tuple[NestedPlaces, ...] = ()
    require_full_mac: bool = False
    keys: Callable[[Lab], Keys] = tenants_age
    gets: str = attrs.field()
    so: str = ""
    says: str = ""

    @gets.validator
    def _known(self, _: object, value: str) -> None:
        assert value == OPENS or value in REASONS

    @property
    def outcome(self) -> str:
        return f"`{self.gets}`" if self.gets != OPENS else f"opens: {self.so or 'as if nothing were'}"


def _secret(objects: Objects, lab: Lab) -> ObjectID:
    return objects.blob(lab.file())


def _one(mode: int, content: Callable[[Lab], bytes], name: bytes = b"s.yaml") -> Callable[[Objects, Lab], Entries]:
    return lambda objects, lab: [(name, mode, objects.blob(content(lab)))]


def _named(name: str) -> Mapping[str, Any]:
    """The tenant's Secret under a name."""
    return {"tree": lambda objects, lab: [(name.encode(), FILE, _secret(objects, lab))], "path": name, "gets": OPENS}


def _in(folder: bytes, mode: int = FOLDER) -> Callable[[Objects, Lab], Entries]:
    def make(objects: Objects, lab: Lab) -> Entries:
        inner = objects.tree((b"s.yaml", FILE, _secret(objects, lab)))
        return [(folder, mode, inner)]

    return make


CASES = (
    TreeCase(
        name="path-parent",
        tries="a folder named `..`",
        tree=_in(b".."),
        path="../s.yaml",
        gets="FileNotFound",
        says="leads out",
    ),
    TreeCase(
        name="path-absolute",
        tries="a file whose name begins with a slash",
        tree=_one(FILE, lambda lab: lab.file(), b"/etc/s.yaml"),
        path="/etc/s.yaml",
        gets="FileNotFound",
    ),
    TreeCase(
        name="name-with-slashes",
        tries="one entry with the name `a/../../s.yaml`",
        tree=_one(FILE, lambda lab: lab.file(), b"a/../../s.yaml"),
        path="a/s.yaml",
        gets="FileNotFound",
    ),
    TreeCase(
        name="symlink-out",
        tries="a symbolic link to a file of Krapao's",
        tree=_one(SYMLINK, lambda _: b"/proc/self/environ"),
        gets="NotAFile",
        says="out of the repository",
    ),
    TreeCase(
        name="symlink-up",
        tries="a symbolic link that leads up and out of the repository",
        tree=_one(SYMLINK, lambda _: b"x/../../../../../etc/passwd"),
        gets="FileNotFound",
    ),
    TreeCase(
        name="symlink-round",
        tries="symbolic links that lead to each other",
        tree=lambda objects, lab: [
            (b"s.yaml", SYMLINK, objects.blob(b"t.yaml")),
            (b"t.yaml", SYMLINK, objects.blob(b"s.yaml")),
        ],
        gets="NotAFile",
        says="a circle of them",
    ),
    TreeCase(
        name="symlink-long",
        tries="a symbolic link of a mebibyte",
        tree=_one(SYMLINK, lambda _: b"a/" * 524_288),
        gets="NotAFile",
        says="more than 4096 bytes",
    ),
    TreeCase(
        name="lfs-pointer",
        tries="a pointer of Git LFS in place of the file",
        tree=_one(FILE, lambda _: LFS_POINTER),
        gets="NotEncrypted",
        says="a pointer of Git LFS",
    ),
    TreeCase(
        name="symlink-in",
        tries="a symbolic link to a file of the repository",
        tree=lambda objects, lab: [
            (b"real.yaml", FILE, _secret(objects, lab)),
            (b"s.yaml", SYMLINK, objects.blob(b"real.yaml")),
        ],
        gets=OPENS,
        so="it is the file that it leads to",
    ),
    TreeCase(
        name="symlink-folder",
        tries="a symbolic link as a folder of the path",
        tree=_one(SYMLINK, lambda _: b"/etc", b"folder"),
        path="folder/passwd",
        gets="NotAFile",
        says="out of the repository",
    ),
    TreeCase(
        name="submodule",
        tries="a submodule",
        tree=lambda *_: [(b"s.yaml", SUBMODULE, ObjectID(b"1" * 40))],
        gets="NotAFile",
        says="a submodule",
    ),
    TreeCase(name="folder", tries="a folder", tree=_in(b"s.yaml"), gets="NotAFile", says="a directory"),
    TreeCase(
        name="mode",
        tries="a file with a mode that git has not",
        tree=_one(0o140644, lambda lab: lab.file()),
        gets="NotAFile",
    ),
    TreeCase(name="name-new-line", tries="a name with a line end", so="under that name", **_named("a\nb.yaml")),
    TreeCase(
        name="name-control",
        tries="a name with an escape sequence for terminals",
        so="under that name",
        **_named("\x1b[31ma\x07.yaml"),
    ),
    TreeCase(
        name="name-command",
        tries="the name `$(touch ran)`",
        so="under that name; nothing is run",
        **_named("$(touch ran).yaml"),
    ),
    TreeCase(name="name-option", tries="the name `--output=ran`", so="under that name", **_named("--output=ran.yaml")),
    TreeCase(
        name="name-not-encrypted",
        tries="a name with a line end, and no encryption",
        tree=_one(FILE, lambda _: b"a: b\n", b"a\nINFO forged.yaml"),
        path="a\nINFO forged.yaml",
        gets="NotEncrypted",
    ),
    TreeCase(
        name="git-folder",
        tries="`.git/config`, to have the clone's own read",
        tree=_in(b"folder"),
        path=".git/config",
        gets="FileNotFound",
    ),
    TreeCase(
        name="git-folder-in-tree",
        tries="a folder `.git` in the tree",
        tree=_in(b".git"),
        path=".git/s.yaml",
        gets=OPENS,
        so="it is a folder like any other: nothing is checked out",
    ),
    TreeCase(
        name="file-too-large",
        tries="a file of 4 MiB and a byte",
        tree=_one(FILE, lambda _: b"#" * (4 * MEBIBYTE + 1)),
        gets="LimitExceeded",
        says="4194304",
    ),
    TreeCase(
        name="file-of-40-mib",
        tries="a file of 40 MiB",
        tree=_one(FILE, lambda _: bytes(40 * MEBIBYTE)),
        gets="LimitExceeded",
    ),
    TreeCase(
        name="file-beside-too-large",
        tries="a file of more than 100 MiB beside the one that is followed",
        tree=lambda objects, lab: [
            (b"s.yaml", FILE, _secret(objects, lab)),
            (b"z", FILE, objects.blob(bytes(100 * MEBIBYTE + 1))),
        ],
        gets="LimitExceeded",
    ),
    TreeCase(
        name="name-twice",
        tries="one name twice, the second time for a file that is not encrypted",
        tree=lambda objects, lab: [
            (b"s.yaml", FILE, _secret(objects, lab)),
            (b"s.yaml", FILE, objects.blob(b"a: b\n")),
        ],
        gets="NotEncrypted",
    ),
    TreeCase(
        name="tree-as-file",
        tries="an entry that says file and is a tree",
        tree=_in(b"s.yaml", FILE),
        gets="NotAFile",
    ),
    TreeCase(
        name="file-as-tree",
        tries="an entry that says folder and is a file, of which git's own server sends nothing",
        tree=_one(FOLDER, lambda lab: lab.file(), b"folder"),
        path="folder/s.yaml",
        gets="GitProtocolError",
    ),
)
