"""The repository that a Decryptor's loop has open: at most one, kept between ticks.

Its owner is a task of the loop's nursery. It opens the repository, follows it together with all that have the same one
open (`jiemi.miwen.state.followed_source`), and closes it when another takes its place or the loop ends. So an unchanged
tick opens nothing and reads no Secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import AsyncIterator, Callable

import trio

from jiemi.core.decisions.interests import Interest
from jiemi.core.errors import JiemiError
from jiemi.miwen.state.followed_source import FollowedSource, Member
from jiemi.miwen.state.followed_sources import FollowedSources
from jiemi.rpc.contract import Head, Krapao, Repository
from jiemi.rpc.source import GitCredentials, Source
from jiemi.tracing.current import in_trace


def tenant_of(namespace: str) -> str:
    """The id by which Krapao shares what it has between tenants: a namespace, which is distinguished but not named.

    A tenant is a namespace, because rights are granted by namespace: a user who may make one Decryptor there may make
    many. The id is no secret. It is a hash so that no name of the cluster's gets into Krapao's memory, log or volume.
    """
    return hashlib.sha256(b"jiemi tenant\0" + namespace.encode()).hexdigest()[:16]


class OpenRepository:
    """Holds one repository open.

    Args:
        krapao: where it is opened.
        tenant: the tenant for which it is opened (`tenant_of`).
        nursery: the owner of the task that holds it.
        member: the Decryptor, as it follows the source.
        sources: what Decryptors follow.
        random: gives a number in [0, 1).
    """

    def __init__(
        self,
        krapao: Krapao,
        tenant: str,
        nursery: trio.Nursery,
        member: Member,
        sources: FollowedSources,
        *,
        random: Callable[[], float],
    ) -> None:
        self._krapao = krapao
        self._tenant = tenant
        self._nursery = nursery
        self._member = member
        self._sources = sources
        self._random = random
        self._held: _Held | None = None
        self._dealt_with: str | None = None

    def get(self, generation: int) -> Repository | None:
        """The repository that is open for that generation of the spec, if one is."""
        held = self._held
        return held.repository if held is not None and held.generation == generation else None

    async def open(self, source: Source, credentials: GitCredentials, *, generation: int) -> Repository:
        """Open a repository in place of the one that is open; the same one stays as it is."""
        held = self._held
        if held is not None and (held.source, held.credentials) == (source, credentials):
            held.generation = generation
            return held.repository
        await self.close()
        with in_trace(None):  # it stays open for later ticks
            held = _held(await self._nursery.start(self._own, source, credentials))
        held.generation = generation
        self._held = held
        return held.repository

    @contextlib.asynccontextmanager
    async def at(self, revision: str) -> AsyncIterator[Repository]:
        """The repository that is open, pinned to a commit, with the same credentials.

        Raises:
            JiemiError: KrapaoUnavailable, also where none is open.
        """
        held = self._require_held()
        source = held.source
        pinned = Source(source.url, commit=revision, verification=source.verification, submodules=source.submodules)
        async with self._krapao.open(pinned, held.credentials, self._tenant) as repository:
            yield repository

    # --- what is known of the source without asking

    def begin_tick(self, generation: int) -> None:
        """A tick begins, for that generation of the spec."""
        held, self._dealt_with = self._held, None
        if held is not None:
            dealt_with = held.followed.begin_tick(self._member.key)
            if held.settled_generation == generation:
                self._dealt_with = dealt_with

    def is_unchanged(self, revision: str) -> bool:
        """Whether the files of that revision are those that were deployed before the tick."""
        return revision == self._dealt_with

    def end_tick(self, generation: int, revision: str | None, interest: Interest | None) -> bool:
        """A tick has ended. Returns whether the Decryptor rests: whether it is woken when its files change.

        Args:
            revision: the one whose files are deployed; None where that is not certain.
            interest: which files that are.
        """
        held = self._held
        if held is None:
            return False
        held.settled_generation = generation
        held.followed.end_tick(self._member.key, revision, interest)
        return revision is not None and interest is not None

    async def head(self, *, max_age_seconds: float) -> Head:
        """The newest revision; see `FollowedSource.head`.

        Raises:
            JiemiError: as that; KrapaoUnavailable where none is open.
        """
        held = self._require_held()
        return await held.followed.head(held.repository, max_age_seconds=max_age_seconds)

    def _require_held(self) -> _Held:
        if self._held is None:
            raise JiemiError("KrapaoUnavailable", "the repository was closed meanwhile")
        return self._held

    async def close(self) -> None:
        """Close what is open, and wait until it is."""
        held, self._held = self._held, None
        self._dealt_with = None
        if held is not None:
            held.scope.cancel()
            await held.closed.wait()

    async def _own(
        self,
        source: Source,
        credentials: GitCredentials,
        *,
        task_status: trio.TaskStatus[_Held],
    ) -> None:
        closed = trio.Event()
        try:
            with (
                trio.CancelScope() as scope,
                self._sources.joined(source, credentials, self._member) as followed,
            ):
                async with self._krapao.open(source, credentials, self._tenant) as repository:
                    task_status.started(_Held(repository, source, credentials, followed, scope, closed))
                    await followed.lead_in_turn(repository, self._random)
        finally:
            closed.set()


def _held(value: object) -> _Held:
    """What a started owner reports, with its type (nursery.start has none)."""
    assert isinstance(value, _Held)  # noqa: S101 - narrows the type
    return value


class _Held:
    def __init__(
        self,
        repository: Repository,
        source: Source,
        credentials: GitCredentials,
        followed: FollowedSource,
        scope: trio.CancelScope,
        closed: trio.Event,
    ) -> None:
        self.repository = repository
        self.source = source
        self.credentials = credentials
        self.followed = followed
        self.scope = scope
        self.closed = closed
        self.generation: float = math.nan
        self.settled_generation: float = math.nan
