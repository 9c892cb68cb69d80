"""Where two trees differ, as anyone may write them; and that nobody whose files changed is left out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from krapao.git.tree_samples import FILE, FOLDER, LINK, PLENTY, SUBMODULE, Link, Nested, Store, blob

from jiemi.core.content.globs import is_glob
from jiemi.core.decisions.interests import Interest, Interests
from jiemi.core.errors import JiemiError
from jiemi.krapao.git.tree_changes import changes_between
from jiemi.krapao.git.tree_paths import split_path
from jiemi.rpc.contract import MAX_CHANGES, Changes

KEY = ("team", "decryptor")


@pytest.fixture
def store() -> Store:
    return Store()


def compared(store: Store, before: str, after: str, **options: Any) -> Changes:
    found = changes_between(before, after, store.load, **{"max_entries": 100_000, **options})
    assert changes_between(after, before, store.load, **{"max_entries": 100_000, **options}) == found
    return found


def between(store: Store, before: Nested, after: Nested, **options: Any) -> Changes:
    return compared(store, store.nested(before), store.nested(after), **options)


def test_files_that_are_changed_added_or_removed_are_named_and_nothing_beside_them_is_read(store: Store) -> None:
    same = {f"f{number}": {"a": "a"} for number in range(50)}
    before: Nested = {"a": "1", "b": "1", "d": {"e": {"x": "1", "y": "1"}, "gone": {"z": "1"}}, "same": same}
    after: Nested = {"a": "1", "b": "2", "c": "1", "d": {"e": {"x": "1", "y": "2"}, "new": {"z": "1"}}, "same": same}
    roots = store.nested(before), store.nested(after)
    store.reads.clear()
    assert changes_between(*roots, store.load, max_entries=100_000).paths == ("b", "c", "d/e/y", "d/gone/z", "d/new/z")
    assert len(store.reads) == 2 * 3 + 2  # the root, d, d/e; and the two that only one of them has


@pytest.mark.parametrize(
    ("before", "after", "paths", "folders"),
    [
        ({"a": {"b": "1"}}, {"a": "1"}, ("a", "a/b"), ()),
        ({"a": Link("b")}, {"a": Link("c")}, ("a",), ()),
        ({"a": Link("b")}, {"a": {"x": "1"}}, ("a", "a/x"), ()),
        ({".sops.yaml": "1", "x": "1"}, {".sops.yaml": "2", "x": "1"}, (".sops.yaml",), ("",)),
        ({"a": {"x": "1"}}, {"a": {"x": "1", ".sops.yaml": "1"}}, ("a/.sops.yaml",), ("a/",)),
        ({"a": {".sops.yaml": Link("x")}}, {"a": {}}, ("a/.sops.yaml",), ("a/",)),
        ({"a": {".sops.yaml": {"x": "1"}}}, {"a": {}}, ("a/.sops.yaml/x",), ()),
    ],
)
def test_what_an_entry_becomes(
    store: Store, before: Nested, after: Nested, paths: tuple[str, ...], folders: tuple[str, ...]
) -> None:
    assert between(store, before, after) == Changes(paths, folders)


def test_a_submodule_that_differs_stands_for_all_that_is_in_it(store: Store) -> None:
    one, two = blob("1"), blob("2")
    before = store.add((SUBMODULE, b"moved", one), (SUBMODULE, b"gone", one), (SUBMODULE, b"same", one))
    after = store.add((SUBMODULE, b"moved", two), (SUBMODULE, b"new", one), (SUBMODULE, b"same", one))
    assert compared(store, before, after) == Changes((), ("gone/", "moved/", "new/"))


def test_what_no_pattern_can_name_is_no_change(store: Store) -> None:
    one, two = blob("1"), blob("2")
    names = (b"", b".", b"..", b"x/y", b"x\\y", b"bad-\xff")
    before = store.add(*((FILE, name, one) for name in names), ("100644", b"mode", one))
    after = store.add(*((FILE, name, two) for name in names), ("100755", b"mode", one))
    assert compared(store, before, after) == Changes()
    assert compared(store, before, store.add((FILE, b"module", one))).paths == ("mode", "module")


def test_a_folder_that_can_not_be_read_or_has_a_name_twice_is_reported_as_a_whole(store: Store) -> None:
    one, two = blob("1"), blob("2")
    twice = store.add((FILE, b"x", one), (FILE, b"x", two))
    good = store.add((FILE, b"x", one))
    for odd in (twice, store.add_raw(b"junk"), "e" * 40):
        before, after = store.add((FOLDER, b"d", odd), (FILE, b"f", one)), store.add((FOLDER, b"d", good))
        assert compared(store, before, after) == Changes(("f",), ("d/",))
    assert compared(store, twice, good) == Changes((), ("",))


def test_a_push_that_changes_a_million_paths_is_bounded(store: Store) -> None:
    leaf = store.add(*((FILE, b"f%d" % number, blob(str(number))) for number in range(100)))
    folder = store.add(*((FOLDER, b"d%d" % number, leaf) for number in range(100)))
    root = store.add(*((FOLDER, b"t%d" % number, folder) for number in range(100)))
    began = time.process_time()
    found = compared(store, store.add(), root)
    assert time.process_time() - began < 10
    assert len(found.paths) <= MAX_CHANGES
    assert 0 < len(found.folders) <= MAX_CHANGES
    assert {f"t{number}/" for number in range(100)} <= {folder[: folder.index("/") + 1] for folder in found.folders}


def test_long_names_many_folders_and_a_depth_without_end_are_bounded(store: Store) -> None:
    long = store.add(*((FILE, b"%d" % number + b"x" * 4_000, blob("1")) for number in range(200)))
    assert compared(store, store.add(), long).folders == ("",)
    wide = store.add(*((FOLDER, b"d%d" % number, long) for number in range(2_000)))
    assert compared(store, store.add(), wide).folders == ("",)
    deep = store.add((FILE, b"x", blob("1")))
    for _ in range(200):
        deep = store.add((FOLDER, b"d", deep))
    assert compared(store, store.add(), deep) == Changes((), ("d/" * 65,))
    assert compared(store, store.add(), wide, max_entries=10).folders == ("",)
    longer = store.add((FOLDER, b"l", store.add((FILE, b"x" * 5_000, blob("1")), (FILE, b"y", blob("1")))))
    assert compared(store, store.add(), longer) == Changes(("l/y",), ("l/",))


# --- nobody is left out

_NAMES = ("a", "b", "c.yaml", ".sops.yaml")
_CONTENT = st.one_of(
    st.sampled_from(["1", "2"]),
    st.sampled_from([Link("a"), Link("../b"), Link("a/c.yaml"), Link("c.yaml"), Link("../../x")]),
)
_TREES: Any = st.recursive(
    st.dictionaries(st.sampled_from(_NAMES), _CONTENT, max_size=4),
    lambda below: st.dictionaries(st.sampled_from(_NAMES), st.one_of(_CONTENT, below), max_size=4),
    max_leaves=12,
)
_PATTERNS = st.one_of(
    st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3).map("/".join),
    st.lists(st.sampled_from([*_NAMES, "*", "**", "*.yaml", "a*"]), min_size=1, max_size=3).map("/".join),
)
_EXCLUDES = st.lists(st.sampled_from(["a", "b/", "*.yaml", "a/**", "**/c.yaml"]), max_size=2)


def listed(store: Store, root: str, patterns: list[str], exclude: list[str]) -> tuple[object, bool]:
    """What `files` answers, and whether it followed no link."""
    trees = store.at(root)
    globs = [pattern for pattern in patterns if is_glob(pattern)]
    try:
        found = trees.look_up({each: split_path(each) for each in patterns if not is_glob(each)}, "")
        found |= trees.search(globs, exclude, **PLENTY)
    except JiemiError as error:
        return error.failure.reason, False
    return sorted(found.items()), not trees.followed_links


@given(_TREES, _TREES, st.lists(_PATTERNS, min_size=1, max_size=3), _EXCLUDES, st.integers(0, 12))
def test_whoever_gets_another_listing_is_concerned(
    before: Mapping[str, Any], after: Mapping[str, Any], patterns: list[str], exclude: list[str], max_entries: int
) -> None:
    store = Store()
    roots = store.nested(before), store.nested(after)
    old, direct = listed(store, roots[0], patterns, exclude)
    if not direct:
        return  # who has no good listing, or one that went through links, is concerned by every push
    interests = Interests()
    interests.put(KEY, Interest(tuple(patterns), tuple(exclude)))
    new, _ = listed(store, roots[1], patterns, exclude)
    for most in (100_000, max_entries):
        found = changes_between(*roots, store.load, max_entries=most)
        concerned = interests.concerned(found.paths, found.folders)
        assert concerned == {KEY} if old != new else concerned <= {KEY}
    exact = changes_between(*roots, store.load, max_entries=100_000)
    if old == new and not exact.folders:
        # Without a .sops.yaml nobody is concerned without a cause: a file, or what could have become one, changed.
        changed = set(exact.paths)
        assert not interests.concerned(exact.paths, ()) or any(_takes(path, patterns, exclude) for path in changed)


def _takes(path: str, patterns: list[str], exclude: list[str]) -> bool:
    index = Interests()
    index.put(KEY, Interest(tuple(patterns), tuple(exclude)))
    return bool(index.concerned((path,), ()))


def test_a_link_is_what_it_is_and_a_listing_that_followed_one_says_so(store: Store) -> None:
    root = store.nested({"x": "1", "link": Link("x"), "d": {"y": "1", ".sops.yaml": Link("../x")}, "e": {"z": "1"}})
    for patterns, direct in (
        (["x"], True),
        (["link"], False),
        (["d/y"], False),
        (["*"], False),
        (["e/*"], True),
        (["d/*"], False),
        (["**"], False),
    ):
        assert listed(store, root, patterns, [])[1] is direct, patterns
    assert LINK == "120000"
