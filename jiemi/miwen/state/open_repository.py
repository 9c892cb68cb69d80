"""The repository that a Decryptor's loop has open: at most one, kept between ticks.

Its owner is a task of the loop's nursery. It opens the repository, listens for news of it, and closes it when another
takes its place or the loop ends. So an unchanged tick opens nothing and reads no Secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import AsyncIterator, Callable

import structlog
import trio

from jiemi.core.decisions.schedule import watch_retry_seconds
from jiemi.core.errors import JiemiError
from jiemi.rpc.contract import GitCredentials, Head, Krapao, Repository, Source
from jiemi.tracing.current import in_trace

_log = structlog.get_logger("jiemi.miwen.state")


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
        on_moved: called when the followed ref moved; must not block.
        random: gives a number in [0, 1).
    """

    def __init__(
        self,
        krapao: Krapao,
        tenant: str,
        nursery: trio.Nursery,
        *,
        on_moved: Callable[[Head], None],
        random: Callable[[], float],
    ) -> None:
        self._krapao = krapao
        self._tenant = tenant
        self._nursery = nursery
        self._on_moved = on_moved
        self._random = random
        self._held: _Held | None = None

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
        held = self._held
        if held is None:
            raise JiemiError("KrapaoUnavailable", "the repository was closed meanwhile")
        pinned = Source(held.source.url, commit=revision, verification=held.source.verification)
        async with self._krapao.open(pinned, held.credentials, self._tenant) as repository:
            yield repository

    async def close(self) -> None:
        """Close what is open, and wait until it is."""
        held, self._held = self._held, None
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
            with trio.CancelScope() as scope:
                async with self._krapao.open(source, credentials, self._tenant) as repository:
                    task_status.started(_Held(repository, source, credentials, scope, closed))
                    await self._listen(repository)
        finally:
            closed.set()

    async def _listen(self, repository: Repository) -> None:
        failures = 0
        while True:
            began = trio.current_time()
            try:
                await repository.watch(self._on_moved)
            except JiemiError:
                # The loop meets the same fault at its next tick and reports it; listening only makes news quicker.
                pass
            except Exception:  # noqa: BLE001 - the boundary of this Decryptor, as in the tick
                _log.exception("listening_crashed", url=self._held.source.url if self._held is not None else None)
            failures = failures + 1 if trio.current_time() - began < 60 else 1
            await trio.sleep(watch_retry_seconds(failures, random=self._random()))


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
        scope: trio.CancelScope,
        closed: trio.Event,
    ) -> None:
        self.repository = repository
        self.source = source
        self.credentials = credentials
        self.scope = scope
        self.closed = closed
        self.generation: float = math.nan
