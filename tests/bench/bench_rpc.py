"""How long a call over the RPC takes, in microseconds: `python tests/bench/bench_rpc.py`.

Client and server share one process and one bridge, and so one core does the work of both.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Awaitable, Callable

import trio
from fakes.krapao import RIGHT_KEY, FakeKrapao

from jiemi.rpc.address import Address, TcpAddress, UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import connect
from jiemi.rpc.contract import RenderRequest
from jiemi.rpc.server import serve
from jiemi.rpc.source import GitCredentials, Source


async def _measure(name: str, work: Callable[[], Awaitable[object]], *, calls: int) -> None:
    await work()
    begin = trio.current_time()
    for _ in range(calls):
        await work()
    alone = (trio.current_time() - begin) / calls
    begin = trio.current_time()
    for _ in range(calls // 200):
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(work)
    together = (trio.current_time() - begin) / (calls // 200 * 200)
    sys.stdout.write(f"{name:28}{alone * 1e6:8.0f} one at a time {together * 1e6:8.0f} with 200 at once\n")


async def _bench(address: Address) -> None:
    krapao = FakeKrapao()
    origin = krapao.add_origin("https://git.example/app.git")
    revision = origin.commit({"small.yaml": [{"data": "x" * 2_000}], "large.yaml": [{"data": "x" * 500_000}]})
    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        bound = await nursery.start(lambda **kw: serve(krapao, address, bridge=bridge, **kw))
        async with connect(bound, bridge=bridge) as client, client.open(Source(origin.url), GitCredentials()) as app:
            small = RenderRequest(revision, "small.yaml", None, (RIGHT_KEY,))
            large = RenderRequest(revision, "large.yaml", None, (RIGHT_KEY,))

            async def open_and_head() -> None:
                async with client.open(Source(origin.url), GitCredentials()) as repository:
                    await repository.head(max_age_seconds=60)

            await _measure("head", lambda: app.head(max_age_seconds=60), calls=2_000)
            await _measure("open, head, close", open_and_head, calls=1_000)
            await _measure("render of 2 kB", lambda: app.render(small), calls=2_000)
            await _measure("render of 500 kB", lambda: app.render(large), calls=200)
        nursery.cancel_scope.cancel()


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for address in (UnixAddress(f"{directory}/krapao.sock"), TcpAddress("127.0.0.1", 0)):
            sys.stdout.write(f"{address}\n")
            trio.run(_bench, address)


if __name__ == "__main__":
    main()
