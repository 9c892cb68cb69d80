"""Submodules: where they are in a revision, and which repository they are of.

A submodule is an entry of a folder with the hash of a commit, and a section of the file .gitmodules at the root that
gives its path and the URL of the other repository (gitmodules(5)). Both are written by whoever writes the repository,
so a URL is read as strictly as that of a Decryptor (`jiemi.core.urls`), and nothing else of the file is looked at: no
branch, no `update` command, no include.
"""

from __future__ import annotations

import io
from typing import NoReturn

import attrs
from dulwich.config import ConfigFile

from jiemi.core.errors import JiemiError
from jiemi.core.urls import FIELD, Location, Scheme, parse_url
from jiemi.krapao.git.tree_paths import Parts

GITMODULES = ".gitmodules"

MAX_GITMODULES_BYTES = 256 * 1024
"""A section takes about 100 bytes."""


@attrs.frozen
class Submodule:
    """A submodule in which something is looked for.

    Attributes:
        path: from the root of the repository that is followed.
        commit: the one that is wanted of the other repository, in hexadecimal.
        config: the hash of the nearest .sops.yaml above it, or None.
    """

    path: str
    commit: str
    config: str | None


@attrs.frozen
class Start:
    """Where the root of a repository is in the one that is followed.

    Attributes:
        path: with a slash at its end; "" for the one that is followed.
        config: the hash of the nearest .sops.yaml above, or None.
        into_submodules: whether submodules are noted; otherwise nothing is in them.
    """

    path: str = ""
    config: str | None = None
    into_submodules: bool = False

    @property
    def parts(self) -> Parts:
        """The parts of the path."""
        return tuple(part.encode() for part in self.path.split("/")[:-1])


ROOT = Start()
FOLLOWED = Start(into_submodules=True)
"""The root of a repository whose submodules are followed."""


def url_of(gitmodules: bytes, path: str) -> str:
    """The URL that a .gitmodules gives for a submodule.

    Args:
        path: of the submodule from the root of the repository that the file is of.

    Raises:
        JiemiError: SubmoduleInvalid.
    """
    try:
        config = ConfigFile.from_file(io.BytesIO(gitmodules), expand_includes=False)
        urls = [
            _value(config, section, b"url")
            for section in config.sections()
            if len(section) == 2 and section[0].lower() == b"submodule" and _value(config, section, b"path") == path
        ]
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise JiemiError(
            "SubmoduleInvalid",
            f"{GITMODULES} can't be read",
            f"Compare it with what `git config --file {GITMODULES} --list` says.",
        ) from error
    found = list(dict.fromkeys(url for url in urls if url))
    if not found:
        raise JiemiError(
            "SubmoduleInvalid",
            f"{GITMODULES} has no URL for {path}",
            "Commit the section that `git submodule add` writes, or take the submodule out (`git rm`).",
        )
    if len(found) > 1:
        raise JiemiError(
            "SubmoduleInvalid", f"{GITMODULES} has two URLs for {path}", "Leave one of the sections with this path."
        )
    return found[0]


def _value(config: ConfigFile, section: tuple[bytes, ...], name: bytes) -> str:
    try:
        value = config.get(section, name)
    except KeyError:
        return ""
    text = value.decode("utf-8", "surrogateescape")
    return text.rstrip("/") if name == b"path" else text


def locate(url: str, parent: Location, *, allow_file: bool) -> Location:
    """Where a submodule's repository is.

    Args:
        url: as .gitmodules has it; one that begins with ./ or ../ counts from the parent's.
        parent: the repository that the .gitmodules is of.
        allow_file: whether the operator allows file URLs.

    Raises:
        JiemiError: SubmoduleInvalid.
    """
    if url.startswith(("./", "../")):
        return _relative(url, parent)
    try:
        return parse_url(url, allow_file=allow_file)
    except JiemiError as error:
        failure = error.failure
        remedy = failure.own_remedy.replace("spec.source.repository.ref", "the submodule's commit")
        if "credentials" in remedy:
            remedy = "Take it out of there. If it is in use, replace it: whoever may read the repository has it."
        what = failure.message.removeprefix(FIELD).lstrip(":").strip()
        raise JiemiError("SubmoduleInvalid", f"its URL in {GITMODULES} {_be(what)}", remedy) from error


def _be(what: str) -> str:
    """The rest of a sentence about a URL."""
    return what if what.startswith(("is ", "has ", "holds ", "names ")) else f"can't be used: {what}"


def _relative(url: str, parent: Location) -> Location:
    parts = parent.path.split("/")
    for step in url.split("/"):
        if step in ("", "."):
            continue
        if step != "..":
            parts.append(step)
        elif len([part for part in parts if part]) > 0:
            parts.pop()
        else:
            _leads_out()
    if not any(parts):
        _leads_out()
    path = "/".join(parts)
    try:
        if parent.scheme is Scheme.FILE:
            return parse_url(f"file://{path}", allow_file=True)
        # Read once more: what is appended may hold anything.
        return parse_url(attrs.evolve(parent, path=path).url) if parent.path.startswith("/") else _short(parent, path)
    except JiemiError as error:
        raise JiemiError(
            "SubmoduleInvalid", f"its relative URL in {GITMODULES} can't be read", "Write the whole URL there."
        ) from error


def _short(parent: Location, path: str) -> Location:
    """Of ssh's short form, whose path counts from the home."""
    user = f"{parent.user}@" if parent.user is not None else ""
    return attrs.evolve(parse_url(f"{user}{parent.host}:{path}"), port=parent.port)


def _leads_out() -> NoReturn:
    raise JiemiError(
        "SubmoduleInvalid",
        f"its relative URL in {GITMODULES} leads above the host's root",
        "Write fewer ../, or the whole URL.",
    )


def same_host(one: Location, other: Location) -> bool:
    """Whether two repositories are reached in the same way, on the same host and port: the host of the one is shown
    nothing that it does not know when it is shown the credentials of the other."""
    first, second = one.host.removesuffix("."), other.host.removesuffix(".")
    return (one.scheme, first, one.port) == (other.scheme, second, other.port)
