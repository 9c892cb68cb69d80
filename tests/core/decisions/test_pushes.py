"""Which pushes may concern which Decryptors."""

from __future__ import annotations

import pytest

from jiemi.core.api.source import RepositoryRef
from jiemi.core.decisions.pushes import may_concern


@pytest.mark.parametrize(
    ("ref", "refs", "concerned"),
    [
        (None, (), True),
        (None, ("refs/heads/x",), True),
        (None, ("refs/tags/x",), False),
        (RepositoryRef(), ("refs/tags/x",), False),
        (RepositoryRef(branch="main"), (), True),
        (RepositoryRef(branch="main"), ("refs/heads/main",), True),
        (RepositoryRef(branch="main"), ("refs/heads/x", "refs/heads/main"), True),
        (RepositoryRef(branch="main"), ("refs/heads/main2",), False),
        (RepositoryRef(branch="main"), ("refs/tags/main",), False),
        (RepositoryRef(branch="refs/heads/main"), ("refs/heads/main",), True),
        (RepositoryRef(tag="v1"), ("refs/tags/v1",), True),
        (RepositoryRef(tag="v1"), ("refs/heads/v1",), False),
        (RepositoryRef(semver="1.x"), ("refs/tags/v9",), True),
        (RepositoryRef(semver="1.x"), ("refs/heads/main",), False),
        (RepositoryRef(name="refs/pull/420/head"), ("refs/pull/420/head",), True),
        (RepositoryRef(name="refs/pull/420/head"), ("refs/heads/main",), False),
        (RepositoryRef(branch="main", commit="a" * 40), ("refs/heads/x",), True),
    ],
)
def test_a_push_concerns_those_who_follow_a_ref_that_moved(
    ref: RepositoryRef | None, refs: tuple[str, ...], concerned: bool
) -> None:
    assert may_concern(ref, frozenset(refs)) is concerned
