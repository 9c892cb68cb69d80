"""Krapao's repositories with each call a span of the trace that it belongs to. Used where traces are collected."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import attrs

from jiemi.rpc.contract import Changes, Files, FilesRequest, Head, Krapao, Rendered, RenderRequest, Repository
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.verification import Verified
from jiemi.tracing.current import span_of_call
from jiemi.tracing.spans import Tracer


@attrs.frozen
class TracedKrapao:
    """The port `Krapao` over another.

    Attributes:
        krapao: the one that answers.
        tracer: where the spans go.
    """

    krapao: Krapao
    tracer: Tracer

    @contextlib.asynccontextmanager
    async def open(self, source: Source, credentials: GitCredentials, tenant: str = "") -> AsyncIterator[Repository]:
        """As `Krapao.open` of the contract."""
        async with self.krapao.open(source, credentials, tenant) as repository:
            yield _TracedRepository(repository, self.tracer)


@attrs.frozen
class _TracedRepository:
    repository: Repository
    tracer: Tracer

    async def head(self, *, max_age_seconds: float) -> Head:
        with span_of_call(self.tracer, "krapao.head") as span:
            head = await self.repository.head(max_age_seconds=max_age_seconds)
            span.set(revision=head.revision)
            return head

    async def verify(self, request: FilesRequest) -> Verified:
        with span_of_call(self.tracer, "krapao.verify", revision=request.revision):
            return await self.repository.verify(request)

    async def files(self, request: FilesRequest) -> Files:
        with span_of_call(self.tracer, "krapao.files", revision=request.revision) as span:
            files = await self.repository.files(request)
            span.set(files=len(files.entries))
            return files

    async def changes(self, before: str, after: str) -> Changes:
        with span_of_call(self.tracer, "krapao.changes", revision=after) as span:
            changes = await self.repository.changes(before, after)
            span.set(paths=len(changes.paths), folders=len(changes.folders))
            return changes

    async def render(self, request: RenderRequest) -> Rendered:
        with span_of_call(self.tracer, "krapao.render", revision=request.revision, path=request.path) as span:
            rendered = await self.repository.render(request)
            span.set(encrypted=rendered.encrypted, documents=len(rendered.documents))
            return rendered

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        await self.repository.watch(on_moved)
