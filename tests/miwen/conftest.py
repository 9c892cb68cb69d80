"""A world for each test, on a virtual clock that jumps when nothing can run."""

import pytest
import trio.testing
from fakes.krapao import FakeKrapao
from fakes.kubernetes import FakeCluster, FakeKubernetes
from miwen_harness import FILE, URL, World, secret


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0.02)


@pytest.fixture
def world(autojump_clock: trio.testing.MockClock) -> World:
    cluster = FakeCluster()
    krapao = FakeKrapao()
    origin = krapao.add_origin(URL)
    origin.commit({FILE: [secret(greeting="one")]})
    return World(cluster, FakeKubernetes(cluster), krapao, origin)
