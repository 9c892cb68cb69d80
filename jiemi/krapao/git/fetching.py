"""Fetching: one revision from the host into a generation of a clone's folder.

A fetch is shallow (depth 1) and asks for one commit; the server is informed of the newest revisions that are here, so
that it sends what changed only. The pack goes to a file of no lasting name, is looked through and every object hashed
(`jiemi.krapao.git.received_pack`), and only then does the revision get its marker. Of a host whose old protocol can't
leave out the history, all of it is fetched, within the same bounds. A fetch that fails or is cancelled leaves nothing:
`sweep` removes what is not a complete pack, then and at the next opening.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import attrs
from dulwich.client import GitClient, LocalGitClient
from dulwich.errors import GitProtocolError
from dulwich.object_format import SHA1, SHA256
from dulwich.object_store import ObjectStoreGraphWalker
from dulwich.objects import ObjectID

from jiemi.concurrency.fair_limiter import Slot
from jiemi.core.errors import JiemiError
from jiemi.krapao.git.completeness import missing_object
from jiemi.krapao.git.folders import damaged, generations, is_whole, publish, remove, revisions, storage, sweep
from jiemi.krapao.git.git_host import GitHost
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.pack_store import NewPack, PackStore, open_packs
from jiemi.krapao.git.packs import PackDamaged
from jiemi.krapao.git.port import Advertised
from jiemi.krapao.git.received_pack import PackLimits, ReceivedPack
from jiemi.krapao.git.revision import is_tree, tree_of
from jiemi.krapao.git.soundness import is_sound

_MAX_HAVES = 16

_NOT_SHALLOW = "server does not support shallow capability"
"""How dulwich refuses, before it asks for anything."""


@attrs.frozen
class Fetched:
    """What one fetch brought.

    Attributes:
        whole: whether it is the first of its generation, which has no revision to build on.
        objects: how many objects came.
        received_bytes: the size of their pack.
    """

    whole: bool
    objects: int
    received_bytes: int


@attrs.define
class Fetcher:
    """Fetches into one clone's folder. One fetch at a time, on a thread.

    Attributes:
        last_received: how many bytes came with the last fetch, whether it succeeded or not.
    """

    _host: GitHost
    _folder: Path
    _hold_volume: Callable[[], None]
    last_received: int = 0
    _begin_anew: bool = False
    """Whether what a host sent did not complete what is here, so that the next fetch builds on nothing."""

    def deepen(self, wanted: Advertised, generation: Path, commits: int, meter: Meter, slot: Slot) -> None:
        """Fetch the history of a revision that is complete in a generation: so many commits, and their folders.

        Raises:
            JiemiError: as `fetch`.
        """
        with storage():
            self._hold_volume()
        haves = [wanted.revision]
        format = SHA256 if len(wanted.revision) == 64 else SHA1
        try:
            with contextlib.closing(PackStore(generation / "objects", object_format=format)) as objects:
                self._receive(wanted, haves, objects, meter, slot, depth=commits)
        except BaseException:
            with contextlib.suppress(OSError):
                sweep(generation)
            raise
        finally:
            self.last_received = meter.received

    def fetch(self, wanted: Advertised, meter: Meter, slot: Slot) -> Fetched:
        """Fetch one revision and mark it as complete. A fetch that fails leaves nothing.

        Raises:
            JiemiError: RevisionNotFound, RefNotFound, LimitExceeded, StorageFailed (VolumeFullError where there is no
                space), or what the conversation makes impossible.
        """
        with storage():
            self._hold_volume()
            generation, haves = self._prepare(wanted.revision)
        format = SHA256 if len(wanted.revision) == 64 else SHA1
        try:
            with open_packs(generation / "objects", object_format=format) as objects:
                fetched = self._receive(wanted, haves, objects, meter, slot)
            with storage():
                (generation / "revisions" / wanted.revision).touch()
                publish(generation)
            self._begin_anew = False
        except BaseException as error:
            with contextlib.suppress(OSError):
                sweep(generation)
                if generation.name.endswith(".new"):
                    remove(generation)
            if haves and isinstance(error, JiemiError) and error.failure.reason == "GitProtocolError":
                self._require_sound(generation, len(wanted.revision) // 2, meter, error)
            raise
        finally:
            self.last_received = meter.received
        return fetched

    def _require_sound(self, generation: Path, hash_bytes: int, meter: Meter, error: JiemiError) -> None:
        """The host's pack did not fit to what is here: make sure that it is not what is here that is damaged.

        Raises:
            JiemiError: StorageFailed. The generation is removed.
        """
        with storage():
            if not is_sound(generation, hash_bytes=hash_bytes, check=meter.check):
                remove(generation)
                raise damaged() from error

    def _prepare(self, revision: str) -> tuple[Path, list[str]]:
        """The generation to write into, and the revisions in it, the newest first."""
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        url = folder / "url"
        if not url.exists():
            url.write_text(self._host.location.url + "\n", encoding="utf-8", errors="replace")
        current = next(generations(folder), None)
        if current is not None and is_whole(current):
            sweep(current)
            haves = revisions(current)
            packs = list((current / "objects" / "pack").glob("*.pack"))
            size = sum(pack.stat().st_size for pack in packs)
            fits = len(packs) < self._host.settings.max_packs and size < self._host.settings.max_clone_bytes
            if haves and fits and not self._begin_anew and all(len(have) == len(revision) for have in haves):
                return current, haves[:_MAX_HAVES]
        number = int(current.name) + 1 if current is not None else 1
        new = folder / f"{number}.new"
        if new.exists():
            remove(new)
        (new / "revisions").mkdir(parents=True)
        (new / "objects" / "pack").mkdir(parents=True)
        (new / "objects" / "info").mkdir()
        return new, []

    def _receive(
        self,
        wanted: Advertised,
        haves: list[str],
        objects: PackStore,
        meter: Meter,
        slot: Slot,
        *,
        depth: int = 1,
    ) -> Fetched:
        with contextlib.ExitStack() as stack:
            with storage():
                pack = stack.enter_context(objects.new_pack())

            def write(data: bytes) -> int:
                meter.check()
                with storage():
                    return pack.file.write(data)

            if not self._transfer(wanted, haves, write, meter, depth):
                haves = []
                self._transfer(wanted, haves, write, meter, None)
            with self._host.translating(meter):
                with storage():
                    pack.file.flush()
                    size = pack.size()
                slot.keep()  # from here on it is work of this machine, and bounded
                arrived = self._keep(pack, objects, wanted, meter)
                tree, before = _verify(objects, wanted), _tree_of_newest(objects, haves)
                if depth == 1 and missing_object(objects, tree, before, arrived=arrived, check=meter.check):
                    self._begin_anew = bool(haves)
                    raise JiemiError(
                        "GitProtocolError",
                        f"{self._host.location.authority} sent a revision without all of its files and folders",
                    )
        return Fetched(not haves, len(arrived), size)

    def _transfer(
        self,
        wanted: Advertised,
        haves: list[str],
        write: Callable[[bytes], int],
        meter: Meter,
        depth: int | None,
    ) -> bool:
        """Have the host send a revision: it alone, or with its history.

        Args:
            haves: the revisions that are here already.
            depth: how many commits of the history come, that of the revision included; None for all.

        Returns:
            Whether it was sent. Where it was not, the host can't leave out the history (its old protocol lacks the
            capability `shallow`), and nothing was written.
        """
        with self._host.client(meter) as (client, path):
            try:
                client.fetch_pack(
                    path,
                    lambda refs, depth=None: [ObjectID(wanted.target.encode())],
                    _walker(client, haves) if depth is not None else _nothing_here(),
                    write,
                    depth=depth,
                    # Of the history no file's content is looked at. A host that does not know this sends all.
                    filter_spec=b"blob:none" if depth is not None and depth > 1 else None,
                    ref_prefix=[b"HEAD"],  # the listing that a fetch begins with is not looked at: keep it short
                )
            except GitProtocolError as error:
                if depth is None or _NOT_SHALLOW not in str(error):
                    raise
                return False
        return True

    def _keep(self, pack: NewPack, objects: PackStore, wanted: Advertised, meter: Meter) -> set[bytes]:
        """Look through a pack, hash all that is in it, and put it in its place; returns the hashes of what came."""
        settings = self._host.settings
        limits = PackLimits(settings.max_object_bytes, settings.max_unpacked_bytes)
        try:
            with storage(), pack.mapped() as data:
                received = ReceivedPack(data, hash_bytes=len(wanted.revision) // 2, check=meter.check)
                received.look_through(limits)
                external = received.resolve(objects.read_by_name)
        except PackDamaged as error:
            raise JiemiError(
                "GitProtocolError", f"{self._host.location.authority} sent a damaged pack: {error}"
            ) from error
        with storage():
            objects.keep(pack, received.entries, external)
        return {name for name, _, _ in received.entries}


class _Haves:
    """The revisions that are here, each without its history, as a server is informed of them.

    It stands in for dulwich's graph walker.
    """

    def __init__(self, revisions: list[str]) -> None:
        self.shallow = {ObjectID(revision.encode()) for revision in revisions}
        self._left = [ObjectID(revision.encode()) for revision in reversed(revisions)]

    def __next__(self) -> ObjectID | None:
        return self._left.pop() if self._left else None

    def ack(self, sha: ObjectID, /) -> None:
        """The server has it too: nothing to follow, because its history is not here."""

    def nak(self) -> None:
        """Nothing in common."""


def _walker(client: GitClient, haves: list[str]) -> ObjectStoreGraphWalker | _Haves:
    if isinstance(client, LocalGitClient):
        # dulwich's own server side would leave the haves out and then send a thin history; a whole copy is cheap here.
        return _nothing_here()
    return _Haves(haves)


def _nothing_here() -> ObjectStoreGraphWalker:
    return ObjectStoreGraphWalker([], lambda _: [], shallow=set())


def _tree_of_newest(objects: PackStore, haves: list[str]) -> str | None:
    """The tree of the newest revision that is here already."""
    return tree_of(objects, haves[0]) if haves else None


def _verify(objects: PackStore, wanted: Advertised) -> str:
    """That the commit came, and its tree, whose hash is returned."""
    tree = tree_of(objects, wanted.revision)
    if tree is None:
        raise JiemiError(
            "RefNotFound",
            "spec.source.repository.ref names something that is no commit",
            "Name a branch, or a tag of a commit (`git cat-file -t TAG^{}` says what it is of).",
        )
    if not is_tree(objects, tree):
        raise JiemiError("GitProtocolError", "the host sent a commit without its tree")
    return tree
