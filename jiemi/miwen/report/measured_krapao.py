"""Krapao as Miwen reaches it, with each call measured: how long it took, and what came of it; each is a span, too."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import attrs
import trio

from jiemi.core.errors import JiemiError
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.rpc.contract import Changes, Files, FilesRequest, Head, Krapao, Rendered, RenderRequest, Repository
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.verification import Verified
from jiemi.tracing.current import span
from jiemi.tracing.spans import Kind


@attrs.frozen
class MeasuredKrapao:
    """The port `Krapao` over another.

    Attributes:
        krapao: the one that answers.
        metrics: where its answers are counted.
    """

    krapao: Krapao
    metrics: MiwenMetrics

    @contextlib.asynccontextmanager
    async def open(self, source: Source, credentials: GitCredentials, tenant: str = "") -> AsyncIterator[Repository]:
        """As `Krapao.open` of the contract."""
        async with self.krapao.open(source, credentials, tenant) as repository:
            yield _MeasuredRepository(repository, self.metrics)


@attrs.frozen
class _MeasuredRepository:
    repository: Repository
    metrics: MiwenMetrics

    async def head(self, *, max_age_seconds: float) -> Head:
        with self._measured("head"):
            return await self.repository.head(max_age_seconds=max_age_seconds)

    async def verify(self, request: FilesRequest) -> Verified:
        with self._measured("verify"):
            return await self.repository.verify(request)

    async def files(self, request: FilesRequest) -> Files:
        with self._measured("files"):
            return await self.repository.files(request)

    async def changes(self, before: str, after: str) -> Changes:
        with self._measured("changes"):
            return await self.repository.changes(before, after)

    async def render(self, request: RenderRequest) -> Rendered:
        with self._measured("render"):
            return await self.repository.render(request)

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        # It lasts until the connection ends or nobody listens.
        await self.repository.watch(on_moved)

    @contextlib.contextmanager
    def _measured(self, method: str) -> Iterator[None]:
        began, outcome = trio.current_time(), "cancelled"
        try:
            with span(f"krapao.{method}", kind=Kind.CLIENT):
                yield
            outcome = "ok"
        except JiemiError as error:
            outcome = error.failure.reason
            raise
        finally:
            self.metrics.call(method, outcome, trio.current_time() - began)
