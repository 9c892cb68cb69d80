"""Slots for work that takes time or memory, shared fairly between tenants.

    limiter = FairLimiter(32)
    found = await limiter.run(askers, lambda slot: ask(host), Bound(host, 24))

Four rules, each for all slots together and for those within each bound (a host, a folder):

1. A tenant that holds a slot gets another only while a third as many stay free as it then holds. So one tenant alone
   has three quarters at most, and several share them; a tenant that holds none may take the last one.
2. Of the tenants that wait, the one that was served longest ago is next; what one tenant waits for is served in the
   order in which it came. Work whose bound is exhausted is passed over and keeps its position. No slot stays free while
   someone may have it.
3. Work that several tenants wait for (they follow the same repository) waits in the queue of each of them, also of one
   that joins later, and gets its slot by whichever queue is first. It counts for the one of them that holds fewest.
4. Where a tenant that holds none has waited for a while because all slots are taken, one of them is taken back: of a
   tenant that holds several, or of one that holds a single one if that does next to nothing (a host that sends a byte
   a second). That work waits again, and begins again. The last slot of a tenant is taken back only once for a piece of
   work, and not at all while it gets on, so everyone's work comes to its end.

So as long as fewer tenants than there are slots hold on to theirs, another tenant waits for a few seconds at most.
Where there are more, it gets the next slot that becomes free, and the deadline of the work bounds the wait.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TypeVar

import attrs
import trio

from jiemi.concurrency.askers import Askers

T = TypeVar("T")

PATIENCE_SECONDS = 3.0
"""How long a tenant without a slot waits before one is taken back, and how long work runs undisturbed. Listings and
decryptions of hosts that answer take less than one second, so what is lost was slow."""

_HELD_FOR_ONE_FREE = 3
"""Most installations have few tenants and one git host: those are to use most of the slots."""

_REMEMBERED = 4_096
"""Of how many tenants a limiter remembers when they were served last; those beyond count as never served."""


@attrs.frozen
class Bound:
    """What else limits a piece of work, beside the number of slots.

    Attributes:
        name: equal for the work that is limited together: a host, a folder.
        most: how much of it may run at once; always the same for a name.
    """

    name: Hashable
    most: int


class Slot:
    """One piece of work in a limiter, from its waiting to its end.

    Attributes:
        is_slow: whether the work does next to nothing at present. The work sets it.
    """

    def __init__(self, askers: Askers, pools: tuple[_Pool, ...], *, spared: bool) -> None:
        self.is_slow: Callable[[], bool] = lambda: False
        self._askers = askers
        self._pools = pools
        self._spared = spared
        self._tenant: str | None = None
        self._since = self._got_on_at = trio.current_time()
        self._wake = trio.Event()
        self._scope: trio.CancelScope | None = None

    def got_on(self) -> None:
        """Note that the work has come a step further."""
        self._got_on_at = trio.current_time()

    @property
    def idle_seconds(self) -> float:
        """How long ago the work began, or `got_on`."""
        return trio.current_time() - max(self._since, self._got_on_at)

    def keep(self) -> None:
        """From now on the slot is not taken back."""
        self._scope = None

    def _waits_for(self) -> tuple[str, ...]:
        return self._askers.tenants or ("",)

    def _poke(self) -> None:
        self._wake.set()


class _Pool:
    """Slots that are limited together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self.known_to = 0
        self.held: dict[str, int] = {}

    def admits(self, tenant: str) -> bool:
        """Rule 1."""
        left = self.most - self.used - 1
        return left >= 0 and (tenant not in self.held or self.held[tenant] + 1 <= _HELD_FOR_ONE_FREE * left)

    def take(self, tenant: str) -> None:
        self.used += 1
        self.held[tenant] = self.held.get(tenant, 0) + 1

    def give_back(self, tenant: str) -> None:
        self.used -= 1
        self.held[tenant] -= 1
        if self.held[tenant] == 0:
            del self.held[tenant]


class FairLimiter:
    """Bounds how much is done at once, and by whom.

    Args:
        total: slots in all, at least 1.
        patience_seconds: as PATIENCE_SECONDS.
    """

    def __init__(self, total: int, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._all = _Pool(max(1, total))
        self._patience = patience_seconds
        self._pools: dict[Hashable, _Pool] = {}
        # What each tenant waits for; of tenants that were served at the same moment, the first is next.
        self._queues: dict[str, dict[Slot, None]] = {}
        self._running: dict[Slot, None] = {}
        self._taking_back: dict[str, Slot] = {}
        self._served_at: dict[str, float] = {}

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return self._all.used

    @property
    def waiting(self) -> int:
        """How many pieces of work wait."""
        return len({slot for queue in self._queues.values() for slot in queue})

    @property
    def oldest_wait_seconds(self) -> float:
        """How long the piece of work has waited that waits the longest; 0 where none waits."""
        since = min((slot._since for queue in self._queues.values() for slot in queue), default=math.inf)
        return max(0.0, trio.current_time() - since) if since != math.inf else 0.0

    @asynccontextmanager
    async def slot(self, who: Askers | str, *bounds: Bound) -> AsyncIterator[Slot]:
        """A slot while the context lasts, which is never taken back.

        It is waited for without a deadline: the work that runs has one.

        Args:
            who: the tenants that wait for the work, or the one tenant.
            bounds: what limits the work beside the number of slots; each name once.
        """
        async with self._slot(who, bounds, spared=False) as slot:
            yield slot

    async def run(self, who: Askers | str, function: Callable[[Slot], Awaitable[T]], *bounds: Bound) -> T:
        """Do work in a slot that may be taken back: then the work is cancelled, and begins again with another slot.

        Args:
            who: as `slot`.
            function: the work; cancelled at any of its waits, it leaves nothing behind.
            bounds: as `slot`.
        """
        spared = False
        while True:
            async with self._slot(who, bounds, spared=spared) as slot:
                with trio.CancelScope() as slot._scope:
                    return await function(slot)
            spared = True

    @asynccontextmanager
    async def _slot(self, who: Askers | str, bounds: Iterable[Bound], *, spared: bool) -> AsyncIterator[Slot]:
        askers = Askers(who) if isinstance(who, str) else who
        with ExitStack() as stack:
            pools = (self._all, *(stack.enter_context(self._pool(bound)) for bound in bounds))
            slot = Slot(askers, pools, spared=spared)
            self._enqueue(slot)
            stack.callback(self._leave, slot)
            with askers.followed(lambda tenant, here: self._asker_changed(slot, tenant, here=here)):
                await self._wait(slot)
                yield slot

    @contextmanager
    def _pool(self, bound: Bound) -> Iterator[_Pool]:
        pool = self._pools.setdefault(bound.name, _Pool(max(1, bound.most)))
        pool.known_to += 1
        try:
            yield pool
        finally:
            pool.known_to -= 1
            if pool.known_to == 0:
                del self._pools[bound.name]

    # --- waiting

    def _enqueue(self, slot: Slot) -> None:
        for tenant in slot._waits_for():
            self._queues.setdefault(tenant, {})[slot] = None
        self._admit(slot)

    def _admit(self, slot: Slot) -> None:
        """Let work in that has just come; nothing that waited longer could have had the slot."""
        for tenant in slot._waits_for():
            if slot._tenant is None and all(pool.admits(tenant) for pool in slot._pools):
                self._grant(slot, tenant)

    async def _wait(self, slot: Slot) -> None:
        await trio.lowlevel.checkpoint()
        while slot._tenant is None:
            slot._wake = trio.Event()
            # One timer for each tenant: that of the work it has waited for the longest.
            first = [tenant for tenant in slot._waits_for() if next(iter(self._queues[tenant])) is slot]
            if not first:
                await slot._wake.wait()
                continue
            with trio.move_on_after(self._patience):
                await slot._wake.wait()
                continue
            for tenant in first:
                if slot._tenant is None and tenant in self._queues:
                    self._take_back(tenant)

    def _dequeue(self, slot: Slot, tenant: str) -> None:
        queue = self._queues.get(tenant)
        if queue is None or slot not in queue:
            return
        del queue[slot]
        if not queue:
            del self._queues[tenant]
        else:
            next(iter(queue))._poke()

    def _grant(self, slot: Slot, tenant: str) -> None:
        for each in slot._waits_for():
            self._dequeue(slot, each)
        if tenant in self._queues:
            self._queues[tenant] = self._queues.pop(tenant)
        self._note_served(tenant)
        slot._tenant = tenant
        slot._since = trio.current_time()
        for pool in slot._pools:
            pool.take(tenant)
        self._running[slot] = None
        slot._poke()

    def _note_served(self, tenant: str) -> None:
        self._served_at.pop(tenant, None)
        self._served_at[tenant] = trio.current_time()
        if len(self._served_at) > _REMEMBERED:
            del self._served_at[next(iter(self._served_at))]

    def _serve(self) -> None:
        """Give what is free to those who wait, one tenant after the other."""
        granted = True
        while granted:
            granted = False
            for tenant in sorted(self._queues, key=lambda each: self._served_at.get(each, -math.inf)):
                if not self._all.admits(tenant):
                    continue
                waiting = self._queues.get(tenant, {})
                slot = next((each for each in waiting if all(pool.admits(tenant) for pool in each._pools)), None)
                if slot is not None:
                    self._grant(slot, tenant)
                    granted = True

    def _leave(self, slot: Slot) -> None:
        if slot._tenant is None:
            for tenant in slot._waits_for():
                self._dequeue(slot, tenant)
            return
        del self._running[slot]
        for tenant in [tenant for tenant, each in self._taking_back.items() if each is slot]:
            del self._taking_back[tenant]
        for pool in slot._pools:
            pool.give_back(slot._tenant)
        self._note_served(slot._tenant)
        self._serve()

    # --- who it is for

    def _asker_changed(self, slot: Slot, tenant: str, *, here: bool) -> None:
        if slot._tenant is not None:
            self._recharge(slot)
        elif here:
            self._dequeue(slot, "")  # where nobody waited
            self._queues.setdefault(tenant, {})[slot] = None
            self._admit(slot)
            slot._poke()
        else:
            self._dequeue(slot, tenant)
            if not slot._askers.tenants:
                self._queues.setdefault("", {})[slot] = None
                self._admit(slot)
            slot._poke()

    def _recharge(self, slot: Slot) -> None:
        """Count running work for the one of its tenants that holds fewest."""
        now, tenants = slot._tenant, slot._askers.tenants
        if now is None or not tenants:  # what nobody waits for is about to end; until then it counts as it did
            return
        held = self._all.held
        best = min(tenants, key=lambda each: held.get(each, 0) - (each == now))
        if best == now or (now in tenants and held.get(best, 0) >= held[now] - 1):
            return
        for pool in slot._pools:
            pool.give_back(now)
            pool.take(best)
        slot._tenant = best
        self._serve()

    # --- taking back

    def _take_back(self, tenant: str) -> None:
        """End a run for a tenant that waits and has nothing of what it waits for (rule 4)."""
        if tenant in self._taking_back:
            return
        for waiting in self._queues[tenant]:
            if waiting._spared:  # it had to make room itself, and is not to chase others in turn
                continue
            for pool in waiting._pools:
                if tenant in pool.held or pool.admits(tenant):
                    continue
                candidates = [each for each in self._running if self._may_end(each, pool)]
                found = max(candidates, key=lambda each: self._worth(each, pool), default=None)
                if found is not None and found._scope is not None:
                    self._taking_back[tenant] = found
                    found._scope.cancel()
                    return

    def _may_end(self, slot: Slot, pool: _Pool) -> bool:
        """Whether a run may be ended for a tenant that has nothing of a pool."""
        if slot._tenant is None or slot._scope is None or slot._scope.cancel_called or pool not in slot._pools:
            return False
        if trio.current_time() - slot._since < self._patience:
            return False
        # The last one within a bound counts as the last: two tenants can't take the same host from each other by turns.
        return pool.held[slot._tenant] > 1 or (not slot._spared and slot.is_slow())

    def _worth(self, slot: Slot, pool: _Pool) -> tuple[bool, bool, int, float]:
        """What is ended first: work of a tenant that has more, slow work, work of the tenant that has the most, and the
        work that has done the least."""
        held = pool.held[slot._tenant or ""]
        return held > 1, slot.is_slow(), held, slot._since
