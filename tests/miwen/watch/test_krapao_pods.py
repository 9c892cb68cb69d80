"""Which Krapaos there are: the Pods behind their Service, through everything that a list and a watch may do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from contract.kubernetes_parts import endpoint_slice
from fakes.kubernetes import FakeKubernetes
from support.miwen.world import settle
from trio.testing import MockClock

from jiemi.core.errors import Failure
from jiemi.miwen.kubernetes.watch_counts import WatchCounts
from jiemi.miwen.watch.krapao_pods import follow_krapaos
from jiemi.rpc.address import TcpAddress
from jiemi.rpc.krapaos import Peer

SERVICE = "repository-svc"


class Reported:
    """The listener."""

    def __init__(self) -> None:
        self.peers: list[list[Peer]] = []
        self.unknown: list[Failure] = []

    def set_peers(self, peers: Sequence[Peer]) -> None:
        self.peers.append(list(peers))

    def set_unknown(self, failure: Failure) -> None:
        self.unknown.append(failure)

    @property
    def names(self) -> list[list[str]]:
        return [[peer.name for peer in peers] for peers in self.peers]


def slice_of(name: str, *pods: str, service: str = SERVICE) -> dict[str, Any]:
    return endpoint_slice("jiemi", name, service, *pods)


@asynccontextmanager
async def following(kubernetes: FakeKubernetes, counts: WatchCounts | None = None) -> AsyncIterator[Reported]:
    reported = Reported()
    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            slices = kubernetes.endpoint_slices
            await follow_krapaos(slices, "jiemi", SERVICE, reported, random=lambda: 0.5, counts=counts)

        nursery.start_soon(follow)
        await settle()
        yield reported
        nursery.cancel_scope.cancel()
    assert kubernetes.cluster.watches == 0


async def test_the_pods_are_reported_once_the_whole_list_was_read_and_each_change_after_it(
    autojump_clock: MockClock,
) -> None:
    kubernetes = FakeKubernetes()
    kubernetes.cluster.put(slice_of("a", "repository-0", "repository-1"))
    kubernetes.cluster.put(slice_of("b", "repository-2"))
    kubernetes.cluster.put(slice_of("c", "stranger", service="another"))
    async with following(kubernetes) as reported:
        assert reported.names == [["repository-0", "repository-1", "repository-2"]]
        assert reported.peers[0][1] == Peer("repository-1", TcpAddress("10.0.0.2", 50208))
        leaving = slice_of("a", "repository-0", "repository-1")
        leaving["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
        kubernetes.cluster.put(leaving)
        await settle()
        assert [peer.ready for peer in reported.peers[-1]] == [False, True, True]
        kubernetes.cluster.put(slice_of("a", "repository-0"))
        await settle()
        assert reported.names[-1] == ["repository-0", "repository-2"]
        kubernetes.cluster.delete("EndpointSlice", "jiemi", "b", api_version="discovery.k8s.io/v1")
        await settle()
        assert reported.names[-1] == ["repository-0"]
        seen = len(reported.peers)
        kubernetes.cluster.put(slice_of("c", service="another"))
        await settle()
        assert len(reported.peers) == seen, "nothing changed"


async def test_a_service_without_pods_is_known_to_have_none(autojump_clock: MockClock) -> None:
    async with following(FakeKubernetes()) as reported:
        assert (reported.names, reported.unknown) == ([[]], [])


async def test_a_missing_right_is_reported_and_those_that_are_known_stay(autojump_clock: MockClock) -> None:
    kubernetes, counts = FakeKubernetes(), WatchCounts()
    kubernetes.cluster.put(slice_of("a", "repository-0"))
    kubernetes.deny("list", "endpointslices")
    async with following(kubernetes, counts) as reported:
        assert reported.peers == []
        assert {each.reason for each in reported.unknown} == {"KrapaoUnavailable"}
        assert "`list` and `watch` on endpointslices" in reported.unknown[0].remedy
        kubernetes.denied.clear()
        await trio.sleep(60)
        assert reported.names == [["repository-0"]]
        # What can't be read any more is not gone.
        kubernetes.deny("list", "endpointslices")
        kubernetes.deny("watch", "endpointslices")
        kubernetes.cluster.compact()
        kubernetes.cluster.end_watches()
        await trio.sleep(600)
        assert len(reported.unknown) > 2
        assert reported.names == [["repository-0"]]
    assert counts.failed[("krapaos", "KrapaoUnavailable")] > 2


@pytest.mark.parametrize("address", ["no address", "", "10.0.0.300"])
async def test_a_pod_with_an_odd_address_is_left_out(address: str, autojump_clock: MockClock) -> None:
    kubernetes = FakeKubernetes()
    odd = slice_of("a", "repository-0", "repository-1")
    odd["endpoints"][0]["addresses"] = [address]
    kubernetes.cluster.put(odd)
    async with following(kubernetes) as reported:
        assert reported.names == [["repository-1"]]
