"""What one tick of one Decryptor works with, and what it leaves for the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import attrs

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.decryptor_status import DecryptorStatus
from jiemi.core.errors import Failure
from jiemi.core.objects.identity import ObjectRef
from jiemi.miwen.reconcile.applied_changes import Changes
from jiemi.miwen.reconcile.phases import PhaseTimes
from jiemi.miwen.reconcile.status_draft import StatusDraft
from jiemi.miwen.state.loop_state import LoopState
from jiemi.miwen.state.mailbox import Mailbox
from jiemi.miwen.state.open_repository import OpenRepository


class ObjectGone(Exception):
    """The Decryptor is gone, or another one of its name took its place: there is nothing to write a status to."""


@attrs.frozen
class Note:
    """Something that an Event reports.

    Attributes:
        type: Warning for what someone should look at.
        reason: the cause in one word, in CamelCase.
        action: what Miwen did or tried, in CamelCase.
        text: a sentence, which has names and no values.
        related: the object that it is about, if it is about one.
        transition: whether it ends what an earlier Event reported, so that it is reported however often it happens.
        always: whether it is reported though the rate of Events is used up, because something was deleted, or stays
            behind.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    text: str
    related: ObjectRef | None = None
    transition: bool = False
    always: bool = False


@attrs.frozen
class ReconcileContext:
    """One tick.

    Attributes:
        decryptor: the Decryptor as it was when the tick began.
        draft: its status, as far as the tick has come.
        repositories: what holds the repository open.
        state: the memory that is kept from tick to tick.
        mailbox: what reaches the loop meanwhile.
        write: writes a status now. Raises JiemiError, ObjectGone.
        settle: called when a tick has done all it does to objects and only waits: what is seen from then on may end it.
        notes: what is reported in Events.
        changes: what was done to objects, and by which revision.
        phases: how long its parts took.
    """

    decryptor: Decryptor
    draft: StatusDraft
    repositories: OpenRepository
    state: LoopState
    mailbox: Mailbox
    write: Callable[[DecryptorStatus], Awaitable[None]]
    settle: Callable[[], None]
    notes: list[Note] = attrs.field(factory=list)
    changes: Changes = attrs.field(factory=Changes)
    phases: PhaseTimes = attrs.field(factory=PhaseTimes)

    @property
    def generation(self) -> int:
        return self.decryptor.meta.generation

    @property
    def status(self) -> DecryptorStatus:
        """The status as it is by now."""
        return self.draft.status

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
        status: the status as it should be now; None where there is nothing to write it to.
        failure: what went wrong, or None.
        notes: what is reported in Events.
        requeue_after_seconds: the longest time until the next tick, where it is sooner than usual.
        conclusive: whether it says in which state the Decryptor is. It does not where it was broken off, or where
            spec.suspend is set.
        changes: what was done to objects.
    """

    status: DecryptorStatus | None
    failure: Failure | None
    notes: tuple[Note, ...] = ()
    requeue_after_seconds: float | None = None
    conclusive: bool = True
    changes: Changes = attrs.field(factory=Changes)
