"""Threads for work of Krapao's own that takes a while, shared fairly by the tenants that wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
import trio

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.fair_limiter import FairLimiter

T = TypeVar("T")


@attrs.frozen
class FairThreads:
    """For one piece of work.

    Attributes:
        slots: how much is done at once for all.
        askers: the tenants that wait for this work.
    """

    slots: FairLimiter
    askers: Askers

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in a thread, once there is a slot. It must be bounded: it can't be interrupted."""
        async with self.slots.slot(self.askers):
            # trio's own limiter of 40 threads would be one more queue, for all tenants.
            return await trio.to_thread.run_sync(function, *arguments, limiter=trio.CapacityLimiter(1))
