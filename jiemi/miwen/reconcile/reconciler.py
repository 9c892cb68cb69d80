"""One tick: find out what there is to do for a Decryptor, and do it.

    spec -> allowed -> repository -> head -> files -> (nothing new: end) -> dependencies -> deployment -> readiness

What it came to is the status that the caller writes, if it is another than before. In the middle of a deployment the
tick writes one itself (`jiemi.miwen.reconcile.deployment`).
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Awaitable, Callable, Iterable, Mapping

import attrs
import structlog
import trio

from jiemi.concurrency.fair_limiter import Bound, FairLimiter, Slot
from jiemi.core.api.conditions import SUSPENDED
from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.decryptor_status import FileStatus
from jiemi.core.api.secret_refs import git_secret_names, key_secret_names, observed_secrets_of, secret_names
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.credential_limits import total_bytes, values_of
from jiemi.core.decisions.conditions import condition, is_ready
from jiemi.core.decisions.policy import Policy, PolicyRule
from jiemi.core.decisions.schedule import head_max_age_seconds
from jiemi.core.decisions.status import after_failure, after_plan, after_sync, still_synced, while_suspended
from jiemi.core.decisions.status_facts import to_resync, with_handled_request, with_observed_secrets
from jiemi.core.decisions.status_warnings import with_warnings
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.memory import MemoryBudget
from jiemi.core.names import NamespacedName
from jiemi.core.objects.drift import Drift
from jiemi.core.objects.identity import ObjectKey
from jiemi.core.objects.inventory import has_obsolete
from jiemi.miwen.apply.applier import Superseded
from jiemi.miwen.apply.protected_objects import objects_of
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile import drift_correction
from jiemi.miwen.reconcile.admission import Bounds
from jiemi.miwen.reconcile.correction import HOST_REFUSES, Corrector
from jiemi.miwen.reconcile.credentials import git_credentials, have_changed
from jiemi.miwen.reconcile.deployment import Deployment
from jiemi.miwen.reconcile.file_changes import (
    FileChanges,
    Todo,
    held_files,
    note_planned,
    note_rendered,
    require_some,
    source_of,
    todo,
    try_again,
)
from jiemi.miwen.reconcile.finalizer import Cleanup, set_finalizer
from jiemi.miwen.reconcile.limits import no_room
from jiemi.miwen.reconcile.render import NeedsMore
from jiemi.miwen.reconcile.tenancy import Tenancy
from jiemi.miwen.reconcile.tick import ObjectGone, ReconcileContext, ReconcileResult
from jiemi.miwen.reconcile.timing import Timing
from jiemi.miwen.reconcile.waiting import Waiting
from jiemi.miwen.state.registry import Registry
from jiemi.miwen.watch.object_watches import SECRETS, NotSynced, ObjectWatches
from jiemi.rpc.contract import Repository

_log = structlog.get_logger("jiemi.miwen")

_REOPEN = frozenset(
    {"RepositoryAccessDenied", "RepositoryNotFound", "HostKeyUnknown", "InvalidUrl", "SchemeNotAllowed"}
)
"""After these, the Secrets are read again: the credentials that the repository was opened with may be old."""

_LARGE_ONES = Bound("large", 1)
"""Decryptors whose files take much memory: all of them together have room for one."""

_NOT_READY = frozenset({"ObjectsNotReady", "ObjectsFailed"})
"""After these, everything is applied all the same."""

_CREDENTIAL_COPIES = 2
"""How often credentials are in memory at most: as they are held, and in the message that takes them to Krapao."""

_WAITING = frozenset({"DependencyNotReady", "DependencyCycle"})

_CLEANUP_AGAIN_SECONDS = 5.0
"""How soon objects of a deleted Decryptor are tried again."""


@attrs.frozen
class Attempt:
    """What one deployment is made of.

    Attributes:
        work: what of the files there is to do.
        resync: whether all is applied, whatever is known to be deployed.
        drifted: objects that are known to differ, and that it may put right.
    """

    context: ReconcileContext
    spec: DecryptorSpec
    repository: Repository
    revision: str
    work: Todo
    resync: bool = False
    drifted: Mapping[ObjectKey, Drift] = attrs.field(factory=dict)


@attrs.frozen
class Reconciler:
    """Carries out ticks.

    Attributes:
        kubernetes: where objects are applied and Secrets are read.
        registry: what is known of all Decryptors.
        watches: of the objects and the Secrets.
        now: the wall clock, for timestamps in status.
        timing: how often, and how long.
        work: bounds how many Decryptors are decrypted and applied at once, and so the memory that takes; shared by
            namespace.
        policy: the operator's, or None where everything is allowed.
        tenancy: the operator's.
        budget: what Decryptors may hold in memory.
    """

    kubernetes: Kubernetes
    registry: Registry
    watches: ObjectWatches
    now: Callable[[], datetime.datetime]
    timing: Timing
    work: FairLimiter
    policy: Policy | None = None
    tenancy: Tenancy = Tenancy()
    budget: MemoryBudget = attrs.field(factory=MemoryBudget)

    @property
    def files(self) -> FileChanges:
        """What finds the files."""
        return FileChanges(self.budget)

    @property
    def waiting(self) -> Waiting:
        """What waits for objects."""
        return Waiting(self.kubernetes, self.tenancy, self.timing, self.now)

    async def tick(self, context: ReconcileContext) -> ReconcileResult:
        """One tick of one Decryptor; a failure is a value here, and the last good objects stay."""
        state, meta = context.state, context.decryptor.meta
        state.head_revision = None
        again: float | None = None
        try:
            await self._follow(context)
        except ObjectGone:
            return ReconcileResult(None, None)
        except Superseded:
            # The slot knows why; the next tick begins at once.
            return ReconcileResult(
                context.status, None, tuple(context.notes), conclusive=False, changes=context.changes
            )
        except trio.TooSlowError:
            limit = f"{self.timing.work_timeout_of(context.decryptor):g} s"
            failure = Failure(
                "Timeout",
                f"decrypting and applying was not done within {limit}",
                "Nothing, if it passes: it is tried again, and what is applied stays. If it lasts, raise spec.timeout "
                "or split the Decryptor.",
            )
        except JiemiError as error:
            failure = error.failure
        except Exception:  # noqa: BLE001 - the boundary of this Decryptor: its fault must not take the others down
            _log.exception("tick_crashed", namespace=meta.namespace, name=meta.name)
            failure = Failure("InternalError", "Miwen's log tells more at this time")
        else:
            suspended = condition(context.status, SUSPENDED) is not None
            return ReconcileResult(
                context.status,
                None,
                tuple(context.notes),
                drift_correction.requeue_after_seconds(context),
                conclusive=not suspended,
                changes=context.changes,
            )
        if failure.reason in _REOPEN:
            await context.repositories.close()
        self._tell_drift(context)
        context.status = after_failure(
            context.status,
            generation=context.generation,
            failure=failure,
            attempted_revision=state.head_revision,
            now=self.now(),
        )
        again = _CLEANUP_AGAIN_SECONDS if meta.deleting else drift_correction.requeue_after_seconds(context)
        return ReconcileResult(context.status, failure, tuple(context.notes), again, changes=context.changes)

    def _tell_drift(self, context: ReconcileContext) -> None:
        """After a failure, which may be why something is not put right."""
        spec = context.decryptor.spec
        if isinstance(spec, DecryptorSpec) and spec.mode == "Apply" and not context.decryptor.meta.deleting:
            drift_correction.tell_in_status(context, spec, self.now(), watch_failure=self._watch_failure(context))

    async def _follow(self, context: ReconcileContext) -> None:
        decryptor, spec = context.decryptor, context.decryptor.spec
        known_spec = spec if isinstance(spec, DecryptorSpec) else None
        if decryptor.meta.deleting:
            account = self.tenancy.account(decryptor, known_spec) if known_spec is not None else None
            # A dry run deletes nothing either.
            meant = known_spec if known_spec is not None and known_spec.mode == "Apply" else None
            objects = objects_of(self.kubernetes, account, self.tenancy.protection, namespace=decryptor.meta.namespace)
            await Cleanup(self.kubernetes, objects, self.now).run(context, meant)
            return
        if isinstance(spec, Failure):
            raise JiemiError.of(spec)
        if spec.suspend:
            self._suspend(context)
            return
        self.tenancy.require_allowed(decryptor, spec)
        if self.policy is not None:
            self.policy.require_repository(namespace=decryptor.meta.namespace, url=spec.source.repository.url)
        # A dry run writes nothing, so it adds none; what an apply left keeps the one that is there.
        may_own = spec.mode == "Apply" or len(context.status.inventory) > 0
        await set_finalizer(context, self.kubernetes, wanted=spec.deletion_policy == "Delete" and may_own)
        await self._reconcile(context, spec)

    def _suspend(self, context: ReconcileContext) -> None:
        if condition(context.status, SUSPENDED) is None:
            context.note(
                "Suspended",
                "Suspend",
                "spec.suspend is set: nothing is looked at or applied",
                transition=True,
            )
        context.status = while_suspended(context.status, generation=context.generation, now=self.now())

    async def _reconcile(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        reconcile_at = context.decryptor.meta.reconcile_at
        asked = reconcile_at is not None and reconcile_at != context.status.last_handled_reconcile_at
        git_changed, keys_changed = await self._notice_changes(context, spec, asked=asked)
        if spec.mode == "DryRun":
            context.mailbox.take_seen()
            repository = await self._repository(context, spec)
            revision = await self._head(context, repository, now=asked or git_changed)
            self._handled(context, reconcile_at)
            await self._plan(context, spec, repository, revision, again=asked or keys_changed)
            return
        if not context.state.watching:
            # After a start also where the repository can't be looked at.
            with contextlib.suppress(JiemiError):
                await self._watch_objects(context, spec)
        drifted = await drift_correction.find_drift(context, spec, self.kubernetes.objects(None))
        repository = await self._repository(context, spec)
        resync = context.status.deployed_generation != context.generation or asked or keys_changed
        if resync:
            # Until it is done, however often it fails.
            context.status = to_resync(context.status)
        # What is of a file that is not deployed whole may be put right by its newest version; if it is not, then after.
        whole = set() if resync else {file.path for file in context.status.files if file.blob}
        sooner = {key: each for key, each in drifted.items() if context.mailbox.inventory[key].file in whole}
        later = {key: each for key, each in drifted.items() if key not in sooner}
        uncorrected = await self._correct(context, spec, repository, sooner)
        try:
            revision = await self._head(context, repository, now=asked or git_changed)
            self._handled(context, reconcile_at)
            files = await self.files.files(context, spec, repository, revision, resync=resync)
            work = self.files.todo(context, spec, files, resync=resync)
            is_deployed = not (resync or has_obsolete(context.status.inventory, context.status.files)) and work.nothing
            if not is_deployed:
                await self._deploy_and_look_after(
                    Attempt(context, spec, repository, revision, work, resync=resync, drifted=drifted)
                )
            else:
                await self._look_after_objects(context, spec)
        except JiemiError as error:
            # A spec that changed and waits is not to be acted upon.
            if not (resync and error.failure.reason in _WAITING):
                await self._correct(context, spec, repository, later, refused=error.failure)
            raise
        uncorrected = await self._correct(context, spec, repository, later) or uncorrected
        if uncorrected is not None and not set(drifted).isdisjoint(context.mailbox.differing):
            raise uncorrected
        drift_correction.require_no_conflict(context, spec)
        if is_deployed:
            self._refresh(context, spec)
        if spec.wait:
            await self.waiting.wait(context, spec)

    def _handled(self, context: ReconcileContext, reconcile_at: str | None) -> None:
        context.status = with_handled_request(context.status, reconcile_at)

    async def _correct(
        self,
        context: ReconcileContext,
        spec: DecryptorSpec,
        repository: Repository,
        drifted: Mapping[ObjectKey, Drift],
        *,
        refused: Failure | None = None,
    ) -> JiemiError | None:
        """Apply objects that drifted again, as they are deployed, whatever is new. Returns why that failed.

        Args:
            refused: what the newest revision, or the host, failed by.
        """
        drifted = {key: drift for key, drift in drifted.items() if key in context.mailbox.differing}
        if not drifted:
            return None
        if refused is not None and refused.reason in HOST_REFUSES:
            drift_correction.tell_uncorrected(context, drifted, dict.fromkeys(drifted, refused))
            return JiemiError.of(refused)

        def deployment(repository: Repository, revision: str, work: Todo) -> Deployment:
            return self._deployment(Attempt(context, spec, repository, revision, work))

        corrector = Corrector(context, spec, repository, deployment, lambda work: self._run(context, work))
        try:
            failures = await corrector.correct(drifted)
        finally:
            drift_correction.tell_corrected(context, drifted)
        drift_correction.tell_uncorrected(context, drifted, failures)
        return next((JiemiError.of(failure) for failure in failures.values()), None)

    async def _notice_changes(
        self, context: ReconcileContext, spec: DecryptorSpec, *, asked: bool
    ) -> tuple[bool, bool]:
        """Whether the credentials of the repository, and the keys of the files, are others than were read."""
        if condition(context.status, SUSPENDED) is not None:
            context.note("Resumed", "Resume", "spec.suspend is taken away", transition=True)
        if secret_names(spec):
            self.watches.want(SECRETS)
        git_changed = have_changed(context, self.watches, git_secret_names(spec))
        keys_changed = have_changed(context, self.watches, key_secret_names(spec))
        if git_changed:
            await context.repositories.close()
        if git_changed or keys_changed or asked:
            try_again(context)
        return git_changed, keys_changed

    async def _deploy_and_look_after(self, attempt: Attempt) -> None:
        """Deploy; what is applied, though something else is not, is looked after all the same."""
        context, spec = attempt.context, attempt.spec
        try:
            require_some(attempt.work, spec, context.state.files.left_out)
            await self._deploy(attempt)
        except (JiemiError, trio.TooSlowError):
            with contextlib.suppress(JiemiError):
                await self._look_after_objects(context, spec)
            raise
        await self._look_after_objects(context, spec)

    # --- what there is to do

    async def _repository(self, context: ReconcileContext, spec: DecryptorSpec) -> Repository:
        repository = context.repositories.get(context.generation)
        if repository is not None:
            return repository
        credentials = await git_credentials(context.decryptor, spec, self.kubernetes, context.state.secrets)
        key = context.decryptor.meta.key
        # They are held as long as the repository is open, and travel again on each new connection to Krapao.
        size = _CREDENTIAL_COPIES * total_bytes(values_of(credentials))
        if not self.budget.take(key[0], held_credentials(key), size):
            await context.repositories.close()
            raise JiemiError.of(no_room(self.budget, key[0]))
        return await context.repositories.open(source_of(spec), credentials, generation=context.generation)

    async def _head(self, context: ReconcileContext, repository: Repository, *, now: bool) -> str:
        """The revision to follow.

        Args:
            now: whether the host is to be asked.
        """
        known = context.status
        # Who changed the spec may have pushed just before. Those who ask at once share Krapao's question.
        stale = any(each.reason == "RevisionNotFound" for each in known.conditions)
        now = now or stale or known.observed_generation != context.generation
        interval = self.timing.interval_of(context.decryptor)
        head = await repository.head(max_age_seconds=0.0 if now else head_max_age_seconds(interval))
        context.state.head_revision = head.revision
        return head.revision

    async def _look_after_objects(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        """See that the kinds of the objects are watched, and tell what differs."""
        await self._watch_objects(context, spec)
        drift_correction.tell_in_status(context, spec, self.now(), watch_failure=self._watch_failure(context))

    async def _watch_objects(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        kinds: set[Resource] = set()
        for api_version, kind in {(entry.api_version, entry.kind) for entry in context.status.inventory}:
            resource = await self.kubernetes.objects(None).resource(api_version, kind)
            if resource is not None:
                self.watches.want(resource)
                kinds.add(resource)
        context.state.watching = kinds
        self.watch(context.decryptor.meta.key, frozenset(kinds | ({SECRETS} if secret_names(spec) else set())))

    def watch(self, key: NamespacedName, kinds: frozenset[Resource]) -> None:
        """What a Decryptor wants watched; what nobody wants any more is not."""
        if self.registry.set_kinds(key, kinds):
            self.watches.keep_only(self.registry.kinds)

    def _watch_failure(self, context: ReconcileContext) -> Failure | None:
        """Why changes of some objects are not seen, where that lasts."""
        failures = [self.watches.failure(resource) for resource in sorted(context.state.watching, key=str)]
        return next((each for each in failures if each is not None and each.reason == "WatchForbidden"), None)

    def _rules(
        self, decryptor: Decryptor, spec: DecryptorSpec, files: Iterable[FileStatus]
    ) -> dict[str, PolicyRule] | None:
        """What the operator's policy allows each file; None without one. Raises JiemiError as `Policy.rule_for`."""
        if self.policy is None:
            return None
        namespace, url = decryptor.meta.namespace, spec.source.repository.url
        return {file.path: self.policy.rule_for(namespace=namespace, url=url, path=file.path) for file in files}

    def give_back(self, key: NamespacedName) -> None:
        """Count nothing more for a loop."""
        for what in (held_credentials(key), held_files(key)):
            self.budget.give_back(what)

    # --- what is done

    def _deployment(self, attempt: Attempt) -> Deployment:
        context, spec, work = attempt.context, attempt.spec, attempt.work
        decryptor = context.decryptor
        return Deployment(
            kubernetes=self.kubernetes,
            registry=self.registry,
            account=self.tenancy.account(decryptor, spec),
            bounds=Bounds(
                rules=self._rules(decryptor, spec, work.files),
                own_namespace_only=self.tenancy.own_namespace_only,
                asks_whose=self.tenancy.limited,
                protection=self.tenancy.protection,
                full_mac=self.tenancy.require_full_mac,
                merged_managers=self.tenancy.merged_managers,
            ),
            now=self.now,
            context=context,
            spec=spec,
            repository=attempt.repository,
            revision=attempt.revision,
            todo=work,
            seen_version=self._seen_version,
        )

    def _seen_version(self, key: ObjectKey) -> str | None:
        try:
            return self.watches.version_of(key.group, key.kind, key.namespace, key.name)
        except NotSynced:
            return None

    async def _deploy(self, attempt: Attempt) -> None:
        context, spec, work = attempt.context, attempt.spec, attempt.work
        # What could not be deleted is a part of the revision that is not deployed until it is.
        is_new = (
            attempt.resync
            or work.files != context.status.files
            or has_obsolete(context.status.inventory, context.status.files)
        )
        blocked = self.registry.blocked(context.decryptor) if is_new else None
        if blocked is not None:
            raise JiemiError.of(blocked)
        try:
            await self._run(context, self._deployment(attempt).run)
        finally:
            drift_correction.tell_corrected(context, attempt.drifted)
        if is_new:
            self.waiting.forget(context)
            context.set_inventory(
                after_sync(
                    context.status,
                    generation=context.generation,
                    revision=attempt.revision,
                    file=spec.source.described,
                    now=self.now(),
                )
            )
        else:
            self._refresh(context, spec)

    async def _run(self, context: ReconcileContext, work: Callable[[Slot], Awaitable[None]]) -> None:
        """Do what takes memory and may last. While it only waits for Krapao, its slot may go to another namespace.

        What takes much memory is done by one Decryptor at a time; namespaces take turns.
        """

        async def in_time(slot: Slot) -> None:
            with trio.fail_after(self.timing.work_timeout_of(context.decryptor)):
                await work(slot)

        namespace = context.decryptor.meta.namespace
        if not context.state.files.is_large:
            try:
                await self.work.run(namespace, in_time)
                return
            except NeedsMore:
                note_rendered(context, {}, is_large=True)
        await self.work.run(namespace, in_time, _LARGE_ONES)

    def _refresh(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        """All is deployed: say so again, if something else was said meanwhile."""
        known, now = (
            with_observed_secrets(context.status, observed_secrets_of(spec, context.state.secrets.read)),
            self.now(),
        )
        ready = condition(known, "Ready")
        awaited = spec.wait and ready is not None and ready.reason in _NOT_READY
        if not is_ready(known, context.generation) and not awaited:
            known = still_synced(known, generation=context.generation, now=now)
        context.status = with_warnings(known, generation=context.generation, now=now)

    async def _plan(
        self, context: ReconcileContext, spec: DecryptorSpec, repository: Repository, revision: str, *, again: bool
    ) -> None:
        """Compute what an apply would do, unless that is known."""
        known, state = context.status, context.state
        is_planned = is_ready(known, context.generation) and known.plan is not None and not again
        if is_planned and known.plan is not None and known.plan.revision == revision:
            return
        files = await self.files.wanted(context, spec, repository, revision)
        if is_planned and state.files.planned == (context.generation, files):
            return
        work = todo(files, (), render_all=True, failed={})
        require_some(work, spec, context.state.files.left_out)
        deployment = self._deployment(Attempt(context, spec, repository, revision, work))
        await self._run(context, deployment.plan)
        note_planned(context, files)
        context.status = to_resync(context.status)
        plan = context.status.plan
        if plan is not None:
            context.status = after_plan(context.status, plan, generation=context.generation, now=self.now())


def held_credentials(key: NamespacedName) -> tuple[str, NamespacedName]:
    """What the budget calls the credentials of a Decryptor's repository."""
    return "credentials", key
