"""What one tick of one Decryptor works with, and what it leaves for the next."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Literal

import attrs

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.decryptor_status import DecryptorStatus, FileStatus
from jiemi.core.errors import Failure
from jiemi.core.objects.drift import Drift
from jiemi.core.objects.identity import ObjectKey, ObjectRef
from jiemi.core.objects.inventory import by_key
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.reconcile.applied_changes import Changes
from jiemi.miwen.reconcile.file_changes import files_bytes
from jiemi.miwen.state.correction_backoff import CorrectionBackoff
from jiemi.miwen.state.mailbox import Mailbox
from jiemi.miwen.state.open_repository import OpenRepository

_FAILURE_BYTES = 300
"""What a file's failure takes beside its message, with its place in the state."""


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
class LoopState:
    """What a loop remembers from tick to tick, beside the status.

    Attributes:
        head_revision: the one that the last tick found, or None where it found none.
        listed: revision, generation and files, as they were listed last.
        left_out: paths of files that globs take, but that are a tool's by their names; of the listing before.
        failed: files that can't be rendered, until something that they depend on changes.
        versions: resourceVersions of the Secrets that the spec names, as they were read.
        drifted: objects that are known to differ, and are not corrected (yet).
        uncorrected: of those, the ones that could not be applied again at the last try, and why.
        unread: why an object that may differ could not be looked at, or None.
        fights: how often which object was corrected.
        watched_secrets: names of the Secrets that the watch has shown.
        watching: the kinds of the objects, as they are watched.
        watched: whether the objects were compared with what the watches show, since the start.
        ready_at: when the applied objects were found ready last (trio's clock), or None.
        waiting_since: when the applied objects began to be waited for (trio's clock), or None.
        is_large: whether the files take so much memory that no two such Decryptors are decrypted at once.
        planned: generation and files that status.plan is about; None where that is not certain.
    """

    head_revision: str | None = None
    listed: tuple[str, int, tuple[FileStatus, ...]] | None = None
    left_out: tuple[str, ...] = ()
    failed: dict[FileStatus, Failure] = attrs.field(factory=dict)
    versions: dict[str, str] = attrs.field(factory=dict)
    drifted: dict[ObjectKey, Drift] = attrs.field(factory=dict)
    uncorrected: dict[ObjectKey, Failure] = attrs.field(factory=dict)
    unread: Failure | None = None
    backoff: CorrectionBackoff = attrs.field(factory=CorrectionBackoff)
    watched_secrets: set[str] = attrs.field(factory=set)
    watching: set[Resource] = attrs.field(factory=set)
    watched: bool = False
    ready_at: float | None = None
    waiting_since: float | None = None
    is_large: bool = False
    planned: tuple[int, tuple[FileStatus, ...]] | None = None

    def held_bytes(self, known: DecryptorStatus) -> int:
        """About how much memory is held of files, beside that of the status.

        Args:
            known: the status.
        """
        size = sum(_FAILURE_BYTES + sys.getsizeof(failure.message) for failure in self.failed.values())
        size += sum(map(sys.getsizeof, self.left_out))
        if self.listed is not None and self.listed[2] == known.files:
            self.listed = (*self.listed[:2], known.files)
        elif self.listed is not None:
            size += files_bytes(self.listed[2])
        return size + (files_bytes(self.planned[1]) if self.planned is not None else 0)

    def forget_files(self) -> None:
        """Forget what can be asked for again."""
        self.listed = self.planned = None
        self.failed.clear()


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
        type: Literal["Normal", "Warning"],
        reason: str,
        action: str,
        text: str,
        related: ObjectRef | None = None,
        *,
        transition: bool = False,
        always: bool = False,
    ) -> None:
        """Tell something in an Event."""
        self.notes.append(Note(type, reason, action, text, related, transition, always))


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
