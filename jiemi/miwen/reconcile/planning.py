"""What an apply would do, in the status: spec.mode DryRun."""

from __future__ import annotations

import attrs

from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.conditions import is_ready
from jiemi.miwen.reconcile.attempt import Attempt
from jiemi.miwen.reconcile.deployer import Deployer
from jiemi.miwen.reconcile.file_changes import FileChanges, note_planned, require_some, todo
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.rpc.contract import Repository


@attrs.frozen
class Planning:
    """Plans in a tick.

    Attributes:
        deployer: what makes deployments.
        files: what finds the files.
    """

    deployer: Deployer
    files: FileChanges

    async def plan(
        self, context: ReconcileContext, spec: DecryptorSpec, repository: Repository, revision: str, *, again: bool
    ) -> None:
        """Compute what an apply would do, unless that is known.

        Args:
            revision: the one that would be applied.
            again: whether it is computed though it is known.

        Raises:
            JiemiError: as `Deployment.plan` and `FileChanges.wanted`.
            trio.TooSlowError: it was not done in time.
        """
        known = context.status
        is_planned = is_ready(known, context.generation) and known.plan is not None and not again
        if is_planned and known.plan is not None and known.plan.revision == revision:
            return
        files = await self.files.wanted(context, spec, repository, revision)
        if is_planned and context.state.files.planned == (context.generation, files):
            return
        work = todo(files, (), render_all=True, failed={})
        require_some(work, spec, context.state.files.left_out)
        attempt = Attempt(context, spec, repository, revision, work)
        await self.deployer.slots.run(context, self.deployer.deployment(attempt).plan)
        note_planned(context, files)
        context.draft.planned_all()
