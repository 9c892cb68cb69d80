"""The port to git: one repository as one tenant sees it. The real form is `jiemi.krapao.git.clones`; tests have a fake.

Listing and fetching are apart: a listing says which revision a ref names now and proves that the host lets these
credentials in; a fetch happens only for a revision that is not here yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from jiemi.concurrency.askers import Askers
from jiemi.core.urls import Location
from jiemi.krapao.git.submodules import Start, Submodule
from jiemi.rpc.contract import Changes, Files, FilesRequest
from jiemi.rpc.source import GitCredentials, Source, TagRange

HEADS, TAGS = b"refs/heads/", b"refs/tags/"


@attrs.frozen
class Ref:
    """What is followed: a branch, a tag, a ref by its full name, the newest of some tags, or the repository's HEAD. Or
    one commit, which nothing moves."""

    branch: str | None = None
    tag: str | None = None
    commit: str | None = None
    name: str | None = None
    tags: TagRange | None = None

    @classmethod
    def of(cls, source: Source) -> Ref:
        """What a source follows."""
        return cls(source.branch, source.tag, source.commit, source.name, source.tags)

    @property
    def full_name(self) -> bytes:
        """The full name of the ref that is asked about: of a range, what all tags begin with. For a commit any will
        do."""
        if self.branch is not None:
            return HEADS + self.branch.encode("utf-8", "replace")
        if self.tag is not None:
            return TAGS + self.tag.encode("utf-8", "replace")
        if self.name is not None:
            return self.name.encode("utf-8", "replace")
        return TAGS if self.tags is not None else b"HEAD"

    def __str__(self) -> str:
        if self.commit is not None:
            return f"commit {self.commit[:12]}"
        if self.tags is not None:
            return f"tags {self.tags.versions}"
        if self.branch is not None:
            return f"branch {self.branch}"
        return f"tag {self.tag}" if self.tag is not None else self.name or "HEAD"


@attrs.frozen
class Advertised:
    """What a host said about a ref.

    Attributes:
        revision: the commit, in lower-case hexadecimal.
        target: what the ref itself names: the commit, or the tag object that names it. Old servers give out only this.
        ref: full name of the ref; None for a commit that is wanted itself.
    """

    revision: str
    target: str
    ref: str | None = None


@attrs.frozen
class SignedObjects:
    """What of a revision can be signed, as it is in the repository.

    Attributes:
        commit: the commit.
        tags: the tag that the ref names, and the tags that lead on to the commit; none for a branch or a lightweight
            tag, and where they were not asked for.
    """

    commit: bytes
    tags: tuple[bytes, ...] = ()


@attrs.frozen
class Listed:
    """Which files match.

    Attributes:
        files: those in the repository itself.
        submodules: those in which more may match.
    """

    files: Files
    submodules: tuple[Submodule, ...] = ()


class InSubmodule(Exception):
    """A path leads into a submodule. For whoever follows submodules; nobody is shown it."""

    def __init__(self, submodule: Submodule) -> None:
        super().__init__("a path that leads into a submodule")
        self.submodule = submodule


@attrs.frozen
class FileHistory:
    """The commits that brought a file into its present form.

    Attributes:
        commits: by hash, as they are in the repository.
        is_whole: whether there can be no further ones; there may be where the history that is here ends.
    """

    commits: Mapping[str, bytes]
    is_whole: bool


class GitStore(Protocol):
    """One repository, with one set of credentials. Its methods may be called from several tasks at once.

    `askers` are the tenants that wait for an answer, in whose queues the work waits; None for one that is its own.
    """

    async def advertised(
        self, ref: Ref, askers: Askers | None = None, *, on_begin: Callable[[], None] = lambda: None
    ) -> Advertised:
        """Ask the host which revision the ref names now. One listing.

        Args:
            on_begin: called each time before the host is asked: again, where the work had to make room for others.

        For a commit it proves no more than that the host lets these credentials in: that it has the commit shows when
        it is fetched.

        Raises:
            JiemiError: those of `Repository.head`.
        """
        ...

    async def fetch(self, wanted: Advertised, askers: Askers | None = None, *, with_tag: bool = False) -> None:
        """Bring the revision here, unless it is here already. One fetch.

        Args:
            with_tag: whether the tag that the ref names is wanted too.

        Raises:
            JiemiError: those of `Repository.head`; RevisionNotFound, LimitExceeded.
        """
        ...

    async def signed(self, wanted: Advertised, askers: Askers | None = None, *, with_tag: bool) -> SignedObjects:
        """What of a revision that is here can be signed. No file of it is looked at.

        Raises:
            JiemiError: RevisionNotFound, also where its tag is wanted and not here; LimitExceeded, StorageFailed.
        """
        ...

    async def histories(
        self, wanted: Advertised, paths: Sequence[str], askers: Askers | None = None, *, max_commits: int, deepen: bool
    ) -> Mapping[str, FileHistory]:
        """The commits that brought files of a revision into their present form.

        Args:
            paths: of files that are in the revision, which is here.
            max_commits: how many commits are looked at for each.
            deepen: whether the history is fetched first, so many commits deep.

        Raises:
            JiemiError: those of `fetch`; FileNotFound, NotAFile, LimitExceeded, StorageFailed.
        """
        ...

    async def files(self, request: FilesRequest, askers: Askers | None = None, *, max_bytes: int) -> Files:
        """Which files of a revision that is here match, in the order of their paths.

        Args:
            max_bytes: a larger .sops.yaml is passed over, as where one is read.

        Raises:
            JiemiError: RevisionNotFound, FileNotFound, NotAFile, LimitExceeded, StorageFailed, Timeout.
        """
        ...

    async def changes(self, before: str, after: str, askers: Askers | None = None) -> Changes:
        """Where two revisions that are here differ.

        Raises:
            JiemiError: RevisionNotFound where one of them is not; StorageFailed, Timeout.
        """
        ...

    async def listed(self, request: FilesRequest, at: Start, askers: Askers | None = None, *, max_bytes: int) -> Listed:
        """The same, and in which submodules more may match.

        Args:
            at: where this repository is in the one that the request is about.
        """
        ...

    async def read(
        self,
        revision: str,
        path: str,
        askers: Askers | None = None,
        *,
        max_bytes: int,
        into_submodules: bool = False,
    ) -> bytes:
        """The file at `path` in a revision that is here.

        Raises:
            InSubmodule: it is in a submodule, and `into_submodules`.
            JiemiError: RevisionNotFound, FileNotFound, NotAFile, LimitExceeded, StorageFailed.
        """
        ...


OpenGitStore = Callable[[Location, GitCredentials], AbstractAsyncContextManager[GitStore]]
"""Gives the store of one repository; leaving the context lets go of it, and keeps what is on the volume."""
