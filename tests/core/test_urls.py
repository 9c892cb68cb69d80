"""Which repository URLs are taken, and as what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import JiemiError
from jiemi.core.urls import Location, Scheme, parse_url


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("https://Git.Example/a/b.git", Location(Scheme.HTTPS, "git.example", 443, "/a/b.git")),
        ("HTTP://h:8080/r%20x", Location(Scheme.HTTP, "h", 8080, "/r%20x")),
        ("https://[::1]:1/r", Location(Scheme.HTTPS, "::1", 1, "/r")),
        ("git://h/r%20x", Location(Scheme.GIT, "h", 9418, "/r x")),
        ("ssh://git@h/r", Location(Scheme.SSH, "h", 22, "/r", "git")),
        ("ssh://h:2222/~a/r", Location(Scheme.SSH, "h", 2222, "/~a/r")),
        ("git@github.example:a/b.git", Location(Scheme.SSH, "github.example", 22, "a/b.git", "git")),
        ("h:/abs/r", Location(Scheme.SSH, "h", 22, "/abs/r")),
        ("me@[::1]:r", Location(Scheme.SSH, "::1", 22, "r", "me")),
        ("file:///srv/r.git", Location(Scheme.FILE, "", 0, "/srv/r.git")),
    ],
)
def test_a_url_is_read(text: str, location: Location) -> None:
    assert parse_url(text, allow_file=True) == location


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "/srv/r.git",
        "../r.git",
        "https://",
        "https:///r",
        "https://h",
        "https://h/",
        "https://h:/r",
        "https://h:0/r",
        "https://h:99999/r",
        "https://h:x/r",
        "https://h/r?a=SECRET",
        "https://h/r#SECRET",
        "https://SECRET@h/r",
        "https://user:SECRET@h/r",
        "http://:SECRET@h/r",
        "git://user@h/r",
        "ssh://git:SECRET@h/r",
        "ssh://-oProxyCommand=x/r",
        "ssh://-x@h/r",
        "-oProxyCommand=x:r",
        "-u@h:r",
        "h:-r",
        "ext::sh -c x",
        "ext::sh",
        "https://h/a/../b",
        "https://h/a/%2e%2e/b",
        "https://h/team-a/..;/team-b/r",
        "https://h/team-a/..;x=1/team-b/r",
        "https://h/team-a/%2e%2e%3b/team-b/r",
        "https://h/team-a/.;/r",
        "ssh://git@h/team-a/..;/r",
        "https://h/a%0ab",
        "https://h/a%00",
        "https://h/a b",
        "https://h/a\nb",
        "https://h/a\\b",
        "https://h/é",
        "https://h..x/r",
        "https://[::1/r",
        "https://[x]/r",
        "git@:r",
        "@h:r",
        "file://host/r",
        "https://h/" + "a" * 3_000,
    ],
)
def test_what_is_no_plain_url_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(JiemiError) as caught:
        parse_url(text, allow_file=True)
    assert caught.value.failure.reason == "InvalidUrl"
    assert "spec.source.repository.url" in caught.value.failure.text
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("text", ["file:///srv/r", "ftp://h/r", "rsync://h/r", "svn+ssh://h/r"])
def test_other_schemes_are_not_allowed(text: str) -> None:
    with pytest.raises(JiemiError) as caught:
        parse_url(text)
    assert caught.value.failure.reason == "SchemeNotAllowed"


def test_equal_places_are_equal_and_the_url_comes_back() -> None:
    assert parse_url("https://H:443/r") == parse_url("HTTPS://h/r")
    for text in ("https://h:8443/r", "ssh://git@h:22/r", "git://[::1]/r", "git@h:r"):
        location = parse_url(text)
        assert parse_url(location.url).host == location.host
        assert parse_url(location.url).port == location.port


@given(
    st.text()
    | st.text("htps:/@.[]-0aé\n %\\?#", min_size=1)
    | st.from_regex(r"(https?|ssh|git)://[a-z.:@\[\]-]{1,12}/.{1,9}")
)
def test_any_text_gives_a_safe_place_or_a_typed_error(text: str) -> None:
    try:
        location = parse_url(text)
    except JiemiError as error:
        assert error.failure.reason in ("InvalidUrl", "SchemeNotAllowed")
        return
    assert location.scheme is not Scheme.FILE
    assert location.host
    assert not location.host.startswith("-")
    assert not (location.user or "x").startswith("-")
    assert not location.path.startswith("-")
    for part in (location.host, location.path, location.user or ""):
        assert all(char >= " " for char in part)
    assert ".." not in location.path.split("/")
    assert 0 < location.port < 65_536


@pytest.mark.parametrize(
    ("spelling", "normal"),
    [
        ("https://h//a///b/", "https://h/a/b"),
        ("https://h/./a/./b/.", "https://h/a/b"),
        ("https://h/%61/%2E/b", "https://h/a/b"),
        ("https://h/%7Euser/a%20b", "https://h/~user/a%20b"),
        ("https://h/a%2fb", "https://h/a%2Fb"),
        ("https://h/a%2Bb%40c", "https://h/a+b@c"),
        ("https://h/a^b", "https://h/a%5Eb"),
        ("https://h/%C3%a9", "https://h/%C3%A9"),
        ("https://[0:0::1]/r", "https://[::1]/r"),
        ("git://h:9418//a", "git://h/a"),
        ("ssh://git@h:22/./a/", "ssh://git@h/a"),
        ("git@h:a//b/", "git@h:a/b"),
        ("git@h:./a", "git@h:a"),
        ("file://localhost//srv/./r.git/", "file:///srv/r.git"),
    ],
)
def test_what_says_nothing_in_a_url_makes_no_other_repository(spelling: str, normal: str) -> None:
    assert parse_url(spelling, allow_file=True) == parse_url(normal, allow_file=True)
    assert parse_url(normal, allow_file=True).path == parse_url(spelling, allow_file=True).path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://h/a", "https://h/a.git"),
        ("https://h/a", "https://h/A"),
        ("https://h/a/b", "https://h/a%2Fb"),
        ("https://h/a", "http://h/a"),
        ("https://h/a", "https://h:8443/a"),
        ("git@h:a", "ssh://git@h/a"),
        ("git@h:a", "me@h:a"),
        ("git@h:./~a", "git@h:~a"),
        ("ssh://h//~a", "ssh://h/~a"),
    ],
)
def test_what_may_be_two_repositories_stays_two(one: str, other: str) -> None:
    assert parse_url(one).repository != parse_url(other).repository


def test_a_dot_at_the_end_of_a_host_is_kept_for_the_lookup_and_makes_no_other_clone() -> None:
    dotted, plain = parse_url("https://h.example./r"), parse_url("https://h.example/r")
    assert dotted.host == "h.example."
    assert dotted.repository == plain.repository
    assert dotted != plain  # another worker, which the host lets in by itself


@pytest.mark.parametrize("url", ["git@h:./-x", "git@h://-x", "git@h:.//-oProxyCommand=x", "ssh://h/.//-x"])
def test_normal_form_makes_no_option_of_a_path(url: str) -> None:
    assert not parse_url(url).path.startswith("-")


@pytest.mark.parametrize("url", ["https://h/.", "https://h//", "https://h/%2E/", "git@h:.", "git@h:./", "git://h/./."])
def test_a_path_of_nothing_is_none(url: str) -> None:
    with pytest.raises(JiemiError, match=r"InvalidUrl: .* has no path"):
        parse_url(url)


@given(st.from_regex(r"https://h(/(\.|[a-z%2Ff~+ -]{0,5}))+/?", fullmatch=True))
def test_normal_form_is_reached_at_once(url: str) -> None:
    try:
        once = parse_url(url)
    except JiemiError:
        return
    assert parse_url(once.url) == once
