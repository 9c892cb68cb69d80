"""The slots in which Decryptors are decrypted and applied: they bound the memory and the time that this takes."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import attrs
import trio

from jiemi.concurrency.fair_limiter import Bound, FairLimiter, Slot
from jiemi.miwen.reconcile.phases import Phase
from jiemi.miwen.reconcile.render import NeedsMore
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.reconcile.timing import Timing

_LARGE_ONES = Bound("large", 1)
"""Decryptors whose files take much memory: all of them together have room for one."""


@attrs.frozen
class WorkSlots:
    """Runs work in slots.

    Attributes:
        limiter: the slots, which namespaces share fairly.
        timing: how long work may take.
    """

    limiter: FairLimiter
    timing: Timing

    async def run(self, context: ReconcileContext, work: Callable[[Slot], Awaitable[None]]) -> None:
        """Do what takes memory and may last. While it only waits for Krapao, its slot may go to another namespace.

        Work that takes much memory is done for one Decryptor at a time; namespaces take turns.

        Raises:
            trio.TooSlowError: it was not done in time.
            Exception: as `work`.
        """

        waits = contextlib.ExitStack()

        async def in_time(slot: Slot) -> None:
            waits.close()
            with trio.fail_after(self.timing.work_timeout_of(context.decryptor)):
                await work(slot)

        namespace = context.decryptor.meta.namespace
        if not context.state.files.is_large:
            try:
                with waits:
                    waits.enter_context(context.phases.measured(Phase.QUEUE))
                    await self.limiter.run(namespace, in_time)
                return
            except NeedsMore:
                pass  # it is known to be large from here on
        with waits:
            waits.enter_context(context.phases.measured(Phase.QUEUE))
            await self.limiter.run(namespace, in_time, _LARGE_ONES)
