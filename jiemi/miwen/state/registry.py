"""What Miwen knows of all Decryptors at once: which has an object, depends on another one, or names a Secret.

It is built from the Decryptors and their statuses alone, so a restart builds the same. No loop ticks before it is
complete, because an object could seem to belong to nobody otherwise.

Anyone who may write a status may forge it. So what it claims is *unproven* until the labels of the object have been
seen (`prove`), by a watch or just before the object is written: a claim lasts only where they confirm it.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import structlog
import trio

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.secret_refs import secret_names
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.conditions import PLANNED
from jiemi.core.decisions.dependency_cycles import describe_cycle, find_cycle
from jiemi.core.errors import Failure
from jiemi.core.names import NamespacedName
from jiemi.core.objects.drift import Observation
from jiemi.core.objects.identity import ObjectKey, Owner
from jiemi.core.objects.inventory import by_key, certain
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.state.followed_repositories import FollowedRepositories
from jiemi.miwen.state.mailbox import Mailbox, Wake

_log = structlog.get_logger("jiemi.miwen.state")

_MOST_AWAITED = 100
"""For how many objects of others, those it asked for last, a Decryptor is woken when they are free. A thousand
Decryptors may ask for the same thousands of objects; for all others, they ask again at their next tick."""


class Registry:
    """All Decryptors.

    Args:
        own_namespace_only: whether a Decryptor can have objects of its own namespace alone, whatever its status says.

    Attributes:
        complete: set once every Decryptor that existed at the start is in it.
        unseen: namespaces of which that is not true, because they may not be read.
        repositories: which Decryptors follow which.
    """

    def __init__(self, *, own_namespace_only: bool = False) -> None:
        self._own_namespace_only = own_namespace_only
        self.complete = trio.Event()
        self.unseen: frozenset[str] = frozenset()
        self.repositories = FollowedRepositories()
        self._decryptors: dict[NamespacedName, Decryptor] = {}
        self._holders: dict[ObjectKey, NamespacedName] = {}
        self._held: dict[NamespacedName, frozenset[ObjectKey]] = {}
        self._unproven: dict[ObjectKey, set[NamespacedName]] = {}
        self._borne_out: dict[ObjectKey, NamespacedName] = {}
        self._mailboxes: dict[NamespacedName, Mailbox] = {}
        self._kinds: dict[NamespacedName, frozenset[Resource]] = {}
        self._dependents: defaultdict[NamespacedName, set[NamespacedName]] = defaultdict(set)
        self._users: defaultdict[NamespacedName, set[NamespacedName]] = defaultdict(set)
        self._waiting: defaultdict[ObjectKey, set[NamespacedName]] = defaultdict(set)
        self._awaited: defaultdict[NamespacedName, dict[ObjectKey, None]] = defaultdict(dict)  # the oldest first

    def put(self, decryptor: Decryptor) -> None:
        """A Decryptor is there, new or changed."""
        key = decryptor.meta.key
        old = self._decryptors.get(key)
        self._decryptors[key] = decryptor.without_status
        if old is None or old.meta.uid != decryptor.meta.uid:
            # From here on its loop knows better than its status.
            self.hold(key, ())
            claimed = certain(by_key(decryptor.status.inventory)) if decryptor.status is not None else ()
            self._hold_unproven(key, [each for each in claimed if self._may_hold(key, each)])
        if old is None or old.spec != decryptor.spec:
            if old is not None:
                self._forget_references(old)
            self.repositories.put(decryptor)
            for other in depends_on(decryptor):
                self._dependents[other].add(key)
            for name in secret_names(decryptor.spec):
                self._users[key[0], name].add(key)
        if old is not None and depends_on(old) != depends_on(decryptor):
            self._wake(self._behind(key), Wake.DEPENDENCY)
        elif old is None or _is_ready(old) != _is_ready(decryptor) or old.spec != decryptor.spec:
            self._wake(self._dependents.get(key, ()), Wake.DEPENDENCY)

    def remove(self, key: NamespacedName) -> None:
        """A Decryptor is gone."""
        old = self._decryptors.pop(key, None)
        if old is None:
            return
        self._forget_references(old)
        self.repositories.remove(key)
        self.hold(key, ())
        for each in [each for each, claimants in self._unproven.items() if key in claimants]:
            self._withdraw(key, each)
        for each in self._awaited.pop(key, {}):
            self._stop_waiting(key, each)
        self._wake(self._behind(key), Wake.DEPENDENCY)

    @contextlib.contextmanager
    def following(self, mailbox: Mailbox) -> Iterator[None]:
        """Wake the loop of a Decryptor through its mailbox while the context lasts."""
        key = mailbox.latest.meta.key
        self._mailboxes[key] = mailbox
        try:
            yield
        finally:
            if self._mailboxes.get(key) is mailbox:
                del self._mailboxes[key]

    def see(self, key: ObjectKey, metadata: Mapping[str, Any], *, deleted: bool) -> None:
        """A watch showed an object in another state: the loop of the Decryptor that has it gets to see it."""
        owner = Owner.in_labels(metadata.get("labels")) if key in self._unproven else None
        if owner is not None:
            self.prove(key, owner)
        holder = self._holders.get(key)
        if holder in self._mailboxes:
            self._mailboxes[holder].see(key, Observation.of(metadata, deleted=deleted))

    def set_kinds(self, key: NamespacedName, kinds: frozenset[Resource]) -> bool:
        """The kinds that a Decryptor wants watched from now on. Returns whether they are others than before."""
        old = self._kinds.pop(key, frozenset())
        if kinds:
            self._kinds[key] = kinds
        return kinds != old

    @property
    def kinds(self) -> frozenset[Resource]:
        """The kinds that anyone wants watched."""
        return frozenset().union(*self._kinds.values())

    # --- which Decryptor has an object

    def holder(self, key: ObjectKey) -> NamespacedName | None:
        """The Decryptor that has the object, if one has."""
        return self._holders.get(key)

    def hold(self, key: NamespacedName, objects: Iterable[ObjectKey]) -> None:
        """A Decryptor has these objects and no others.

        Those that another has stay that one's. A Decryptor that is gone can have none, though its loop still ends.
        """
        old = self._held.pop(key, frozenset())
        for each in old:
            if self._holders.get(each) == key:
                del self._holders[each]
        if key in self._decryptors:
            self._held[key] = frozenset(each for each in objects if self._holders.setdefault(each, key) == key)
        for each in old - self._held.get(key, frozenset()):
            self._withdraw(key, each)
            self._wake_waiting(each)

    def keep(self, key: NamespacedName, objects: Collection[ObjectKey]) -> None:
        """Of the objects that a Decryptor has, it goes on having these."""
        self.hold(key, self._held.get(key, frozenset()) & frozenset(objects))

    def _may_hold(self, key: NamespacedName, each: ObjectKey) -> bool:
        return not self._own_namespace_only or each.namespace == key[0]

    def _hold_unproven(self, key: NamespacedName, objects: Iterable[ObjectKey]) -> None:
        """A Decryptor's status claims these objects. Nobody loses by it what was proven."""
        held = set()
        for each in objects:
            if each not in self._holders or each in self._unproven:
                self._unproven.setdefault(each, set()).add(key)
                if self._holders.setdefault(each, key) == key:
                    held.add(each)
        self._held[key] = self._held.get(key, frozenset()) | held

    def _withdraw(self, key: NamespacedName, each: ObjectKey) -> None:
        """A Decryptor claims an object no longer. Another that claims it has it then."""
        if self._borne_out.get(each) == key:
            del self._borne_out[each]
        others = self._unproven.get(each)
        if others is None:
            return
        others.discard(key)
        if not others:
            del self._unproven[each]
        elif each not in self._holders:
            self._give(each, min(others))

    def _give(self, each: ObjectKey, key: NamespacedName) -> None:
        self._holders[each] = key
        self._held[key] = self._held.get(key, frozenset()) | {each}

    def bear_out(self, key: NamespacedName, each: ObjectKey) -> None:
        """The object's labels were read, and are no reason against a Decryptor's having it."""
        if self._holders.get(each) == key:
            self._borne_out[each] = key

    def is_borne_out(self, key: NamespacedName, each: ObjectKey) -> bool:
        """Whether that happened since the start, while the Decryptor had the object."""
        return self._holders.get(each) == key == self._borne_out.get(each)

    def is_unproven(self, each: ObjectKey) -> bool:
        """Whether only a status says whose the object is."""
        return each in self._unproven

    def prove(self, each: ObjectKey, owner: Owner | None) -> None:
        """The object's labels were read: whose it is by them, of those that claim it; nobody's, where they name none.

        Args:
            owner: None where they name none, or the object is not there.
        """
        claimants = self._unproven.pop(each, set())
        rightful = [key for key in claimants if Owner.of(*key) == owner]
        holder = self._holders.pop(each, None)
        if holder is not None:
            self._held[holder] = self._held.get(holder, frozenset()) - {each}
        if rightful:
            self._give(each, rightful[0])
            self.bear_out(rightful[0], each)
        else:
            self._wake_waiting(each)

    def _wake_waiting(self, each: ObjectKey) -> None:
        """An object is free: whoever did not get it looks again."""
        waiting = self._waiting.pop(each, set())
        for key in waiting:
            self._awaited[key].pop(each, None)
        self._wake(waiting, Wake.OBJECT_FREE)

    def _wait_for(self, key: NamespacedName, each: ObjectKey) -> None:
        awaited = self._awaited[key]
        awaited.pop(each, None)
        awaited[each] = None
        self._waiting[each].add(key)
        if len(awaited) > _MOST_AWAITED:
            oldest = next(iter(awaited))
            del awaited[oldest]
            self._stop_waiting(key, oldest)

    def _stop_waiting(self, key: NamespacedName, each: ObjectKey) -> None:
        self._waiting[each].discard(key)
        if not self._waiting[each]:
            del self._waiting[each]

    def claim(self, key: NamespacedName, each: ObjectKey) -> NamespacedName | None:
        """Take an object for a Decryptor. Returns the one that has it already, or None. A Decryptor that did not get it
        is woken when it is free."""
        holder = self._holders.get(each)
        if holder not in (None, key):
            if key in self._decryptors:
                self._wait_for(key, each)
            return holder
        if key in self._decryptors:
            self._holders[each] = key
            self._unproven.pop(each, None)
            self._held[key] = self._held.get(key, frozenset()) | {each}
        return None

    # --- which Decryptors depend on one another

    def blocked(self, decryptor: Decryptor) -> Failure | None:
        """Why a Decryptor must not deploy yet."""
        wanted = depends_on(decryptor)
        if not wanted:
            return None
        cycle = find_cycle(decryptor.meta.key, lambda key: depends_on(self._decryptors.get(key)))
        if cycle is not None:
            return Failure("DependencyCycle", f"spec.dependsOn makes a cycle: {describe_cycle(cycle)}")
        waiting = [each for each in wanted if not _is_ready(self._decryptors.get(each))]
        if not waiting:
            return None
        namespace, name = waiting[0]
        other = self._decryptors.get(waiting[0])
        found = other.ready if other is not None else None
        why = "does not exist" if other is None else "is not ready" + (f" ({found.reason})" if found else "")
        more = f"; nor are {len(waiting) - 1} more" if len(waiting) > 1 else ""
        return Failure(
            "DependencyNotReady",
            f"spec.dependsOn: Decryptor {namespace}/{name} {why}{more}",
            f"Create Decryptor {namespace}/{name}, or take it out of spec.dependsOn." if other is None else "",
        )

    def _behind(self, key: NamespacedName) -> set[NamespacedName]:
        """Those that depend on a Decryptor, and those that depend on them: a cycle that is broken concerns all of
        it."""
        found: set[NamespacedName] = set()
        open_ones = [key]
        while open_ones:
            new = self._dependents.get(open_ones.pop(), set()) - found
            found |= new
            open_ones += new
        return found

    # --- which Decryptors name a Secret

    def secret_changed(self, namespace: str, name: str) -> None:
        """A Secret was written or deleted: whoever names it looks."""
        users = self._users.get((namespace, name), ())
        if users:
            _log.debug("secret_changed", secret=f"{namespace}/{name}", decryptors=len(users))
        self._wake(users, Wake.SECRET)

    # --- which Decryptors follow a repository

    def pushed(self, keys: Iterable[NamespacedName]) -> None:
        """A webhook says that what these follow may have moved."""
        self._wake(keys, Wake.PUSH)

    def _wake(self, keys: Iterable[NamespacedName], cause: Wake) -> None:
        for key in tuple(keys):
            if key in self._mailboxes:
                self._mailboxes[key].wake(cause)

    def _forget_references(self, decryptor: Decryptor) -> None:
        key = decryptor.meta.key
        for index, names in (
            (self._dependents, depends_on(decryptor)),
            (self._users, [(key[0], name) for name in secret_names(decryptor.spec)]),
        ):
            for name in names:
                index[name].discard(key)
                if not index[name]:
                    del index[name]

    @property
    def decryptors(self) -> Mapping[NamespacedName, Decryptor]:
        """All of them, as they were read last."""
        return self._decryptors


def depends_on(decryptor: Decryptor | None) -> list[NamespacedName]:
    """The Decryptors that one depends on."""
    if decryptor is None or not isinstance(decryptor.spec, DecryptorSpec):
        return []
    return [(each.namespace or decryptor.meta.namespace, each.name) for each in decryptor.spec.depends_on]


def _is_ready(decryptor: Decryptor | None) -> bool:
    """By what is cheap to read: this is asked at each event."""
    if decryptor is None or decryptor.ready is None or decryptor.observed_generation != decryptor.meta.generation:
        return False
    # One that only plans has deployed nothing.
    return decryptor.ready.status == "True" and decryptor.ready.reason != PLANNED
