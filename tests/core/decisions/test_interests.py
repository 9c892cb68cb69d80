"""Who is concerned by a push: as if each were asked by itself, and in bounded time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.content.globs import is_excluded, is_glob, matches_path
from jiemi.core.decisions.interests import Interest, Interests

_PARTS = st.sampled_from(["a", "b", "c.yaml", ".sops.yaml"])
_PATHS = st.lists(_PARTS, min_size=1, max_size=4).map("/".join)
_FOLDERS = st.lists(_PARTS, max_size=3).map(lambda parts: "".join(f"{part}/" for part in parts))
_GLOB_PARTS = st.sampled_from(["a", "b", "*", "**", "*.yaml", "c*", ".", "..", ""])
_PATTERNS = st.one_of(_PATHS, st.lists(_GLOB_PARTS, min_size=1, max_size=4).map("/".join).filter(is_glob))
_INTERESTS = st.builds(
    Interest,
    st.lists(_PATTERNS, min_size=1, max_size=3).map(lambda each: tuple(dict.fromkeys(each))),
    st.lists(st.sampled_from(["a", "b/", "*.yaml", "a/**"]), max_size=2).map(tuple),
)
_KEYS = st.tuples(st.sampled_from(["team", "other"]), st.sampled_from(["x", "y", "z"]))


def _is_concerned(interest: Interest, paths: list[str]) -> bool:
    return any(
        path == pattern
        if not is_glob(pattern)
        else matches_path(path, pattern) and not is_excluded(path, interest.exclude)
        for path in paths
        for pattern in interest.patterns
    )


@given(st.lists(st.tuples(_KEYS, _INTERESTS), max_size=8), st.lists(_KEYS, max_size=3), st.lists(_PATHS, max_size=4))
def test_it_is_those_whose_patterns_match_whatever_came_and_went_before(
    puts: list[tuple[tuple[str, str], Interest]], removed: list[tuple[str, str]], paths: list[str]
) -> None:
    index, left = Interests(), {}
    for key, interest in puts:
        index.put(key, interest)
        left[key] = interest
    for key in removed:
        index.remove(key)
        left.pop(key, None)
    assert set(index) == set(left)
    assert index.concerned(paths, ()) == {key for key, interest in left.items() if _is_concerned(interest, paths)}
    for key in left:
        index.remove(key)
    assert index._spaces == {}


@given(st.lists(st.tuples(_KEYS, _INTERESTS), max_size=8), _FOLDERS, _PATHS)
def test_a_folder_stands_for_every_path_below_it(
    puts: list[tuple[tuple[str, str], Interest]], folder: str, below: str
) -> None:
    index = Interests()
    for key, interest in puts:
        index.put(key, interest)
    assert index.concerned([folder + below], ()) <= index.concerned((), [folder])


def test_a_folder_wakes_nobody_elsewhere() -> None:
    index = Interests()
    for name, pattern in (
        ("in", "a/b/x"),
        ("below", "a/b/c/*.yaml"),
        ("above", "a/*/x"),
        ("out", "a/c/*"),
        ("no", "b"),
    ):
        index.put(("team", name), Interest((pattern,)))
    assert index.concerned((), ["a/b/"]) == {("team", "in"), ("team", "below"), ("team", "above")}
    assert index.concerned((), [""]) == set(index)


def test_many_who_follow_other_files_cost_a_push_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def noting(path: str, glob: str) -> bool:
        compared.append((path, glob))
        return matches_path(path, glob)

    monkeypatch.setattr("jiemi.core.decisions.interests.matches_path", noting)
    index = Interests()
    for number in range(3_000):
        index.put((f"team-{number % 30}", f"d{number}"), Interest((f"apps/{number}/*.yaml", f"s{number}.yaml")))
        index.put((f"team-{number % 30}", f"e{number}"), Interest(("shared/**",)))
    assert index.concerned(["apps/7/x.yaml", "s8.yaml"], ()) == {("team-7", "d7"), ("team-8", "d8")}
    assert compared == [("apps/7/x.yaml", "apps/7/*.yaml")]
    assert len(index.concerned(["shared/x"], ())) == 3_000
    assert len(compared) == 1 + 30


def test_hostile_globs_are_bounded_and_cost_other_namespaces_nothing() -> None:
    index = Interests()
    for number in range(1_000):
        index.put(("hostile", f"d{number}"), Interest((f"{'**/*a*/' * 100}{number}*",), ("*/" * 50 + "*",)))
    index.put(("hostile", "path"), Interest(("elsewhere.yaml",)))
    index.put(("honest", "mine"), Interest(("apps/*.yaml",)))
    index.put(("honest", "other"), Interest(("other/*.yaml",)))
    paths = [f"apps/{'a/' * 60}{number}.yaml" for number in range(999)] + ["apps/x.yaml"]
    began = time.process_time()
    found = index.concerned(paths, ())
    assert time.process_time() - began < 3
    assert {key for key in found if key[0] == "honest"} == {("honest", "mine")}
    assert found >= {("hostile", f"d{number}") for number in range(1_000)}
    assert ("hostile", "path") not in found


def test_long_globs_are_bounded_too() -> None:
    index = Interests()
    for number in range(1_000):
        index.put(("hostile", f"d{number}"), Interest((f"*/{'a/' * 2_000}{number}",)))
    began = time.process_time()
    index.concerned([f"b/{number}" for number in range(1_000)], ())
    assert time.process_time() - began < 3


def test_many_folders_and_many_globs_are_bounded_together() -> None:
    index = Interests()
    for number in range(20_000):
        index.put(("hostile", f"d{number}"), Interest((f"a/{number}/*.yaml", f"a/{number}.yaml")))
    index.put(("honest", "mine"), Interest(("b/*.yaml",)))
    index.put(("honest", "other"), Interest(("c/*.yaml",)))
    nested = ["a/" * depth for depth in range(1, 65)]
    began = time.process_time()
    found = index.concerned((), [*nested, *(f"b/{number}/" for number in range(900)), "b/"])
    assert time.process_time() - began < 2
    assert found == {("honest", "mine"), *(("hostile", f"d{number}") for number in range(20_000))}


def test_what_the_index_holds_is_counted() -> None:
    small, large = Interest(("a",)), Interest(("a" * 4_000, "b/**"), ("c",))
    assert small.held_bytes < large.held_bytes
    assert large.held_bytes > 4_000
