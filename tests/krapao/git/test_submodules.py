"""What a .gitmodules says, beside the real git, and where the URLs in it lead."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.work_tree import GIT

from jiemi.core.errors import JiemiError
from jiemi.core.urls import parse_url
from jiemi.krapao.git.submodules import locate, same_host, url_of

PARENTS = (
    "https://git.example/acme/app.git",
    "http://git.example:8080/app",
    "ssh://git@git.example:2222/acme/app.git",
    "git@git.example:acme/app.git",
    "git@git.example:app",
)
TEXTS = st.text(max_size=30) | st.sampled_from(
    ("../x.git", "./x", "../../x", "..", "ext::sh", "a:b", "-u:x", "file:///x")
)
NAMES = st.text("abc./-_ é", min_size=1, max_size=8).map(str.strip).filter(bool)


@pytest.mark.parametrize(
    ("parent", "url", "found"),
    [
        ("https://git.example/acme/app.git", "../shared.git", "https://git.example/acme/shared.git"),
        ("https://git.example/acme/app.git", "../../other/x.git", "https://git.example/other/x.git"),
        ("https://git.example/acme/app.git", "./x", "https://git.example/acme/app.git/x"),
        ("https://git.example:8443/acme/app.git", "../x", "https://git.example:8443/acme/x"),
        ("git@git.example:acme/app.git", "../shared.git", "ssh://git@git.example/acme/shared.git"),
        ("git@git.example:app.git", "../shared.git", "ssh://git@git.example/shared.git"),
        ("ssh://git@git.example:2222/acme/app.git", "../x.git", "ssh://git@git.example:2222/acme/x.git"),
        ("https://git.example/acme/app.git", "git@other.example:x/y.git", "ssh://git@other.example/x/y.git"),
        ("https://git.example/acme/app.git", "https://other.example/x", "https://other.example/x"),
    ],
)
def test_a_url_counts_from_the_repository_that_has_the_submodule(parent: str, url: str, found: str) -> None:
    assert locate(url, parse_url(parent), allow_file=False).url == found


def test_a_relative_url_of_the_short_form_counts_from_the_home_too() -> None:
    parent = parse_url("git@git.example:acme/app.git")
    assert locate("../x.git", parent, allow_file=False).path == parse_url("git@git.example:acme/x.git").path


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://git.example/a", "https://git.example/b", True),
        ("https://git.example/a", "https://git.example./b", True),
        ("https://git.example/a", "https://git.example:443/b", True),
        ("https://git.example/a", "http://git.example/b", False),
        ("https://git.example/a", "https://git.example:8443/b", False),
        ("https://git.example/a", "https://git.example.evil/b", False),
        ("ssh://git@git.example/a", "git@git.example:b", True),
        ("ssh://git@git.example/a", "https://git.example/b", False),
    ],
)
def test_the_same_host_is_scheme_name_and_port(one: str, other: str, same: bool) -> None:
    assert same_host(parse_url(one), parse_url(other)) is same


@given(url=TEXTS, parent=st.sampled_from(PARENTS))
def test_whatever_a_url_is_it_is_read_strictly_or_refused(url: str, parent: str) -> None:
    above = parse_url(parent)
    try:
        found = locate(url, above, allow_file=False)
    except JiemiError as error:
        assert error.failure.reason == "SubmoduleInvalid"
        assert error.failure.text.isprintable()
        return
    assert found.scheme.value != "file"
    assert found == parse_url(found.url) or found.scheme.value == "ssh"
    if url.startswith("."):
        assert same_host(found, above)
        assert ".." not in found.path.split("/")


@given(st.binary(max_size=200))
def test_whatever_a_gitmodules_holds_it_gives_a_url_or_is_refused(content: bytes) -> None:
    for data in (content, b'[submodule "a"]\n\tpath = sub\n' + content, content + b"[submodule a]\npath=sub\nurl=x\n"):
        try:
            assert isinstance(url_of(data, "sub"), str)
        except JiemiError as error:
            assert error.failure.reason == "SubmoduleInvalid"


@given(sections=st.lists(st.tuples(NAMES, NAMES, NAMES), min_size=1, max_size=4, unique_by=lambda each: each[0]))
def test_what_git_writes_is_read_as_git_reads_it(
    sections: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("gitmodules") / ".gitmodules"
    for name, path, url in sections:
        for key, value in (("path", path), ("url", url)):
            run = [GIT, "config", "--file", str(file), f"submodule.{name}.{key}", value]
            subprocess.run(run, check=True, capture_output=True)
    by_path: dict[str, set[str]] = {}
    for name, path, _ in sections:
        run = [GIT, "config", "--file", str(file), "--get", f"submodule.{name}.url"]
        url = subprocess.run(run, check=True, capture_output=True, text=True).stdout.removesuffix("\n")
        by_path.setdefault(path.rstrip("/"), set()).add(url)
    for path, urls in by_path.items():
        if len(urls) == 1:
            assert url_of(file.read_bytes(), path) == next(iter(urls))
        else:
            with pytest.raises(JiemiError, match="two URLs"):
                url_of(file.read_bytes(), path)
