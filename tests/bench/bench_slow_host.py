"""Whether repositories of other hosts are late beside a slow one: `just bench-slow-host [DECRYPTORS [SECONDS]]`.

DECRYPTORS (200) over 20 repositories of a host that takes 2 seconds for each answer, which ask it all the time, each
namespace for itself; and ten tenants of another host, each of which pushes and reads its file, one after the other. It
prints how long these take, without the slow host and beside it, and what the slow one was asked meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

import structlog
import trio
from support.krapao.work_tree import Work
from support.network.addresses import LOOPBACK

from jiemi.core.errors import JiemiError
from jiemi.demo.git_server import Asked, GitServer, serve_git
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FilesRequest, Krapao
from jiemi.rpc.source import GitCredentials, Source

LATENCY_SECONDS = 2
REPOSITORIES = 20
OTHERS = 10


async def push_and_read(krapao: Krapao, server: GitServer, works: list[Work], seconds: float) -> list[float]:
    """How long each push took until its file was listed."""
    took: list[float] = []

    async def one(number: int) -> None:
        name, work = f"quick-{number}.git", works[number]
        async with krapao.open(Source(server.url_of(name)), GitCredentials(), f"quick-{number}") as repository:
            end, pushed = trio.current_time() + seconds, 0
            while trio.current_time() < end:
                pushed += 1
                revision = await trio.to_thread.run_sync(work.commit, {"a.yaml": f"a: {time.monotonic_ns()}\n"})
                await trio.to_thread.run_sync(work.push, server.root / name)
                began = trio.current_time()
                head = await repository.head(max_age_seconds=0)
                await repository.files(FilesRequest(head.revision, ("a.yaml",)))
                assert head.revision == revision
                took.append(trio.current_time() - began)
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(OTHERS):
            nursery.start_soon(one, number)
    return took


def report(label: str, took: list[float]) -> None:
    ordered = sorted(took)
    print(
        f"{label:24} {len(took):4} pushes: median {1_000 * statistics.median(ordered):.0f} ms, "
        f"p99 {1_000 * ordered[int(0.99 * (len(ordered) - 1))]:.0f} ms, longest {1_000 * ordered[-1]:.0f} ms"
    )


async def main(decryptors: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="jiemi-bench-", dir="/dev/shm") as name:
        folder = Path(name)
        for each in ("slow", "quick", "state"):
            (folder / each).mkdir()
        async with serve_git(folder / "slow") as slow, serve_git(folder / "quick", host="127.0.0.2") as quick:
            work = Work(folder / "work-slow")
            work.commit({"a.yaml": "a: 1\n"})
            for number in range(REPOSITORIES):
                slow.create(f"slow-{number}.git")
                work.push(slow.root / f"slow-{number}.git")
            works = []
            for number in range(OTHERS):
                quick.create(f"quick-{number}.git")
                works.append(Work(folder / f"work-{number}"))
            slow.on_asked = lambda _: time.sleep(LATENCY_SECONDS)
            settings = KrapaoSettings(state_dir=folder / "state", addresses=LOOPBACK)
            async with open_service(settings) as krapao, trio.open_nursery() as nursery:
                report("without the slow host", await push_and_read(krapao, quick, works, seconds))

                async def ask(number: int) -> None:
                    url = slow.url_of(f"slow-{number % REPOSITORIES}.git")
                    async with krapao.open(Source(url), GitCredentials(), f"slow-{number}") as repository:
                        while True:
                            with contextlib.suppress(JiemiError):
                                head = await repository.head(max_age_seconds=0)
                                await repository.files(FilesRequest(head.revision, ("a.yaml",)))

                for number in range(decryptors):
                    nursery.start_soon(ask, number)
                await trio.sleep(2 * LATENCY_SECONDS)
                slow.forget_hits()
                report(f"beside {decryptors} of it", await push_and_read(krapao, quick, works, seconds))
                print(f"the slow host answered {slow.count(Asked.LS_REFS)} listings in the meantime")
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    given = [int(each) for each in sys.argv[1:]]
    how_many, how_long = [*given, *(200, 30)[len(given) :]]
    trio.run(main, how_many, how_long)
