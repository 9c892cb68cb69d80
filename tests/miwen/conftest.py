"""A world for each test, on a virtual clock that jumps when nothing can run."""

import math
from typing import Any

import pytest
import trio.testing
from fakes.krapao import FakeKrapao
from fakes.kubernetes import FakeCluster, FakeKubernetes
from support.miwen.world import FILE, URL, World, secret


@pytest.fixture
def autojump_clock(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """The virtual clock. It jumps at once, but not while a thread runs, which trio does not see as something to do."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    run_sync, running = trio.to_thread.run_sync, 0

    async def run_in_thread(*arguments: Any, **options: Any) -> Any:
        nonlocal running
        running += 1
        clock.autojump_threshold = math.inf
        try:
            return await run_sync(*arguments, **options)
        finally:
            running -= 1
            clock.autojump_threshold = math.inf if running else 0

    monkeypatch.setattr(trio.to_thread, "run_sync", run_in_thread)
    return clock


@pytest.fixture
def world(autojump_clock: trio.testing.MockClock) -> World:
    cluster = FakeCluster()
    krapao = FakeKrapao()
    origin = krapao.add_origin(URL)
    origin.commit({FILE: [secret(greeting="one")]})
    return World(cluster, FakeKubernetes(cluster), krapao, origin)
