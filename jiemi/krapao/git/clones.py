"""Clones on the volume: bare, shallow, read without a checkout. Each is a `jiemi.krapao.git.clone.Clone`.

On the volume, under STATE/repositories/:

    <hash of the URL>/url                       the URL, for people
    <hash of the URL>/<generation>/objects/     packs, as git has them
    <hash of the URL>/<generation>/revisions/   an empty file for each commit that is complete in there

That is layout 1 (`jiemi.krapao.git.layout` says what becomes of others).

All tenants of one URL share its folder: it holds ciphertext, and git names each object by the hash of its bytes, so
what is read for a revision is that revision, whoever fetched it. That a tenant may see the revision is proven by a
listing with its own credentials, which its worker asks for; nothing of the credentials is on the volume, not even a
hash.

Packs pile up, so a clone with too many, or too large a one, is recreated as the next generation; readers of the old
one find their revision gone and fetch it again. A damaged clone costs one StorageFailed and is removed. One lock
per folder lets one fetch write at a time; readers need none.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import trio

from jiemi.concurrency.calls import Interrupter, run_blocking
from jiemi.core.urls import Location
from jiemi.krapao.git.clone import Clone, SharedFolder, Volume
from jiemi.krapao.git.folders import storage
from jiemi.krapao.git.git_host import GitHost
from jiemi.krapao.git.layout import remove_set_aside, repositories
from jiemi.krapao.git.limiters import Limiters
from jiemi.krapao.git.port import GitStore
from jiemi.krapao.git.store import Store
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials


class Clones:
    """All clones of one Krapao."""

    def __init__(
        self,
        settings: KrapaoSettings,
        hold_volume: Callable[[], None] = lambda: None,
        metrics: KrapaoMetrics | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics if metrics is not None else KrapaoMetrics()
        self._hold_volume = hold_volume
        self._root = repositories(settings.state_dir)
        self._folders: dict[str, SharedFolder] = {}
        self._pruning = trio.Lock()
        self._store = Store(
            self._root,
            settings.max_store_bytes,
            settings.max_tenant_store_bytes,
            self._open_tenants,
            lambda: remove_set_aside(settings.state_dir),
        )
        self._metrics.watch_store(lambda: self._store.total_bytes, settings.max_store_bytes)
        limiters = Limiters(settings)
        self._volume = Volume(settings, limiters, self._store, hold_volume)
        self._metrics.watch_slots("listings", limiters.listings)
        self._metrics.watch_slots("fetches", limiters.fetches)
        self._metrics.watch_slots("reads", limiters.readers)
        self._metrics.watch_slots("searches", limiters.searches)

    @contextlib.asynccontextmanager
    async def open(self, location: Location, credentials: GitCredentials) -> AsyncIterator[GitStore]:
        """One repository with one tenant's credentials. Asks nobody and writes nothing yet."""
        with self._used(location) as folder:
            yield Clone(GitHost(location, credentials, self._settings, self._metrics), self._volume, folder)

    @contextlib.contextmanager
    def charge(self, location: Location, tenant: str) -> Iterator[None]:
        """While the context lasts, a tenant has a repository open, and its clone is charged to it.

        Args:
            tenant: an opaque name; "" where nobody says which it is, and then nobody is charged.
        """
        with self._used(location) as folder:
            if tenant:
                folder.tenants[tenant] += 1
            try:
                yield
            finally:
                if tenant:
                    folder.tenants[tenant] -= 1
                    folder.tenants += Counter()  # leaves those out that are at 0

    @contextlib.contextmanager
    def _used(self, location: Location) -> Iterator[SharedFolder]:
        name = hashlib.sha256(repr(location.repository).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        folder = self._folders.setdefault(name, SharedFolder(self._root / name))
        folder.users += 1
        try:
            yield folder
        finally:
            folder.users -= 1
            if folder.users == 0:
                self._folders.pop(name, None)
                self._store.closed(name)

    def _open_tenants(self, name: str) -> tuple[str, ...] | None:
        folder = self._folders.get(name)
        return tuple(folder.tenants) if folder is not None else None

    async def prune(self) -> None:
        """Remove clones that nobody has open, the longest unused first, until the rest is within its bound."""
        async with self._pruning:

            def prune(interrupter: Interrupter) -> None:
                with storage():
                    self._hold_volume()
                self._store.read(interrupter)
                self._store.trim()

            await run_blocking(prune, limiter=trio.CapacityLimiter(1))
