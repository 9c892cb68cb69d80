"""One deployment: files -> objects -> the cluster, and a status that says what came of it.

    render -> resolve -> admit -> (Atomic: rehearse) -> status written ahead -> apply -> prune

The status is written before anything is applied: it says that a deployment is under way, and which objects it may make.
So if Miwen ends at any moment, the next one knows that what is deployed is not certain, and forgets no object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from jiemi.concurrency.fair_limiter import Slot
from jiemi.core.api.decryptor_status import (
    FileStatus,
    InventoryEntry,
    SecretVersion,
)
from jiemi.core.api.secret_refs import observed_secrets_of
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.deployment import Attempted, after_apply, after_correction, objection
from jiemi.core.decisions.status import SHORT_REVISION
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.identity import ObjectKey, ObjectRef, Owner
from jiemi.core.objects.inventory import by_key, certain, entry_of, obsolete, require_room
from jiemi.miwen.apply.applier import Applied, Applier, Resolved
from jiemi.miwen.apply.dry_run import plan
from jiemi.miwen.apply.protected_objects import objects_of
from jiemi.miwen.kubernetes.port import Account, Kubernetes, Objects
from jiemi.miwen.reconcile.admission import Admission, Bounds
from jiemi.miwen.reconcile.attempt import Attempt
from jiemi.miwen.reconcile.decrypt import FileDecryption
from jiemi.miwen.reconcile.phases import Phase
from jiemi.miwen.reconcile.pruning import Pruning
from jiemi.miwen.reconcile.render import Rendering
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.state.registry import Registry


@attrs.frozen
class Deployment:
    """Deploys the files of one revision for one tick.

    Attributes:
        kubernetes: the cluster.
        registry: which Decryptor has an object.
        account: the account under which objects are written; None is that of Miwen.
        bounds: what is allowed.
        attempt: what is deployed.
        seen_version: gives the resourceVersion as which an object was seen last; None where it was not.
    """

    kubernetes: Kubernetes
    registry: Registry
    account: Account | None
    bounds: Bounds
    attempt: Attempt
    seen_version: Callable[[ObjectKey], str | None] = lambda _: None

    async def run(self, slot: Slot) -> None:
        """Deploy. What came of it is in `context.status`, also where it fails.

        Args:
            slot: may be taken back while files are decrypted: until then nothing is changed anywhere.

        Raises:
            JiemiError: what could not be done; the rest is.
            NeedsMore: as `Renderer.render`.
            Superseded, ObjectGone.
        """
        try:
            await self._run(slot)
        finally:
            # What was only asked for is free again for others.
            context = self.context
            self.registry.keep(context.decryptor.meta.key, certain(by_key(context.status.inventory)))

    async def _run(self, slot: Slot) -> None:
        context, before = self.context, by_key(self.context.status.inventory)
        rendering = await FileDecryption(self.kubernetes, self.bounds, self.attempt).run(slot)
        slot.keep()
        self._learn(rendering)
        broken = {**self.attempt.work.failed, **rendering.failures}
        applier = self._applier()
        resolved, refused = await applier.resolve(rendering.manifests)
        rendering = rendering.without_manifests()
        all_known = not (broken or refused)
        self._admission.require_allowed(resolved)
        kept = {key: entry for key, entry in before.items() if entry.file in self.attempt.work.kept}
        wanted = {each.key for each in resolved} | set(kept)
        if not (wanted or refused or broken or self.spec.allow_empty):
            raise JiemiError(
                "NothingToApply",
                f"{_files(self.attempt.work.files)} no object; what was applied stays",
                "Commit an object, or set spec.allowEmpty if it is meant.",
            )
        ahead = {each.key: before.get(each.key) or entry_of(each.ref, each.manifest.file) for each in resolved}
        require_room(len(wanted), {**before, **ahead}, self.attempt.work.files)
        admitted, more = await self._admission.admit(self._changed(resolved), before)
        refused += more
        atomic = self.spec.apply_policy == "Atomic"
        if atomic and not (broken or refused):
            refused += await applier.rehearse(admitted, before)
        held_back = atomic and bool(broken or refused)
        if held_back:
            admitted = []
        applied = await self._apply(applier, admitted, before)
        attempted = Attempted(
            revision=self.attempt.revision,
            files=self.attempt.work.files,
            rendered=frozenset(file.path for file in self.attempt.work.render),
            wanted=wanted,
            broken=broken,
            refused=[*refused, *applied.refused],
            is_all_known=all_known,
            is_held_back=held_back,
            is_resync=self.attempt.work.render_all,
        )
        outcome = after_apply(attempted, applied.entries, by_key(context.status.inventory), context.status.files)
        context.draft.has_objects(outcome.inventory)
        context.draft.failed(attempted.refused, broken)
        context.draft.read_secrets(self.observed_secrets())
        context.draft.deployed_files(outcome.files, is_certain=outcome.is_certain)
        if outcome.may_prune:
            await Pruning(context, self.spec, self._objects, self._owner, self._by).run(
                obsolete(outcome.inventory, wanted)
            )
        failed = objection(attempted, outcome.inventory)
        if failed is not None:
            raise failed

    async def correct(self, paths: Mapping[ObjectKey, str], slot: Slot) -> dict[ObjectKey, Failure]:
        """Apply objects again as the revision describes them, and nothing else. Files that are deployed stay so.

        Args:
            paths: the objects, each with the file that describes it there.
            slot: as for `run`.

        Returns:
            Those that were not applied, and why.

        Raises:
            JiemiError: why nothing could be.
            Superseded.
        """
        context, before = self.context, by_key(self.context.status.inventory)
        rendering = await FileDecryption(self.kubernetes, self.bounds, self.attempt).run(slot)
        slot.keep()
        applier = self._applier()
        resolved, refused = await applier.resolve(
            [each for each in rendering.manifests if self.spec.target is not None or each.file in paths.values()]
        )
        resolved = [
            each for each in resolved if self.spec.target is not None or paths.get(each.key) == each.manifest.file
        ]
        resolved = [each for each in resolved if each.key in paths]
        rendering = rendering.without_manifests()
        self._admission.require_allowed(resolved)
        admitted, more = await self._admission.admit(resolved, before)
        # Each object that is corrected has an Event of its own (`drift_correction`).
        applier = attrs.evolve(applier, applied=context.mailbox.applied)
        with context.phases.measured(Phase.APPLY):
            applied = await applier.apply(admitted, before) if admitted else Applied()
        context.draft.has_objects(after_correction(before, applied.entries))
        failures = {each.ref.key: each.failure for each in (*refused, *more, *applied.refused) if each.ref.key in paths}
        for key, path in paths.items():
            if key not in applied.entries and key not in failures:
                failures[key] = rendering.failures.get(path) or next(
                    iter(rendering.failures.values()) if self.spec.target is not None else iter(()),
                    Failure(
                        "DeployedVersionGone",
                        f"{path} of revision {self._short_revision} does not describe {key.label} as the spec is now",
                        "Commit a version of that file that can be applied.",
                    ),
                )
        return failures

    async def plan(self, slot: Slot) -> None:
        """Compute what an apply would do (spec.mode: DryRun).

        Args:
            slot: as for `run`.

        Raises:
            JiemiError: what could not be planned; the rest is in the plan.
        """
        context, before = self.context, by_key(self.context.status.inventory)
        rendering = await FileDecryption(self.kubernetes, self.bounds, self.attempt).run(slot)
        slot.keep()
        applier = self._applier()
        resolved, refused = await applier.resolve(rendering.manifests)
        self._admission.require_allowed(resolved)
        admitted, more = await self._admission.admit(resolved, before)
        gone = obsolete(before, {each.key for each in resolved}) if self.spec.prune and not rendering.failures else ()
        planned, refused = await plan(
            applier, admitted, [*refused, *more], gone, before=before, revision=self.attempt.revision
        )
        self._learn(rendering)
        context.draft.planned(planned)
        context.draft.failed(refused, rendering.failures)
        wanted = {each.key for each in resolved}
        attempted = Attempted(
            self.attempt.revision, self.attempt.work.files, frozenset(), wanted, rendering.failures, refused
        )
        failed = objection(attempted, {})
        if failed is not None:
            raise failed

    # --- what is wanted

    @property
    def context(self) -> ReconcileContext:
        """The tick that the deployment is a part of."""
        return self.attempt.context

    @property
    def spec(self) -> DecryptorSpec:
        """The spec of its Decryptor."""
        return self.attempt.spec

    def _learn(self, rendering: Rendering) -> None:
        """Put what was learnt of the files that were read into the status."""
        read = {file.path for file in self.attempt.work.render} - set(rendering.failures)
        files = {file.path for file in self.attempt.work.files}
        self.context.draft.learnt(rendering.facts, rendering.warnings, read=read, files=files)

    def _changed(self, resolved: Sequence[Resolved]) -> Sequence[Resolved]:
        """The objects to apply: none of files that are deployed already, and only read for what they are a part of."""
        if self.attempt.work.render_all:
            return resolved
        deployed = {file.path for file in set(self.attempt.work.render) & set(self.context.status.files)}
        return [each for each in resolved if each.manifest.file not in deployed]

    # --- what is done

    async def _apply(
        self, applier: Applier, admitted: Sequence[Resolved], before: Mapping[ObjectKey, InventoryEntry]
    ) -> Applied:
        if not admitted:
            return Applied()
        context = self.context
        ahead = {each.key: before.get(each.key) or entry_of(each.ref, each.manifest.file) for each in admitted}
        changing = {file.path for file in set(self.attempt.work.render) - set(context.status.files)}
        what = f"revision {self.attempt.revision}: {_counted(len(admitted), 'object')} being applied"
        context.draft.before_apply({**before, **ahead}, changing, what)
        # Also where an earlier tick could not write it, and where nothing is certain (`deployed_generation`).
        await context.write(context.status)
        context.changes.revision = self.attempt.revision
        context.changes.known = {
            each.key: frozenset(filter(None, (context.mailbox.version(each.key), self.seen_version(each.key))))
            for each in admitted
        }
        with context.phases.measured(Phase.APPLY):
            return await applier.apply(admitted, before)

    # --- what is reported

    def observed_secrets(self) -> tuple[SecretVersion, ...]:
        """The Secrets that the spec names, as they were read."""
        return observed_secrets_of(self.spec, self.context.state.secrets.read)

    @property
    def _admission(self) -> Admission:
        return Admission(
            self.kubernetes,
            self.registry,
            self.account,
            self.bounds,
            self.context.decryptor.meta,
            self.spec,
            self.attempt.work.kept,
        )

    @property
    def _objects(self) -> Objects:
        meta = self.context.decryptor.meta
        return objects_of(self.kubernetes, self.account, self.bounds.protection, namespace=meta.namespace)

    @property
    def _owner(self) -> Owner:
        return Owner.of(self.context.decryptor.meta.namespace, self.context.decryptor.meta.name)

    def _applied(self, key: ObjectKey, version: str, sharers: frozenset[str]) -> None:
        context = self.context
        entry = context.mailbox.inventory.get(key)
        context.changes.add(key, version, was_applied=entry is not None and entry.fields is not None)
        context.mailbox.applied(key, version, sharers)

    def _note_recreated(self, ref: ObjectRef) -> None:
        text = f"{ref.label} is deleted to be recreated by {self._by} (spec.force)"
        self.context.warn("Recreated", "Recreate", text, ref, transition=True, always=True)

    @property
    def _by(self) -> str:
        return f"revision {self._short_revision}"

    @property
    def _short_revision(self) -> str:
        return self.attempt.revision[:SHORT_REVISION]

    def _applier(self) -> Applier:
        context = self.context
        return Applier(
            objects=self._objects,
            spec=self.spec,
            namespace=context.decryptor.meta.namespace,
            owner=self._owner,
            applied=self._applied,
            deleted=self._note_recreated,
            sharers=context.mailbox.sharers,
            merged=self.bounds.merged_managers,
            is_superseded=lambda: context.mailbox.is_behind(context.decryptor),
        )


def _files(files: Sequence[FileStatus]) -> str:
    """The files as the subject of a sentence that goes on with what they hold."""
    return f"{files[0].path} holds" if len(files) == 1 else f"the {len(files)} files hold"


def _counted(number: int, what: str) -> str:
    """With the verb: "1 object is", "3 objects are"."""
    return f"{number} {what} is" if number == 1 else f"{number} {what}s are"
