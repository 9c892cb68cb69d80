"""Krapao's fake, or a client of it, of a release that knows no traces. In a process of its own, because pycapnp crashes
when a process loads the same types from two files.

    older_peer.py serve|ask SOCKET FOLDER
"""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import capnp
import structlog
import trio
from fakes.krapao import FakeKrapao
from rpc.rpc_helpers import QUICK, SOURCE, URL

from jiemi.rpc import bridge, codec
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.client import connect
from jiemi.rpc.contract import FilesRequest
from jiemi.rpc.server import serve
from jiemi.rpc.source import GitCredentials


def forget_traces(folder: Path) -> None:
    text = (Path(bridge.__file__).parents[2] / "schema" / "krapao.capnp").read_text()
    older, count = re.subn(r", traceparent :Text", "", text)
    assert count == 6, "each call and notification that has the field"
    path = folder / "older.capnp"
    path.write_text(older)
    loaded = capnp.load(str(path))
    bridge._load_schema = lambda: loaded  # type: ignore[assignment]
    codec.write_trace = lambda *_: None
    codec.read_trace = lambda _: None  # type: ignore[assignment]


async def serve_fake(socket: str) -> None:
    fake = FakeKrapao()
    fake.add_origin(URL).commit({"a.yaml": []})
    async with bridge.open_bridge() as one, trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(fake, UnixAddress(socket), bridge=one, task_status=task_status))
        print("serving", flush=True)  # noqa: T201 - the test reads it
        await trio.sleep_forever()


async def ask(socket: str) -> None:
    async with (
        bridge.open_bridge() as one,
        connect(UnixAddress(socket), bridge=one, settings=QUICK) as client,
        client.open(SOURCE, GitCredentials()) as repository,
    ):
        head = await repository.head(max_age_seconds=0)
        files = await repository.files(FilesRequest(head.revision, ("a.yaml",)))
        print(head.revision, *(each.path for each in files.entries), flush=True)  # noqa: T201


if __name__ == "__main__":
    role, socket, folder = sys.argv[1:]
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    forget_traces(Path(folder))
    main: Callable[[str], Awaitable[None]] = serve_fake if role == "serve" else ask
    trio.run(main, socket)
