"""Globs take what the table says and what a naive matcher takes, and no path makes them slow."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jiemi.core.content.globs import Glob, advice, is_excluded, is_glob, matches_path


@pytest.mark.parametrize(
    ("glob", "takes", "leaves"),
    [
        ("a", ["a"], ["b", "a/b", "aa", ""]),
        ("*", ["a", ".a", "a.b"], ["a/b"]),
        ("**", ["a", "a/b", ".a/.b/c"], []),
        ("*.yaml", ["a.yaml", ".yaml"], ["a.yml", "a/b.yaml", "a.yaml.bak"]),
        ("apps/*.yaml", ["apps/a.yaml"], ["apps/a/b.yaml", "a.yaml", "my/apps/a.yaml"]),
        ("apps/**", ["apps/a", "apps/a/b/c"], ["apps", "app", "apps2/a"]),
        ("apps/**/*.enc.yaml", ["apps/x.enc.yaml", "apps/a/b/x.enc.yaml"], ["apps/x.yaml", "x.enc.yaml"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["a/x/b", "xx"]),
        ("**/x/**", ["x/a", "a/x/b", "x/x"], ["x", "a/x"]),
        ("a/**/b", ["a/b", "a/x/b", "a/b/b", "a/x/y/b"], ["a", "b", "a/b/c"]),
        ("a/**/**/b/**/**", ["a/b/c", "a/x/b/y/z"], ["a/b"]),
        ("**/**", ["a", "a/b"], []),
        ("a/*/b", ["a/x/b"], ["a/b", "a/x/y/b"]),
        ("a*b*c", ["abc", "aXbYc", "abbc", "abcbc"], ["ab", "ac", "abcd", "a/b/c"]),
        ("a*a", ["aa", "aba"], ["a"]),
        ("*a*", ["a", "bab"], ["b"]),
        # Only a part that is nothing else stands for folders; elsewhere two stars are two.
        ("a**/b", ["a/b", "ax/b"], ["a/x/b"]),
        ("***", ["a"], ["a/b"]),
        # Everything else stands for itself.
        ("a?[b]{c}+.$", ["a?[b]{c}+.$"], ["ax[b]{c}+.$", "a?b"]),
        ("a:*:b", ["a:x:b", "a:::b"], ["a:b"]),
        ("../*", ["../a"], ["a"]),
        ("каталог/*.yaml", ["каталог/я.yaml"], []),
        # What means nothing in a glob.
        ("./a/*", ["a/b"], []),
        ("a//*", ["a/b"], []),
        ("a/./*", ["a/b"], []),
        ("/a/*", ["a/b"], []),
        ("a/../b/*.yaml", ["b/x.yaml"], ["a/b/x.yaml", "a/x.yaml"]),
        ("a/b/../../c/**", ["c/x", "c/x/y"], ["a/c/x", "a/x"]),
        # Not known without the tree, or outside of it.
        ("*/../b/*", [], ["b/x", "a/b/x"]),
        ("a/../../b/*", [], ["b/x"]),
        # A folder is no file.
        ("a/*/", [], ["a/b", "a/b/c"]),
        ("a/", [], ["a", "a/b"]),
        ("", [], ["a"]),
    ],
)
def test_a_glob_matches_these_and_not_those(glob: str, takes: list[str], leaves: list[str]) -> None:
    assert [path for path in takes if not matches_path(path, glob)] == []
    assert [path for path in leaves if matches_path(path, glob)] == []


@pytest.mark.parametrize(
    ("globs", "says"),
    [
        (["a/**/*.{yaml,yml}"], "Write one glob for each alternative in {}"),
        (["a/*.y?ml"], "? and [] have none"),
        (["a/[a-c]*.yaml"], "? and [] have none"),
        (["**.yaml"], "Write ** as a part of its own"),
        (["a/**/*.json", "a/*.yaml"], "A * does not match in subfolders"),
        (["a/**/*.json"], ""),
        (["a/b.{yaml}", "a?.yaml"], ""),  # paths, and no globs
    ],
)
def test_globs_that_matched_nothing_are_explained_if_they_hold_characters_that_are_special_elsewhere(
    globs: list[str], says: str
) -> None:
    assert says in advice(globs)
    assert bool(advice(globs)) == bool(says)


@pytest.mark.parametrize(
    ("glob", "excludes", "leaves"),
    [
        ("*.md", ["a.md", "a/b.md", "a/b/c.md"], ["a.mdx"]),
        ("kustomization.yaml", ["kustomization.yaml", "a/kustomization.yaml"], ["my-kustomization.yaml"]),
        ("vendor", ["vendor", "vendor/a", "a/vendor", "a/vendor/b/c"], ["vendors/a"]),
        ("vendor/", ["vendor/a", "a/vendor/b/c"], ["vendor", "a/vendor"]),
        ("apps/legacy/", ["apps/legacy/a", "apps/legacy/b/c"], ["apps/legacy", "x/apps/legacy/a", "legacy/a"]),
        ("apps/legacy", ["apps/legacy", "apps/legacy/a"], ["x/apps/legacy/a"]),
        ("/a.yaml", ["a.yaml"], ["b/a.yaml"]),
        ("./a.yaml", ["a.yaml"], ["b/a.yaml"]),
        ("/vendor/", ["vendor/a"], ["a/vendor/b"]),
        ("apps/*/old", ["apps/x/old", "apps/x/old/a"], ["apps/old/a", "apps/x/y/old"]),
        ("**/old/*.yaml", ["old/a.yaml", "x/y/old/a.yaml", "old/a.yaml/b"], ["old/x/a.yaml"]),
        ("apps/**", ["apps/a", "apps/a/b"], ["apps", "a/apps/b"]),
        ("*", ["a", "a/b"], []),
        ("*/", ["a/b", "a/b/c"], ["a"]),
        ("!a", ["!a"], ["a", "b"]),
        ("", [], ["a"]),
        ("/", [], ["a"]),
        (".", [], ["a"]),
        ("./", [], ["a"]),
    ],
)
def test_an_exclusion_excludes_these_and_not_those(glob: str, excludes: list[str], leaves: list[str]) -> None:
    assert [path for path in excludes if not is_excluded(path, [glob])] == []
    assert [path for path in leaves if is_excluded(path, [glob])] == []


def test_any_of_several_exclusions_is_enough_and_none_excludes_nothing() -> None:
    assert is_excluded("a/b.md", ["*.txt", "*.md"])
    assert not is_excluded("a/b.md", ["*.txt", "c"])
    assert not is_excluded("a/b.md", [])


def test_a_star_makes_a_path_a_glob() -> None:
    assert is_glob("a/*.yaml")
    assert is_glob("**")
    assert not is_glob("a/b?.yaml")


PART = st.text("ab:.", min_size=1, max_size=4)
GLOB_PART = st.text("ab*:.", min_size=1, max_size=5) | st.sampled_from(["**", ".."])
PATHS = st.lists(PART, min_size=1, max_size=5).map("/".join)
GLOBS = st.lists(GLOB_PART, min_size=1, max_size=5).map("/".join)


def _part_matches(name: str, part: str) -> bool:
    if not part:
        return not name
    if part[0] == "*":
        return _part_matches(name, part[1:]) or (bool(name) and _part_matches(name[1:], part))
    return name[:1] == part[0] and _part_matches(name[1:], part[1:])


def _matches(names: list[str], parts: list[str]) -> bool:
    """The rules as they are documented, each way tried."""
    if not parts:
        return not names
    if parts[0] == "**":
        if len(parts) == 1:
            return bool(names)
        return _matches(names, parts[1:]) or (bool(names) and _matches(names[1:], parts))
    return bool(names) and _part_matches(names[0], parts[0]) and _matches(names[1:], parts[1:])


def _parts(glob: str) -> list[str]:
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    for at, (name, after) in enumerate(itertools.pairwise(parts)):
        if after == ".." and name != ".." and "*" not in name:
            return _parts("/".join(parts[:at] + parts[at + 2 :]))
    return parts


@given(PATHS, GLOBS)
@example("a", "**/a/..")
@example("b", "a/b/../../b")
@example("b", "../b")
@example("a/b", "*/../b")
def test_a_glob_matches_what_a_naive_matcher_matches(path: str, glob: str) -> None:
    assert matches_path(path, glob) == _matches(path.split("/"), _parts(glob))


@given(PATHS, GLOBS, st.sampled_from(["", "/"]), st.sampled_from(["", "/", "./"]))
def test_an_exclusion_matches_the_path_or_a_folder_of_it(path: str, glob: str, end: str, begin: str) -> None:
    names = path.split("/")
    parts = _parts(glob)
    if "/" not in begin + glob and parts:
        parts = ["**", *parts]
    prefixes = [names[:count] for count in range(1, len(names) if end else len(names) + 1)]
    expected = any(_matches(prefix, parts) for prefix in prefixes)
    assert is_excluded(path, [begin + glob + end]) == expected


@given(PATHS, GLOBS)
def test_no_folder_is_skipped_if_a_file_below_it_matches(path: str, glob: str) -> None:
    compiled = Glob.of(glob)
    places = compiled.start
    for name in path.split("/"):
        assert list(places) == sorted(set(places))
        assert len(places) <= len(compiled.parts) + 1
        if not compiled.leads_on(places):
            assert not matches_path(path, glob)
        places = compiled.after(places, name)
    assert compiled.takes(places) == matches_path(path, glob)


@given(PATHS, GLOBS, st.integers(0, 3), st.integers(0, 3))
def test_meaningless_parts_of_a_glob_change_nothing(path: str, glob: str, slashes: int, dots: int) -> None:
    longer = "./" * dots + glob.replace("/", "/" * (slashes + 1) + "./" * dots)
    assert matches_path(path, longer) == matches_path(path, glob)


@pytest.mark.parametrize(
    ("path", "glob"),
    [
        ("a" * 4_000, "*a" * 500 + "b"),
        ("a" * 4_000, "a*" * 500 + "b*"),
        ("a/" * 2_000 + "b", "**/a/" * 200 + "c"),
        ("a/" * 2_000 + "b", "**/*/" * 200 + "c"),
        ("ab" * 1_000 + "/" + "ab" * 1_000, "*ab*ba" * 300 + "/**/" + "*b*" * 300 + "/x"),
        ("/" * 4_000, "**/" * 2_000 + "*"),
    ],
)
def test_no_path_makes_a_glob_slow(path: str, glob: str) -> None:
    began = time.process_time()
    matches_path(path, glob)
    is_excluded(path, [glob])
    assert time.process_time() - began < 2
