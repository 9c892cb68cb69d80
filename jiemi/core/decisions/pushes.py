"""Whether a push may have moved what a Decryptor follows, as far as the webhook says which refs it moved."""

from __future__ import annotations

from collections.abc import Collection

from jiemi.core.api.source import RepositoryRef

_BRANCHES = "refs/heads/"
_TAGS = "refs/tags/"


def may_concern(ref: RepositoryRef | None, refs: Collection[str]) -> bool:
    """Whether a look is due. In doubt it is: a look that finds nothing costs one question.

    Args:
        ref: what is followed; None for the host's default branch.
        refs: full names of the refs that moved; empty: any may have.
    """
    if not refs or (ref is not None and ref.commit is not None):
        return True  # a commit may have been missing until now
    if ref is None or not (ref.branch or ref.tag or ref.semver or ref.name):
        return any(not each.startswith(_TAGS) for each in refs)  # the host's default branch, whichever that is
    if ref.semver is not None:
        return any(each.startswith(_TAGS) for each in refs)
    followed = ref.name or (f"{_BRANCHES}{ref.branch}" if ref.branch is not None else f"{_TAGS}{ref.tag}")
    # A branch or tag may be written in full.
    return followed in refs or followed.removeprefix(_BRANCHES) in refs or followed.removeprefix(_TAGS) in refs
