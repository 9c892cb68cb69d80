"""What reaches the loop of a Decryptor, in a mailbox that holds only the latest.

Ten changes of the spec during one tick cause one more tick, with the last of them; ten events of an object are one
observation, the newest.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType

import attrs
import trio

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.decryptor_status import DecryptorStatus, InventoryEntry
from jiemi.core.objects.drift import Observation, drift_of, is_outdated
from jiemi.core.objects.identity import ObjectKey
from jiemi.core.trace_context import TraceContext
from jiemi.tracing.current import current

_MAX_SHARERS = 20
"""The most sharers that are remembered of one object, which may have thousands. Where it has more, they count as
unknown."""

_NONE: Mapping[ObjectKey, InventoryEntry] = MappingProxyType({})


class Wake(enum.Enum):
    """Why a loop ticks. The values are words of the log."""

    START = "start"
    INTERVAL = "interval"
    RETRY = "retry"
    """The tick before failed, or asked for another one soon."""
    SPEC = "spec"
    """The Decryptor's spec, or what else counts as its generation."""
    REQUEST = "request"
    """The annotation by which a user asks."""
    DELETION = "deletion"
    SECRET = "secret"  # noqa: S105 - a word of the log
    REPOSITORY = "repository"
    """The followed ref moved, as another's question showed."""
    PUSH = "push"
    """A webhook says that the repository moved."""
    DRIFT = "drift"
    DEPENDENCY = "dependency"
    OBJECT_FREE = "object_free"
    """Another Decryptor had an object that this one describes too."""
    OBJECTS_NOT_READY = "objects_not_ready"
    """It waits for its objects, and it is time to look at the repository."""
    KIND_WATCHED = "kind_watched"
    """A kind of its objects began to be watched, or can't be."""


class Mailbox:
    """The latest state of one Decryptor, what was seen of its objects, and a wake-up for its loop."""

    def __init__(self, decryptor: Decryptor) -> None:
        self._latest = decryptor
        self._woken = trio.Event()
        self._causes: set[Wake] = set()
        self._woken_by: frozenset[Wake] = frozenset()
        self._pushed_by: TraceContext | None = None
        self._push: TraceContext | None = None
        self._ticking = False
        self._inventory = _NONE
        self._applied: dict[ObjectKey, str] = {}
        self._seen: dict[ObjectKey, Observation] = {}
        self._seen_this_tick: set[ObjectKey] = set()
        self._baseline: dict[ObjectKey, Mapping[str, str]] = {}
        self._sharers: dict[ObjectKey, frozenset[str]] = {}
        self._differing: set[ObjectKey] = set()

    @property
    def latest(self) -> Decryptor:
        return self._latest

    def take_status(self) -> DecryptorStatus | None:
        """The status as it was read last; the caller holds it from here on."""
        status = self._latest.status
        self._latest = self._latest.without_status
        return status

    def put(self, decryptor: Decryptor) -> None:
        """Take the newer state. Its own status writes come back here too, and do not wake the loop."""
        old, new = self._latest.meta, decryptor.meta
        if new.generation < old.generation:
            return  # an older state that a watch showed again
        self._latest = decryptor
        if new.generation != old.generation:
            self.wake(Wake.SPEC)
        if new.reconcile_at != old.reconcile_at:
            self.wake(Wake.REQUEST)
        if new.deleting != old.deleting:
            self.wake(Wake.DELETION)

    def wake(self, cause: Wake) -> None:
        """Let the loop tick now, or once more after the tick that runs."""
        self._causes.add(cause)
        if cause is Wake.PUSH:
            self._push = current()
        self._woken.set()

    def begin_tick(self) -> Decryptor:
        """The state to tick with; wake-ups from here on are for the next tick."""
        self._woken = trio.Event()
        self._woken_by, self._causes = frozenset(self._causes), set()
        self._pushed_by, self._push = self._push, None
        self._ticking = True
        self._seen_this_tick.clear()
        return self._latest

    def end_tick(self) -> None:
        """What was seen during the tick is judged by what the tick left."""
        self._ticking = False
        # What the tick found and could not deal with waits for the next one: it is no news.
        if any(key in self._seen and self._matters(key, self._seen[key]) for key in self._seen_this_tick):
            self.wake(Wake.DRIFT)
        self._seen = {key: seen for key, seen in self._seen.items() if self._matters(key, seen)}

    def is_behind(self, decryptor: Decryptor) -> bool:
        """Whether a tick with that state works for something that is no longer wanted."""
        latest = self._latest.meta
        return latest.generation != decryptor.meta.generation or latest.deleting != decryptor.meta.deleting

    async def wait(self, seconds: float) -> None:
        """Until woken, at most so long."""
        with trio.move_on_after(seconds):
            await self._woken.wait()

    @property
    def woken_by(self) -> AbstractSet[Wake]:
        """What woke the loop for the tick that runs; empty where its time had come."""
        return self._woken_by

    @property
    def pushed_by(self) -> TraceContext | None:
        """The trace of the webhook that woke the loop for the tick that runs; None where none did."""
        return self._pushed_by

    @property
    def woken(self) -> bool:
        """Whether there is something newer than the tick that runs."""
        return self._woken.is_set()

    # --- the objects

    @property
    def inventory(self) -> Mapping[ObjectKey, InventoryEntry]:
        """The objects as they were applied last."""
        return self._inventory

    def set_inventory(self, inventory: Mapping[ObjectKey, InventoryEntry]) -> None:
        """What the Decryptor has in the cluster from now on."""
        self._inventory = inventory
        self._applied = {key: version for key, version in self._applied.items() if key in inventory}
        self._seen = {key: seen for key, seen in self._seen.items() if key in inventory}
        self._baseline = {key: others for key, others in self._baseline.items() if key in inventory}
        self._sharers = {key: sharers for key, sharers in self._sharers.items() if key in inventory}

    @property
    def differing(self) -> AbstractSet[ObjectKey]:
        """The objects that are known to differ and were not applied since: whatever is seen of them is news."""
        return self._differing

    def set_differing(self, objects: Iterable[ObjectKey]) -> None:
        """These objects are known to differ, and no others. `drift_correction` alone says so."""
        self._differing = set(objects)

    def applied(self, key: ObjectKey, resource_version: str, sharers: frozenset[str] = frozenset()) -> None:
        """An object was applied; what is older than that is of no interest."""
        self._applied[key] = resource_version
        self._set_sharers(key, sharers)
        # What another wrote right after us may be seen before the answer arrives.
        if key in self._seen and is_outdated(self._seen[key], resource_version):
            del self._seen[key]
        self._differing.discard(key)

    def see(self, key: ObjectKey, seen: Observation) -> None:
        """A watch showed an object."""
        entry = self._inventory.get(key)
        if not is_outdated(seen, self._applied.get(key, "")):
            self._set_sharers(key, seen.sharers)
        if seen.owned is not None and (entry is None or drift_of(entry, seen) is None):
            self._baseline[key] = seen.owned.others
        seen = self.with_before(key, seen)
        if self._ticking:
            self._seen[key] = seen.to_keep()
            self._seen_this_tick.add(key)
        elif self._matters(key, seen):
            self._seen[key] = seen.to_keep()
            self.wake(Wake.DRIFT)
        else:
            self._seen.pop(key, None)

    def with_before(self, key: ObjectKey, seen: Observation) -> Observation:
        """An observation with the managers that the object had when it was as it should be."""
        return attrs.evolve(seen, before=self._baseline.get(key))

    def sharers(self, key: ObjectKey) -> frozenset[str] | None:
        """The managers that held fields of an object together with us when it was seen last; None where it was not
        seen."""
        return self._sharers.get(key)

    def _set_sharers(self, key: ObjectKey, sharers: frozenset[str]) -> None:
        if len(sharers) <= _MAX_SHARERS:
            self._sharers[key] = sharers
        else:
            self._sharers.pop(key, None)

    def version(self, key: ObjectKey) -> str:
        """The resourceVersion as which an object was applied last; "" where it was not, since the start."""
        return self._applied.get(key, "")

    def defer(self, key: ObjectKey, seen: Observation) -> None:
        """What was taken can't be judged yet: the next tick takes it again, if nothing newer is seen until then."""
        self._seen.setdefault(key, seen)

    def take_seen(self) -> Mapping[ObjectKey, Observation]:
        """What was seen and may be drift."""
        seen, self._seen = self._seen, {}
        return {key: each for key, each in seen.items() if self._matters(key, each)}

    def _matters(self, key: ObjectKey, seen: Observation) -> bool:
        entry = self._inventory.get(key)
        if entry is None or is_outdated(seen, self._applied.get(key, "")):
            return False
        return key in self._differing or drift_of(entry, seen) is not None
