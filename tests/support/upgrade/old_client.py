"""A Miwen of an earlier schema: plain calls by pycapnp, and nothing of today's client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import capnp
from support.upgrade.schema_evolution import load

CALL_SECONDS = 40.0


class OldClient:
    """One connection with a session and one repository.

    Args:
        schema: the frozen schema.
        krapao: the bootstrap capability.
        url: of the repository.
    """

    def __init__(self, schema: Any, krapao: Any, url: str) -> None:
        self.schema = schema
        self._session = krapao.openSession(protocolVersion=schema.protocolVersion).session
        self.repository = self._session.openRepository(
            source=schema.Source.new_message(url=url), credentials=schema.GitCredentials.new_message()
        ).repository

    async def head(self) -> str:
        result = (await self._within(self.repository.head(maxAgeSeconds=0))).result
        assert result.which() == "head", result
        return str(result.head.revision)

    async def files(self, revision: str, *patterns: str) -> list[str]:
        request = self.schema.FilesRequest.new_message(revision=revision, patterns=list(patterns))
        result = (await self._within(self.repository.files(request=request))).result
        assert result.which() == "files", result
        return [str(entry.path) for entry in result.files.entries]

    async def render(self, revision: str, path: str, age: str) -> Any:
        """The result: documents, or a failure."""
        request = self.schema.RenderRequest.new_message(revision=revision, path=path)
        request.init("keys", 1)[0].age = age
        return (await self._within(self.repository.render(request=request))).result

    async def moved(self, cause: Callable[[], object]) -> str:
        """The revision that a watch reports once something was done."""
        heads: asyncio.Queue[str] = asyncio.Queue()

        class Watcher(self.schema.Watcher.Server):  # type: ignore[misc, name-defined] # read at run time
            async def moved_context(self, context: Any) -> None:
                heads.put_nowait(str(context.params.head.revision))

            async def ended_context(self, context: Any) -> None:
                heads.put_nowait(str(context.params.failure.reason))

        held = await self._within(self.repository.watch(watcher=Watcher()))
        assert held.subscription is not None
        cause()
        await self.head()
        return await asyncio.wait_for(heads.get(), CALL_SECONDS)

    async def _within(self, call: Any) -> Any:
        return await asyncio.wait_for(call, CALL_SECONDS)


def with_old_client(schema: Path, socket: str, url: str, use: Callable[[OldClient], Awaitable[None]]) -> None:
    """Connect to a Krapao's unix socket as that schema has it, and use the connection."""

    async def main() -> None:
        stream = await capnp.AsyncIoStream.create_unix_connection(path=socket)
        loaded = load(schema)
        krapao = capnp.TwoPartyClient(stream).bootstrap().cast_as(loaded.Krapao)
        await use(OldClient(loaded, krapao, url))

    asyncio.run(capnp.run(main()))
