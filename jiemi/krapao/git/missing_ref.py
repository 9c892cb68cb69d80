"""What to say of a branch or tag that a repository has not, by the refs that it has."""

from __future__ import annotations

import re
from collections.abc import Iterable

from jiemi.core.errors import JiemiError
from jiemi.core.near import some_of
from jiemi.core.urls import Location
from jiemi.krapao.git.port import HEADS, TAGS, Ref

_FIELD = "spec.source.repository.ref"
_PEELED = b"^{}"
_COMMIT = re.compile(r"(?=.*[0-9])[0-9a-f]{7,64}")


def prefixes_of_others(ref: Ref) -> tuple[bytes, ...]:
    """Which refs to ask a host for where it has not the one that was asked for."""
    if ref.branch is not None:
        return HEADS, TAGS + _name(ref)
    if ref.tag is not None:
        return TAGS, HEADS + _name(ref)
    if ref.name is not None:
        return (_folder(ref.full_name),)
    return (HEADS,)


def no_such_ref(refs: Iterable[bytes], ref: Ref, location: Location) -> JiemiError:
    """The error for a ref that is not there.

    Args:
        refs: full names of those that are, as far as they were asked for; none where that is not known.
        ref: what was asked for.
    """
    names = frozenset(refs)
    if ref.name is not None:
        return _no_name(names, ref.name, location)
    branches = _below(HEADS, names)
    if ref.branch is None and ref.tag is None:
        return _no_head(branches, location)
    of_tag = ref.tag is not None
    asked, kind, other = (ref.tag, "tag", "branch") if of_tag else (ref.branch, "branch", "tag")
    message = f"{_FIELD}.{kind}: {location.url} has no {kind} {asked}"
    if (HEADS if of_tag else TAGS) + _name(ref) in names:
        return JiemiError(
            "RefNotFound",
            f"{message}, but a {other} of that name",
            f"Write {_FIELD}.{other} in place of {_FIELD}.{kind}, or push the {kind}.",
        )
    there = _below(TAGS, names) if of_tag else branches
    if ref.branch is not None and _COMMIT.fullmatch(ref.branch) is not None:
        return JiemiError(
            "RefNotFound",
            f"{message}, and that looks like a commit",
            f"Write all 40 digits of the commit into {_FIELD}.commit, or correct {_FIELD}.branch.",
        )
    if not there:
        return JiemiError("RefNotFound", message, f"Correct {_FIELD}.{kind}, or push the {kind}.")
    plural = "tags" if of_tag else "branches"
    listed = f"the {plural} {some_of(asked or '', there)}" if len(there) > 1 else f"the {kind} {there[0]}"
    return JiemiError("RefNotFound", f"{message}; it has {listed}", f"Correct {_FIELD}.{kind}, or push the {kind}.")


def _folder(name: bytes) -> bytes:
    """What the neighbours of a ref begin with, which are few: of refs/pull/420/head, refs/pull/420/."""
    return name[: name.rfind(b"/") + 1]


def _no_name(names: frozenset[bytes], name: str, location: Location) -> JiemiError:
    message = f"{_FIELD}.name: {location.url} has no ref {name}"
    folder = _folder(name.encode("utf-8", "replace"))
    there = [f"{folder.decode('utf-8', 'replace')}{each}" for each in _below(folder, names)]
    if there:
        message += f"; it has {some_of(name, there)}"
    return JiemiError(
        "RefNotFound",
        message,
        f"Correct {_FIELD}.name; `git ls-remote` shows the refs that there are. Changes under review are "
        "refs/pull/1/head on GitHub and Gitea, refs/merge-requests/1/head on GitLab, refs/pull-requests/1/from on "
        "Bitbucket.",
    )


def _no_head(branches: list[str], location: Location) -> JiemiError:
    if not branches:
        return JiemiError(
            "RefNotFound",
            f"spec.source.repository.url: {location.url} has no HEAD, or is empty",
            f"Push a first commit, or name a branch or tag in {_FIELD}.",
        )
    listed = f"the branches {some_of('main', branches)}" if len(branches) > 1 else f"the branch {branches[0]}"
    return JiemiError(
        "RefNotFound",
        f"spec.source.repository.url: {location.url} has no HEAD: its default branch does not exist; it has {listed}",
        f"Name the branch to follow in {_FIELD}.branch, or set the host's default branch.",
    )


def _name(ref: Ref) -> bytes:
    return (ref.branch or ref.tag or "").encode("utf-8", "replace")


def _below(prefix: bytes, names: Iterable[bytes]) -> list[str]:
    return sorted(
        name.removeprefix(prefix).decode("utf-8", "replace")
        for name in names
        if name.startswith(prefix) and not name.endswith(_PEELED)
    )
