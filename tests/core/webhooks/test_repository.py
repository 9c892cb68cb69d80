"""Which URLs are one repository for a webhook."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.webhooks.repository import repository_key


@pytest.mark.parametrize(
    "urls",
    [
        [
            "https://github.com/O/R.git",
            "https://github.com/o/r",
            "https://GitHub.com:443/o//r/",
            "https://token@github.com/o/r",
            "git@github.com:o/r.git",
            "ssh://git@github.com/o/r",
            "ssh://git@ssh.github.com:443/o/r.git",
            "git://github.com/o/r.git",
        ],
        ["git@gitlab.com:a/b/c.git", "ssh://git@altssh.gitlab.com:443/a/b/c.git", "https://gitlab.com/a/b/c"],
        ["https://bitbucket.org/o/r", "ssh://git@altssh.bitbucket.org:443/o/r.git", "git@bitbucket.org:o/r.git"],
        [
            "https://dev.azure.com/org/My%20Project/_git/repo",
            "https://org@dev.azure.com/org/My%20Project/_git/repo",
            "https://org.visualstudio.com/My%20Project/_git/repo",
            "https://org.visualstudio.com/DefaultCollection/My%20Project/_git/repo",
            "git@ssh.dev.azure.com:v3/org/My%20Project/repo",
        ],
        ["https://dev.azure.com/org/_git/repo", "git@ssh.dev.azure.com:v3/org/repo/repo"],
        ["https://git.example:3000/o/r", "https://git.example:3000/o/r.git"],
        ["ssh://git@git.example:2222/o/r", "ssh://other@git.example:2222/o/r.git"],
        ["https://[2001:DB8::1]/r", "https://[2001:db8:0::1]/r.git"],
    ],
)
def test_spellings_of_one_repository_are_equal(urls: list[str]) -> None:
    assert len({repository_key(url) for url in urls}) == 1
    assert repository_key(urls[0]) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://github.com/o/r", "https://github.com/o/r2"),
        ("https://github.com/o/r", "https://gitlab.com/o/r"),
        ("https://git.example/o/r", "https://git.example:3000/o/r"),
        ("https://git.example/o/r", "https://git.example.evil.example/o/r"),
        ("https://dev.azure.com/org/p/_git/r", "https://dev.azure.com/org/q/_git/r"),
        ("https://notvisualstudio.com/p/_git/r", "https://dev.azure.com/not/p/_git/r"),
    ],
)
def test_other_repositories_are_not_equal(one: str, other: str) -> None:
    assert None not in (repository_key(one), repository_key(other))
    assert repository_key(one) != repository_key(other)


@pytest.mark.parametrize("text", ["", "r", "file:///srv/r", "https://", "https://h/../r", "ext::sh -c x"])
def test_what_is_no_url_of_a_repository_is_none(text: str) -> None:
    assert repository_key(text) is None


@given(st.text(max_size=60))
def test_any_text_is_a_repository_or_none(text: str) -> None:
    found = repository_key(text)
    assert found is None or repository_key(text) == found
