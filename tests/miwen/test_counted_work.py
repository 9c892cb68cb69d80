"""What Miwen does for many Decryptors, counted: a cold start, a push to one of them, an interval without news.

These figures are what a change of structure must not change. Krapao's own share (decryptions, requests to git hosts) is
counted with the real programs in tests/e2e/test_doing_nothing.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import trio
from support.miwen.world import INTERVAL, URL, World, miwen, secret, settle
from trio.testing import MockClock

COUNT = 50


class Work:
    """Counts since the last look."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._calls, self._requests = 0, Counter[tuple[str, str]]()

    def calls(self) -> Mapping[str, int]:
        """Krapao's methods."""
        calls, self._calls = self._world.krapao.calls[self._calls :], len(self._world.krapao.calls)
        return Counter(method for method, *_ in calls)

    def requests(self) -> Mapping[tuple[str, str], int]:
        """Requests to the API server, by verb and resource."""
        now = Counter(self._world.kubernetes.requests.snapshot().requests)
        made, self._requests = now - self._requests, now
        return made


def _files(count: int) -> dict[str, Any]:
    return {f"s{number}.yaml": [secret(f"s{number}", greeting="one")] for number in range(count)}


async def test_a_cold_start_a_push_and_an_idle_interval_cost_what_they_cost_before(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit(_files(COUNT))
    for number in range(COUNT):
        world.add(f"d{number}", source={"repository": {"url": URL}, "fileToDecrypt": f"s{number}.yaml"})
    work = Work(world)
    async with miwen(world):
        await trio.sleep(1)
        assert work.calls() == {"head": COUNT, "files": COUNT, "render": COUNT}
        assert work.requests() == {
            ("get", "discovery"): 1,
            ("list", "decryptors"): 1,
            ("watch", "decryptors"): 1,
            ("list", "secrets"): 1,
            ("watch", "secrets"): 1,
            ("apply", "secrets"): COUNT,
            # That a deployment begins, so that an end in the middle of it is noticed; and that it is done.
            ("patch", "decryptors/status"): 2 * COUNT,
            ("create", "events"): COUNT,
        }

        await trio.sleep(INTERVAL)
        await settle()
        assert work.calls() == {"head": 1}
        assert work.requests() == {}

        world.origin.commit({"s7.yaml": [secret("s7", greeting="two")]})
        await trio.sleep(INTERVAL)
        await settle()
        assert world.data("s7") == {"greeting": "two"}
        assert work.calls() == {"head": 1, "files": COUNT, "render": 1}
        assert work.requests() == {
            ("apply", "secrets"): 1,
            ("patch", "decryptors/status"): 2,
            ("create", "events"): 1,
            # The API server ends a watch every five minutes.
            ("watch", "decryptors"): 1,
            ("watch", "secrets"): 1,
        }
