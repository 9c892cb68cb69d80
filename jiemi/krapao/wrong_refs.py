"""Refs that can't be followed: names that git does not take, and commits that the host does not give."""

from __future__ import annotations

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.port import Ref
from jiemi.rpc.contract import is_revision

_COMMIT_FIELD = "spec.source.repository.ref.commit"
_MAX_REF_CHARACTERS = 255
_FORBIDDEN_IN_REF = frozenset(" ~^:?*[\\\x7f")


def commit_not_found(commit: str, error: JiemiError) -> JiemiError:
    """For a commit that is pinned, and that the host does not give."""
    if error.failure.reason == "RevisionNotFound":
        why = "it is not in the repository, or the host gives only tips of branches"
        remedy = "Push the commit, or a branch or tag that names it; and correct `ref.commit` where it is another."
    else:
        why = "it is a tag, a folder or a file"
        remedy = "Put the hash of a commit there (`git rev-parse TAG^{commit}`), or name the tag in `ref.tag`."
    return JiemiError("RefNotFound", f"{_COMMIT_FIELD}: the host does not give commit {commit}: {why}", remedy)


def check_ref(ref: Ref) -> None:
    """Refuse what git-check-ref-format(1) does not take as a name; such a ref can't be."""
    if ref.commit is not None and not is_revision(ref.commit):
        raise JiemiError(
            "RefNotFound",
            f"{_COMMIT_FIELD} is no full commit hash",
            "Give all 40 (or 64) characters of the hash, as `git rev-parse` prints it.",
        )
    field, name = next(
        ((field, name) for field in ("branch", "tag", "name") if (name := getattr(ref, field)) is not None), ("", None)
    )
    if name is None:
        return
    bad = (
        not name
        or len(name) > _MAX_REF_CHARACTERS
        or any(char < " " or char in _FORBIDDEN_IN_REF or "\ud800" <= char <= "\udfff" for char in name)
        or any(part in name for part in ("..", "//", "@{"))
        or name.startswith(("/", "-", "."))
        or name.endswith(("/", ".", ".lock"))
    )
    if bad:
        how = "`git ls-remote`" if field == "name" else f"`git {field} --list`"
        short = "" if field == "name" else ", without refs/ before it"
        raise JiemiError(
            "RefNotFound",
            f"spec.source.repository.ref.{field} is no name that git takes",
            f"Write the name as {how} does{short}.",
        )
