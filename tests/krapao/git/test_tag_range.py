"""The newest tag of a range, and what is said where there is none."""

from __future__ import annotations

import pytest

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.tag_range import newest_tag
from jiemi.rpc.source import TagRange

URL = "https://git.example/acme/app.git"
TAGS = ("v1.0.0", "v1.2.0", "v1.10.0", "1.9.0", "v2.0.0-rc.1", "v2.0.0-rc.2", "app-3.0.0", "latest", "v4", "ops/v9.9.9")


@pytest.mark.parametrize(
    ("versions", "matching", "newest"),
    [
        ("*", None, "v1.10.0"),
        ("1.x", None, "v1.10.0"),
        ("<1.10", None, "1.9.0"),
        ("~1.2", None, "v1.2.0"),
        (">=1.0.0-0", None, "v2.0.0-rc.2"),
        ("*", "^v", "v1.10.0"),
        ("*", "^[0-9]", "1.9.0"),
        ("*", "1.[29]", "1.9.0"),
        (">=2.0.0-0", "rc.1$", "v2.0.0-rc.1"),
    ],
)
def test_the_newest_version_in_the_range_is_taken(versions: str, matching: str | None, newest: str) -> None:
    assert newest_tag(TagRange(versions, matching), TAGS, URL) == newest
    assert newest_tag(TagRange(versions, matching), reversed(TAGS), URL) == newest


@pytest.mark.parametrize(
    ("tags", "newest"),
    [
        (("1.0.0+2", "1.0.0+10", "1.0.0+9"), "1.0.0+10"),
        (("v1.0.0", "1.0.0"), "1.0.0"),
        (("1.0.0+a", "1.0.0+b"), "1.0.0+b"),
        (("1.0.0+01", "1.0.0+1"), "1.0.0+1"),
    ],
)
def test_of_equal_versions_always_the_same_one_is_taken(tags: tuple[str, ...], newest: str) -> None:
    assert newest_tag(TagRange("*"), tags, URL) == newest
    assert newest_tag(TagRange("*"), reversed(tags), URL) == newest


@pytest.mark.parametrize(
    ("versions", "matching", "tags", "says"),
    [
        ("*", None, (), "whose version is in *: it has no tags. Push a tag such as v1.0.0, or follow a branch."),
        ("*", "^x", TAGS, "semverFilter leaves out all 10 of its tags, which are v1.0.0, v1.2.0, v1.10.0, "),
        ("*", None, ("v1", "latest"), "none of its tags is a version; they are v1, latest. Push tags such as v1.2.3"),
        ("*", None, ("v1.0.0-a", "v1.0.0-b"), "pre-releases only, the newest of which is v1.0.0-b. Add -0 to the"),
        (">=3", None, TAGS, "whose version is in >=3: the newest version is v2.0.0-rc.2. Correct spec.source.repo"),
        ("*", None, ("\x1b[2J", "v1\n"), "none of its tags is a version; they are"),
    ],
)
def test_where_no_tag_is_wanted_it_is_said_which_there_are(
    versions: str, matching: str | None, tags: tuple[str, ...], says: str
) -> None:
    with pytest.raises(JiemiError) as caught:
        newest_tag(TagRange(versions, matching), tags, URL)
    failure = caught.value.failure
    assert failure.reason == "RefNotFound"
    assert failure.text.startswith(f"spec.source.repository.ref.semver: {URL} has no tag whose version is in ")
    assert says in failure.text
    assert failure.text.isprintable()


@pytest.mark.parametrize(
    ("versions", "matching", "says"),
    [
        ("latest", None, "ref.semver can't be read from 'latest' on. Write a range such as"),
        ("*", "(", "ref.semverFilter is no regular expression: missing ): (. Correct it; its syntax is RE2's"),
        ("*", "(?=a)", "ref.semverFilter is no regular expression: invalid perl operator: (?="),
        ("*", r"(a)\1", "ref.semverFilter is no regular expression: invalid escape sequence: \\1"),
        ("*", "a{1000}{1000}", "ref.semverFilter is no regular expression"),
        ("*", "(a{100}){100}{10}", "ref.semverFilter is no regular expression"),
        ("*", "a" * 513, "is longer than 512 characters"),
        ("*", "\udc80", "ref.semverFilter is no regular expression: it is not valid Unicode"),
    ],
)
def test_what_can_not_be_read_is_a_fault_of_the_spec(versions: str, matching: str | None, says: str) -> None:
    with pytest.raises(JiemiError) as caught:
        newest_tag(TagRange(versions, matching), TAGS, URL)
    assert caught.value.failure.reason == "InvalidSpec"
    assert says in caught.value.failure.text


def test_an_expression_that_others_need_ages_for_takes_none() -> None:
    tags = [f"{'a' * 200}-{number}" for number in range(2_000)] + ["v1.0.0"]
    assert newest_tag(TagRange("*", r"^(a+)+(a+)+$|^v"), tags, URL) == "v1.0.0"
