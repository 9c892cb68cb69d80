"""Follow which Krapaos there are: the Pods behind a Service, by its EndpointSlices.

Nothing is taken away because something could not be read: those that are known stay until a list says otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs
import structlog

from jiemi.core.decisions.schedule import watch_retry_seconds
from jiemi.core.errors import Failure
from jiemi.core.objects.endpoints import endpoints
from jiemi.miwen.kubernetes.port import EndpointSlices, JsonObject, Page
from jiemi.miwen.kubernetes.watch_counts import WatchCounts
from jiemi.miwen.watch.reflector import reflect
from jiemi.rpc.address import TcpAddress
from jiemi.rpc.krapaos import Peer

PORT_NAME = "capnp"
"""Of Krapao's port, where the Service has several."""

_log = structlog.get_logger("jiemi.miwen")


class Krapaos(Protocol):
    """What is notified. See `jiemi.rpc.krapaos.Krapaos`."""

    def set_peers(self, peers: Sequence[Peer]) -> None:
        """Which there are now."""
        ...

    def set_unknown(self, failure: Failure) -> None:
        """Why it is not known."""
        ...


async def follow_krapaos(
    slices: EndpointSlices,
    namespace: str,
    service: str,
    krapaos: Krapaos,
    *,
    random: Callable[[], float],
    counts: WatchCounts | None = None,
) -> None:
    """Report the Pods behind a Service, until cancelled.

    Args:
        namespace, service: of the Service.
        random: gives a number in [0, 1), for jitter.
        counts: how the watch fares.
    """
    await reflect(
        _Slices(slices, namespace, service),
        _Sink(krapaos),
        name="krapaos",
        retry_seconds=lambda failures: watch_retry_seconds(failures, random=random()),
        counts=counts,
    )


@attrs.frozen
class _Slices:
    """A `jiemi.miwen.watch.reflector.ListWatch`."""

    slices: EndpointSlices
    namespace: str
    service: str

    async def list(self, *, limit: int, continue_token: str | None) -> Page:
        return await self.slices.list(self.namespace, self.service, limit=limit, continue_token=continue_token)

    def watch(self, *, resource_version: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self.slices.watch(self.namespace, self.service, resource_version=resource_version)


class _Sink:
    """A `jiemi.miwen.watch.reflector.Sink`."""

    def __init__(self, krapaos: Krapaos) -> None:
        self._krapaos = krapaos
        self._slices: dict[str, JsonObject] = {}
        self._peers: list[Peer] | None = None
        self._listed = False

    def put(self, obj: JsonObject) -> str | None:
        name = str(obj["metadata"]["name"])
        self._slices[name] = obj
        self._report()
        return name

    def remove(self, obj: JsonObject) -> None:
        self._slices.pop(str(obj["metadata"]["name"]), None)
        self._report()

    def keep_only(self, keys: AbstractSet[str]) -> None:
        self._slices = {name: each for name, each in self._slices.items() if name in keys}
        self._listed = True
        self._report()

    def watching(self) -> None:
        pass

    def interrupted(self, failure: Failure, failures_in_a_row: int) -> None:
        if failures_in_a_row == 1:
            _log.warning("krapaos_not_followed", reason=failure.reason, message=failure.text)
        self._krapaos.set_unknown(failure)

    def _report(self) -> None:
        if not self._listed:
            return  # half of a list is no list
        peers = [
            Peer(each.pod, TcpAddress(each.address, each.port), each.ready)
            for each in endpoints(self._slices.values(), PORT_NAME)
        ]
        if peers != self._peers:
            self._peers = peers
            _log.info("krapaos", ready=[each.name for each in peers if each.ready], pods=len(peers))
            self._krapaos.set_peers(peers)
