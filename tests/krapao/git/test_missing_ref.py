"""Of a branch or tag that is not there, what there is is named."""

from __future__ import annotations

import pytest

from jiemi.core.urls import parse_url
from jiemi.krapao.git.missing_ref import no_such_ref, prefixes_of_others
from jiemi.krapao.git.port import Ref

WHERE = parse_url("https://git.example/acme/app.git")
MANY = [b"HEAD", *(b"refs/heads/team-%d/work" % number for number in range(300)), b"refs/heads/main", b"refs/tags/v1"]


@pytest.mark.parametrize(
    ("ref", "refs", "says"),
    [
        (Ref(branch="mian"), [b"refs/heads/main"], "has no branch mian; it has the branch main. Correct"),
        (Ref(branch="Main"), MANY, "it has the branches main, team-0/work, "),
        (Ref(branch="Main"), MANY, "and 296 more"),
        (Ref(branch="v1"), MANY, "has no branch v1, but a tag of that name. Write spec.source.repository.ref.tag"),
        (Ref(tag="main"), MANY, "has no tag main, but a branch of that name. Write spec.source.repository.ref.branch"),
        (Ref(tag="v2"), [b"refs/tags/v1", b"refs/tags/v1^{}"], "has no tag v2; it has the tag v1. Correct"),
        (Ref(branch="x"), [], "has no branch x. Correct spec.source.repository.ref.branch, or push the branch."),
        (
            Ref(branch="3f1c2a9b"),
            MANY,
            "has no branch 3f1c2a9b, and that looks like a commit. Write all 40 digits",
        ),
        (Ref(branch="deadbeef"), [b"refs/heads/main"], "has no branch deadbeef; it has the branch main. Correct"),
        (Ref(), [], "has no HEAD, or is empty. Push a first commit"),
        (Ref(), [b"refs/heads/trunk"], "its default branch does not exist; it has the branch trunk. Name the branch"),
        (
            Ref(name="refs/pull/42/head"),
            [],
            "ref.name: https://git.example/acme/app.git has no ref refs/pull/42/head. ",
        ),
        (
            Ref(name="refs/pull/42/haed"),
            [b"refs/pull/42/head", b"refs/pull/42/merge"],
            "has no ref refs/pull/42/haed; it has refs/pull/42/head, refs/pull/42/merge. Correct",
        ),
        (Ref(branch="x"), [b"refs/heads/\xff\n\x1b[2J"], "has no branch x; it has the branch"),
    ],
)
def test_the_error_names_what_there_is(ref: Ref, refs: list[bytes], says: str) -> None:
    failure = no_such_ref(refs, ref, WHERE).failure
    assert failure.reason == "RefNotFound"
    assert says in failure.text
    assert failure.text.isprintable()
    assert len(failure.text) < 700


def test_no_more_is_asked_for_than_is_reported() -> None:
    assert prefixes_of_others(Ref(branch="a")) == (b"refs/heads/", b"refs/tags/a")
    assert prefixes_of_others(Ref(tag="a")) == (b"refs/tags/", b"refs/heads/a")
    assert prefixes_of_others(Ref(name="refs/pull/42/head")) == (b"refs/pull/42/",)
    assert prefixes_of_others(Ref()) == (b"refs/heads/",)
