"""One tick: the order of its steps.

    allowed -> inputs -> drift -> repository -> head -> signatures -> files -> (nothing new: end) -> deployment
            -> readiness

What it came to is a status, which the caller writes if it is another than before. In the middle of a deployment the
tick writes one itself (`jiemi.miwen.reconcile.deployment`). How each step is done is in the module of its name.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable

import attrs
import structlog
import trio

from jiemi.concurrency.fair_limiter import FairLimiter
from jiemi.core.api.conditions import SUSPENDED
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.conditions import condition
from jiemi.core.decisions.policy import Policy
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.memory import MemoryBudget
from jiemi.core.names import NamespacedName
from jiemi.core.reasons import UNVERIFIED
from jiemi.miwen.apply.applier import Superseded
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile import drift_correction
from jiemi.miwen.reconcile.attempt import Attempt
from jiemi.miwen.reconcile.correction import Correction
from jiemi.miwen.reconcile.deployer import Deployer
from jiemi.miwen.reconcile.file_changes import FileChanges, require_some
from jiemi.miwen.reconcile.finalizer import Cleanup, set_finalizer
from jiemi.miwen.reconcile.inputs import Inputs, notice_inputs
from jiemi.miwen.reconcile.planning import Planning
from jiemi.miwen.reconcile.repository_access import RepositoryAccess
from jiemi.miwen.reconcile.tenancy import Tenancy
from jiemi.miwen.reconcile.tick import ObjectGone, ReconcileContext, ReconcileResult
from jiemi.miwen.reconcile.timing import Timing
from jiemi.miwen.reconcile.trust import require_verified
from jiemi.miwen.reconcile.waiting import Waiting
from jiemi.miwen.reconcile.watched_kinds import WatchedKinds
from jiemi.miwen.reconcile.work_slots import WorkSlots
from jiemi.miwen.state.registry import Registry
from jiemi.miwen.watch.object_watches import ObjectWatches

_WAITING = frozenset({"DependencyNotReady", "DependencyCycle"})

_CLEANUP_AGAIN_SECONDS = 5.0
"""How soon Miwen tries again to delete the objects of a deleted Decryptor."""

_log = structlog.get_logger("jiemi.miwen.reconcile")


@attrs.frozen
class Reconciler:
    """Carries out ticks.

    Attributes:
        kubernetes: where objects are applied and Secrets are read.
        registry: what is known of all Decryptors.
        watches: those of the objects and the Secrets.
        now: the wall clock, for timestamps in the status.
        timing: how often Decryptors are looked at, and how long their work may take.
        limiter: bounds how many Decryptors are decrypted and applied at once, and so the memory that this takes;
            namespaces share it fairly.
        policy: the policy of the operator, or None where everything is allowed.
        tenancy: the other bounds of the operator.
        budget: what Decryptors may hold in memory.
    """

    kubernetes: Kubernetes
    registry: Registry
    watches: ObjectWatches
    now: Callable[[], datetime.datetime]
    timing: Timing
    limiter: FairLimiter
    policy: Policy | None = None
    tenancy: Tenancy = Tenancy()
    budget: MemoryBudget = attrs.field(factory=MemoryBudget)

    # --- the tick

    async def tick(self, context: ReconcileContext) -> ReconcileResult:
        """One tick of one Decryptor; a failure is a value here, and the last good objects stay."""
        self.repository.forget_head(context)
        try:
            await self._follow(context)
        except ObjectGone:
            return ReconcileResult(None, None)
        except Superseded:
            # The mailbox knows by what; the next tick begins at once.
            return context.result(conclusive=False)
        except Exception as error:  # noqa: BLE001 - the boundary of this Decryptor: its fault must not end the others
            return await self._after_failure(context, self._failure_of(error, context))
        is_suspended = condition(context.status, SUSPENDED) is not None
        return context.result(
            requeue_after_seconds=drift_correction.requeue_after_seconds(context), conclusive=not is_suspended
        )

    async def _follow(self, context: ReconcileContext) -> None:
        """Do what the Decryptor asks for, if it may ask for it."""
        decryptor, spec = context.decryptor, context.decryptor.spec
        if decryptor.meta.deleting:
            await Cleanup(self.kubernetes, self.tenancy, self.now).run(context)
            return
        if isinstance(spec, Failure):
            raise JiemiError.of(spec)
        if spec.suspend:
            self._suspend(context)
            return
        self.tenancy.require_allowed(decryptor, spec)
        if self.policy is not None:
            followed = spec.source.repository
            self.policy.require_repository(
                namespace=decryptor.meta.namespace, url=followed.url, is_verified=followed.verify is not None
            )
        # A dry run writes nothing, so it adds no finalizer; what an apply left keeps the one that is there.
        may_own = spec.mode == "Apply" or len(context.status.inventory) > 0
        await set_finalizer(context, self.kubernetes, wanted=spec.deletion_policy == "Delete" and may_own)
        if spec.mode == "DryRun":
            await self._plan(context, spec)
        else:
            await self._reconcile(context, spec)

    async def _reconcile(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        """The steps of a tick that applies (spec.mode: Apply)."""
        inputs = await notice_inputs(context, spec, self.watches)
        await self.kinds.watch_after_start(context, spec)
        drifted = await drift_correction.find_drift(context, spec, self.kubernetes.objects(None))
        repository = await self.repository.open(context, spec)
        resync = self._resync(context, inputs)
        correction = Correction(self.deployer, context, spec, repository)
        sooner, later = drift_correction.by_order(context, drifted, resync=resync)
        uncorrected = await correction.run(sooner)
        try:
            revision = await self.repository.head(context, ask_host=inputs.asks_host)
            inputs.mark_handled(context)
            await require_verified(context, spec, repository, revision)
            files = await self.files.files(context, spec, repository, revision, resync=resync)
            work = self.files.todo(context, spec, files, resync=resync)
            attempt = Attempt(context, spec, repository, revision, work, resync=resync, drifted=drifted)
            is_deployed = work.nothing and not (resync or attempt.leaves_obsolete)
            if not is_deployed:
                await self._deploy(attempt)
            await self.kinds.look_after(context, spec)
        except JiemiError as error:
            # A spec that changed and waits is not to be acted upon.
            if not (resync and error.failure.reason in _WAITING):
                await correction.run(later, refused=error.failure)
            raise
        uncorrected = await correction.run(later) or uncorrected
        drift_correction.require_corrected(context, drifted, uncorrected)
        drift_correction.require_no_conflict(context, spec)
        if is_deployed:
            self.deployer.refresh(context, spec)
        if spec.wait:
            await self.waiting.wait(context, spec)

    async def _plan(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        """The steps of a tick that applies nothing (spec.mode: DryRun)."""
        inputs = await notice_inputs(context, spec, self.watches)
        context.mailbox.take_seen()
        repository = await self.repository.open(context, spec)
        revision = await self.repository.head(context, ask_host=inputs.asks_host)
        inputs.mark_handled(context)
        await require_verified(context, spec, repository, revision)
        await Planning(self.deployer, self.files).plan(context, spec, repository, revision, again=inputs.wants_all)

    # --- steps of a few lines

    def _suspend(self, context: ReconcileContext) -> None:
        if condition(context.status, SUSPENDED) is None:
            text = "spec.suspend is set: nothing is looked at or applied"
            context.note("Suspended", "Suspend", text, transition=True)
        context.draft.suspended()

    def _resync(self, context: ReconcileContext, inputs: Inputs) -> bool:
        """Whether everything is applied, whatever is known to be deployed."""
        resync = inputs.wants_all or context.status.deployed_generation != context.generation
        if resync:
            context.draft.resync()
        return resync

    async def _deploy(self, attempt: Attempt) -> None:
        """Deploy. What is applied is looked after, though something else is not applied."""
        context, spec = attempt.context, attempt.spec
        try:
            require_some(attempt.work, spec, context.state.files.left_out)
            await self.deployer.deploy(attempt)
        except (JiemiError, trio.TooSlowError):
            with contextlib.suppress(JiemiError):
                await self.kinds.look_after(context, spec)
            raise

    def _failure_of(self, error: Exception, context: ReconcileContext) -> Failure:
        """What the status says of an error."""
        meta = context.decryptor.meta
        if isinstance(error, JiemiError):
            return error.failure
        if isinstance(error, trio.TooSlowError):
            return Failure(
                "Timeout",
                f"decrypting and applying was not done within {self.timing.work_timeout_of(context.decryptor):g} s",
                "Nothing, if it passes: it is tried again, and what is applied stays. If it lasts, raise spec.timeout "
                "or split the Decryptor.",
            )
        _log.exception("tick_crashed", namespace=meta.namespace, name=meta.name)
        return Failure("InternalError", "Miwen's log has the details at this time")

    async def _after_failure(self, context: ReconcileContext, failure: Failure) -> ReconcileResult:
        await self.repository.close_if_refused(context, failure)
        self.kinds.show_drift_after_failure(context)
        if failure.reason in UNVERIFIED:
            context.draft.not_verified(failure)
        context.draft.ended(failure, context.state.head_revision)
        is_deleting = context.decryptor.meta.deleting
        again = _CLEANUP_AGAIN_SECONDS if is_deleting else drift_correction.requeue_after_seconds(context)
        return context.result(failure, requeue_after_seconds=again)

    # --- what does the steps

    @property
    def repository(self) -> RepositoryAccess:
        """Opens the repository and asks for its head."""
        return RepositoryAccess(self.kubernetes, self.budget, self.timing)

    @property
    def files(self) -> FileChanges:
        """Finds the files."""
        return FileChanges(self.budget)

    @property
    def kinds(self) -> WatchedKinds:
        """Has the kinds of the objects watched."""
        return WatchedKinds(self.kubernetes, self.registry, self.watches)

    @property
    def deployer(self) -> Deployer:
        """Deploys."""
        slots = WorkSlots(self.limiter, self.timing)
        return Deployer(self.kubernetes, self.registry, self.watches, slots, self.policy, self.tenancy)

    @property
    def waiting(self) -> Waiting:
        """Waits for objects."""
        return Waiting(self.kubernetes, self.tenancy, self.timing, self.now)

    def forget(self, key: NamespacedName) -> None:
        """The loop of a Decryptor ends: watch nothing for it, and count nothing that it held."""
        self.kinds.want(key, frozenset())
        self.repository.give_back(key)
        self.files.give_back(key)
