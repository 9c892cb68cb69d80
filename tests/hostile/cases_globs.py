"""Hostile commits that globs are let loose on: which files are found, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from dulwich.objects import ObjectID
from hostile.case import OPENS
from hostile.cases_repositories import FILE, FOLDER, SUBMODULE, SYMLINK, Entries, Objects
from hostile.lab import Lab

from jiemi.core.reasons import REASONS


@attrs.frozen(kw_only=True)
class GlobCase:
    """A row.

    Attributes:
        tree: the entries of the root. Beside them there is a file `good.yaml`.
        patterns: what the Decryptor's `files` asks for.
        exclude: its `exclude`.
        finds: the files that are found.
        others as those of `TreeCase`.
    """

    name: str
    tries: str
    tree: Callable[[Objects, Lab], Entries]
    patterns: Sequence[str] = ("**",)
    exclude: Sequence[str] = ()
    finds: Sequence[str] = ("good.yaml",)
    gets: str = attrs.field(default=OPENS)
    so: str = "it is left out"
    says: str = ""

    @gets.validator
    def _known(self, _: object, value: str) -> None:
        assert value == OPENS or value in REASONS

    @property
    def outcome(self) -> str:
        return f"`{self.gets}`" if self.gets != OPENS else self.so


def _file(name: bytes, mode: int = FILE, count: int = 1) -> Callable[[Objects, Lab], Entries]:
    return lambda objects, lab: [(name, mode, objects.blob(b"a: %d\n" % number)) for number in range(count)]


def _folder(name: bytes) -> Callable[[Objects, Lab], Entries]:
    return lambda objects, lab: [(name, FOLDER, objects.tree((b"evil.yaml", FILE, objects.blob(b"a: b\n"))))]


def _nested(depth: int, name: bytes = b"d") -> Callable[[Objects, Lab], Entries]:
    def make(objects: Objects, lab: Lab) -> Entries:
        tree = objects.tree((b"evil.yaml", FILE, objects.blob(b"a: b\n")))
        for _ in range(depth - 1):
            tree = objects.tree((name, FOLDER, tree))
        return [(name, FOLDER, tree)]

    return make


def _bomb(bottom: Entries = ()) -> Callable[[Objects, Lab], Entries]:
    """Twenty trees that make 10 to the power of 20 paths."""

    def make(objects: Objects, lab: Lab) -> Entries:
        tree = objects.tree(*bottom)
        for _ in range(20):
            tree = objects.tree(*((b"%d" % number, FOLDER, tree) for number in range(10)))
        return [(b"bomb", FOLDER, tree)]

    return make


def _many(count: int) -> Callable[[Objects, Lab], Entries]:
    def make(objects: Objects, lab: Lab) -> Entries:
        blob = objects.blob(b"a: b\n")
        return [(b"many", FOLDER, objects.tree(*((b"%d.yaml" % number, FILE, blob) for number in range(count))))]

    return make


def _large(objects: Objects, lab: Lab) -> Entries:
    tree = objects.tree((b"x" * 1_000_000, FILE, objects.blob(b"a: b\n")))
    return [(b"%d" % number, FOLDER, tree) for number in range(100, 1_000)]


def _configs(objects: Objects, lab: Lab) -> Entries:
    config = objects.blob(b"creation_rules: []\n")
    return [
        (b".sops.yaml", FILE, config),
        (b"a", FOLDER, objects.tree((b".sops.yaml", SYMLINK, objects.blob(b"/etc/passwd")), (b"x.yaml", FILE, config))),
    ]


CASES = (
    GlobCase(name="glob-parent", tries="a folder named `..`", tree=_folder(b"..")),
    GlobCase(name="glob-name-parent", tries="a file named `..`", tree=_file(b"..")),
    GlobCase(
        name="glob-slashes", tries="one entry with the name `a/../../evil.yaml`", tree=_file(b"a/../../evil.yaml")
    ),
    GlobCase(name="glob-absolute", tries="an entry with the name `/etc/evil.yaml`", tree=_file(b"/etc/evil.yaml")),
    GlobCase(name="glob-backslash", tries="a backslash in a name", tree=_file(b"..\\evil.yaml")),
    GlobCase(
        name="glob-git-folder",
        tries="a folder `.git`, and one `.GIT`",
        tree=lambda objects, lab: [*_folder(b".GIT")(objects, lab), *_folder(b".git")(objects, lab)],
    ),
    GlobCase(name="glob-not-utf8", tries="a name that is not UTF-8", tree=_file(b"evil-\xff.yaml")),
    GlobCase(name="glob-surrogate", tries="half a character in a name", tree=_file(b"evil-\xed\xa0\x80.yaml")),
    GlobCase(
        name="glob-nul",
        tries="a NUL in a name, which git's own server can't read",
        tree=lambda objects, lab: [(b"evil", FOLDER, objects.raw_tree(b"100644 evil\0.yaml\0" + b"x" * 20))],
        gets="GitProtocolError",
    ),
    GlobCase(
        name="glob-no-name",
        tries="an entry without a name, which git's own server can't read",
        tree=_file(b""),
        gets="GitProtocolError",
    ),
    GlobCase(name="glob-twice", tries="one name twice", tree=_file(b"evil.yaml", count=2), so="both are left out"),
    GlobCase(
        name="glob-file-and-folder",
        tries="a file and a folder of one name",
        tree=lambda objects, lab: [*_file(b"evil.yaml")(objects, lab), *_folder(b"evil.yaml")(objects, lab)],
        so="both are left out",
    ),
    GlobCase(
        name="glob-symlink",
        tries="a symbolic link to a file of Krapao's",
        tree=lambda objects, lab: [(b"evil.yaml", SYMLINK, objects.blob(b"/proc/self/environ"))],
    ),
    GlobCase(
        name="glob-symlink-folder",
        tries="a symbolic link to a folder",
        tree=lambda objects, lab: [(b"evil", SYMLINK, objects.blob(b"/etc"))],
        patterns=("evil/*", "**"),
    ),
    GlobCase(
        name="glob-symlink-in",
        tries="a symbolic link to a file of the repository, one that is dangling, and one to a folder of it",
        tree=lambda objects, lab: [
            (b"a", FOLDER, objects.tree((b"x.yaml", FILE, objects.blob(b"a: 1")))),
            (b"dangling.yaml", SYMLINK, objects.blob(b"a/y.yaml")),
            (b"folder.yaml", SYMLINK, objects.blob(b"a")),
            (b"link.yaml", SYMLINK, objects.blob(b"a/x.yaml")),
        ],
        finds=("a/x.yaml", "good.yaml", "link.yaml"),
        so="the first is found as a file, the others are left out",
    ),
    GlobCase(
        name="glob-submodule",
        tries="a submodule",
        tree=lambda *_: [(b"evil.yaml", SUBMODULE, ObjectID(b"1" * 40))],
        patterns=("evil.yaml/**", "**"),
    ),
    GlobCase(name="glob-mode", tries="a file with a mode that git has not", tree=_file(b"evil.yaml", 0o140644)),
    GlobCase(
        name="glob-config",
        tries="the `.sops.yaml` itself, and a symbolic link in its place",
        tree=_configs,
        patterns=("**", "**/.sops.yaml", "*/.*"),
        finds=("a/x.yaml", "good.yaml"),
        so="they are left out; the nearest regular one counts",
    ),
    GlobCase(
        name="glob-new-line",
        tries="a name with a line end and an escape sequence for terminals",
        tree=_file(b"a\nINFO \x1b[31mforged.yaml"),
        finds=("a\nINFO \x1b[31mforged.yaml", "good.yaml"),
        so="it is found, under that name",
    ),
    GlobCase(
        name="glob-tree-as-file",
        tries="an entry that says file and is a tree",
        tree=lambda objects, lab: [(b"evil.yaml", FILE, objects.tree((b"x", FILE, objects.blob(b"x"))))],
        finds=("evil.yaml", "good.yaml"),
        so="it is found, and reading it gets `NotAFile`",
    ),
    GlobCase(
        name="glob-bomb",
        tries="twenty folders, each ten times in the next: 10 to the power of 20 paths",
        tree=lambda objects, lab: _bomb([(b"evil.yaml", FILE, objects.blob(b"a: b\n"))])(objects, lab),
        gets="LimitExceeded",
        patterns=("**/none.yaml",),
        says="entries",
    ),
    GlobCase(name="glob-bomb-of-nothing", tries="the same, with no file in it", tree=_bomb(), gets="LimitExceeded"),
    GlobCase(
        name="glob-bomb-beside",
        tries="the same, beside the folder that the glob begins with",
        tree=_bomb(),
        patterns=("*.yaml", "bomb/0/1/*.yaml"),
        so="the others are found: it is not gone into",
    ),
    GlobCase(
        name="glob-bomb-excluded",
        tries="the same, in a folder that `exclude` names",
        tree=_bomb(),
        exclude=("/bomb/",),
        so="the others are found: it is not gone into",
    ),
    GlobCase(
        name="glob-bytes",
        tries="a folder with a name of a megabyte in it, 900 times",
        tree=_large,
        patterns=("*/none.yaml",),
        gets="LimitExceeded",
        says="larger than",
    ),
    GlobCase(
        name="glob-many-entries",
        tries="a folder of 100,001 files, of which the glob takes few",
        tree=_many(100_001),
        patterns=("**/evil.yaml",),
        gets="LimitExceeded",
        says="100000 entries",
    ),
    GlobCase(name="glob-many-files", tries="1,001 files", tree=_many(1_001), gets="LimitExceeded", says="1000 files"),
    GlobCase(
        name="glob-deep", tries="folders nested 66 deep", tree=_nested(66), gets="LimitExceeded", says="deeper than 64"
    ),
    GlobCase(
        name="glob-deep-beside",
        tries="folders nested 1,000 deep, beside what the glob takes",
        tree=_nested(1_000),
        patterns=("*", "*/*.yaml"),
        so="the others are found: they are not gone into",
    ),
    GlobCase(
        name="glob-long-path",
        tries="a path of more than 4,096 bytes",
        tree=_nested(20, b"d" * 250),
        gets="LimitExceeded",
        says="longer than 4096",
    ),
)
