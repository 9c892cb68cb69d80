"""Following submodules: what a Decryptor names may be in one, which is another repository.

Each is opened as any repository is, with a worker, a clone and the permission of its host, and charged to the tenant
that asks. Which repository that is says a file of the one that has it (`jiemi.krapao.git.submodules`), so:

- it must be on the host of the repository that is followed, or on one that the Decryptor names;
- the credentials go to the host, port and scheme that they are for, and nowhere else;
- how many there are, and how deep one is in another, is bounded;
- the commit is part of the tree above it, so whoever may sign or write the repository decides on what is in it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import attrs

from jiemi.concurrency.askers import Askers
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.urls import FIELD, Location
from jiemi.krapao.git.glob_search import too_many_files
from jiemi.krapao.git.port import InSubmodule, Listed, Ref
from jiemi.krapao.git.submodules import (
    GITMODULES,
    MAX_GITMODULES_BYTES,
    Start,
    Submodule,
    locate,
    same_host,
    url_of,
)
from jiemi.krapao.git.tree_paths import split_path
from jiemi.krapao.revision_files import AtRevision
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.worker import Worker
from jiemi.rpc.contract import MAX_FILES, FileEntry, Files, FilesRequest
from jiemi.rpc.source import GitCredentials

MAX_SUBMODULES = 50
"""The most submodules that one Decryptor's files may be in."""

MAX_DEPTH = 5
"""How deep a submodule may be in others."""

LET_IN_SECONDS = 180.0
"""How long ago a submodule's host may have let the credentials in, in seconds: as often as a repository is asked."""

_FIELD = "spec.source.repository.submodules"

_REFUSED = ("RepositoryAccessDenied", "RepositoryNotFound")

OpenWorker = Callable[[Location, GitCredentials], AbstractAsyncContextManager[Worker]]
"""Gives the worker of another repository, and charges its clone to whoever asks."""


@attrs.frozen
class _Parent:
    """A revision in which submodules are.

    Attributes:
        path: where its root is in the repository that is followed, with a slash at its end.
        depth: in how many submodules it is.
    """

    at: AtRevision
    location: Location
    path: str = ""
    depth: int = 0


@attrs.define
class FollowedSubmodules:
    """The submodules of one repository that someone has open. The port `SubmoduleReader`.

    Attributes:
        hosts: that submodules may be on, beside the repository's own, in lower case.
    """

    hosts: tuple[str, ...]
    _location: Location
    _credentials: GitCredentials
    _open_worker: OpenWorker
    _settings: KrapaoSettings
    _stack: AsyncExitStack = attrs.field(factory=AsyncExitStack)
    _kept: set[Location] = attrs.field(factory=set)
    _is_closed: bool = False

    async def close(self) -> None:
        """Let go of the repositories."""
        self._is_closed = True
        await self._stack.aclose()

    async def files(self, at: AtRevision, listed: Listed, request: FilesRequest, askers: Askers) -> Files:
        entries = list(listed.files.entries)
        root = _Parent(at, self._location)
        left = deque((root, each) for each in listed.submodules)
        count = 0
        async with AsyncExitStack() as opened:
            while left:
                parent, submodule = left.popleft()
                count += 1
                if count > MAX_SUBMODULES:
                    raise JiemiError(
                        "LimitExceeded",
                        f"the files are in more than {MAX_SUBMODULES} submodules",
                        "Begin the globs with narrower folders, or exclude some submodules (spec.source.exclude).",
                    )
                inner = await opened.enter_async_context(self._entered(parent, submodule, askers))
                with self._about(submodule, inner.location):
                    found = await inner.at.worker.listed(
                        inner.at.ref,
                        attrs.evolve(request, revision=submodule.commit),
                        Start(inner.path, submodule.config, into_submodules=True),
                        askers,
                    )
                entries += found.files.entries
                if len(entries) > MAX_FILES:
                    raise too_many_files(MAX_FILES)
                left.extend((inner, each) for each in found.submodules)
        return Files(request.revision, tuple(sorted(entries, key=_path)), direct=listed.files.direct and not count)

    async def read(self, at: AtRevision, submodule: Submodule, path: str, askers: Askers, *, max_bytes: int) -> bytes:
        parent = _Parent(at, self._location)
        async with AsyncExitStack() as opened:
            while True:
                inner = await opened.enter_async_context(self._entered(parent, submodule, askers))
                below = b"/".join(split_path(path)[inner.path.count("/") :]).decode()
                try:
                    with self._about(submodule, inner.location):
                        return await inner.at.worker.read(
                            inner.at, below, askers, max_bytes=max_bytes, into_submodules=True
                        )
                except InSubmodule as nested:
                    parent = inner
                    submodule = attrs.evolve(nested.submodule, path=inner.path + nested.submodule.path)

    @contextlib.asynccontextmanager
    async def _entered(self, parent: _Parent, submodule: Submodule, askers: Askers) -> AsyncIterator[_Parent]:
        """The repository of a submodule, once its host has let the credentials in.

        Raises:
            JiemiError: SubmoduleInvalid, SubmoduleNotAllowed, LimitExceeded, and those of `Repository.head`.
        """
        if parent.depth == MAX_DEPTH:
            raise JiemiError(
                "LimitExceeded",
                f"submodule {submodule.path}: submodules in submodules, more than {MAX_DEPTH} deep",
                "Exclude it (spec.source.exclude), or follow its repository by a Decryptor of its own.",
            )
        location = await self._located(parent, submodule, askers)
        credentials = self._credentials
        if not same_host(location, self._location):
            # The way there is the same; nothing else goes to another host.
            credentials = GitCredentials(
                proxy_url=credentials.proxy_url,
                proxy_username=credentials.proxy_username,
                proxy_password=credentials.proxy_password,
            )
        await self._keep(location, credentials)
        async with self._open_worker(location, credentials) as worker:
            ref = Ref(commit=submodule.commit)
            with self._about(submodule, location):
                await worker.head(ref, askers, max_age_seconds=LET_IN_SECONDS)
            at = AtRevision(worker, ref, submodule.commit)
            yield _Parent(at, location, f"{submodule.path}/", parent.depth + 1)

    async def _located(self, parent: _Parent, submodule: Submodule, askers: Askers) -> Location:
        """Where the repository of a submodule is, if it may be there."""
        try:
            gitmodules = await parent.at.worker.read(parent.at, GITMODULES, askers, max_bytes=MAX_GITMODULES_BYTES)
        except JiemiError as error:
            if error.failure.reason not in ("FileNotFound", "NotAFile", "LimitExceeded"):
                raise
            raise JiemiError(
                "SubmoduleInvalid",
                f"submodule {submodule.path}: {GITMODULES} is missing, is no file, or has more than "
                f"{MAX_GITMODULES_BYTES} bytes",
                "Commit the one that `git submodule add` writes.",
            ) from error
        try:
            url = url_of(gitmodules, submodule.path.removeprefix(parent.path))
            location = locate(url, parent.location, allow_file=self._settings.allow_file_urls)
        except JiemiError as error:
            raise JiemiError.of(error.failure.at(f"submodule {submodule.path}")) from error
        host = location.host.removesuffix(".")
        if not same_host(location, self._location) and host != self._location.host and host not in self.hosts:
            shown = host or "a file URL, which has no host"
            raise JiemiError(
                "SubmoduleNotAllowed",
                f"submodule {submodule.path} is on {shown}, which {_FIELD}.hosts does not name",
                f"If its files may be deployed, add {host} there." if host else "Give it a URL with a host.",
            )
        return location

    async def _keep(self, location: Location, credentials: GitCredentials) -> None:
        """Have the repository open as long as the one that is followed, so that its host is not asked for each file."""
        if self._has_closed() or location in self._kept or len(self._kept) >= MAX_SUBMODULES:
            return
        self._kept.add(location)
        opening = self._open_worker(location, credentials)
        try:
            await opening.__aenter__()
        except BaseException:
            self._kept.discard(location)
            raise
        self._stack.push_async_exit(opening)
        if self._has_closed():
            await self._stack.aclose()

    def _has_closed(self) -> bool:
        """Asked again after a wait, in which it may have been closed."""
        return self._is_closed

    @contextlib.contextmanager
    def _about(self, submodule: Submodule, location: Location) -> Iterator[None]:
        """Errors get the submodule in front."""
        try:
            yield
        except JiemiError as error:
            raise JiemiError.of(self._described(error.failure, submodule, location)) from error

    def _described(self, failure: Failure, submodule: Submodule, location: Location) -> Failure:
        where = f"submodule {submodule.path} ({location.url})"
        failure = attrs.evolve(failure, message=failure.message.removeprefix(f"{FIELD}: "))
        if failure.reason in ("RefNotFound", "RevisionNotFound"):
            return Failure(
                "RefNotFound",
                f"{where}: its host does not give commit {submodule.commit[:12]}, which the repository names for it",
                "Push that commit to the submodule's repository, or commit another one "
                "(`git submodule update --remote`).",
            )
        if failure.reason not in _REFUSED or same_host(location, self._location):
            return failure.at(where)
        known = f"{self._location.scheme.value}://{self._location.authority}"
        return attrs.evolve(
            failure.at(where),
            own_remedy=f"The credentials are sent only to {known}. Let the submodule be public, or give it a relative "
            "URL (../NAME.git) and have it on that host.",
        )


def _path(entry: FileEntry) -> str:
    return entry.path
