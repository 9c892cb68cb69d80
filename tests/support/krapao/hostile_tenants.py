"""Tenants that ask Krapao for all they can get, for tests of what another one gets meanwhile.

The hostile work lasts for a minute or until it is cancelled. So that an honest tenant is served while none of it has
ended says that nobody waits for it, without a clock.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence

import trio

from jiemi.core.errors import JiemiError
from jiemi.rpc.contract import Krapao, RenderRequest
from jiemi.rpc.keys import DecryptionKey
from jiemi.rpc.source import GitCredentials, Source

NOBODY = GitCredentials()

DEADLINE_SECONDS = 40
"""For what must happen on a busy machine; hostile work lasts longer."""


async def until(check: Callable[[], bool]) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        while not check():  # noqa: ASYNC110 - what threads and other processes do
            await trio.sleep(0.01)


class Hostile:
    """Work of hostile tenants.

    Attributes:
        ended: how many pieces of it came to an end by themselves.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.ended: Counter[str] = Counter()

    def head(self, krapao: Krapao, urls: Sequence[str], tenant: str) -> None:
        """Ask for the newest revision of each."""
        for url in urls:
            self._nursery.start_soon(self._head, krapao, url, tenant)

    async def _head(self, krapao: Krapao, url: str, tenant: str) -> None:
        async with krapao.open(Source(url), NOBODY, tenant) as repository:
            with contextlib.suppress(JiemiError):
                await repository.head(max_age_seconds=0)
        self.ended[tenant] += 1

    def render(self, krapao: Krapao, url: str, keys: Sequence[DecryptionKey], tenant: str, times: int) -> None:
        """Ask for the newest file so many times, each a piece of work of its own."""
        for number in range(times):
            self._nursery.start_soon(self._render, krapao, url, tuple(keys), tenant, f"s{number}.yaml")

    async def _render(self, krapao: Krapao, url: str, keys: tuple[DecryptionKey, ...], tenant: str, path: str) -> None:
        async with krapao.open(Source(url), NOBODY, tenant) as repository:
            with contextlib.suppress(JiemiError):
                head = await repository.head(max_age_seconds=60)
                await repository.render(RenderRequest(head.revision, path, None, keys))
        self.ended[tenant] += 1
