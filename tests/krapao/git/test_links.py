"""Symbolic links: followed within the repository as a checkout has them, and never out of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from krapao.git.tree_samples import FILE, LINK, PLENTY, Link, Nested, Store, blob, found, looked_up, reason

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.glob_search import Found
from jiemi.krapao.git.links import MAX_LINKS
from jiemi.krapao.git.trees import CONFIG


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_link_to_a_file_of_the_repository_is_that_file_under_its_own_path(store: Store) -> None:
    root = store.nested(
        {
            "shared": {"secret.yaml": "shared", CONFIG: "rules"},
            "a": {"secret.yaml": Link("../shared/secret.yaml"), "again.yaml": Link("./secret.yaml")},
            "b": Link("shared"),
            "c": {"d": Link("../b/")},
        }
    )
    file = Found(blob("shared"), blob("rules"))
    paths = ("a/secret.yaml", "a/again.yaml", "b/secret.yaml", "c/d/secret.yaml", "shared/secret.yaml")
    assert looked_up(store, root, *paths) == dict.fromkeys(paths, file)


def test_a_glob_takes_links_to_files_and_goes_through_no_link_to_a_folder(store: Store) -> None:
    root = store.nested(
        {
            "a": {"x.yaml": "x", "deep": {"y.yaml": "y"}},
            "b": {"x.yaml": Link("../a/x.yaml"), "to-folder.yaml": Link("../a/deep"), "gone.yaml": Link("../gone")},
            "c": Link("a"),
            "round.yaml": Link("round.yaml"),
            "out.yaml": Link("/etc/passwd"),
            CONFIG: Link("a/x.yaml"),
        }
    )
    assert found(store, root, "**") == ["a/deep/y.yaml", "a/x.yaml", "b/x.yaml"]
    assert store.at(root).search(["b/*"], [], **PLENTY) == {"b/x.yaml": Found(blob("x"), blob("x"))}
    assert found(store, root, "**", exclude=("b/",)) == ["a/deep/y.yaml", "a/x.yaml"]
    assert found(store, root, "c/*") == []


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("/etc/passwd", "NotAFile: s: the symbolic link s leads to /etc/passwd, out of the repository"),
        ("../x", "NotAFile: s: the symbolic link s leads to ../x, out of the repository"),
        ("f/../../x", "NotAFile: s: the symbolic link s leads to f/../../x, out of the repository"),
        ("gone", "FileNotFound: s: the symbolic link s leads to gone, which is not there"),
        ("x/y", "FileNotFound: s: the symbolic link s leads to x/y, where a folder of it is a file"),
        ("x/", "FileNotFound: s: the symbolic link s leads to x/, where a folder of it is a file"),
        ("x/.", "FileNotFound: s: the symbolic link s leads to x/., where a folder of it is a file"),
        ("f", "NotAFile: s: a directory"),
        (".", "NotAFile: s: the symbolic link s leads to ., which is the repository's root"),
        ("", "NotAFile: s: the symbolic link s leads to , which is the repository's root"),
        ("s", "NotAFile: s: the symbolic link s leads to s, and so on: more than 40 links, or a circle"),
        ("a/" * 200, "FileNotFound: s: the symbolic link s leads to a/a/"),
        ("module", "NotAFile: s: a submodule"),
    ],
)
def test_a_link_that_leads_to_no_file_of_the_repository_is_refused(store: Store, to: str, says: str) -> None:
    root = store.add(
        (FILE, b"x", blob("x")),
        ("40000", b"f", store.nested({"y": "y"})),
        ("160000", b"module", blob("m")),
        (LINK, b"s", store.link(to.encode())),
    )
    said = reason(store, root, "s")
    assert said.startswith(says)
    assert len(said) < 500
    assert looked_up(store, root, "x") == {"x": Found(blob("x"), None)}


def test_a_link_that_is_too_long_or_no_text_is_refused(store: Store) -> None:
    root = store.add(
        (LINK, b"long", blob("not a link that can be read")), (LINK, b"bytes", store.link(b"\xff\x1b[2J\n"))
    )
    assert "leads to a path of more than 4096 bytes" in reason(store, root, "long")
    said = reason(store, root, "bytes")
    assert "which is not there" in said
    assert said.isprintable()


def test_as_many_links_as_linux_follows_are_followed(store: Store) -> None:
    links: Nested = {str(number): Link(str(number + 1)) for number in range(MAX_LINKS)}
    root = store.nested({**links, str(MAX_LINKS): "end", "one-more": Link("0")})
    assert looked_up(store, root, "0") == {"0": Found(blob("end"), None)}
    assert "more than 40 links" in reason(store, root, "one-more")


@pytest.mark.parametrize("to", ["../gone", "..", "../x/y", "/etc/passwd", ".sops.yaml"])
def test_a_link_in_place_of_rules_counts_if_it_leads_to_a_file(store: Store, to: str) -> None:
    shared: Nested = {"rules": "rules"}
    for link, config in (("../shared/rules", "rules"), (to, "root")):
        folder: Nested = {CONFIG: Link(link), "x": "1"}
        root = store.nested({"shared": shared, "a": folder, CONFIG: "root"})
        expected = {"a/x": Found(blob("1"), blob(config))}
        assert looked_up(store, root, "a/x") == expected
        assert store.at(root).search(["a/x*"], [], **PLENTY) == expected


def test_a_limit_that_links_reach_ends_a_search_and_leaves_nothing_out(store: Store) -> None:
    wide = store.nested({f"{number:05}.md": "x" for number in range(20_000)} | {"x.yaml": "x"})
    root = store.add(
        ("40000", b"wide", wide), *((LINK, b"%d.yaml" % n, store.link(b"wide/x.yaml")) for n in range(100))
    )
    with pytest.raises(JiemiError) as caught:
        store.at(root).search(["*.yaml"], [], **PLENTY)
    assert caught.value.failure.reason == "LimitExceeded"


# Beside the kernel: the same tree on a disk

_NAMES = ("a", "b", "c")
_TARGETS = st.lists(st.sampled_from((*_NAMES, "..", ".", "")), min_size=1, max_size=5).map("/".join)
_TREES = st.recursive(
    st.dictionaries(st.sampled_from(_NAMES), st.just("file") | _TARGETS.map(Link), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(_NAMES), st.just("file") | _TARGETS.map(Link) | inner, max_size=3),
    max_leaves=12,
)


def _write(tree: Nested, folder: Path, path: str) -> None:
    folder.mkdir()
    for name, value in tree.items():
        here = f"{path}{name}"
        if isinstance(value, Link):
            (folder / name).symlink_to(value.to or ".")  # the kernel takes no empty one
        elif isinstance(value, str):
            (folder / name).write_text(here)
        else:
            _write(value, folder / name, f"{here}/")


def _with_contents(tree: Nested, path: str = "") -> Nested:
    """The tree with each file's own path for its content, and no empty link."""
    made: dict[str, str | Link | Nested] = {}
    for name, value in tree.items():
        here = f"{path}{name}"
        if isinstance(value, Link):
            made[name] = Link(value.to or ".")
        else:
            made[name] = here if isinstance(value, str) else _with_contents(value, f"{here}/")
    return made


@given(tree=_TREES, path=st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4).map("/".join))
@example({"a": "file", "b": Link("a/.")}, "b")
@example({"a": "file", "b": Link("a/")}, "b")
@example({"a": {"c": "file"}, "b": Link("a/./")}, "b/c")
@example({"a": Link("b"), "b": {"c": Link("../c/")}, "c": "file"}, "a/c")
def test_a_path_leads_where_the_kernel_leads_it(tree: Nested, path: str) -> None:
    store = Store()
    root = store.nested(_with_contents(tree))
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "r"
        _write(tree, checkout, "")
        try:
            expected: str | None = (checkout / path).read_text()
        except OSError:
            expected = None
        if expected is not None and _leaves(checkout, path):
            expected = None
        shutil.rmtree(checkout)
    try:
        [ours] = looked_up(store, root, path).values()
    except JiemiError as error:
        assert error.failure.reason in ("FileNotFound", "NotAFile")
        assert expected is None, (error, expected)
    else:
        assert expected is not None
        assert ours.blob == blob(expected)


def _leaves(checkout: Path, path: str) -> bool:
    """Whether a path that the kernel follows goes out of the checkout on its way, though it may come back."""
    here, left, steps = str(checkout), path.split("/"), 0
    while left:
        part = left.pop(0)
        steps += 1
        if part == ".." and here == str(checkout):
            return True
        next_one = os.path.normpath(f"{here}/{part}")
        if Path(next_one).is_symlink() and steps < 1_000:
            left = [*str(Path(next_one).readlink()).split("/"), *left]
        else:
            here = next_one
    return False
