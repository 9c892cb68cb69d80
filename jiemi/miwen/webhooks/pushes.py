"""What follows from a genuine push: the host is asked once for all that rest, and the others look for themselves.

A Decryptor rests when all its files are deployed and it is known which these are (`jiemi.miwen.state.followed_source`):
then one question for its source says whether that moved, and one comparison whom the move concerns. Any other looks by
itself, because the push may mend what keeps it from being ready.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from jiemi.miwen.state.followed_source import FollowedSource
from jiemi.miwen.state.followed_sources import FollowedSources
from jiemi.miwen.state.registry import Registry
from jiemi.miwen.webhooks.bursts import Bursts
from jiemi.miwen.webhooks.intake import Moved


class Pushes:
    """Wakes those whom pushes concern.

    Args:
        registry: what is known of all Decryptors.
        sources: what they have open.
    """

    def __init__(self, registry: Registry, sources: FollowedSources) -> None:
        self._registry = registry
        self._sources = sources
        self._decryptors = Bursts(registry.pushed)
        self._asked = Bursts(_ask)

    def moved(self, moved: Moved) -> int:
        """Repositories moved. Returns how many Decryptors follow them."""
        count, awake = self._registry.repositories.followers(moved.repositories, moved.namespace, moved.refs)
        self._decryptors.push(awake)
        self._asked.push(self._sources.to_ask(moved.repositories, moved.namespace, moved.refs))
        return count

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._decryptors.run)
            nursery.start_soon(self._asked.run)


def _ask(sources: Iterable[FollowedSource]) -> None:
    for source in sources:
        source.push()
