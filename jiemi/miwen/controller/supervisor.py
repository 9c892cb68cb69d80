"""All Decryptors: one task each, in one nursery.

A Decryptor for which its namespace has no memory is turned away (`jiemi.miwen.reconcile.limits`), also while it is
followed, where it grows.

Each key (namespace, name) has a supervisor task. It runs the loop of the object that has the key now. An object that is
deleted ends the loop; one that is deleted and created again (with another uid) gets a new loop, after the old one
ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet

import trio

from jiemi.core.api.decryptor import FINALIZER, Decryptor
from jiemi.core.memory import MemoryBudget
from jiemi.core.names import NamespacedName
from jiemi.miwen.kubernetes.on_behalf import on_behalf_of
from jiemi.miwen.reconcile.limits import TurnedAway
from jiemi.miwen.state.mailbox import Mailbox
from jiemi.miwen.state.registry import Registry

BASE_BYTES = 48 * 1024
"""What the task of a Decryptor takes beside what is read of it (measured: tests/e2e/test_memory_of_miwen.py)."""


class Decryptors:
    """The tasks of the Decryptors that exist.

    Args:
        nursery: the owner of the tasks.
        run: runs the loop of one Decryptor.
        registry: what is known of all of them.
        budget: the memory that they may take.
        turned_away: where those wait for which there is no room.
        on_gone: called with each that was followed and was deleted.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        run: Callable[[Mailbox], Awaitable[None]],
        registry: Registry,
        budget: MemoryBudget,
        turned_away: TurnedAway,
        on_gone: Callable[[Mailbox], None] = lambda _: None,
    ) -> None:
        self._nursery = nursery
        self._run = run
        self._registry = registry
        self._budget = budget
        self._turned_away = turned_away
        self._on_gone = on_gone
        self._entries: dict[NamespacedName, _Entry] = {}

    def keys(self) -> frozenset[NamespacedName]:
        """The keys that have a task now."""
        return frozenset(self._entries)

    def put(self, decryptor: Decryptor) -> None:
        """An object is there, new or changed."""
        if decryptor.meta.deleting and FINALIZER not in decryptor.meta.finalizers:
            self.remove(decryptor.meta.key)
            return
        size = BASE_BYTES + decryptor.held_bytes
        account = _account(decryptor)
        if not self._budget.take(account, decryptor.meta.key, size):
            self._drop(decryptor.meta.key)
            self._turned_away.put(decryptor, account, size)
            return
        self._turned_away.remove(decryptor.meta.key)
        self._registry.put(decryptor)
        entry = self._entries.get(decryptor.meta.key)
        if entry is None:
            entry = self._entries[decryptor.meta.key] = _Entry(Mailbox(decryptor))
            self._nursery.start_soon(self._supervise, decryptor.meta.key, entry)
        elif entry.removed or entry.next is not None or entry.mailbox.latest.meta.uid != decryptor.meta.uid:
            if not entry.removed and entry.next is None:
                self._on_gone(entry.mailbox)
            entry.next = Mailbox(decryptor)
            entry.scope.cancel()
        else:
            entry.mailbox.put(decryptor.without_status)

    def remove(self, key: NamespacedName) -> None:
        """The object is gone."""
        entry = self._entries.get(key)
        if entry is not None and not entry.removed:
            self._on_gone(entry.mailbox)
        self._turned_away.remove(key)
        self._drop(key)

    def _drop(self, key: NamespacedName) -> None:
        """Follow it no longer."""
        self._budget.give_back(key)
        self._registry.remove(key)
        entry = self._entries.get(key)
        if entry is not None:
            entry.next = None
            entry.removed = True
            entry.scope.cancel()

    def keep_only(self, keys: Iterable[NamespacedName], *, namespace: str | None = None) -> None:
        """A whole list was read: what is not in it is gone, and what is in it is all there is.

        Args:
            namespace: the one whose Decryptors were listed; None: all.
        """
        for key in (self.keys() | self._turned_away.keys()) - frozenset(keys):
            if namespace in {None, key[0]}:
                self.remove(key)

    def all_are_read(self, *, except_in: AbstractSet[str] = frozenset()) -> None:
        """All Decryptors that there were at the start have been put.

        Args:
            except_in: namespaces that may not be read.
        """
        self._registry.unseen = frozenset(except_in)
        self._registry.complete.set()

    async def _supervise(self, key: NamespacedName, entry: _Entry) -> None:
        try:
            while True:
                with entry.scope, on_behalf_of(key[0]):
                    await self._run(entry.mailbox)
                if entry.next is None:
                    return
                entry.mailbox, entry.next, entry.removed = entry.next, None, False
                entry.scope = trio.CancelScope()
        finally:
            del self._entries[key]
            # What it took is free from here on.
            self._turned_away.has_room()


def _account(decryptor: Decryptor) -> str:
    """The account in the budget whose memory it takes. Decryptors that are being deleted have one of their own, so that
    some can be deleted to make room though no memory is left."""
    namespace = decryptor.meta.namespace
    return f"{namespace} (being deleted)" if decryptor.meta.deleting else namespace


class _Entry:
    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.next: Mailbox | None = None
        self.removed = False
        self.scope = trio.CancelScope()
