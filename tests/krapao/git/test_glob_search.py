"""Searches by globs: what matches, what is left out, and how much one search may use up."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from krapao.git.tree_samples import FILE, FOLDER, PLENTY, Nested, Store, blob, found, looked_up

from jiemi.core.content.globs import is_excluded, matches_path
from jiemi.core.errors import JiemiError
from jiemi.krapao.git import glob_search
from jiemi.krapao.git.trees import CONFIG


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
    assert glob_search._MAX_COMPARISONS / glob_search._CHECK_EVERY > 1_000


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
        every |= {above + name: blob(value)} if isinstance(value, str) else _paths(value, f"{above}{name}/")  # type: ignore[arg-type]
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
