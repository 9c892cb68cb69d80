"""One repository with one tenant's credentials: the real form of `jiemi.krapao.git.port.GitStore`.

It decides what waits for which slot: one listing at a time for the credentials, one fetch at a time into a folder;
readers need no lock. It also makes room on the volume, and removes a clone that turns out to be damaged. Listing,
fetching and reading themselves are in `listing`, `fetching` and `revision`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import attrs
import structlog
import trio
from dulwich.object_format import SHA1, SHA256

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.calls import Interrupted, Interrupter
from jiemi.concurrency.fair_limiter import Bound, Slot
from jiemi.core.content.globs import is_glob
from jiemi.core.errors import JiemiError
from jiemi.krapao.git.fetching import Fetched, Fetcher
from jiemi.krapao.git.folders import VolumeFullError, damaged, generations, remove
from jiemi.krapao.git.git_host import ConversationLimits, GitHost, on_thread
from jiemi.krapao.git.history import histories
from jiemi.krapao.git.limiters import Limiters
from jiemi.krapao.git.listing import Lister
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.pack_store import PackStore, open_packs
from jiemi.krapao.git.port import Advertised, FileHistory, InSubmodule, Listed, Ref, SignedObjects
from jiemi.krapao.git.revision import compare_revisions, match_files, read_file, signed_objects
from jiemi.krapao.git.store import Store
from jiemi.krapao.git.submodules import ROOT, Start
from jiemi.krapao.git.tree_paths import split_path
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import Changes, Files, FilesRequest

T = TypeVar("T")

_MAX_DEEPENED = 1_000
"""How many revisions are remembered whose history was fetched."""

log = structlog.get_logger("jiemi.krapao.git")


@attrs.define
class SharedFolder:
    """One repository's folder, shared by all who have it open.

    Attributes:
        deepened: generations and revisions whose history was fetched, and how many commits deep.
    """

    path: Path
    lock: trio.Lock = attrs.field(factory=trio.Lock)
    users: int = 0
    tenants: Counter[str] = attrs.field(factory=Counter)
    deepened: set[tuple[Path, str, int]] = attrs.field(factory=set)


@attrs.frozen
class Volume:
    """What all clones of one Krapao share.

    Attributes:
        store: decides which clones leave the volume.
        hold: raises where another Krapao has the volume.
    """

    settings: KrapaoSettings
    limiters: Limiters
    store: Store
    hold: Callable[[], None]


class Clone:
    """One repository with one tenant's credentials."""

    def __init__(self, host: GitHost, volume: Volume, folder: SharedFolder) -> None:
        self._host = host
        self._settings = volume.settings
        self._folder = folder
        self._limiters = volume.limiters
        self._store = volume.store
        self._lister = Lister(host)
        self._fetcher = Fetcher(host, folder.path, volume.hold)

    async def advertised(
        self, ref: Ref, askers: Askers | None = None, *, on_begin: Callable[[], None] = lambda: None
    ) -> Advertised:
        settings = self._settings
        limits = ConversationLimits(
            "listing", "its list of refs", settings.max_refs_bytes, settings.listing_grace_seconds
        )

        async def listing(slot: Slot) -> Advertised:
            on_begin()
            return await self._host.converse(
                lambda meter: self._lister.list_ref(ref, meter), "listing the refs", limits, slot
            )

        # One listing at a time per set of credentials; the slot is not taken before it is its turn.
        own, host = Bound(self, 1), self._limiters.listing_of(self._host.location.authority)
        return await self._limiters.listings.run(askers or Askers(), listing, own, host)

    async def fetch(self, wanted: Advertised, askers: Askers | None = None, *, with_tag: bool = False) -> None:
        if await self._blocking(lambda _: self._is_here(wanted, with_tag=with_tag), askers):
            return
        # One fetch at a time writes into a folder; the others wait without a slot.
        own, host = Bound(self._folder.path, 1), self._limiters.fetch_of(self._host.location.authority)

        async def fetch(slot: Slot) -> None:
            await self._fetch_alone(wanted, slot, with_tag=with_tag)

        await self._limiters.fetches.run(askers or Askers(), fetch, own, host)

    async def _fetch_alone(self, wanted: Advertised, slot: Slot, *, with_tag: bool) -> None:
        async with self._folder.lock:
            if await on_thread(lambda _: self._is_here(wanted, with_tag=with_tag)):
                return
            began = trio.current_time()
            fetched = await self._fetch_with_room(wanted, slot)
            log.info(
                "clone" if fetched.whole else "fetch",
                repository=self._host.location.url,
                revision=wanted.revision,
                objects=fetched.objects,
                received_bytes=fetched.received_bytes,
                duration_ms=round((trio.current_time() - began) * 1000),
            )

    async def _fetch_with_room(self, wanted: Advertised, slot: Slot) -> Fetched:
        """Fetch; where the volume is full, remove what nobody needs and fetch once more."""
        name, tenants = self._folder.path.name, tuple(self._folder.tenants)
        try:
            return await self._fetch_within_share(name, tenants, wanted, slot)
        except VolumeFullError:
            log.warning("volume_full", repository=self._host.location.url)
            size = 2 * min(self._settings.max_pack_bytes, self._fetcher.last_received)
            if not await on_thread(lambda _: self._store.free(name, tenants, size)):
                raise _no_room() from None
        try:
            return await self._fetch_within_share(name, tenants, wanted, slot)
        except VolumeFullError:
            raise _no_room() from None

    async def _fetch_within_share(self, name: str, tenants: tuple[str, ...], wanted: Advertised, slot: Slot) -> Fetched:
        return await self._within_share(name, tenants, lambda meter: self._fetcher.fetch(wanted, meter, slot), slot)

    async def _within_share(self, name: str, tenants: tuple[str, ...], fetch: Callable[[Meter], T], slot: Slot) -> T:
        settings = self._settings
        left = await on_thread(lambda interrupter: self._store.before_fetch(name, tenants, interrupter))
        stage, size = "the revision's pack", settings.max_pack_bytes
        if tenants and left < size:
            stage, size = "the revision's pack, beside what else is charged to this namespace,", left
        limits = ConversationLimits("fetch", stage, settings.max_refs_bytes + size, settings.fetch_grace_seconds)
        fetched = await self._host.converse(fetch, "fetching", limits, slot)
        await on_thread(lambda _: self._store.after_fetch(name, tenants))
        return fetched

    async def files(self, request: FilesRequest, askers: Askers | None = None, *, max_bytes: int) -> Files:
        return (await self.listed(request, ROOT, askers, max_bytes=max_bytes)).files

    async def listed(self, request: FilesRequest, at: Start, askers: Askers | None = None, *, max_bytes: int) -> Listed:
        def find(interrupter: Interrupter) -> Listed:
            return self._match(request, at, max_bytes, interrupter)

        if not any(map(is_glob, request.patterns)):
            return await self._undamaged(lambda: self._blocking(find, askers))
        return await self._search(find, "looking through the folders", askers)

    async def changes(self, before: str, after: str, askers: Askers | None = None) -> Changes:
        def compare(interrupter: Interrupter) -> Changes:
            return self._compare(before, after, interrupter)

        return await self._search(compare, "looking through the folders", askers)

    async def _search(self, find: Callable[[Interrupter], T], what: str, askers: Askers | None) -> T:
        """Do what may take long, as the writer of the repository chooses, within its time and in a slot of its own
        kind."""
        seconds = self._settings.search_timeout_seconds

        async def search(_: Slot) -> T:
            try:
                with trio.fail_after(seconds):
                    return await self._undamaged(lambda: on_thread(find))
            except trio.TooSlowError as error:
                raise JiemiError("Timeout", f"{what} took longer than {seconds:g} s") from error

        own = self._limiters.searches_of(self._folder.path)
        return await self._limiters.searches.run(askers or Askers(), search, own)

    async def signed(self, wanted: Advertised, askers: Askers | None = None, *, with_tag: bool) -> SignedObjects:
        def read() -> SignedObjects:
            with self._opened(wanted.revision) as objects:
                return signed_objects(objects, wanted, with_tag=with_tag)

        return await self._undamaged(lambda: self._blocking(lambda _: read(), askers))

    async def histories(
        self, wanted: Advertised, paths: Sequence[str], askers: Askers | None = None, *, max_commits: int, deepen: bool
    ) -> Mapping[str, FileHistory]:
        if deepen:
            await self._deepen(wanted, max_commits, askers)

        def read(interrupter: Interrupter) -> Mapping[str, FileHistory]:
            check = Meter(interrupter, 0, "").check
            with self._opened(wanted.revision) as objects:
                return histories(objects, wanted.revision, paths, max_commits=max_commits, check=check)

        return await self._search(read, "looking through the history", askers)

    async def _deepen(self, wanted: Advertised, commits: int, askers: Askers | None) -> None:
        """Fetch the history of a revision that is here; once, because the host would send all of it again."""
        own, host = Bound(self._folder.path, 1), self._limiters.fetch_of(self._host.location.authority)
        name, tenants = self._folder.path.name, tuple(self._folder.tenants)

        async def fetch(slot: Slot) -> None:
            async with self._folder.lock:
                generation = await on_thread(lambda _: self._find(wanted.revision))
                if generation is None or (generation, wanted.revision, commits) in self._folder.deepened:
                    return  # reading says what is missing
                try:
                    await self._within_share(
                        name,
                        tenants,
                        lambda meter: self._fetcher.deepen(wanted, generation, commits, meter, slot),
                        slot,
                    )
                except VolumeFullError:
                    raise _no_room() from None
                if len(self._folder.deepened) >= _MAX_DEEPENED:
                    self._folder.deepened.clear()
                self._folder.deepened.add((generation, wanted.revision, commits))
                log.info("history", repository=self._host.location.url, revision=wanted.revision, commits=commits)

        await self._limiters.fetches.run(askers or Askers(), fetch, own, host)

    async def read(
        self,
        revision: str,
        path: str,
        askers: Askers | None = None,
        *,
        max_bytes: int,
        into_submodules: bool = False,
    ) -> bytes:
        parts = split_path(path)

        def read() -> bytes:
            with self._opened(revision) as objects:
                return read_file(objects, revision, parts, path, max_bytes=max_bytes, into_submodules=into_submodules)

        return await self._undamaged(lambda: self._blocking(lambda _: read(), askers))

    async def _undamaged(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives. A clone that turns out to be damaged is removed."""
        try:
            return await read()
        except _Damaged as error:
            generation = error.generation
            async with self._folder.lock:
                await on_thread(lambda _: remove(generation))
            raise damaged() from error

    async def _blocking(self, function: Callable[[Interrupter], T], askers: Askers | None) -> T:
        async with self._limiters.readers.slot(askers or Askers()):
            return await on_thread(function)

    # On threads from here on

    def _find(self, revision: str) -> Path | None:
        """The generation in which the revision is complete."""
        for generation in generations(self._folder.path):
            if (generation / "revisions" / revision).is_file():
                return generation
        return None

    def _is_here(self, wanted: Advertised, *, with_tag: bool) -> bool:
        """Whether the revision is complete, and its tag here where that is wanted."""
        if self._find(wanted.revision) is None:
            return False
        if not with_tag or wanted.target == wanted.revision:
            return True
        try:
            with self._opened(wanted.revision) as objects:
                return objects.has(wanted.target)
        except (JiemiError, _Damaged):
            return True  # reading it says what is wrong

    def _compare(self, before: str, after: str, interrupter: Interrupter) -> Changes:
        with self._opened(after, before) as objects:
            return compare_revisions(
                objects,
                before,
                after,
                max_entries=self._settings.max_tree_entries,
                check=Meter(interrupter, 0, "").check,
            )

    def _match(self, request: FilesRequest, at: Start, max_bytes: int, interrupter: Interrupter) -> Listed:
        with self._opened(request.revision) as objects:
            return match_files(
                objects,
                request,
                max_config_bytes=max_bytes,
                max_entries=self._settings.max_tree_entries,
                check=Meter(interrupter, 0, "").check,
                at=at,
            )

    @contextlib.contextmanager
    def _opened(self, revision: str, *others: str) -> Iterator[PackStore]:
        """The objects that a revision is among, and others with it.

        Raises:
            JiemiError: RevisionNotFound. _Damaged.
        """
        generation = self._find(revision)
        if generation is None:
            raise JiemiError("RevisionNotFound", f"revision {revision[:12]} is not in Krapao's clone")
        for other in others:
            if not (generation / "revisions" / other).is_file():
                raise JiemiError("RevisionNotFound", f"revision {other[:12]} is not in Krapao's clone")
        format = SHA256 if len(revision) == 64 else SHA1
        try:
            with open_packs(generation / "objects", object_format=format) as objects:
                yield objects
        except (JiemiError, Interrupted, InSubmodule):
            raise
        except Exception as error:
            # Whatever a damaged pack or index makes dulwich raise.
            if not generation.exists():
                raise JiemiError("RevisionNotFound", "the clone was recreated in the meantime") from error
            raise _Damaged(generation) from error


def _no_room() -> JiemiError:
    return JiemiError(
        "StorageFailed",
        "Krapao's volume is full, and no clone is left on it that nobody has open: enlarge the volume, or follow fewer "
        "or smaller repositories",
    )


class _Damaged(Exception):
    """A clone that can't be read. Seen inside this module only."""

    def __init__(self, generation: Path) -> None:
        super().__init__("a damaged clone")
        self.generation = generation
