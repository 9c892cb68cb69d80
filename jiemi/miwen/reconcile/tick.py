"""What one tick of one Decryptor works with, and what it leaves for the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import attrs

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.decryptor_status import DecryptorStatus
from jiemi.core.errors import Failure
from jiemi.core.objects.identity import ObjectRef
from jiemi.core.objects.inventory import by_key
from jiemi.miwen.reconcile.applied_changes import Changes
from jiemi.miwen.state.loop_state import LoopState
from jiemi.miwen.state.mailbox import Mailbox
from jiemi.miwen.state.open_repository import OpenRepository


class ObjectGone(Exception):
    """The Decryptor is gone, or another of its name took its place: there is nothing to write a status to."""


@attrs.frozen
class Note:
    """Something to tell in an Event.

    Attributes:
        type: Warning for what someone should look at.
        reason: in one word.
        action: what Miwen did or tried.
        text: a sentence; names only.
        related: the object that it is about, if it is about one.
        transition: whether it ends what an earlier one told, so that it is told again however often.
        always: whether it is told though the rate of Events is used up: something was deleted, or left behind.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    text: str
    related: ObjectRef | None = None
    transition: bool = False
    always: bool = False


@attrs.define
class ReconcileContext:
    """One tick.

    Attributes:
        decryptor: as it was when the tick began.
        status: what it should be, as far as the tick has come.
        repositories: holds the repository open.
        state: from tick to tick.
        mailbox: what the loop is told meanwhile.
        write: writes a status now. Raises JiemiError, ObjectGone.
        settle: told when a tick has done all it does to objects and only waits: what is seen from then on may end it.
        notes: what to tell in Events.
        changes: what was done to objects, and by which revision.
    """

    decryptor: Decryptor
    status: DecryptorStatus
    repositories: OpenRepository
    state: LoopState
    mailbox: Mailbox
    write: Callable[[DecryptorStatus], Awaitable[None]]
    settle: Callable[[], None]
    notes: list[Note] = attrs.field(factory=list)
    changes: Changes = attrs.field(factory=Changes)

    @property
    def generation(self) -> int:
        return self.decryptor.meta.generation

    def set_inventory(self, status: DecryptorStatus) -> None:
        """Take a status whose inventory is another."""
        self.status = status
        self.mailbox.set_inventory(by_key(status.inventory))

    def note(
        self,
        reason: str,
        action: str,
        text: str,
        related: ObjectRef | None = None,
        *,
        transition: bool = False,
        always: bool = False,
    ) -> None:
        """Report something in an Event. The arguments are those of `Note`."""
        self.notes.append(Note("Normal", reason, action, text, related, transition, always))

    def warn(
        self,
        reason: str,
        action: str,
        text: str,
        related: ObjectRef | None = None,
        *,
        transition: bool = False,
        always: bool = False,
    ) -> None:
        """Report in an Event what someone should look at. The arguments are those of `Note`."""
        self.notes.append(Note("Warning", reason, action, text, related, transition, always))

    def result(
        self, failure: Failure | None = None, *, requeue_after_seconds: float | None = None, conclusive: bool = True
    ) -> ReconcileResult:
        """What the tick came to. The arguments are those of `ReconcileResult`."""
        notes = tuple(self.notes)
        return ReconcileResult(self.status, failure, notes, requeue_after_seconds, conclusive, self.changes)


@attrs.frozen
class ReconcileResult:
    """What a tick came to.

    Attributes:
        status: what status should be now; None where there is nothing to write it to.
        failure: what went wrong, or None.
        notes: what to tell in Events.
        requeue_after_seconds: the longest until the next tick, where it is sooner than usual.
        conclusive: whether it tells how the Decryptor is; not, where it was broken off, or spec.suspend is set.
        changes: what was done to objects.
    """

    status: DecryptorStatus | None
    failure: Failure | None
    notes: tuple[Note, ...] = ()
    requeue_after_seconds: float | None = None
    conclusive: bool = True
    changes: Changes = attrs.field(factory=Changes)
