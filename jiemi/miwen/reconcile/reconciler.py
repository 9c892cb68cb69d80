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
from jiemi.core.api.decryptor import Decryptor, DecryptorSpec
from jiemi.core.api.decryptor_status import DecryptorStatus, FileStatus
from jiemi.core.api.durations import duration_seconds
from jiemi.core.api.secret_refs import git_secret_names, key_secret_names, secret_names
from jiemi.core.content.tool_files import listed
from jiemi.core.credential_limits import total_bytes, values_of
from jiemi.core.decisions.policy import Policy, PolicyRule
from jiemi.core.decisions.schedule import head_max_age_seconds
from jiemi.core.decisions.status import (
    after_failure,
    after_plan,
    after_sync,
    condition,
    is_ready,
    while_suspended,
    while_waiting,
    with_warnings,
)
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.memory import MemoryBudget
from jiemi.core.names import NamespacedName
from jiemi.core.objects.drift import Drift, is_newer
from jiemi.core.objects.identity import ObjectKey
from jiemi.core.objects.inventory import has_obsolete
from jiemi.core.objects.protected import Protection
from jiemi.core.objects.take_over import DECLARATIVE_MANAGERS
from jiemi.miwen.apply.account_objects import as_account
from jiemi.miwen.apply.applier import Superseded
from jiemi.miwen.apply.health import Waiter
from jiemi.miwen.apply.protected_objects import objects_of
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import Account, Kubernetes
from jiemi.miwen.reconcile import drift_correction
from jiemi.miwen.reconcile.correction import HOST_REFUSES, Corrector
from jiemi.miwen.reconcile.credentials import git_credentials
from jiemi.miwen.reconcile.deployment import Bounds, Deployment, observed_secrets_of
from jiemi.miwen.reconcile.file_changes import Todo, files_bytes, require_some, source_of, todo, wanted_files
from jiemi.miwen.reconcile.finalizer import Cleanup, set_finalizer
from jiemi.miwen.reconcile.limits import no_room
from jiemi.miwen.reconcile.render import NeedsMore
from jiemi.miwen.reconcile.tick import LoopState, ObjectGone, ReconcileContext, ReconcileResult
from jiemi.miwen.state.registry import Registry, depends_on
from jiemi.miwen.watch.object_watches import SECRETS, NotSynced, ObjectWatches
from jiemi.rpc.contract import Repository

_log = structlog.get_logger("jiemi.miwen")

_REOPEN = frozenset(
    {"RepositoryAccessDenied", "RepositoryNotFound", "HostKeyUnknown", "InvalidUrl", "SchemeNotAllowed"}
)
"""After these, the Secrets are read again: the credentials that the repository was opened with may be old."""

MAX_WORK_SECONDS = 900.0
"""The most of spec.timeout that is granted for decrypting and applying: others wait for the place meanwhile. Waiting
for objects (spec.wait) holds none, and may take as long as the spec says."""

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
class Tenancy:
    """What the operator of a cluster sets for all Decryptors.

    Attributes:
        default_service_account: of the Decryptor's namespace; what is applied is applied as it where the spec names
            none. None: as Miwen itself.
        own_namespace_only: whether a Decryptor may name nothing outside its namespace.
        limited: whether Miwen sees one namespace's Decryptors only.
        protection: what Miwen does not write as itself.
        require_full_mac: whether files are refused whose MAC covers their encrypted values only.
        merged_managers: field managers whose fields become Jiemi's alone where it applies them too.
    """

    default_service_account: str | None = None
    own_namespace_only: bool = False
    limited: bool = False
    protection: Protection = Protection()
    require_full_mac: bool = False
    merged_managers: frozenset[str] = frozenset(DECLARATIVE_MANAGERS)

    def account(self, decryptor: Decryptor, spec: DecryptorSpec) -> Account | None:
        """As whom a Decryptor's objects are written."""
        name = spec.service_account_name or self.default_service_account
        return Account(decryptor.meta.namespace, name) if name is not None else None

    def believed(self, status: DecryptorStatus | None, namespace: str) -> DecryptorStatus | None:
        """A Decryptor's status, less the objects that it can't have: it may be forged, and is what its loop starts
        from.

        Args:
            namespace: the Decryptor's.
        """
        if status is None or not self.own_namespace_only:
            return status
        inventory = tuple(entry for entry in status.inventory if entry.namespace == namespace)
        return attrs.evolve(status, inventory=inventory)

    def require_allowed(self, decryptor: Decryptor, spec: DecryptorSpec) -> None:
        """Raises JiemiError: NamespaceProtected, CrossNamespaceDenied."""
        own = decryptor.meta.namespace
        if own == self.protection.own_namespace:
            # Its Secrets are Jiemi's own, and with serviceAccountName it could act as Miwen.
            raise JiemiError(
                "NamespaceProtected",
                f"this Decryptor is in {own}, Jiemi's own namespace",
            )
        if not self.own_namespace_only:
            return
        if spec.target_namespace not in (None, own):
            raise JiemiError(
                "CrossNamespaceDenied",
                f"spec.targetNamespace is not {own}, the Decryptor's own: Miwen runs with --no-cross-namespace",
                f"Set spec.targetNamespace to {own}, or leave it out.",
            )
        others = [each for each in depends_on(decryptor) if each[0] != own]
        if others:
            namespace, name = others[0]
            raise JiemiError(
                "CrossNamespaceDenied",
                f"spec.dependsOn names {namespace}/{name}, outside {own}: Miwen runs with --no-cross-namespace",
                f"Name only Decryptors of namespace {own} in spec.dependsOn.",
            )


@attrs.frozen
class Reconciler:
    """Carries out ticks.

    Attributes:
        kubernetes: where objects are applied and Secrets are read.
        registry: what is known of all Decryptors.
        watches: of the objects and the Secrets.
        now: the wall clock, for timestamps in status.
        interval_seconds: of Decryptors that set none.
        deploy_timeout_seconds: the longest that reading keys, decrypting and applying may take together, once begun,
            where the Decryptor sets none.
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
    interval_seconds: float
    deploy_timeout_seconds: float
    work: FairLimiter
    policy: Policy | None = None
    tenancy: Tenancy = Tenancy()
    budget: MemoryBudget = attrs.field(factory=MemoryBudget)

    def interval_of(self, decryptor: Decryptor) -> float:
        """How often a Decryptor's repository is looked at, in seconds."""
        return _seconds(decryptor, "interval") or self.interval_seconds

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
            limit = f"{self._work_timeout(context.decryptor):g} s"
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
                "Normal",
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
            context.status = attrs.evolve(context.status, deployed_generation=None)
        # What is of a file that is not deployed whole may be put right by its newest version; if it is not, then after.
        whole = set() if resync else {file.path for file in context.status.files if file.blob}
        sooner = {key: each for key, each in drifted.items() if context.mailbox.inventory[key].file in whole}
        later = {key: each for key, each in drifted.items() if key not in sooner}
        uncorrected = await self._correct(context, spec, repository, sooner)
        try:
            revision = await self._head(context, repository, now=asked or git_changed)
            self._handled(context, reconcile_at)
            files = await self._files(context, spec, repository, revision, resync=resync)
            work = self._todo(context, spec, files, resync=resync)
            is_deployed = not (resync or has_obsolete(context.status.inventory, context.status.files)) and work.nothing
            if not is_deployed:
                await self._deploy_and_look_after(context, spec, repository, revision, work, drifted, resync=resync)
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
            await self._wait(context, spec)

    def _handled(self, context: ReconcileContext, reconcile_at: str | None) -> None:
        if reconcile_at is not None:
            context.status = attrs.evolve(context.status, last_handled_reconcile_at=reconcile_at)

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
            return self._deployment(context, spec, repository, revision, work)

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
            context.note("Normal", "Resumed", "Resume", "spec.suspend is taken away", transition=True)
        if secret_names(spec):
            self.watches.want(SECRETS)
        git_changed = self._have_changed(context, git_secret_names(spec))
        keys_changed = self._have_changed(context, key_secret_names(spec))
        if git_changed:
            await context.repositories.close()
        if git_changed or keys_changed or asked:
            context.state.failed.clear()
        return git_changed, keys_changed

    async def _deploy_and_look_after(
        self,
        context: ReconcileContext,
        spec: DecryptorSpec,
        repository: Repository,
        revision: str,
        work: Todo,
        drifted: Mapping[ObjectKey, Drift],
        *,
        resync: bool,
    ) -> None:
        """Deploy; what is applied, though something else is not, is looked after all the same."""
        try:
            require_some(work, spec, context.state.left_out)
            await self._deploy(context, spec, repository, revision, work, drifted, resync=resync)
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
        credentials = await git_credentials(context.decryptor, spec, self.kubernetes, context.state.versions)
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
        interval = self.interval_of(context.decryptor)
        head = await repository.head(max_age_seconds=0.0 if now else head_max_age_seconds(interval))
        context.state.head_revision = head.revision
        return head.revision

    def _have_changed(self, context: ReconcileContext, names: Iterable[str]) -> bool:
        """Whether a Secret is another than it was when it was read. Those that can't be watched count as unchanged."""
        changed = False
        for name in names:
            try:
                now = self.watches.version_of("", "Secret", context.decryptor.meta.namespace, name)
            except NotSynced:
                return False
            if now is not None:
                context.state.watched_secrets.add(name)
            read = context.state.versions.get(name)
            if read is not None and (now is not None or name in context.state.watched_secrets):
                changed |= now is None or is_newer(now, than=read)
        return changed

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

    async def _files(
        self, context: ReconcileContext, spec: DecryptorSpec, repository: Repository, revision: str, *, resync: bool
    ) -> tuple[FileStatus, ...]:
        """The files of a revision; what is known of them already is not asked for again."""
        known, state = context.status, context.state
        if not resync and known.current.revision == revision and is_ready(known, context.generation):
            return known.files
        if state.listed is None or state.listed[:2] != (revision, context.generation):
            state.listed = revision, context.generation, await self._wanted_files(context, spec, repository, revision)
        return state.listed[2]

    async def _wanted_files(
        self, context: ReconcileContext, spec: DecryptorSpec, repository: Repository, revision: str
    ) -> tuple[FileStatus, ...]:
        """The files of a revision. They count from here on: many Decryptors may hold them and wait for their context.

        Raises:
            JiemiError: NamespaceLimitExceeded; as `wanted_files`.
        """
        key = context.decryptor.meta.key

        def on_left_out(paths: tuple[str, ...]) -> None:
            if paths and paths != context.state.left_out:
                text = (
                    f"not applied, because by their names they are files of tools, and no objects: {listed(paths)}. "
                    "Jiemi runs neither kustomize nor Helm; name a file itself in spec.source.files to have it applied"
                )
                context.note("Normal", "FilesLeftOut", "List", text)
            context.state.left_out = paths

        files = await wanted_files(repository, revision, spec.source, on_left_out=on_left_out)
        if not self.budget.take(key[0], held_files(key), files_bytes(files)):
            context.state.forget_files()
            raise JiemiError.of(no_room(self.budget, key[0]))
        return files

    def count_held(self, key: NamespacedName, state: LoopState, known: DecryptorStatus) -> None:
        """Count what a loop holds of files until its next tick. What there is no room for is forgotten."""
        if not self.budget.take(key[0], held_files(key), state.held_bytes(known)):
            state.forget_files()

    def give_back(self, key: NamespacedName) -> None:
        """Count nothing more for a loop."""
        for what in (held_credentials(key), held_files(key)):
            self.budget.give_back(what)

    def _todo(
        self,
        context: ReconcileContext,
        spec: DecryptorSpec,
        files: tuple[FileStatus, ...],
        *,
        resync: bool,
    ) -> Todo:
        state = context.state
        state.failed = {file: failure for file, failure in state.failed.items() if file in files}
        work = todo(files, context.status.files, render_all=resync, failed=state.failed)
        if spec.target is not None and not resync and (work.render or work.removed_paths):
            # Its keys come from several files.
            work = todo(files, context.status.files, render_all=True, failed=state.failed)
        return work

    def _rules(
        self, decryptor: Decryptor, spec: DecryptorSpec, files: Iterable[FileStatus]
    ) -> dict[str, PolicyRule] | None:
        """What the operator's policy allows each file; None without one. Raises JiemiError as `Policy.rule_for`."""
        if self.policy is None:
            return None
        namespace, url = decryptor.meta.namespace, spec.source.repository.url
        return {file.path: self.policy.rule_for(namespace=namespace, url=url, path=file.path) for file in files}

    # --- what is done

    def _deployment(
        self,
        context: ReconcileContext,
        spec: DecryptorSpec,
        repository: Repository,
        revision: str,
        work: Todo,
    ) -> Deployment:
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
            repository=repository,
            revision=revision,
            todo=work,
            seen_version=self._seen_version,
        )

    def _seen_version(self, key: ObjectKey) -> str | None:
        try:
            return self.watches.version_of(key.group, key.kind, key.namespace, key.name)
        except NotSynced:
            return None

    async def _deploy(
        self,
        context: ReconcileContext,
        spec: DecryptorSpec,
        repository: Repository,
        revision: str,
        work: Todo,
        drifted: Mapping[ObjectKey, Drift],
        *,
        resync: bool,
    ) -> None:
        # What could not be deleted is a part of the revision that is not deployed until it is.
        is_new = (
            resync or work.files != context.status.files or has_obsolete(context.status.inventory, context.status.files)
        )
        blocked = self.registry.blocked(context.decryptor) if is_new else None
        if blocked is not None:
            raise JiemiError.of(blocked)
        try:
            await self._run(context, self._deployment(context, spec, repository, revision, work).run)
        finally:
            drift_correction.tell_corrected(context, drifted)
        if is_new:
            context.state.waiting_since = context.state.ready_at = None
            context.set_inventory(
                after_sync(
                    context.status,
                    generation=context.generation,
                    revision=revision,
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
            with trio.fail_after(self._work_timeout(context.decryptor)):
                await work(slot)

        namespace = context.decryptor.meta.namespace
        if not context.state.is_large:
            try:
                await self.work.run(namespace, in_time)
                return
            except NeedsMore:
                context.state.is_large = True
        await self.work.run(namespace, in_time, _LARGE_ONES)

    def _refresh(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        """All is deployed: say so again, if something else was said meanwhile."""
        known, now = (
            attrs.evolve(context.status, observed_secrets=observed_secrets_of(spec, context.state.versions)),
            self.now(),
        )
        ready = condition(known, "Ready")
        awaited = spec.wait and ready is not None and ready.reason in _NOT_READY
        if not is_ready(known, context.generation) and not awaited:
            known = self._as_synced(context, known)
        context.status = with_warnings(known, generation=context.generation, now=now)

    def _as_synced(self, context: ReconcileContext, known: DecryptorStatus) -> DecryptorStatus:
        current = known.current
        return after_sync(
            known,
            generation=context.generation,
            revision=current.revision,
            file=current.file_to_decrypt,
            now=self.now(),
        )

    async def _plan(
        self, context: ReconcileContext, spec: DecryptorSpec, repository: Repository, revision: str, *, again: bool
    ) -> None:
        """Compute what an apply would do, unless that is known."""
        known, state = context.status, context.state
        is_planned = is_ready(known, context.generation) and known.plan is not None and not again
        if is_planned and known.plan is not None and known.plan.revision == revision:
            return
        files = await self._wanted_files(context, spec, repository, revision)
        if is_planned and state.planned == (context.generation, files):
            return
        work = todo(files, (), render_all=True, failed={})
        require_some(work, spec, context.state.left_out)
        deployment = self._deployment(context, spec, repository, revision, work)
        await self._run(context, deployment.plan)
        state.planned = context.generation, files
        context.status = attrs.evolve(context.status, deployed_generation=None)
        plan = context.status.plan
        if plan is not None:
            context.status = after_plan(context.status, plan, generation=context.generation, now=self.now())

    async def _wait(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        """Wait for the objects themselves. What is known to be ready is looked at each interval, and no oftener."""
        state, decryptor = context.state, context.decryptor
        fresh = state.ready_at is not None and (
            trio.current_time() < state.ready_at + head_max_age_seconds(self.interval_of(decryptor))
        )
        if fresh and is_ready(context.status, context.generation):
            return
        account = self.tenancy.account(decryptor, spec)
        objects = as_account(self.kubernetes, account)
        waiter = Waiter(objects, self.now, lambda: context.mailbox.woken)
        failure = await waiter.until_ready(context.status.inventory, seconds=0)
        if failure is not None and failure.reason == "ObjectsNotReady":
            failure = await self._wait_on(context, waiter, failure)
        if failure is not None:
            raise JiemiError.of(failure)
        state.waiting_since = None
        state.ready_at = trio.current_time()
        if not is_ready(context.status, context.generation):
            context.status = self._as_synced(context, context.status)

    async def _wait_on(self, context: ReconcileContext, waiter: Waiter, failure: Failure) -> Failure | None:
        """Wait as long as the timeout leaves, saying so.

        Raises:
            Superseded: there is something newer to do, or the repository is to be looked at. The time goes on counting.
        """
        state, interval = context.state, self.interval_of(context.decryptor)
        if state.waiting_since is None:
            state.waiting_since = trio.current_time()
        left = state.waiting_since + self._timeout(context.decryptor) - trio.current_time()
        if left <= 0:
            return failure
        context.status = while_waiting(context.status, failure.text, generation=context.generation, now=self.now())
        await context.write(context.status)
        # What others do to the objects, and to the repository, is told from here on.
        context.settle()
        found = await waiter.until_ready(context.status.inventory, seconds=min(left, interval))
        if found is not None and found.reason == "ObjectsNotReady":
            if interval < left:
                context.mailbox.wake()
            if context.mailbox.woken:
                raise Superseded
        return found

    def _timeout(self, decryptor: Decryptor) -> float:
        return _seconds(decryptor, "timeout") or self.deploy_timeout_seconds

    def _work_timeout(self, decryptor: Decryptor) -> float:
        """How long a Decryptor may hold its place among those that are deployed."""
        return min(self._timeout(decryptor), max(self.deploy_timeout_seconds, MAX_WORK_SECONDS))


def held_credentials(key: NamespacedName) -> tuple[str, NamespacedName]:
    """What the budget calls the credentials of a Decryptor's repository."""
    return "credentials", key


def held_files(key: NamespacedName) -> tuple[str, NamespacedName]:
    """What the budget calls the files that a Decryptor's loop remembers."""
    return "files", key


def _seconds(decryptor: Decryptor, field: str) -> float | None:
    text = getattr(decryptor.spec, field, None)
    return duration_seconds(text) if isinstance(text, str) else None
