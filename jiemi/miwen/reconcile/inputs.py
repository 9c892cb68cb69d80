"""What is new for a Decryptor since its last tick, beside its repository: a request, credentials, keys."""

from __future__ import annotations

import attrs
import structlog

from jiemi.core.api.conditions import SUSPENDED
from jiemi.core.api.secret_refs import git_secret_names, key_secret_names, secret_names, verify_secret_names
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.conditions import condition
from jiemi.miwen.reconcile.credentials import have_changed
from jiemi.miwen.reconcile.file_changes import try_again
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.watch.kind_watch import SECRETS
from jiemi.miwen.watch.object_watches import ObjectWatches

_log = structlog.get_logger("jiemi.miwen.reconcile")


@attrs.frozen
class Inputs:
    """What is new.

    Attributes:
        reconcile_at: the request that is in the annotation now, or None.
        is_asked: whether that request has not been acted upon.
        new_credentials: whether a Secret with credentials of the repository, or with the public keys of signers,
            changed since it was read.
        new_keys: whether a Secret with keys of the files did.
    """

    reconcile_at: str | None
    is_asked: bool
    new_credentials: bool
    new_keys: bool

    @property
    def asks_host(self) -> bool:
        """Whether the host of the repository is asked for its head, however lately it was."""
        return self.is_asked or self.new_credentials

    @property
    def wants_all(self) -> bool:
        """Whether everything is done again."""
        return self.is_asked or self.new_keys

    def mark_handled(self, context: ReconcileContext) -> None:
        """The request is being acted upon."""
        context.draft.took_up_request(self.reconcile_at)


async def notice_inputs(context: ReconcileContext, spec: DecryptorSpec, watches: ObjectWatches) -> Inputs:
    """Find out what is new, and forget what was known with the old credentials and keys."""
    if condition(context.status, SUSPENDED) is not None:
        context.note("Resumed", "Resume", "spec.suspend is taken away", transition=True)
    reconcile_at = context.decryptor.meta.reconcile_at
    is_asked = reconcile_at is not None and reconcile_at != context.status.last_handled_reconcile_at
    if secret_names(spec):
        watches.want(SECRETS)
    new_credentials = have_changed(context, watches, git_secret_names(spec))
    new_credentials |= have_changed(context, watches, verify_secret_names(spec), unwatched=True)
    new_keys = have_changed(context, watches, key_secret_names(spec))
    if new_credentials:
        await context.repositories.close()
    if new_credentials or new_keys or is_asked:
        try_again(context)
    _log.debug("inputs", asked=is_asked, new_credentials=new_credentials, new_keys=new_keys)
    return Inputs(reconcile_at, is_asked, new_credentials, new_keys)
