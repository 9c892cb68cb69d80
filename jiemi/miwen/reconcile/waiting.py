"""Waiting for the applied objects themselves: spec.wait."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import attrs
import trio

from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.conditions import is_ready
from jiemi.core.decisions.schedule import head_max_age_seconds
from jiemi.core.errors import Failure, JiemiError
from jiemi.miwen.apply.account_objects import as_account
from jiemi.miwen.apply.applier import Superseded
from jiemi.miwen.apply.health import Waiter
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile.tenancy import Tenancy
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.reconcile.timing import Timing
from jiemi.miwen.state.mailbox import Wake
from jiemi.tracing.current import span


@attrs.frozen
class Waiting:
    """Waits in a tick, and remembers from tick to tick since when it waits.

    Attributes:
        kubernetes: where the objects are looked at.
        tenancy: what the operator allows, and under which account the objects are looked at.
        timing: how often objects are looked at, and how long they may take.
        now: the wall clock, for timestamps in the status.
    """

    kubernetes: Kubernetes
    tenancy: Tenancy
    timing: Timing
    now: Callable[[], datetime.datetime]

    async def wait(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        """Wait for the objects themselves. Objects that are known to be ready are looked at once per interval."""
        state, decryptor = context.state, context.decryptor
        fresh = state.wait.ready_at is not None and (
            trio.current_time() < state.wait.ready_at + head_max_age_seconds(self.timing.interval_of(decryptor))
        )
        if fresh and is_ready(context.status, context.generation):
            return
        account = self.tenancy.account(decryptor, spec)
        objects = as_account(self.kubernetes, account)
        waiter = Waiter(objects, self.now, lambda: context.mailbox.woken)
        with span("wait", objects=len(context.status.inventory)):
            failure = await waiter.until_ready(context.status.inventory, seconds=0)
            if failure is not None and failure.reason == "ObjectsNotReady":
                failure = await self._wait_on(context, waiter, failure)
            if failure is not None:
                raise JiemiError.of(failure)
        state.wait.found_ready(trio.current_time())
        if not is_ready(context.status, context.generation):
            context.draft.still_synced()

    async def _wait_on(self, context: ReconcileContext, waiter: Waiter, failure: Failure) -> Failure | None:
        """Wait as long as the timeout leaves, and say so in the status.

        Raises:
            Superseded: there is something newer to do, or the repository is to be looked at. The time of the wait goes
            on.
        """
        state, interval = context.state, self.timing.interval_of(context.decryptor)
        since = state.wait.begin_waiting(trio.current_time())
        left = since + self.timing.timeout_of(context.decryptor) - trio.current_time()
        if left <= 0:
            return failure
        context.draft.waiting(failure.text)
        await context.write(context.status)
        # What others do to the objects, and to the repository, ends the wait from here on.
        context.settle()
        found = await waiter.until_ready(context.status.inventory, seconds=min(left, interval))
        if found is not None and found.reason == "ObjectsNotReady":
            if interval < left:
                context.mailbox.wake(Wake.OBJECTS_NOT_READY)
            if context.mailbox.woken:
                raise Superseded
        return found


def forget_waiting(context: ReconcileContext) -> None:
    """Other objects are applied than before: nothing is known of their readiness."""
    context.state.wait.forget_waiting()
