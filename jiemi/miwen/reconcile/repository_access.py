"""The repository of a Decryptor, open, and its newest revision."""

from __future__ import annotations

import attrs
import structlog

from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.credential_limits import total_bytes, values_of
from jiemi.core.decisions.schedule import head_max_age_seconds
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.memory import MemoryBudget
from jiemi.core.names import NamespacedName
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile.file_changes import source_of
from jiemi.miwen.reconcile.git_credentials import git_credentials
from jiemi.miwen.reconcile.limits import no_room
from jiemi.miwen.reconcile.phases import Phase
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.reconcile.timing import Timing
from jiemi.miwen.reconcile.verification import verification_of
from jiemi.miwen.state.mailbox import Wake
from jiemi.rpc.contract import Repository

_log = structlog.get_logger("jiemi.miwen.reconcile")

_REOPEN = frozenset(
    {"RepositoryAccessDenied", "RepositoryNotFound", "HostKeyUnknown", "InvalidUrl", "SchemeNotAllowed"}
)
"""After these, the Secrets are read again: the credentials that the repository was opened with may be old."""

_CREDENTIAL_COPIES = 2
"""How often credentials are in memory at most: as they are held, and in the message that takes them to Krapao."""


@attrs.frozen
class RepositoryAccess:
    """Opens repositories and asks for their heads.

    Attributes:
        kubernetes: where the credentials are read.
        budget: what Decryptors may hold in memory.
        timing: how often repositories are looked at.
    """

    kubernetes: Kubernetes
    budget: MemoryBudget
    timing: Timing

    async def open(self, context: ReconcileContext, spec: DecryptorSpec) -> Repository:
        """The repository, which stays open between ticks.

        Raises:
            JiemiError: NamespaceLimitExceeded; as `git_credentials`, `verification_of` and `Krapao.open`.
        """
        repository = context.repositories.get(context.generation)
        if repository is not None:
            return repository
        credentials = await git_credentials(context.decryptor, spec, self.kubernetes, context.state.secrets)
        key = context.decryptor.meta.key
        verification = await verification_of(context.decryptor, spec, self.kubernetes, context.state.secrets)
        # They are held as long as the repository is open, and travel again on each new connection to Krapao.
        size = _CREDENTIAL_COPIES * (
            total_bytes(values_of(credentials)) + (verification.size if verification is not None else 0)
        )
        if not self.budget.take(key[0], _held_credentials(key), size):
            await context.repositories.close()
            raise JiemiError.of(no_room(self.budget, key[0]))
        source = attrs.evolve(source_of(spec), verification=verification)
        return await context.repositories.open(source, credentials, generation=context.generation)

    async def head(self, context: ReconcileContext, *, ask_host: bool) -> str:
        """The revision to follow.

        Args:
            ask_host: whether the host is asked, however lately it was.

        Raises:
            JiemiError: as `Repository.head`.
        """
        known = context.status
        # A push may have come just before the change of the spec. Those who ask at once share Krapao's question.
        stale = any(each.reason == "RevisionNotFound" for each in known.conditions)
        ask_host = ask_host or stale or context.state.is_pushed or known.observed_generation != context.generation
        max_age = 0.0 if ask_host else head_max_age_seconds(self.timing.interval_of(context.decryptor))
        with context.phases.measured(Phase.HEAD):
            head = await context.repositories.head(max_age_seconds=max_age)
        context.state.head_revision = head.revision
        context.state.is_pushed = False
        context.draft.found_ref(head.ref)
        _log.debug("head", revision=head.revision, max_age_seconds=max_age, deployed=known.current.revision)
        return head.revision

    def forget_head(self, context: ReconcileContext) -> None:
        """A tick begins, which has found no revision yet."""
        if Wake.PUSH in context.mailbox.woken_by:
            context.state.is_pushed = True  # until the host has been asked, though this tick fails
        context.state.head_revision = None
        context.repositories.begin_tick(context.generation)

    async def close_if_refused(self, context: ReconcileContext, failure: Failure) -> None:
        """Close the repository after a failure that other credentials may end."""
        if failure.reason in _REOPEN:
            await context.repositories.close()

    def give_back(self, key: NamespacedName) -> None:
        """Count the credentials of a loop no longer."""
        self.budget.give_back(_held_credentials(key))


def _held_credentials(key: NamespacedName) -> tuple[str, NamespacedName]:
    """The name in the budget for the credentials of a Decryptor's repository."""
    return "credentials", key
