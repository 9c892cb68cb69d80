"""Folders as anyone may write them: what matches, what is left out, what is refused, and how soon."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.content.globs import is_excluded, matches_path
from jiemi.core.errors import JiemiError
from jiemi.krapao.git import trees
from jiemi.krapao.git.trees import CONFIG, MAX_CONFIG_DEPTH, Found, Trees, split_path

FILE, EXECUTABLE, LINK, FOLDER, SUBMODULE = "100644", "100755", "120000", "40000", "160000"
REVISION = "c" * 40
PLENTY = {"max_entries": 100_000, "max_files": 1_000}

Nested = Mapping[str, "str | Nested"]


@attrs.define
class Store:
    """Tree objects, and how often each was read."""

    trees: dict[str, bytes] = attrs.field(factory=dict)
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
            mode, sha = (FILE, blob(value)) if isinstance(value, str) else (FOLDER, self.nested(value))
            entries.append((mode, name.encode(), sha))
        return self.add(*entries)

    def load(self, sha: str) -> bytes | None:
        self.reads.append(sha)
        return self.trees.get(sha)

    def at(self, root: str, **options: Any) -> Trees:
        return Trees(root, self.load, **options)


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


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_search_goes_into_no_folder_below_which_nothing_can_match(store: Store) -> None:
    root = store.nested(
        {
            "apps": {"a": {"x.yaml": "1", "deep": {"y.yaml": "2"}}, "b": {"x.yaml": "3"}, "old": {"x.yaml": "4"}},
            "lib": {"x.yaml": "5"},
        }
    )
    assert found(store, root, "apps/*/x.yaml", exclude=("old",)) == ["apps/a/x.yaml", "apps/b/x.yaml"]
    assert len(store.reads) == 4  # the root, apps, a and b
    store.reads.clear()
    assert found(store, root, "*", "lib/*", exclude=("lib/x.yaml",)) == []
    assert len(store.reads) == 2
    store.reads.clear()
    assert found(store, root) == []
    assert store.reads == []


def test_what_is_no_regular_file_of_a_usable_and_single_name_is_left_out(store: Store) -> None:
    one, inner = blob("x"), store.nested({"a.yaml": "inner"})
    root = store.add(
        (FILE, b"a.yaml", one),
        (EXECUTABLE, b"b.yaml", one),
        ("100664", b"c.yaml", one),
        (LINK, b"link.yaml", one),
        (SUBMODULE, b"module", one),
        ("140000", b"socket.yaml", one),
        ("100600", b"mode.yaml", one),
        ("0", b"null.yaml", one),
        (FILE, b"", one),
        (FILE, b".", one),
        (FILE, b"..", one),
        (FILE, b".git", one),
        (FILE, b".GIT", one),
        (FILE, b"x/y.yaml", one),
        (FILE, b"/etc/passwd", one),
        (FILE, b"x\\y.yaml", one),
        (FILE, b"bad-\xff.yaml", one),
        (FILE, b"surrogate-\xed\xa0\x80.yaml", one),
        (FILE, b"twice.yaml", one),
        (FILE, b"twice.yaml", blob("y")),
        (FILE, b"both", one),
        (FOLDER, b"both", inner),
        (FOLDER, b"..", inner),
        (FOLDER, b"", inner),
        (FOLDER, b".git", inner),
        (FOLDER, b"x/y", inner),
        (FOLDER, b"bad-\xff", inner),
        (FOLDER, b"gone", one),
        (FOLDER, b"good", inner),
        (FILE, b".sops.yaml", one),
        (FILE, "ж.yaml".encode(), one),
        (FILE, b"new\nline.yaml", one),
    )
    expected = ["a.yaml", "b.yaml", "c.yaml", "good/a.yaml", "new\nline.yaml", "ж.yaml"]
    assert found(store, root, "**") == expected
    assert sorted(looked_up(store, root, *expected)) == expected  # which can be read again, each


def test_a_path_that_is_given_is_read_as_a_single_file_is(store: Store) -> None:
    one, other = blob("x"), blob("y")
    inner = store.nested({"a.yaml": "inner"})
    root = store.add(
        (FILE, b"twice.yaml", one),
        (FILE, b"twice.yaml", other),
        (FOLDER, b".git", inner),
        (LINK, b"link", one),
        (FOLDER, b"folder", inner),
        (SUBMODULE, b"module", one),
        (FOLDER, b"file-as-folder", one),
        ("140000", b"socket", one),
    )
    assert looked_up(store, root, "gone/../folder/x/../a.yaml") == {"folder/a.yaml": Found(blob("inner"), None)}
    assert looked_up(store, root, "./folder//a.yaml", "twice.yaml", ".git/a.yaml") == {
        "folder/a.yaml": Found(blob("inner"), None),
        "twice.yaml": Found(other, None),
        ".git/a.yaml": Found(blob("inner"), None),
    }
    for path, expected in (
        ("gone", "FileNotFound: gone: not in revision cccccccccccc"),
        ("link/x", "FileNotFound: link/x: not in revision cccccccccccc: link is no folder there"),
        ("twice.yaml/x", "FileNotFound: twice.yaml/x: not in revision"),
        ("folder", "NotAFile: folder: a directory"),
        ("link", "NotAFile: link: a symbolic link"),
        ("module", "NotAFile: module: a submodule"),
        ("socket", "NotAFile: socket: no regular file"),
        ("file-as-folder/x", "NotAFile: file-as-folder/x: its folder calls it what it is not"),
        ("../x", "FileNotFound: ../x: leads out"),
        ("folder/../../x", "FileNotFound: folder/../../x: leads out"),
        ("folder/..", "FileNotFound: folder/..: names no file"),
        ("./", "FileNotFound: ./: names no file"),
    ):
        assert reason(store, root, path).startswith(expected)


def test_the_first_of_several_paths_that_is_wrong_is_told(store: Store) -> None:
    root = store.nested({"a": {"x": "1"}, "b": {"x": "2"}})
    assert "b/gone" in reason(store, root, "a/x", "b/gone", "a/gone")
    assert "a/gone" in reason(store, root, "a/x", "a/gone", "b/gone")


def test_each_folder_of_many_paths_is_read_once(store: Store) -> None:
    root = store.nested({"a": {"b": {str(n): str(n) for n in range(100)}}})
    assert len(looked_up(store, root, *(f"a/b/{n}" for n in range(100)))) == 100
    assert len(store.reads) == 3


def test_the_nearest_config_comes_along(store: Store) -> None:
    root = store.nested(
        {
            CONFIG: "root",
            "a": {CONFIG: "a", "b": {"x": "1"}, "x": "2"},
            "c": {"x": "3", CONFIG: {"x": "a folder"}},
            "x": "4",
        }
    )
    expected = {"a/b/x": blob("a"), "a/x": blob("a"), "c/x": blob("root"), "x": blob("root")}
    for files in (store.at(root).search(["**/x"], [".sops.yaml/"], **PLENTY), looked_up(store, root, *expected)):
        assert {path: file.config for path, file in files.items()} == expected
    skipping = store.at(root, is_config=lambda sha: sha != blob("a"))
    assert {file.config for file in skipping.search(["**/x"], [], **PLENTY).values()} == {blob("root")}
    assert looked_up(store, store.nested({"x": "1"}), "x") == {"x": Found(blob("1"), None)}
    # Which may be asked for by its path, and is its own nearest one.
    assert looked_up(store, root, "a/.sops.yaml") == {"a/.sops.yaml": Found(blob("a"), blob("a"))}


def test_a_config_is_looked_for_as_deep_as_where_one_is_read(store: Store) -> None:
    def nest(depth: int, at: int = 0) -> Nested:
        here: dict[str, str | Nested] = {CONFIG: str(at), "x": "x"}
        return here if at == depth else {**here, "d": nest(depth, at + 1)}

    root = store.nested(nest(MAX_CONFIG_DEPTH + 2))
    for depth in range(MAX_CONFIG_DEPTH + 3):
        path = "d/" * depth + "x"
        expected = blob(str(min(depth, MAX_CONFIG_DEPTH)))
        assert looked_up(store, root, path)[path].config == expected
        assert store.at(root).search(["**"], [], **PLENTY)[path].config == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"100644",
        b"100644 a",
        b"100644 a\0" + b"x" * 19,
        b"100648 a\0" + b"x" * 20,
        b"-1 a\0" + b"x" * 20,
        b"0o7 a\0" + b"x" * 20,
        b" a\0" + b"x" * 20,
        b"1_0 a\0" + b"x" * 20,
        b"7" * 5_000 + b" a\0" + b"x" * 20,
        b"100644 a\0" + b"x" * 20 + b"y",
        b"\0",
    ],
)
def test_a_folder_that_git_can_not_read_is_told(store: Store, raw: bytes) -> None:
    root = store.add((FOLDER, b"bad", store.add_raw(raw)), (FILE, b"good", blob("x")))
    assert found(store, root, "*") == ["good"]
    with pytest.raises(JiemiError, match="NotAFile: bad/: in a folder that git itself can't read"):
        found(store, root, "**")
    assert "NotAFile: bad/a: in a folder that git itself" in reason(store, root, "bad/a")


# Bounds


def refused(store: Store, root: str, *globs: str, **bounds: int) -> tuple[str, float]:
    began = time.process_time()
    with pytest.raises(JiemiError) as caught:
        store.at(root).search(globs, (), **{**PLENTY, **bounds})
    assert caught.value.failure.reason == "LimitExceeded"
    return caught.value.failure.text, time.process_time() - began


def test_few_trees_that_make_more_paths_than_there_is_time_for_are_refused(store: Store) -> None:
    tree = store.nested({"x": "1"})
    for _ in range(20):
        tree = store.add(*((FOLDER, str(n).encode(), tree) for n in range(10)))
    message, seconds = refused(store, tree, "**/y")
    assert "100000 entries" in message
    assert seconds < 10
    empty = store.add()
    for _ in range(20):
        empty = store.add(*((FOLDER, str(n).encode(), empty) for n in range(10)))
    refused(store, empty, "**")
    # A glob that leads to one path of them costs that path.
    assert found(store, tree, "0/" * 20 + "*") == ["0/" * 20 + "x"]


def test_large_trees_that_hold_little_are_bounded_too(store: Store) -> None:
    large = store.add((FILE, b"x" * 1_000_000, blob("x")))
    root = store.add(*((FOLDER, str(n).encode(), large) for n in range(1_000)))
    message, seconds = refused(store, root, "**/y")
    assert "larger than" in message
    assert seconds < 10
    many = [store.add((FILE, str(n).encode() * 500_000, blob("x"))) for n in range(10, 50)]
    root = store.add(*((FOLDER, str(n).encode(), each) for n, each in enumerate(many)))
    assert "LimitExceeded: the folders to look through" in reason(store, root, *(f"{n}/y" for n in range(40)))


def test_a_folder_with_too_many_entries_is_refused(store: Store) -> None:
    root = store.add(*((FILE, str(n).encode(), blob("x")) for n in range(101)))
    assert len(found(store, root, "1*", max_entries=101)) == 12
    message, _ = refused(store, root, "1*", max_entries=100)
    assert "100 entries" in message
    assert looked_up(store, root, "100") != {}


def test_many_globs_times_many_names_are_refused_in_time(store: Store) -> None:
    root = store.add(*((FILE, b"a%d" % n, blob("x")) for n in range(90_000)))
    message, seconds = refused(store, root, *(f"**/*a*{n}*b" for n in range(1_000)))
    assert "names times globs" in message
    assert seconds < 20
    # However long a glob is, no more of it is compared than may have been reached.
    assert found(store, root, "/".join(["**", "a"] * 20_000)) == []


def test_too_deep_folders_and_too_long_paths_are_refused_where_a_glob_leads_there(store: Store) -> None:
    tree = store.nested({"x": "1"})
    for _ in range(70):
        tree = store.add((FOLDER, b"d", tree), (FILE, b"x", blob("x")))
    message, _ = refused(store, tree, "**/x")
    assert "deeper than 64" in message
    assert found(store, tree, "x", "d/x*") == ["d/x", "x"]
    long = store.nested({"a" * 2_000: {"b" * 2_000: {"c" * 200: "x"}}, "x": "1"})
    message, _ = refused(store, long, "**")
    assert "longer than 4096 bytes" in message
    assert found(store, long, "x*") == ["x"]


def test_too_many_files_are_refused(store: Store) -> None:
    root = store.nested({str(n): "x" for n in range(11)})
    assert len(found(store, root, "*", max_files=11)) == 11
    message, _ = refused(store, root, "*", max_files=10)
    assert "more than 10 files match" in message


def test_a_search_asks_often_whether_it_was_cancelled(store: Store) -> None:
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1

    root = store.add(*((FILE, b"a%d" % n, blob("x")) for n in range(10_000)))
    store.at(root, check=check).search(["b*"], [], **PLENTY)
    assert asked >= 10
    assert trees._MAX_COMPARISONS / trees._CHECK_EVERY > 1_000


# Against what the rules say of each path


NAMES = st.sampled_from(["a", "b", "ab", "a.yaml", "b.yaml", CONFIG])
TREES = st.recursive(
    st.dictionaries(NAMES, st.text("xy", min_size=1, max_size=2), max_size=4),
    lambda inner: st.dictionaries(NAMES, st.text("xy", min_size=1, max_size=2) | inner, max_size=4),
    max_leaves=8,
)
GLOBS = st.lists(st.lists(st.sampled_from(["*", "**", "a", "a*", "*.yaml"]), min_size=1, max_size=3).map("/".join))


def _paths(content: Nested, above: str = "") -> dict[str, str]:
    every: dict[str, str] = {}
    for name, value in content.items():
        every |= {above + name: blob(value)} if isinstance(value, str) else _paths(value, f"{above}{name}/")
    return every


@given(TREES, GLOBS, GLOBS)
def test_what_a_search_finds_is_what_matches_and_is_not_excluded(
    content: Nested, globs: list[str], exclude: list[str]
) -> None:
    store = Store()
    every = _paths(content)
    expected = {
        path: sha
        for path, sha in every.items()
        if any(matches_path(path, glob) for glob in globs)
        and not is_excluded(path, exclude)
        and path.rpartition("/")[2] != CONFIG
    }
    root = store.nested(content)
    files = store.at(root).search(globs, exclude, **PLENTY)
    assert {path: file.blob for path, file in files.items()} == expected
    # A path that is looked up is the same file, with the same config.
    assert looked_up(store, root, *files) == files
    for path, file in files.items():
        folders = path.split("/")[:-1]
        above = ["/".join((*folders[:count], CONFIG)) for count in range(len(folders), -1, -1)]
        assert file.config == next((every[each] for each in above if each in every), None)
