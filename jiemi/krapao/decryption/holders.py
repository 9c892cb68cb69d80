"""The processes that hold credentials: `sops keyservice`, one for each Decryptor's credentials of one kind.

A holder is given wrapped data keys, and answers with data keys; it never sees a file. It listens on a socket in a
folder of its own, in memory. As soon as we are connected the socket's path is removed, so nobody else can connect.

    use(key) -> is there one? ── no ─> make room ─> folder, keyring or login ─> start it ─> connect ─> remove the path
                     └─ yes ──────────────────────────────────────────────────────────────> a client for calls

Each holder is a task of the pool's nursery, which owns its folder, keyring and process. It ends when it was idle for a
while, when there are too many (the longest unused of the tenant that has the most), when the last repository that used
these credentials is closed or uses others, when its token's lease ends, and when it dies or hangs; then the next use
starts another.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager
from functools import partial

import attrs
import structlog
import trio

from jiemi.concurrency.askers import Askers
from jiemi.core.errors import Failure, JiemiError
from jiemi.krapao.confinement.judged_connects import ConnectJudge
from jiemi.krapao.confinement.processes import Limits
from jiemi.krapao.decryption.grpc import GrpcClient
from jiemi.krapao.decryption.holder_start import HolderKey, HolderPrograms, Started, start_holder
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.capability import where
from jiemi.rpc.keys import DecryptionKey
from jiemi.tracing.current import in_trace

_log = structlog.get_logger("jiemi.krapao.decryption")


@attrs.frozen
class Held:
    """A holder that may be asked.

    Attributes:
        client: for calls to it.
        names: public names of the keys that it holds.
        expires_at: when the first of these keys expires (seconds since the epoch), or None.
        failed: notes that it does not answer: its present calls may end, and the next use starts another.
        wait: waits for its process's end; gives the status, or None where it was ended by us.
        turn: to be held while it is asked. One of pgp is asked one thing at a time: gpg-agent writes a key's file again
            when the key is first used, in its place, and a reader meanwhile finds half of it (GnuPG 2.2.40).
        refusals: how many of its connections were refused because of where they lead.
    """

    client: GrpcClient
    names: tuple[str, ...]
    expires_at: int | None
    failed: Callable[[], None]
    wait: Callable[[], Awaitable[int | None]]
    turn: AbstractAsyncContextManager[object]
    refusals: Callable[[], int]


@attrs.define(eq=False)
class _Holder:
    """One holder, from its start to its end."""

    wanted: HolderKey
    users: int = 0
    used_at: float = 0
    tenants: set[str] = attrs.field(factory=set)
    client: GrpcClient | None = None
    judge: ConnectJudge | None = None
    names: tuple[str, ...] = ()
    expires_at: int | None = None
    failure: Failure | None = None
    retired: bool = False
    status: int | None = None
    turn: trio.Lock = attrs.field(factory=trio.Lock)
    process_ended: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ready: trio.Event = attrs.field(factory=trio.Event)
    changed: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)


class Holders:
    """The pool.

    Args:
        nursery: owns the holders' tasks; when it is cancelled, all end.
    """

    def __init__(self, nursery: trio.Nursery, settings: KrapaoSettings) -> None:
        self._nursery = nursery
        self._settings = settings
        self._holders: dict[HolderKey, _Holder] = {}
        self._all: set[_Holder] = set()
        self._owners: dict[Hashable, frozenset[DecryptionKey]] = {}
        self._something_changed = trio.Event()
        self._limits = Limits(
            seconds=settings.key_service_timeout_seconds,
            cpu_seconds=settings.decrypt_cpu_seconds,
            memory_bytes=settings.decrypt_memory_bytes,
            output_bytes=64 * 1024,
        )

    @property
    def count(self) -> int:
        """How many there are, those that are about to end included."""
        return len(self._all)

    def own(self, owner: Hashable, keys: tuple[DecryptionKey, ...]) -> None:
        """Note which credentials someone uses now; holders of those that it used before, and nobody else uses, end.

        Args:
            owner: the user; with no keys, it no longer uses any.
        """
        now = frozenset(HolderKey.of(key).key for key in keys)
        before = self._owners.pop(owner, frozenset())
        if now:
            self._owners[owner] = now
        dropped = before - now
        if not dropped:
            return
        still = frozenset().union(*self._owners.values())
        for wanted, holder in list(self._holders.items()):
            if wanted.key in dropped and wanted.key not in still:
                self._retire(holder)

    @contextlib.asynccontextmanager
    async def use(
        self, wanted: HolderKey, programs: HolderPrograms, askers: Askers | None = None
    ) -> AsyncIterator[Held]:
        """The holder with these credentials, started where there is none. Has no deadline but the caller's.

        Args:
            askers: the tenants that it is for.

        Raises:
            JiemiError: it can't be started: KeyInvalid, GpgMissing, SopsMissing, StorageFailed, KeyHolderFailed, and
                those of `vault_token`.
        """
        holder = await self._get(wanted, programs)
        holder.users += 1
        # Tenants share a holder only where they have equal credentials, so these are few.
        holder.tenants.update(askers.tenants if askers is not None else ())
        try:
            await holder.ready.wait()
            if holder.client is None:
                raise JiemiError.of(
                    holder.failure or Failure("KeyHolderFailed", "the process that holds the key ended at its start")
                )
            retire = partial(self._retire, holder)
            turn = holder.turn if wanted.key.provider == "pgp" else contextlib.nullcontext()
            refusals = partial(_refusals, holder)
            yield Held(holder.client, holder.names, holder.expires_at, retire, partial(_wait, holder), turn, refusals)
        finally:
            holder.users -= 1
            holder.used_at = trio.current_time()
            holder.changed.set()
            if holder.users == 0:
                self._notify_waiters()
                if holder.retired:
                    holder.scope.cancel()

    def _retire(self, holder: _Holder) -> None:
        holder.retired = True
        if self._holders.get(holder.wanted) is holder:
            del self._holders[holder.wanted]
        if holder.users == 0:
            holder.scope.cancel()

    async def _get(self, wanted: HolderKey, programs: HolderPrograms) -> _Holder:
        while True:
            holder = self._holders.get(wanted)
            if holder is not None:
                return holder
            if len(self._all) < self._settings.max_holders:
                holder = self._holders[wanted] = _Holder(wanted, used_at=trio.current_time())
                self._all.add(holder)
                with in_trace(None):  # it serves later calls too
                    self._nursery.start_soon(self._hold, holder, programs)
                return holder
            await self._make_room()

    async def _make_room(self) -> None:
        """End a holder that is not in use and wait until it is gone; where all are in use, wait for a change.

        It is one of the tenant that has the most: a tenant that uses ever other credentials ends its own holders, not
        another's.
        """
        free = [each for each in self._all if each.users == 0]
        if free:
            have = Counter(tenant for each in self._all for tenant in each.tenants)
            # One that tenants share counts for the one of them that has the fewest.
            victim = min(free, key=lambda each: (-min((have[one] for one in each.tenants), default=0), each.used_at))
            self._retire(victim)
            await victim.ended.wait()
            return
        await self._something_changed.wait()

    def _notify_waiters(self) -> None:
        """Wake all who wait for room. Each looks again, and those who come too late wait for the next time."""
        self._something_changed.set()
        self._something_changed = trio.Event()

    async def _hold(self, holder: _Holder, programs: HolderPrograms) -> None:
        """One holder's life. Its end is the boundary of its faults: its users get an error."""
        name = holder.wanted.key.provider
        try:
            with holder.scope:
                await self._run(holder, programs)
        except JiemiError as error:
            holder.failure = error.failure
        except OSError as error:
            holder.failure = Failure("KeyHolderFailed", f"the process that holds the key: {error.strerror}")
        except Exception as error:  # noqa: BLE001 - the boundary: one tenant's holder must not take the others' down
            _log.error("holder_start_failed", provider=name, error=where(error))  # no text of it: credentials
            holder.failure = Failure("InternalError", "Krapao could not run a key's holder; its log says more")
        finally:
            holder.client = None
            if self._holders.get(holder.wanted) is holder:
                del self._holders[holder.wanted]
            self._all.discard(holder)
            holder.ready.set()
            holder.process_ended.set()
            holder.ended.set()
            self._notify_waiters()

    async def _run(self, holder: _Holder, programs: HolderPrograms) -> None:
        began = trio.current_time()
        async with contextlib.AsyncExitStack() as stack:
            try:
                with trio.fail_after(self._limits.seconds):
                    started = await start_holder(stack, holder.wanted, programs, self._settings, self._limits)
            except trio.TooSlowError:
                raise JiemiError("KeyHolderFailed", "the process that holds the key did not start in time") from None
            _log.debug("holder", provider=holder.wanted.key.provider, ms=round((trio.current_time() - began) * 1000))
            async with trio.open_nursery() as nursery:
                await nursery.start(started.client.run)
                nursery.start_soon(self._watch, started, holder, nursery.cancel_scope)
                if (judge := started.judge) is not None:
                    holder.judge = judge
                    nursery.start_soon(started.process.answer_connects, judge)
                holder.client, holder.names, holder.expires_at = started.client, started.names, started.expires_at
                holder.ready.set()
                await self._until_unwanted(holder, started.until)
                nursery.cancel_scope.cancel()

    async def _watch(self, started: Started, holder: _Holder, scope: trio.CancelScope) -> None:
        """End the holder's task when its process ends. Has no deadline: it lasts as long as the process."""
        holder.status = await started.process.wait()
        holder.process_ended.set()
        self._retire(holder)
        scope.cancel()

    async def _until_unwanted(self, holder: _Holder, until: float) -> None:
        while True:
            holder.changed = trio.Event()
            now = trio.current_time()
            idle_at = math.inf if holder.users else holder.used_at + self._settings.holder_idle_seconds
            if now >= min(idle_at, until):
                self._retire(holder)  # the next user gets another
                while holder.users:
                    holder.changed = trio.Event()
                    await holder.changed.wait()
                return
            with trio.move_on_at(min(idle_at, until)):
                await holder.changed.wait()


def _refusals(holder: _Holder) -> int:
    return holder.judge.refusals if holder.judge is not None else 0


async def _wait(holder: _Holder) -> int | None:
    await holder.process_ended.wait()
    return holder.status
