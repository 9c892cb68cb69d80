"""Folders as anyone may write them: what is at a path, what is left out, what is refused, and how soon."""

from __future__ import annotations

import time

import pytest
from krapao.git.tree_samples import (
    EXECUTABLE,
    FILE,
    FOLDER,
    LINK,
    PLENTY,
    SUBMODULE,
    Nested,
    Store,
    blob,
    found,
    looked_up,
    reason,
)

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.glob_search import Found
from jiemi.krapao.git.trees import CONFIG, MAX_CONFIG_DEPTH


@pytest.fixture
def store() -> Store:
    return Store()


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
        ("link/x", "NotAFile: link/x: the symbolic link link leads to a path of more than 4096 bytes"),
        ("twice.yaml/x", "FileNotFound: twice.yaml/x: not in revision"),
        ("folder", "NotAFile: folder: a directory"),
        ("link", "NotAFile: link: the symbolic link link leads to a path of more than 4096 bytes"),
        ("module", "NotAFile: module: a submodule"),
        ("socket", "NotAFile: socket: no regular file"),
        ("file-as-folder/x", "NotAFile: file-as-folder/x: its folder calls it what it is not"),
        ("../x", "FileNotFound: ../x: leads out"),
        ("folder/../../x", "FileNotFound: folder/../../x: leads out"),
        ("folder/..", "FileNotFound: folder/..: names no file"),
        ("./", "FileNotFound: ./: names no file"),
    ):
        assert reason(store, root, path).startswith(expected)


def test_the_first_of_several_paths_that_is_wrong_is_reported(store: Store) -> None:
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
def test_a_folder_that_git_can_not_read_is_reported(store: Store, raw: bytes) -> None:
    root = store.add((FOLDER, b"bad", store.add_raw(raw)), (FILE, b"good", blob("x")))
    assert found(store, root, "*") == ["good"]
    with pytest.raises(JiemiError, match="NotAFile: bad/: in a folder that git itself can't read"):
        found(store, root, "**")
    assert "NotAFile: bad/a: in a folder that git itself" in reason(store, root, "bad/a")


def refused(store: Store, root: str, *globs: str, **bounds: int) -> tuple[str, float]:
    began = time.process_time()
    with pytest.raises(JiemiError) as caught:
        store.at(root).search(globs, (), **{**PLENTY, **bounds})
    assert caught.value.failure.reason == "LimitExceeded"
    return caught.value.failure.text, time.process_time() - began


def test_large_trees_that_hold_little_are_bounded_too(store: Store) -> None:
    large = store.add((FILE, b"x" * 1_000_000, blob("x")))
    root = store.add(*((FOLDER, str(n).encode(), large) for n in range(1_000)))
    message, seconds = refused(store, root, "**/y")
    assert "larger than" in message
    assert seconds < 10
    many = [store.add((FILE, str(n).encode() * 500_000, blob("x"))) for n in range(10, 50)]
    root = store.add(*((FOLDER, str(n).encode(), each) for n, each in enumerate(many)))
    assert "LimitExceeded: the folders to look through" in reason(store, root, *(f"{n}/y" for n in range(40)))
