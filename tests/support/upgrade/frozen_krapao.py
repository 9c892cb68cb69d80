"""A Krapao of an earlier schema: `python -m support.upgrade.frozen_krapao SCHEMA SOCKET`.

It serves until its standard input ends. It has one repository with one file, takes any credentials, and uses
what its schema has and nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import capnp
from support.upgrade.schema_evolution import load

REVISION = "a" * 40
NEXT = "c" * 40
FILE = "secret.yaml"
DOCUMENT = b'{"kind":"Secret"}'


def servers(schema: Any) -> Any:
    """What the bootstrap capability of that schema is."""

    class Subscription(schema.Subscription.Server):  # type: ignore[misc] # of a schema that is read at run time
        pass

    class Repository(schema.Repository.Server):  # type: ignore[misc] # likewise
        def __init__(self) -> None:
            self.watching: set[asyncio.Task[None]] = set()

        async def head_context(self, context: Any) -> None:
            context.results.init("result").init("head").revision = REVISION

        async def files_context(self, context: Any) -> None:
            files = context.results.init("result").init("files")
            files.revision = context.params.request.revision
            entry = files.init("entries", 1)[0]
            entry.path, entry.blob = FILE, "b" * 40

        async def render_context(self, context: Any) -> None:
            request, result = context.params.request, context.results.init("result")
            if request.path != FILE:
                failure = result.init("failure")
                failure.reason, failure.message, failure.retry = "FileNotFound", f"no {request.path}", "stalled"
                return
            assert request.keys[0].age.startswith("AGE-SECRET-KEY-")
            rendered = result.init("rendered")
            rendered.revision = request.revision
            rendered.init("documents", 1)[0] = DOCUMENT

        async def watch_context(self, context: Any) -> None:
            context.results.subscription = Subscription()
            watcher = context.params.watcher

            async def notify() -> None:
                head = schema.Head.new_message(revision=NEXT)
                await watcher.moved(head=head)

            task = asyncio.get_running_loop().create_task(notify())
            self.watching.add(task)
            task.add_done_callback(self.watching.discard)

    class Session(schema.Session.Server):  # type: ignore[misc] # likewise
        async def openRepository_context(self, context: Any) -> None:  # noqa: N802  the schema's name
            context.results.repository = Repository()

    class Krapao(schema.Krapao.Server):  # type: ignore[misc] # likewise
        async def openSession_context(self, context: Any) -> None:  # noqa: N802  the schema's name
            context.results.protocolVersion = schema.protocolVersion
            context.results.session = Session()

    return Krapao


async def serve(schema: Any, socket: Path) -> None:
    """Until the standard input ends, so it has no deadline of its own."""
    made = servers(schema)

    async def connected(stream: Any) -> None:
        await capnp.TwoPartyServer(stream, bootstrap=made()).on_disconnect()

    server = await capnp.AsyncIoStream.create_unix_server(connected, str(socket))
    sys.stdout.write("serving\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(capnp.run(serve(load(Path(sys.argv[1])), Path(sys.argv[2]))))
