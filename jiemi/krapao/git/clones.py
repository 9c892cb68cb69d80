"""Clones on the volume: bare, shallow, read without a checkout. The real form of `jiemi.krapao.git.port`.

On the volume, under STATE/repositories/:

    <hash of the URL>/url                       the URL, for people
    <hash of the URL>/<generation>/objects/     packs, as git has them
    <hash of the URL>/<generation>/revisions/   an empty file for each commit that is complete in there

All tenants of one URL share its folder: it holds ciphertext, and git names each object by the hash of its bytes, so
what is read for a revision is that revision, whoever fetched it. That a tenant may see the revision is proven by a
listing with its own credentials, which its worker asks for; nothing of the credentials is on the volume, not even a
hash.

A fetch is shallow (depth 1) and asks for one commit, telling the server the newest revisions that are here, so that
it sends what changed only. The pack goes to a file of no lasting name, is looked through (`jiemi.krapao.git.packs`),
indexed by dulwich, which hashes every object, and only then does the revision get its marker. A fetch that fails or
is cancelled leaves nothing: `sweep` removes what is not a complete pack, then and at the next opening.

Packs pile up, so a clone with too many, or too large a one, is recreated as the next generation; readers of the old
one find their revision gone and fetch it again. A damaged clone costs one StorageFailed and is removed. One lock
per folder lets one fetch write at a time; readers need none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import attrs
import structlog
import trio
from dulwich.client import GitClient, LocalGitClient
from dulwich.object_format import SHA1, SHA256
from dulwich.object_store import ObjectStoreGraphWalker
from dulwich.objects import ObjectID
from dulwich.refs import Ref as DulwichRef

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.calls import Interrupted, Interrupter, run_blocking
from jiemi.concurrency.fair_limiter import Bound, FairLimiter, Slot
from jiemi.core.content.globs import is_glob
from jiemi.core.errors import JiemiError
from jiemi.krapao.git.folders import VolumeFullError, generations, is_whole, publish, remove, revisions, storage, sweep
from jiemi.krapao.git.host_failures import no_git_server, translating
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.missing_ref import no_such_ref, prefixes_of_others
from jiemi.krapao.git.pack_store import PackStore
from jiemi.krapao.git.packs import PackDamaged, check_pack
from jiemi.krapao.git.port import Advertised, GitStore, Ref
from jiemi.krapao.git.revision import is_tree, match_files, read_file, tree_of
from jiemi.krapao.git.store import Store
from jiemi.krapao.git.transports import open_client
from jiemi.krapao.git.trees import Parts, split_path
from jiemi.krapao.git.urls import Location
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import MAX_FILES, FileEntry, FilesRequest, GitCredentials, is_revision

T = TypeVar("T")

_MAX_HAVES = 16

_READERS = 4
_SEARCHES = 4

_SLOW_BYTES_A_SECOND = 64 * 1024
"""A host that sends less makes room where other tenants wait for slots (`jiemi.concurrency.fair_limiter`)."""

_PEELED = b"^{}"

log = structlog.get_logger("jiemi.krapao.git")


@attrs.define
class _Folder:
    """One repository's folder, shared by all who have it open."""

    path: Path
    lock: trio.Lock = attrs.field(factory=trio.Lock)
    users: int = 0
    tenants: Counter[str] = attrs.field(factory=Counter)


class Limiters:
    """What is done at once for all repositories. A listing is small; a fetch takes memory and the volume's time."""

    def __init__(self, settings: KrapaoSettings) -> None:
        self.listings = FairLimiter(settings.listing_concurrency)
        self.fetches = FairLimiter(settings.git_concurrency)
        self.readers = FairLimiter(_READERS)
        self.searches = FairLimiter(_SEARCHES)
        self._of_host = settings.listing_concurrency * 3 // 4, settings.git_concurrency * 3 // 4

    def listing_of(self, host: str) -> Bound:
        """What one host may have of the listings. The rest is left to other hosts."""
        return Bound(host, self._of_host[0])

    def fetch_of(self, host: str) -> Bound:
        """Likewise of the fetches."""
        return Bound(host, self._of_host[1])


class Clones:
    """All clones of one Krapao."""

    def __init__(self, settings: KrapaoSettings, hold_volume: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._hold_volume = hold_volume
        self._root = settings.state_dir / "repositories"
        self._folders: dict[str, _Folder] = {}
        self._limiters = Limiters(settings)
        self._pruning = trio.Lock()
        self._store = Store(self._root, settings.max_store_bytes, settings.max_tenant_store_bytes, self._open_tenants)

    @contextlib.asynccontextmanager
    async def open(self, location: Location, credentials: GitCredentials) -> AsyncIterator[GitStore]:
        """One repository with one tenant's credentials. Asks nobody and writes nothing yet."""
        with self._used(location) as folder:
            yield _Clone(location, credentials, self, folder)

    @contextlib.contextmanager
    def charge(self, location: Location, tenant: str) -> Iterator[None]:
        """While the context lasts, a tenant has a repository open, and its clone is charged to it.

        Args:
            tenant: an opaque name; "" where nobody says who it is, and then nobody is charged.
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
    def _used(self, location: Location) -> Iterator[_Folder]:
        name = hashlib.sha256(repr(location.repository).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        folder = self._folders.setdefault(name, _Folder(self._root / name))
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


class _Clone:
    """One repository with one tenant's credentials."""

    def __init__(
        self,
        location: Location,
        credentials: GitCredentials,
        clones: Clones,
        folder: _Folder,
    ) -> None:
        self._location = location
        self._credentials = credentials
        self._settings = clones._settings
        self._folder = folder
        self._limiters = clones._limiters
        self._store = clones._store
        self._last_received = 0
        self._hold_volume = clones._hold_volume

    async def advertised(
        self, ref: Ref, askers: Askers | None = None, *, on_begin: Callable[[], None] = lambda: None
    ) -> Advertised:
        def ask(meter: Meter) -> Advertised:
            with self._client(meter) as (client, path):
                listed = client.get_refs(path, ref_prefix=[ref.name]).refs
            if ref.commit is not None:
                return Advertised(ref.commit, ref.commit)
            if listed.get(DulwichRef(ref.name)) is None:
                raise no_such_ref(self._others(ref, meter), ref, self._location)
            return _pick(listed, ref, self._location)

        settings = self._settings
        limits = _Limits("its list of refs", settings.max_refs_bytes, settings.listing_grace_seconds)

        async def listing(slot: Slot) -> Advertised:
            on_begin()
            return await self._on_network(ask, "listing the refs", limits, slot)

        # One listing at a time for who has these credentials; the slot is not taken before it is its turn.
        own, host = Bound(self, 1), self._limiters.listing_of(self._location.authority)
        return await self._limiters.listings.run(askers or Askers(), listing, own, host)

    def _others(self, ref: Ref, meter: Meter) -> list[bytes]:
        """The refs that there are, where one is not: its kind's, and one of the other kind by that name."""
        with contextlib.suppress(JiemiError), self._client(meter) as (client, path):
            return list(client.get_refs(path, ref_prefix=list(prefixes_of_others(ref))).refs)
        return []

    async def fetch(self, wanted: Advertised, askers: Askers | None = None) -> None:
        if await self._blocking(lambda _: self._find(wanted.revision) is not None, askers):
            return
        # One fetch at a time writes into a folder; the others wait without a slot.
        own, host = Bound(self._folder.path, 1), self._limiters.fetch_of(self._location.authority)
        await self._limiters.fetches.run(askers or Askers(), lambda slot: self._fetch_alone(wanted, slot), own, host)

    async def _fetch_alone(self, wanted: Advertised, slot: Slot) -> None:
        async with self._folder.lock:
            if await self._thread(lambda _: self._find(wanted.revision) is not None):
                return
            began = trio.current_time()
            fetched = await self._fetch_with_room(wanted, slot)
            log.info(
                "clone" if fetched.whole else "fetch",
                repository=self._location.url,
                revision=wanted.revision,
                objects=fetched.objects,
                received_bytes=fetched.received_bytes,
                duration_ms=round((trio.current_time() - began) * 1000),
            )

    async def _fetch_with_room(self, wanted: Advertised, slot: Slot) -> _Fetched:
        """Fetch; where the volume is full, remove what nobody needs and fetch once more."""
        name, tenants = self._folder.path.name, tuple(self._folder.tenants)
        try:
            return await self._fetch_within_share(name, tenants, wanted, slot)
        except VolumeFullError:
            log.warning("volume_full", repository=self._location.url)
            size = 2 * min(self._settings.max_pack_bytes, self._last_received)
            if not await self._thread(lambda _: self._store.free(name, tenants, size)):
                raise _no_room() from None
        try:
            return await self._fetch_within_share(name, tenants, wanted, slot)
        except VolumeFullError:
            raise _no_room() from None

    async def _fetch_within_share(
        self, name: str, tenants: tuple[str, ...], wanted: Advertised, slot: Slot
    ) -> _Fetched:
        settings = self._settings
        left = await self._thread(lambda interrupter: self._store.before_fetch(name, tenants, interrupter))
        stage, size = "the revision's pack", settings.max_pack_bytes
        if tenants and left < size:
            stage, size = "the revision's pack, beside what else is charged to this namespace,", left
        limits = _Limits(stage, settings.max_refs_bytes + size, settings.fetch_grace_seconds)
        fetched = await self._on_network(lambda meter: self._fetch(wanted, meter, slot), "fetching", limits, slot)
        await self._thread(lambda _: self._store.after_fetch(name, tenants))
        return fetched

    async def files(
        self, request: FilesRequest, askers: Askers | None = None, *, max_bytes: int
    ) -> tuple[FileEntry, ...]:
        def find(interrupter: Interrupter) -> tuple[FileEntry, ...]:
            return self._match(request, max_bytes, interrupter)

        if not any(map(is_glob, request.patterns)):
            return await self._undamaged(lambda: self._blocking(find, askers))
        seconds = self._settings.search_timeout_seconds

        async def search(_: Slot) -> tuple[FileEntry, ...]:
            try:
                with trio.fail_after(seconds):
                    return await self._undamaged(lambda: self._thread(find))
            except trio.TooSlowError as error:
                raise JiemiError("Timeout", f"looking through the folders took longer than {seconds:g} s") from error

        own = Bound(self._folder.path, _SEARCHES - 1)
        return await self._limiters.searches.run(askers or Askers(), search, own)

    async def read(self, revision: str, path: str, askers: Askers | None = None, *, max_bytes: int) -> bytes:
        parts = split_path(path)
        return await self._undamaged(
            lambda: self._blocking(lambda _: self._read(revision, parts, path, max_bytes), askers)
        )

    async def _undamaged(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives. A clone that turns out to be damaged is removed."""
        try:
            return await read()
        except _Damaged as error:
            damaged = error.generation
            async with self._folder.lock:
                await self._thread(lambda _: remove(damaged))
            raise JiemiError(
                "StorageFailed", "the clone on Krapao's volume was damaged or not complete; it is recreated"
            ) from error

    # On threads from here on

    @contextlib.contextmanager
    def _client(self, meter: Meter) -> Iterator[tuple[GitClient, bytes]]:
        with (
            translating(self._location, self._settings.connect_timeout_seconds, meter, self._credentials),
            open_client(self._location, self._credentials, self._settings, meter) as opened,
        ):
            yield opened

    async def _on_network(self, function: Callable[[Meter], T], what: str, limits: _Limits, slot: Slot) -> T:
        seconds = self._settings.git_timeout_seconds
        host = self._location.authority
        meter = Meter(
            Interrupter(),
            limits.bytes,
            f"{host}: {limits.stage}",
            self._settings.min_bytes_per_second,
            limits.grace_seconds,
        )
        slot.is_slow = lambda: _is_slow(meter, slot)

        def call(interrupter: Interrupter) -> T:
            meter.interrupter = interrupter
            return function(meter)

        try:
            with trio.fail_after(seconds):
                return await self._thread(call)
        except trio.TooSlowError as error:
            detail = f"{what} took longer than {seconds:g} s"
            if not meter.is_git:
                raise no_git_server(self._location, detail) from error
            raise JiemiError("Timeout", f"{host}: {detail}") from error

    async def _blocking(self, function: Callable[[Interrupter], T], askers: Askers | None) -> T:
        async with self._limiters.readers.slot(askers or Askers()):
            return await self._thread(function)

    async def _thread(self, function: Callable[[Interrupter], T]) -> T:
        # Who calls has a slot already. trio's own limiter of 40 threads would be one more queue, for all tenants.
        return await run_blocking(function, limiter=trio.CapacityLimiter(1))

    def _find(self, revision: str) -> Path | None:
        """The generation in which the revision is complete."""
        for generation in generations(self._folder.path):
            if (generation / "revisions" / revision).is_file():
                return generation
        return None

    def _fetch(self, wanted: Advertised, meter: Meter, slot: Slot) -> _Fetched:
        with storage():
            self._hold_volume()
            generation, haves = self._prepare(wanted.revision)
        format = SHA256 if len(wanted.revision) == 64 else SHA1
        try:
            with contextlib.closing(PackStore(generation / "objects", object_format=format)) as objects:
                objects.check = meter.check
                fetched = self._receive(wanted, haves, objects, meter, slot)
            with storage():
                (generation / "revisions" / wanted.revision).touch()
                publish(generation)
        except BaseException:
            with contextlib.suppress(OSError):
                sweep(generation)
                if generation.name.endswith(".new"):
                    remove(generation)
            raise
        finally:
            self._last_received = meter.received
        return fetched

    def _prepare(self, revision: str) -> tuple[Path, list[str]]:
        """The generation to write into, and the revisions in it, the newest first."""
        folder = self._folder.path
        folder.mkdir(parents=True, exist_ok=True)
        url = folder / "url"
        if not url.exists():
            url.write_text(self._location.url + "\n", encoding="utf-8", errors="replace")
        current = next(generations(folder), None)
        if current is not None and is_whole(current):
            sweep(current)
            haves = revisions(current)
            packs = list((current / "objects" / "pack").glob("*.pack"))
            size = sum(pack.stat().st_size for pack in packs)
            fits = len(packs) < self._settings.max_packs and size < self._settings.max_clone_bytes
            if haves and fits and all(len(have) == len(revision) for have in haves):
                return current, haves[:_MAX_HAVES]
        number = int(current.name) + 1 if current is not None else 1
        new = folder / f"{number}.new"
        if new.exists():
            remove(new)
        (new / "revisions").mkdir(parents=True)
        (new / "objects" / "pack").mkdir(parents=True)
        (new / "objects" / "info").mkdir()
        return new, []

    def _receive(self, wanted: Advertised, haves: list[str], objects: PackStore, meter: Meter, slot: Slot) -> _Fetched:
        with storage():
            file, commit, abort = objects.add_pack()
        try:
            with self._client(meter) as (client, path):
                walker = _walker(client, haves)

                def write(data: bytes) -> int:
                    meter.check()
                    with storage():
                        return file.write(data)

                client.fetch_pack(
                    path,
                    lambda refs, depth=None: [ObjectID(wanted.target.encode())],
                    walker,
                    write,
                    depth=1,
                    ref_prefix=[b"HEAD"],  # the listing that a fetch begins with is not looked at: keep it short
                )
            with translating(self._location, self._settings.connect_timeout_seconds, meter, self._credentials):
                with storage():
                    file.flush()
                slot.keep()  # from here on it is work of this machine, and bounded
                count = self._check(file, wanted, meter)
                with storage():
                    size = file.seek(0, os.SEEK_END)
                    commit()
                _verify(objects, wanted)
        except BaseException:
            if not file.closed:
                with contextlib.suppress(OSError):  # closing flushes; the first error is the one to tell
                    abort()
            raise
        return _Fetched(not haves, count, size)

    def _check(self, file: object, wanted: Advertised, meter: Meter) -> int:
        try:
            return check_pack(
                file,  # type: ignore[arg-type]
                max_object_bytes=self._settings.max_object_bytes,
                max_unpacked_bytes=self._settings.max_unpacked_bytes,
                hash_bytes=len(wanted.revision) // 2,
                on_object=meter.check,
            )
        except PackDamaged as error:
            raise JiemiError("GitProtocolError", f"{self._location.authority} sent a damaged pack: {error}") from error

    def _read(self, revision: str, parts: Parts, path: str, max_bytes: int) -> bytes:
        with self._opened(revision) as objects:
            return read_file(objects, revision, parts, path, max_bytes=max_bytes)

    def _match(self, request: FilesRequest, max_bytes: int, interrupter: Interrupter) -> tuple[FileEntry, ...]:
        with self._opened(request.revision) as objects:
            return match_files(
                objects,
                request,
                max_config_bytes=max_bytes,
                max_entries=self._settings.max_tree_entries,
                max_files=MAX_FILES,
                check=Meter(interrupter, 0, "").check,
            )

    @contextlib.contextmanager
    def _opened(self, revision: str) -> Iterator[PackStore]:
        """The objects that a revision is among.

        Raises:
            JiemiError: RevisionNotFound. _Damaged.
        """
        generation = self._find(revision)
        if generation is None:
            raise JiemiError("RevisionNotFound", f"revision {revision[:12]} is not in Krapao's clone")
        format = SHA256 if len(revision) == 64 else SHA1
        try:
            with contextlib.closing(PackStore(generation / "objects", object_format=format)) as objects:
                yield objects
        except (JiemiError, Interrupted):
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


@attrs.frozen
class _Limits:
    """Of one conversation: what is being read, how much it may be, and for how long it may be slow."""

    stage: str
    bytes: int
    grace_seconds: float


@attrs.frozen
class _Fetched:
    whole: bool
    objects: int
    received_bytes: int


class _Damaged(Exception):
    """A clone that can't be read. Seen inside this module only."""

    def __init__(self, generation: Path) -> None:
        super().__init__("a damaged clone")
        self.generation = generation


def _is_slow(meter: Meter, slot: Slot) -> bool:
    """Called in trio's thread, while the meter counts in another."""
    return meter.received < _SLOW_BYTES_A_SECOND * slot.idle_seconds


class _Haves:
    """Tells a server which revisions are here, each without its history. Stands in for dulwich's graph walker."""

    def __init__(self, revisions: list[str]) -> None:
        self.shallow = {ObjectID(revision.encode()) for revision in revisions}
        self._left = [ObjectID(revision.encode()) for revision in reversed(revisions)]

    def __next__(self) -> ObjectID | None:
        return self._left.pop() if self._left else None

    def ack(self, sha: ObjectID, /) -> None:
        """The server has it too: nothing to follow, for its history is not here."""

    def nak(self) -> None:
        """Nothing in common."""


def _walker(client: GitClient, haves: list[str]) -> ObjectStoreGraphWalker | _Haves:
    if isinstance(client, LocalGitClient):
        # dulwich's own server side would leave the haves out and then send a thin history; a whole copy is cheap here.
        return ObjectStoreGraphWalker([], lambda _: [], shallow=set())
    return _Haves(haves)


def _pick(listed: dict[DulwichRef, ObjectID | None], ref: Ref, location: Location) -> Advertised:
    target = listed[DulwichRef(ref.name)] or ObjectID(b"")
    peeled = listed.get(DulwichRef(ref.name + _PEELED))
    found = Advertised((peeled or target).decode("ascii", "replace"), target.decode("ascii", "replace"))
    if not is_revision(found.revision) or not is_revision(found.target):
        raise JiemiError("GitProtocolError", f"{location.authority} named a revision that is no commit hash")
    return found


def _verify(objects: PackStore, wanted: Advertised) -> None:
    """That the commit came, and its tree."""
    tree = tree_of(objects, wanted.revision)
    if tree is None:
        raise JiemiError(
            "RefNotFound",
            "spec.source.repository.ref names something that is no commit",
            "Name a branch, or a tag of a commit (`git cat-file -t TAG^{}` says what it is of).",
        )
    if not is_tree(objects, tree):
        raise JiemiError("GitProtocolError", "the host sent a commit without its tree")
