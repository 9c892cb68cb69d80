"""The EndpointSlices of the API server (discovery.k8s.io/v1), for real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import attrs

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes import errors
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.errors import Act
from jiemi.miwen.kubernetes.port import Page
from jiemi.miwen.kubernetes.real_lists import Collection, Lists
from jiemi.miwen.kubernetes.refusal import Refusal

_SLICES = Resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", namespaced=True)
_OF_SERVICE = "kubernetes.io/service-name"


@attrs.frozen
class RealEndpointSlices:
    """The port `EndpointSlices`."""

    _lists: Lists

    async def list(self, namespace: str, service: str, *, limit: int, continue_token: str | None) -> Page:
        """See the port."""
        return await self._lists.page(_of(namespace, service), limit=limit, continue_token=continue_token)

    def watch(
        self, namespace: str, service: str, *, resource_version: str
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See the port."""
        return self._lists.watch(_of(namespace, service), resource_version=resource_version)


def _of(namespace: str, service: str) -> Collection:
    called = f"the EndpointSlices of Service {namespace}/{service}"

    def failure(refusal: Refusal, doing: str, _: str) -> JiemiError:
        act = Act(doing, _SLICES.plural, _SLICES, namespace)
        return errors.access_failure(refusal, act, "KrapaoUnavailable", "list", "watch")

    return Collection(_SLICES, namespace, called, failure, label_selector=f"{_OF_SERVICE}={service}")
