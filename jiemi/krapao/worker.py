"""One repository with one tenant's credentials: what is asked of it, in order, and shared where the answer is the same.

The store asks the host one thing at a time for a worker: a listing for `head`, a fetch for a revision that is not here.
Whoever asks for the same listing, the same fetch or the same rendering shares one run
(`jiemi.concurrency.single_flight`); reading and decrypting run beside the git work. Whatever waits for a slot waits as
one of the tenants that ask for it.

How old an answer is counts from the moment that its listing began. So `max_age_seconds=0` is never given what a
listing that had begun before may have read already: it waits for the next one, which all who come meanwhile share.

A revision is looked at only if a listing of this very worker has named it: a clone that other credentials fetched is
no way around the host's permission. A worker that does not know the revision (Krapao was restarted) asks the host
first. A commit that is pinned is named by no listing, so there the permission is the one to list the repository at
all, and any listing proves it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import structlog
import trio

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.single_flight import Flight, SingleFlight
from jiemi.core.errors import JiemiError
from jiemi.krapao.fair_threads import FairThreads
from jiemi.krapao.git.port import Advertised, FileHistory, GitStore, Listed, Ref, SignedObjects
from jiemi.krapao.git.submodules import FOLLOWED, Start
from jiemi.krapao.metrics import Listing
from jiemi.krapao.rendering.file_opener import FileOpener
from jiemi.krapao.rendering.file_renderer import NOT_ABOUT_THE_FILE, FileRenderer, RenderingTools
from jiemi.krapao.revision_files import AtRevision, RevisionFiles, SubmoduleReader
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.wrong_refs import check_ref, commit_not_found
from jiemi.rpc.contract import Changes, Files, FilesRequest, Head, Rendered, RenderRequest, is_revision
from jiemi.tracing.current import span

T = TypeVar("T")

log = structlog.get_logger("jiemi.krapao")

_GLOBS_FIELD = "spec.source.files"


class Worker:
    """Answers for one repository. Its tasks are in the nursery that it is given.

    Attributes:
        listing: what became of the last listing.
    """

    def __init__(
        self,
        name: str,
        store: GitStore,
        tools: RenderingTools,
        settings: KrapaoSettings,
        nursery: trio.Nursery,
    ) -> None:
        self.listing: Listing = "none"
        self._name = name
        self._log = log.bind(repository=name)
        self._store = store
        self._tools = tools
        self._settings = settings
        self._single_flight = SingleFlight(nursery)
        self._answers: dict[Ref, tuple[Advertised, float]] = {}
        self._authorized_at: float | None = None
        self._known: OrderedDict[str, Advertised] = OrderedDict()
        self._named: OrderedDict[tuple[Ref, str], Advertised] = OrderedDict()
        self._watchers: dict[Ref, list[Callable[[Head], None]]] = {}

    async def head(self, ref: Ref, askers: Askers, *, max_age_seconds: float) -> Head:
        """As `Repository.head` of the contract, for the tenants that ask."""
        check_ref(ref)
        if ref.commit is not None:
            await self._authorize(ref, askers, max_age_seconds)
            self._remember(ref, Advertised(ref.commit, ref.commit))
            return Head(ref.commit)
        answer = self._answers.get(ref)
        # An answer of this very moment may be older than a push of this very moment: 0 always asks.
        if answer is not None and max_age_seconds > 0 and trio.current_time() - answer[1] <= max_age_seconds:
            self._log.debug("head_known", ref=str(ref), revision=answer[0].revision)
            return Head(answer[0].revision, answer[0].ref)
        found = await self._single_flight.do(
            ("head", ref), lambda flight: self._list(ref, flight), askers, may_join=_is_young_enough(max_age_seconds)
        )
        return Head(found.revision, found.ref)

    async def signed(
        self, ref: Ref, revision: str, askers: Askers, *, with_tag: bool
    ) -> tuple[Advertised, SignedObjects]:
        """What of a revision can be signed, and how the ref names it. No file of it is looked at.

        Raises:
            JiemiError: RevisionNotFound, LimitExceeded, and those of `Repository.head`.
        """
        wanted = await self._require_advertised(ref, revision, askers)
        if with_tag and (ref, revision) not in self._named:
            await self.head(ref, askers, max_age_seconds=0)
        wanted = self._named.get((ref, revision), wanted)

        async def read() -> SignedObjects:
            return await self._store.signed(wanted, askers, with_tag=with_tag)

        return wanted, await self._read_or_fetch(ref, wanted, read, askers, with_tag=with_tag)

    async def histories(
        self, wanted: Advertised, paths: Sequence[str], askers: Askers, *, max_commits: int, deepen: bool
    ) -> Mapping[str, FileHistory]:
        """As `GitStore.histories`, of a revision that `signed` gave."""
        return await self._store.histories(wanted, paths, askers, max_commits=max_commits, deepen=deepen)

    async def files(
        self, ref: Ref, request: FilesRequest, askers: Askers, submodules: SubmoduleReader | None = None
    ) -> Files:
        """As `Repository.files` of the contract; `ref` as for `render`."""
        return await self._single_flight.do(
            ("files", ref.commit, request, _hosts(submodules)),
            lambda flight: self._files(ref, request, flight.askers, submodules),
            askers,
        )

    async def listed(self, ref: Ref, request: FilesRequest, at: Start, askers: Askers) -> Listed:
        """As `FileWorker.listed`."""
        wanted = await self._require_advertised(ref, request.revision, askers)

        async def find() -> Listed:
            return await self._store.listed(request, at, askers, max_bytes=self._settings.max_file_bytes)

        return await self._read_or_fetch(ref, wanted, find, askers)

    async def read(
        self, at: AtRevision, path: str, askers: Askers, *, max_bytes: int, into_submodules: bool = False
    ) -> bytes:
        """As `FileWorker.read`."""
        wanted = await self._require_advertised(at.ref, at.name, askers)

        async def read() -> bytes:
            return await self._store.read(at.name, path, askers, max_bytes=max_bytes, into_submodules=into_submodules)

        return await self._read_or_fetch(at.ref, wanted, read, askers)

    async def changes(self, ref: Ref, before: str, after: str, askers: Askers) -> Changes:
        """As `Repository.changes` of the contract; `ref` as for `render`."""
        return await self._single_flight.do(
            ("changes", ref.commit, before, after),
            lambda flight: self._changes(ref, before, after, flight.askers),
            askers,
        )

    async def render(
        self, ref: Ref, request: RenderRequest, askers: Askers, submodules: SubmoduleReader | None = None
    ) -> Rendered:
        """As `Repository.render` of the contract; `ref` is asked about where the revision is not known."""
        return await self._single_flight.do(
            ("render", ref.commit, request, _hosts(submodules)),
            lambda flight: self._render(ref, request, flight.askers, submodules),
            askers,
        )

    async def watch(self, ref: Ref, on_moved: Callable[[Head], None]) -> None:
        """As `Repository.watch` of the contract."""
        watchers = self._watchers.setdefault(ref, [])
        watchers.append(on_moved)
        try:
            await trio.sleep_forever()
        finally:
            watchers.remove(on_moved)
            if not watchers and self._watchers.get(ref) is watchers:
                del self._watchers[ref]

    async def _authorize(self, ref: Ref, askers: Askers, max_age_seconds: float) -> None:
        """Have the host let these credentials in, or have had it do so not long ago."""
        at = self._authorized_at
        if at is not None and max_age_seconds > 0 and trio.current_time() - at <= max_age_seconds:
            return
        # One listing for all commits that are asked for at once.
        await self._single_flight.do(
            "let in", lambda flight: self._ask(ref, flight), askers, may_join=_is_young_enough(max_age_seconds)
        )

    async def _ask(self, ref: Ref, flight: Flight) -> tuple[Advertised, float]:
        """What the host says, and when it began to be asked."""
        try:
            found = await self._store.advertised(ref, flight.askers, on_begin=flight.begin)
        except JiemiError as error:
            self.listing = "failed"
            self._log.warning("listing_failed", ref=str(ref), reason=error.failure.reason, message=error.failure.text)
            raise
        self.listing = "ok"
        began = flight.began_at if flight.began_at is not None else trio.current_time()
        duration_ms = round((trio.current_time() - began) * 1000)
        self._log.debug("listed", ref=str(ref), revision=found.revision, duration_ms=duration_ms)
        self._authorized_at = max(began, self._authorized_at or began)
        return found, began

    def _remember(self, ref: Ref, found: Advertised) -> None:
        self._known[found.revision] = found
        self._known.move_to_end(found.revision)
        # A branch and a tag may name one commit, and only one of them is a tag.
        self._named[ref, found.revision] = found
        self._named.move_to_end((ref, found.revision))
        for remembered in (self._known, self._named):
            while len(remembered) > self._settings.max_revisions:
                remembered.popitem(last=False)

    async def _list(self, ref: Ref, flight: Flight) -> Advertised:
        found, began = await self._ask(ref, flight)
        before = self._answers.get(ref)
        if before is not None and before[1] > began:
            return found
        self._answers.pop(ref, None)
        self._answers[ref] = (found, began)
        while len(self._answers) > self._settings.max_revisions:
            del self._answers[next(iter(self._answers))]
        self._remember(ref, found)
        if before is None or before[0].revision != found.revision:
            self._log.info("moved", ref=str(ref), revision=found.revision, first=before is None)
        if before is not None and before[0].revision != found.revision:
            for on_moved in list(self._watchers.get(ref, ())):
                on_moved(Head(found.revision, found.ref))
        return found

    async def _files(
        self, ref: Ref, request: FilesRequest, askers: Askers, submodules: SubmoduleReader | None
    ) -> Files:
        began = trio.current_time()
        try:
            if submodules is None:
                found = await self._own_files(ref, request, askers)
            else:
                listed = await self.listed(ref, request, FOLLOWED, askers)
                found = await submodules.files(AtRevision(self, ref, request.revision), listed, request, askers)
        except JiemiError as error:
            failure = error.failure
            self._log.warning(
                "files_failed", revision=request.revision[:64], reason=failure.reason, message=failure.text
            )
            if failure.reason == "LimitExceeded":
                raise JiemiError.of(failure.at(_GLOBS_FIELD)) from error
            raise
        self._log.debug(
            "files",
            revision=request.revision,
            patterns=len(request.patterns),
            files=len(found.entries),
            duration_ms=round((trio.current_time() - began) * 1000),
        )
        return found

    async def _own_files(self, ref: Ref, request: FilesRequest, askers: Askers) -> Files:
        wanted = await self._require_advertised(ref, request.revision, askers)

        async def find() -> Files:
            return await self._store.files(request, askers, max_bytes=self._settings.max_file_bytes)

        return await self._read_or_fetch(ref, wanted, find, askers)

    async def _changes(self, ref: Ref, before: str, after: str, askers: Askers) -> Changes:
        began = trio.current_time()
        wanted = await self._require_advertised(ref, after, askers)
        earlier = self._known.get(before)
        if earlier is None:
            # No question to the host would prove that it may be looked at: it names it no longer.
            raise JiemiError("RevisionNotFound", f"the host has not named revision {before[:12]} for the {ref}")

        async def compare() -> Changes:
            return await self._store.changes(before, after, askers)

        # A clone that was recreated has only what was fetched since: the earlier revision is to be fetched then, too.
        changes = await self._read_or_fetch(
            ref, earlier, lambda: self._read_or_fetch(ref, wanted, compare, askers), askers
        )
        self._log.debug(
            "compared",
            before=before,
            after=after,
            paths=len(changes.paths),
            folders=len(changes.folders),
            duration_ms=round((trio.current_time() - began) * 1000),
        )
        return changes

    async def _render(
        self, ref: Ref, request: RenderRequest, askers: Askers, submodules: SubmoduleReader | None
    ) -> Rendered:
        began = trio.current_time()
        try:
            at = AtRevision(self, ref, request.revision)
            files = RevisionFiles(at, askers, self._settings.max_file_bytes, submodules)
            rendered = await self._render_quietly(files, request)
        except JiemiError as error:
            self._log.warning(
                "render_failed",
                revision=request.revision[:64],
                path=request.path[:256],
                reason=error.failure.reason,
                message=error.failure.text,
            )
            raise
        self._log.info(
            "render",
            revision=request.revision,
            path=request.path,
            documents=len(rendered.documents),
            encrypted=rendered.encrypted,
            opened=rendered.opened,
            duration_ms=round((trio.current_time() - began) * 1000),
        )
        return rendered

    async def _render_quietly(self, files: RevisionFiles, request: RenderRequest) -> Rendered:
        with span("read"):
            data = await files.read(request.path)
            config = await files.config(request)
        try:
            return await self._open(data, config, request, files.askers)
        except JiemiError as error:
            if error.failure.reason in NOT_ABOUT_THE_FILE:
                raise
            raise JiemiError.of(error.failure.at(request.path)) from error

    async def _open(self, data: bytes, config: bytes | None, request: RenderRequest, askers: Askers) -> Rendered:
        """What a file comes to."""
        tools = self._tools
        threads = FairThreads(tools.parsers, askers)
        opener = FileOpener(tools.decrypter, request, config, threads, tools.reading, repository=self._name)
        return await FileRenderer(request, opener, tools.reading, threads, self._settings).render(data)

    async def _require_advertised(self, ref: Ref, revision: str, askers: Askers) -> Advertised:
        """What the host said about a revision to these credentials."""
        if not is_revision(revision):
            raise JiemiError("RevisionNotFound", "the revision is no full commit hash")
        if revision not in self._known:
            await self.head(ref, askers, max_age_seconds=0)
        known = self._known.get(revision)
        if known is None:
            raise JiemiError("RevisionNotFound", f"the host has not named revision {revision[:12]} for the {ref}")
        return known

    async def _read_or_fetch(
        self,
        ref: Ref,
        wanted: Advertised,
        read: Callable[[], Awaitable[T]],
        askers: Askers,
        *,
        with_tag: bool = False,
    ) -> T:
        """What `read` finds in a revision, which is fetched where it is not here."""
        try:
            return await read()
        except JiemiError as error:
            if error.failure.reason != "RevisionNotFound":
                raise
        try:
            if with_tag:
                await self._single_flight.do(
                    ("fetch", wanted.revision, wanted.target),
                    lambda flight: self._store.fetch(wanted, flight.askers, with_tag=True),
                    askers,
                )
            else:
                await self._single_flight.do(
                    ("fetch", wanted.revision), lambda flight: self._store.fetch(wanted, flight.askers), askers
                )
        except JiemiError as error:
            if ref.commit != wanted.revision or error.failure.reason not in ("RevisionNotFound", "RefNotFound"):
                raise
            raise commit_not_found(ref.commit, error) from error
        return await read()


def _is_young_enough(max_age_seconds: float) -> Callable[[Flight], bool]:
    """Whether a listing that is under way will do for a caller that asks now."""
    return lambda flight: flight.began_at is None or 0 < max_age_seconds >= trio.current_time() - flight.began_at


def _hosts(submodules: SubmoduleReader | None) -> tuple[str, ...] | None:
    return None if submodules is None else submodules.hosts
