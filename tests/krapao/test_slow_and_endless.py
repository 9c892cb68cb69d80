"""How fast a host must be, and when. Those that drip or never end are rows of tests/hostile."""

from __future__ import annotations

import time

import attrs
import pytest
from support.krapao.work_tree import Work
from support.network.addresses import LOOPBACK

from jiemi.concurrency.calls import Interrupter
from jiemi.core.errors import JiemiError
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import GitServer
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials


async def test_an_honest_host_is_given_time_before_it_must_be_fast(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    git_server.create("r.git")
    work.commit({"x": "one"})
    work.push(git_server.root / "r.git")
    git_server.on_asked = lambda _: time.sleep(0.4)
    assert settings.addresses == LOOPBACK
    patient = attrs.evolve(settings, listing_grace_seconds=5, fetch_grace_seconds=5)
    async with Clones(patient).open(parse_url(git_server.url_of("r.git")), GitCredentials()) as store:
        await store.fetch(await store.advertised(Ref()))


def test_the_rate_is_an_average_that_counts_after_the_grace() -> None:
    now = 100.0
    meter = Meter(Interrupter(), 10**9, "x", 1_000, 20, is_git=True, clock=lambda: now)
    for now, count in ((101.0, 1), (119.9, 1), (121.0, 30_000), (130.0, 1)):  # noqa: B007 - the clock's
        meter.arrived(count)
    now = 131.0
    with pytest.raises(
        JiemiError, match=r"Timeout: x comes too slowly: 30004 bytes in 31 s, less than .* 1000 a second"
    ):
        meter.arrived(1)
    assert meter.failure is not None


def test_what_is_no_git_server_is_heard_for_a_megabyte_only() -> None:
    meter = Meter(Interrupter(), 10**9, "x")
    meter.arrived(1024 * 1024)
    with pytest.raises(JiemiError, match="none of them is git's"):
        meter.arrived(1)
    proven = Meter(Interrupter(), 10**9, "x")
    proven.look_at_packets(b"000e")
    proven.arrived(10**8)
