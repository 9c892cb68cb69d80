"""Which repositories are open, and one worker for each.

Equal URL and equal credentials share a worker, so that 50 Decryptors of one repository cost one clone, and one
listing and one fetch per revision, whichever tenants they are of; what they share waits in the queue of each tenant.
Other credentials are another worker, which the host must let in by itself. A worker is one task in the service's
nursery; it begins with the first who opens the repository and ends with the last who closes it, and then the
credentials are forgotten. The clone stays on the volume (`jiemi.krapao.git.clones`), so opening again is cheap.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import attrs
import trio

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.fair_limiter import FairLimiter
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.urls import Location, parse_url
from jiemi.krapao.decryption.port import Decrypter
from jiemi.krapao.followed_submodules import FollowedSubmodules
from jiemi.krapao.git.port import OpenGitStore, Ref
from jiemi.krapao.metrics import Listing
from jiemi.krapao.reading.reader import Reading
from jiemi.krapao.rendering.file_renderer import RenderingTools
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.signatures.verifier import Verifier
from jiemi.krapao.trusted import Policy, TrustedRevisions
from jiemi.krapao.worker import Worker
from jiemi.rpc.contract import Changes, Files, FilesRequest, Head, Rendered, RenderRequest, Repository, require_tenant
from jiemi.rpc.source import GitCredentials, Source, Submodules
from jiemi.rpc.verification import Verified
from jiemi.tracing.current import in_trace

Charge = Callable[[Location, str], AbstractContextManager[None]]
"""Charges a repository's clone to a tenant while the context lasts."""

_END_SECONDS = 10

_PARSERS = 2
"""How many files are parsed at once: Python's own lock lets one thread run at a time anyhow."""


@attrs.define(eq=False)
class _Entry:
    """A worker and how many have it open."""

    users: int = 0
    worker: Worker | None = None
    ready: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


class Repositories:
    """The port `Krapao` over a way to reach git and a way to decrypt."""

    def __init__(
        self,
        nursery: trio.Nursery,
        open_store: OpenGitStore,
        decrypter: Decrypter,
        settings: KrapaoSettings,
        reading: Reading,
        charge: Charge = lambda *_: contextlib.nullcontext(),
    ) -> None:
        self._nursery = nursery
        self._open_store = open_store
        self._decrypter = decrypter
        self._settings = settings
        self._charge = charge
        self._tools = RenderingTools(decrypter, reading, FairLimiter(_PARSERS))
        self._trusted = TrustedRevisions(Verifier(settings, reading.measures), nursery)
        self._entries: dict[tuple[Location, GitCredentials], _Entry] = {}

    @property
    def worker_count(self) -> int:
        """How many repositories are open now."""
        return len(self._entries)

    def listings(self) -> Mapping[Listing, int]:
        """How many repositories are open, by what became of their last listing. May be called from any thread."""
        workers = [entry.worker for entry in list(self._entries.values())]
        return Counter(worker.listing for worker in workers if worker is not None)

    @contextlib.asynccontextmanager
    async def open(self, source: Source, credentials: GitCredentials, tenant: str = "") -> AsyncIterator[Repository]:
        """As `Krapao.open` of the contract."""
        ref = Ref.of(source)
        try:
            require_tenant(tenant)
            location = parse_url(source.url, allow_file=self._settings.allow_file_urls)
        except JiemiError as error:
            yield _Refused(error.failure)
            return
        with self._charge(location, tenant):
            async with self._opened(location, credentials, ref, source.submodules, tenant) as opened:
                if source.verification is None:
                    yield opened
                else:
                    policy = Policy.of(location.url, ref, source.verification)
                    yield _Verified(opened, policy, self._trusted)

    @contextlib.asynccontextmanager
    async def _opened(
        self, location: Location, credentials: GitCredentials, ref: Ref, wanted: Submodules | None, tenant: str
    ) -> AsyncIterator[_Open]:
        submodules = None if wanted is None else self._submodules(location, credentials, wanted, tenant)
        async with self._working(location, credentials) as worker:
            opened = _Open(worker, ref, self._decrypter, Askers(tenant), submodules)
            try:
                yield opened
            finally:
                self._decrypter.own(opened, ())
                if submodules is not None:
                    await submodules.close()

    def _submodules(
        self, location: Location, credentials: GitCredentials, wanted: Submodules, tenant: str
    ) -> FollowedSubmodules:
        @contextlib.asynccontextmanager
        async def open_worker(location: Location, credentials: GitCredentials) -> AsyncIterator[Worker]:
            with self._charge(location, tenant):
                async with self._working(location, credentials) as worker:
                    yield worker

        return FollowedSubmodules(wanted.hosts, location, credentials, open_worker, self._settings)

    @contextlib.asynccontextmanager
    async def _working(self, location: Location, credentials: GitCredentials) -> AsyncIterator[Worker]:
        """The worker of a repository, for as long as the context lasts."""
        key = (location, credentials)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            with in_trace(None):  # it serves later calls too; that of a submodule is opened within one
                self._nursery.start_soon(self._work, location, credentials, entry)
        entry.users += 1
        try:
            await entry.ready.wait()
            if entry.worker is None:
                raise JiemiError("KrapaoUnavailable", "Krapao is stopping")
            yield entry.worker
        finally:
            entry.users -= 1
            if entry.users == 0:
                if self._entries.get(key) is entry:
                    del self._entries[key]
                entry.scope.cancel()
                # Its threads are interrupted and end at once; the bound is for a machine that hardly moves.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _END_SECONDS):
                    await entry.ended.wait()

    async def _work(self, location: Location, credentials: GitCredentials, entry: _Entry) -> None:
        try:
            with entry.scope:
                async with self._open_store(location, credentials) as store, trio.open_nursery() as nursery:
                    entry.worker = Worker(location.url, store, self._tools, self._settings, nursery)
                    entry.ready.set()
                    await trio.sleep_forever()
        finally:
            entry.worker = None
            entry.ready.set()
            entry.ended.set()


class _Open:
    """A repository that someone has open. The port `Repository`."""

    def __init__(
        self,
        worker: Worker,
        ref: Ref,
        decrypter: Decrypter,
        askers: Askers,
        submodules: FollowedSubmodules | None,
    ) -> None:
        self._askers = askers
        self._submodules = submodules
        self._worker = worker
        self._ref = ref
        self._decrypter = decrypter

    async def head(self, *, max_age_seconds: float) -> Head:
        return await self._worker.head(self._ref, self._askers, max_age_seconds=max_age_seconds)

    async def verify(self, request: FilesRequest) -> Verified:
        raise JiemiError("InvalidSpec", "the repository was opened without spec.source.repository.verify")

    async def require(
        self, trusted: TrustedRevisions, policy: Policy, revision: str, paths: Sequence[str] = ()
    ) -> Verified:
        """Refuse a revision that is not signed as the policy wants it, or a file of it."""
        return await trusted.require(policy, self._worker, revision, paths, self._askers)

    async def matching(self, trusted: TrustedRevisions, policy: Policy, request: FilesRequest) -> Sequence[str]:
        """The paths of the files that match."""
        return await trusted.matching(policy, self._worker, request, self._askers)

    async def files(self, request: FilesRequest) -> Files:
        return await self._worker.files(self._ref, request, self._askers, self._submodules)

    async def changes(self, before: str, after: str) -> Changes:
        return await self._worker.changes(self._ref, before, after, self._askers)

    async def render(self, request: RenderRequest) -> Rendered:
        self._decrypter.own(self, request.keys)
        return await self._worker.render(self._ref, request, self._askers, self._submodules)

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        await self._worker.watch(self._ref, on_moved)


@attrs.frozen
class _Verified:
    """A repository that someone has open, of which only what is verified is looked at. The port `Repository`."""

    opened: _Open
    policy: Policy
    trusted: TrustedRevisions

    async def head(self, *, max_age_seconds: float) -> Head:
        return await self.opened.head(max_age_seconds=max_age_seconds)

    async def verify(self, request: FilesRequest) -> Verified:
        found = await self.opened.require(self.trusted, self.policy, request.revision)
        if self.policy.verification.minimum_signers > 1:
            paths = await self.opened.matching(self.trusted, self.policy, request)
            return await self.opened.require(self.trusted, self.policy, request.revision, paths)
        return found

    async def files(self, request: FilesRequest) -> Files:
        await self.opened.require(self.trusted, self.policy, request.revision)
        return await self.opened.files(request)

    async def changes(self, before: str, after: str) -> Changes:
        await self.opened.require(self.trusted, self.policy, after)
        return await self.opened.changes(before, after)

    async def render(self, request: RenderRequest) -> Rendered:
        await self.opened.require(self.trusted, self.policy, request.revision, (request.path,))
        return await self.opened.render(request)

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        await self.opened.watch(on_moved)


class _Refused:
    """A repository whose URL can't be used: each question raises the reason."""

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    async def head(self, *, max_age_seconds: float) -> Head:
        raise JiemiError.of(self._failure)

    async def verify(self, request: FilesRequest) -> Verified:
        raise JiemiError.of(self._failure)

    async def files(self, request: FilesRequest) -> Files:
        raise JiemiError.of(self._failure)

    async def changes(self, before: str, after: str) -> Changes:
        raise JiemiError.of(self._failure)

    async def render(self, request: RenderRequest) -> Rendered:
        raise JiemiError.of(self._failure)

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        await trio.sleep_forever()
