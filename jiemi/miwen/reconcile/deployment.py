"""One deployment: files -> objects -> the cluster, and a status that tells what came of it.

    render -> resolve -> admit -> (Atomic: rehearse) -> status written ahead -> apply -> prune

The status is written before anything is applied: that a deployment is under way, and which objects it may make. So
whoever reads it after an end at any moment knows that what is deployed is not certain, and forgets no object.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from jiemi.concurrency.fair_limiter import PATIENCE_SECONDS, Slot
from jiemi.core.api.decryptor import DecryptorSpec
from jiemi.core.api.decryptor_status import (
    MAX_FAILED_FILES,
    MAX_FAILED_OBJECTS,
    DecryptorStatus,
    FileFailure,
    FileStatus,
    InventoryEntry,
    ObjectFailure,
    SecretVersion,
)
from jiemi.core.api.secret_refs import secret_names
from jiemi.core.decisions.deployment import Attempted, after_apply, first_of_failures, objection
from jiemi.core.decisions.policy import PolicyRule, require_namespace
from jiemi.core.decisions.status import SHORT_REVISION, Facts, while_reconciling, with_facts, with_file_warnings
from jiemi.core.errors import NO_ANSWER, Failure, JiemiError, Kind
from jiemi.core.objects.identity import ObjectKey, ObjectRef, Owner
from jiemi.core.objects.inventory import Refused, by_key, certain, entry_of, obsolete, ordered, ref_of, require_room
from jiemi.core.objects.protected import Protection
from jiemi.core.text import first_of
from jiemi.miwen.apply.applier import Applied, Applier, Resolved
from jiemi.miwen.apply.dry_run import plan
from jiemi.miwen.apply.protected_objects import acts_as_itself, objects_of, protected
from jiemi.miwen.apply.prune import Pruned, prune
from jiemi.miwen.kubernetes.port import Account, Kubernetes, Objects
from jiemi.miwen.reconcile.credentials import decryption_keys
from jiemi.miwen.reconcile.file_changes import Todo
from jiemi.miwen.reconcile.key_services import bounded
from jiemi.miwen.reconcile.render import Renderer, Rendering
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.state.registry import Registry
from jiemi.rpc.contract import Repository

_OF_CONTENT = frozenset(
    {
        *("MacMismatch", "MacOnlyEncrypted", "NotEncrypted", "UnknownFormat", "KeyMissing", "NotAKubernetesObject"),
        *("CiphertextLeft", "KindNotForSecrets"),
    }
)
"""Why a file can't be rendered until it, its .sops.yaml, the spec or a key is another. All else may pass by itself: who
runs a key service, for example, may let the credentials in."""

_MAX_MESSAGE_CHARACTERS = 500


@attrs.frozen
class Bounds:
    """What the operator allows one Decryptor.

    Attributes:
        rules: the policy's rule for each file, by path; None where there is no policy.
        own_namespace_only: whether objects of other namespaces, and those without one, are refused.
        merged_managers: field managers whose fields become ours alone where we apply them too.
        asks_whose: whether an object's labels are asked whose it is: Miwen does not see all Decryptors.
        protection: what Miwen does not write as itself.
        full_mac: whether files are refused whose MAC covers their encrypted values only.
    """

    rules: Mapping[str, PolicyRule] | None
    own_namespace_only: bool
    asks_whose: bool
    merged_managers: frozenset[str]
    protection: Protection
    full_mac: bool = False


@attrs.frozen
class Deployment:
    """Deploys the files of one revision for one tick.

    Attributes:
        kubernetes: the cluster.
        registry: whose objects are.
        account: as whom objects are written; None is Miwen.
        bounds: what is allowed.
        now: the wall clock.
        context: of the tick.
        spec: of its Decryptor.
        repository: where the files are.
        revision: full commit hash.
        todo: what of the files there is to do.
        seen_version: the resourceVersion as which an object was seen last; None where it was not.
    """

    kubernetes: Kubernetes
    registry: Registry
    account: Account | None
    bounds: Bounds
    now: Callable[[], datetime.datetime]
    context: ReconcileContext
    spec: DecryptorSpec
    repository: Repository
    revision: str
    todo: Todo
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
        rendering = await self._render(slot)
        slot.keep()
        context.status = self._with_learnt(rendering)
        broken = {**self.todo.failed, **rendering.failures}
        applier = self._applier()
        resolved, refused = await applier.resolve(rendering.manifests)
        rendering = rendering.without_manifests()
        all_known = not (broken or refused)
        self._require_allowed(resolved)
        kept = {key: entry for key, entry in before.items() if entry.file in self.todo.kept}
        wanted = {each.key for each in resolved} | set(kept)
        if not (wanted or refused or broken or self.spec.allow_empty):
            raise JiemiError(
                "NothingToApply",
                f"{_files(self.todo.files)} no object; what was applied stays",
                "Commit an object, or set spec.allowEmpty if it is meant.",
            )
        ahead = {each.key: before.get(each.key) or entry_of(each.ref, each.manifest.file) for each in resolved}
        require_room(len(wanted), {**before, **ahead}, self.todo.files)
        admitted, more = await self._admit(self._changed(resolved), before)
        refused += more
        atomic = self.spec.apply_policy == "Atomic"
        if atomic and not (broken or refused):
            refused += await applier.rehearse(admitted, before)
        held_back = atomic and bool(broken or refused)
        if held_back:
            admitted = []
        applied = await self._apply(applier, admitted, before)
        attempted = Attempted(
            revision=self.revision,
            files=self.todo.files,
            rendered=frozenset(file.path for file in self.todo.render),
            wanted=wanted,
            broken=broken,
            refused=[*refused, *applied.refused],
            is_all_known=all_known,
            is_held_back=held_back,
            is_resync=self.todo.render_all,
        )
        outcome = after_apply(attempted, applied.entries, by_key(context.status.inventory), context.status.files)
        context.set_inventory(attrs.evolve(context.status, inventory=ordered(outcome.inventory)))
        self._record(outcome.files, attempted.refused, broken, is_certain=outcome.is_certain)
        if outcome.may_prune:
            await self._prune(obsolete(outcome.inventory, wanted))
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
        rendering = await self._render(slot)
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
        self._require_allowed(resolved)
        admitted, more = await self._admit(resolved, before)
        # What is put right is told of each object (`drifting`).
        applier = attrs.evolve(applier, applied=context.mailbox.applied)
        applied = await applier.apply(admitted, before) if admitted else Applied()
        inventory = dict(before)
        for key, entry in applied.entries.items():
            was = before[key]
            inventory[key] = attrs.evolve(entry, file=was.file, left_file=was.left_file, revision=was.revision)
        context.set_inventory(attrs.evolve(context.status, inventory=ordered(inventory)))
        failures = {each.ref.key: each.failure for each in (*refused, *more, *applied.refused) if each.ref.key in paths}
        for key, path in paths.items():
            if key not in applied.entries and key not in failures:
                failures[key] = rendering.failures.get(path) or next(
                    iter(rendering.failures.values()) if self.spec.target is not None else iter(()),
                    Failure(
                        "DeployedVersionGone",
                        f"{path} of revision {self.revision[:SHORT_REVISION]} does not describe {key.label} as the "
                        "spec is now",
                        "Commit a version of that file that can be applied.",
                    ),
                )
        return failures

    async def plan(self, slot: Slot) -> None:
        """Compute what an apply would do (spec.mode: DryRun).

        Args:
            slot: as for `run`.

        Raises:
            JiemiError: what could not be done; the plan tells the rest.
        """
        context, before = self.context, by_key(self.context.status.inventory)
        rendering = await self._render(slot)
        slot.keep()
        applier = self._applier()
        resolved, refused = await applier.resolve(rendering.manifests)
        self._require_allowed(resolved)
        admitted, more = await self._admit(resolved, before)
        gone = obsolete(before, {each.key for each in resolved}) if self.spec.prune and not rendering.failures else ()
        planned, refused = await plan(
            applier,
            admitted,
            [*refused, *more],
            gone,
            before=before,
            revision=self.revision,
            owner=self._owner,
        )
        context.status = attrs.evolve(self._with_learnt(rendering), plan=planned)
        self._set_failed(refused, rendering.failures)
        wanted = {each.key for each in resolved}
        attempted = Attempted(self.revision, self.todo.files, frozenset(), wanted, rendering.failures, refused)
        failed = objection(attempted, {})
        if failed is not None:
            raise failed

    # --- what is wanted

    async def _render(self, slot: Slot) -> Rendering:
        slot.is_slow = lambda: slot.idle_seconds > PATIENCE_SECONDS
        decryptor, known = self.context.decryptor, self.context.status
        if not self.todo.render:
            return Rendering((), {}, None)
        keys = await decryption_keys(
            decryptor, self.spec, self.kubernetes, self.context.state.secrets.read, vault_address=known.vault_address
        )
        rules = self.bounds.rules or {}
        renderer = Renderer(
            repository=self.repository,
            spec=self.spec,
            revision=self.revision,
            keys=keys,
            recipients={path: rule.recipients for path, rule in rules.items()},
            bounded_keys={
                file.path: bounded(keys, rules[file.path]) for file in self.todo.render if file.path in rules
            },
            facts=Facts(known.encryption, known.vault_address) if known.encryption is not None else None,
            full_mac=self._wants_full_mac,
            alone=self.context.state.files.is_large,
        )
        rendering = await renderer.render(
            self.todo.render, whole=len(self.todo.render) == len(self.todo.files), on_file=slot.got_on
        )
        self.context.state.files.is_large = not rendering.is_small
        partly = {manifest.file for manifest in rendering.manifests}
        for file in self.todo.render:
            failure = rendering.failures.get(file.path)
            # What there is in a broken file is looked after like all else.
            if failure is not None and failure.reason in _OF_CONTENT and file.path not in partly:
                self.context.state.files.failed[file] = failure
        return rendering

    def _wants_full_mac(self, path: str) -> bool:
        rule = self.bounds.rules.get(path) if self.bounds.rules is not None else None
        return self.bounds.full_mac or (rule is not None and rule.require_full_mac)

    def _with_learnt(self, rendering: Rendering) -> DecryptorStatus:
        """The status with what was learnt of the files that were read."""
        read = {file.path for file in self.todo.render} - set(rendering.failures)
        files = {file.path for file in self.todo.files}
        known = with_facts(self.context.status, rendering.facts)
        return with_file_warnings(known, rendering.warnings, read=read, files=files)

    def _changed(self, resolved: Sequence[Resolved]) -> Sequence[Resolved]:
        """The objects to apply: none of files that are deployed already, and only read for what they are a part of."""
        if self.todo.render_all:
            return resolved
        deployed = {file.path for file in set(self.todo.render) & set(self.context.status.files)}
        return [each for each in resolved if each.manifest.file not in deployed]

    def _require_allowed(self, resolved: Iterable[Resolved]) -> None:
        """Refuse all objects where the operator's policy does not allow one.

        Raises:
            JiemiError: PolicyDenied.
        """
        if self.bounds.rules is None:
            return
        for each in resolved:
            for path in each.manifest.sources:
                require_namespace(self.bounds.rules[path], each.ref, namespace=self.context.decryptor.meta.namespace)

    async def _admit(
        self, resolved: Sequence[Resolved], before: Mapping[ObjectKey, InventoryEntry]
    ) -> tuple[list[Resolved], list[Refused]]:
        """The objects that are ours to apply, and the others."""
        admitted: list[Resolved] = []
        refused: list[Refused] = []
        files = {key: entry.file for key, entry in before.items() if entry.file in self.todo.kept}
        # Of two files that describe an object, the one that did first does, whichever is rendered now.
        described = {(each.key, each.manifest.file) for each in resolved}
        first = {key: entry.file for key, entry in before.items() if (key, entry.file) in described}
        for each in resolved:
            rightful = first.get(each.key, each.manifest.file)
            other_file = files.get(each.key) or (rightful if rightful != each.manifest.file else None)
            failure = await self._objection(each, other_file)
            if failure is None:
                admitted.append(each)
                files[each.key] = each.manifest.file
            else:
                refused.append(Refused(each.ref, each.manifest.file, failure))
        return admitted, refused

    async def _objection(self, each: Resolved, other_file: str | None) -> Failure | None:
        label = each.ref.label
        denied = self._denial(each)
        if denied is not None:
            return denied
        if other_file == each.manifest.file:
            return Failure(
                "DuplicateObject", f"{other_file} describes {label} twice", "Take one of the two documents out."
            )
        if other_file is not None:
            return Failure("DuplicateObject", f"{other_file} and {each.manifest.file} both describe {label}")
        return await self._claim(each)

    def _denial(self, each: Resolved) -> Failure | None:
        """Why the object is not one that this Decryptor may have, whoever has it now."""
        meta = self.context.decryptor.meta
        if acts_as_itself(self.account, self.bounds.protection):
            why = self.bounds.protection.objection(each.ref, each.manifest.body, namespace=meta.namespace)
            if why is not None:
                return protected(each.ref, why).failure
        if self.bounds.own_namespace_only and each.ref.namespace != meta.namespace:
            where = f"in namespace {each.ref.namespace}" if each.ref.namespace else "in no namespace"
            return Failure(
                "CrossNamespaceDenied",
                f"{each.ref.label} is {where}: Miwen runs with --no-cross-namespace",
                f"Give it namespace {meta.namespace}, or ask the operator."
                if each.ref.namespace
                else "Take it out of git, or ask the operator to apply it.",
            )
        return None

    async def _claim(self, each: Resolved) -> Failure | None:
        """Take the object for this Decryptor. Returns why it is another's."""
        meta, label = self.context.decryptor.meta, each.ref.label
        # What a status says counts as far as the object itself says the same.
        if self.registry.is_unproven(each.key):
            await self._prove(each)
        if self.spec.mode == "DryRun":
            holder = self.registry.holder(each.key)
            holder = None if holder == meta.key else holder
        else:
            holder = self.registry.claim(meta.key, each.key)
        if holder is not None:
            return Failure(
                "ObjectClaimed",
                f"{label} belongs to Decryptor {holder[0]}/{holder[1]}",
                f"Let one of the two describe it; to hand it over, take it out of the files of {holder[0]}/{holder[1]} "
                "first (with `prune: false`).",
            )
        if not self.bounds.asks_whose or self.registry.is_borne_out(meta.key, each.key) or each.resource is None:
            return None
        failure = await self._objection_of_labels(each)
        if failure is None and self.spec.mode == "Apply":
            self.registry.bear_out(meta.key, each.key)
        return failure

    async def _prove(self, each: Resolved) -> None:
        """Let the object's labels tell whose it is, of those whose statuses claim it."""
        if each.resource is None:
            return
        try:
            metadata = await self.kubernetes.objects(None).get_metadata(each.ref)
        except JiemiError as error:
            if error.failure.reason in NO_ANSWER:
                raise
            return  # the claims stay as they are: who came first has the object
        self.registry.prove(each.key, Owner.in_labels(metadata.get("labels")) if metadata is not None else None)

    async def _objection_of_labels(self, each: Resolved) -> Failure | None:
        """Why an object that no Decryptor of this namespace has may be another's."""
        try:
            metadata = await self._objects.get_metadata(each.ref)
        except JiemiError as error:
            if error.failure.reason in NO_ANSWER:
                raise
            return _with_all_rights(error.failure)
        owner = Owner.in_labels(metadata.get("labels")) if metadata is not None else None
        # Labels stay on an object that its Decryptor has dropped. Of this namespace's the registry knows better.
        if owner is None or owner.namespace == self._owner.namespace:
            return None
        return Failure(
            "ObjectClaimed", f"{each.ref.label} belongs to Decryptor {owner}, as its labels jiemi.cr/decryptor-* say"
        )

    # --- what is done

    async def _apply(
        self, applier: Applier, admitted: Sequence[Resolved], before: Mapping[ObjectKey, InventoryEntry]
    ) -> Applied:
        if not admitted:
            return Applied()
        context = self.context
        ahead = {each.key: before.get(each.key) or entry_of(each.ref, each.manifest.file) for each in admitted}
        inventory = ordered({**before, **ahead})
        files = self._unsure_files()
        if (inventory, files) != (context.status.inventory, context.status.files):
            context.status = while_reconciling(
                attrs.evolve(context.status, inventory=inventory, files=files),
                f"revision {self.revision}: {_counted(len(admitted), 'object')} being applied",
                generation=context.generation,
                now=self.now(),
            )
        # Also where an earlier tick could not write it, and where nothing is certain (`deployed_generation`).
        await context.write(context.status)
        context.changes.revision = self.revision
        context.changes.known = {
            each.key: frozenset(filter(None, (context.mailbox.version(each.key), self.seen_version(each.key))))
            for each in admitted
        }
        return await applier.apply(admitted, before)

    def _unsure_files(self) -> tuple[FileStatus, ...]:
        """The files as they are deployed, once those that changed are being applied: neither the old nor the new."""
        changing = {file.path for file in set(self.todo.render) - set(self.context.status.files)}
        return tuple(
            attrs.evolve(file, blob="") if file.path in changing else file for file in self.context.status.files
        )

    async def _prune(self, gone: Sequence[InventoryEntry]) -> None:
        pruned = Pruned()
        try:
            if gone and self.spec.prune:
                await prune(gone, self._objects, self._owner, pruned)
            else:
                pruned.kept = list(gone)
                pruned.stay = list(gone)
        finally:
            # Also what was done until the time was up.
            self._forget(pruned)
        self._tell_pruned(pruned)
        if pruned.refused:
            self._set_failed(pruned.refused, {})
            raise first_of_failures([each.failure for each in pruned.refused], len(gone), "not deleted")

    def _tell_pruned(self, pruned: Pruned) -> None:
        context = self.context
        if pruned.deleted:
            names = first_of([ref_of(each).label for each in pruned.deleted])
            text = f"deleted, because they left the repository ({self._by}): {names}"
            context.note("Normal", "Pruned", "Prune", text, transition=True, always=True)
        # What was never known to be applied is nobody's news.
        stay = [entry for entry in pruned.stay if entry.fields is not None]
        if not stay:
            return
        names = first_of([ref_of(each).label for each in stay])
        why = (
            "they are annotated jiemi.cr/prune: disabled, or are another's by their labels"
            if self.spec.prune
            else "spec.prune is false"
        )
        text = (
            f"left the repository ({self._by}) and stay in the cluster, because {why}: {names}. Jiemi follows them no "
            "longer: delete them yourself if nothing needs them"
        )
        context.note("Normal", "NotPruned", "Prune", text, transition=True, always=True)

    def _forget(self, pruned: Pruned) -> None:
        """Take objects that are dealt with out of the inventory."""
        context = self.context
        # One that is not known to have been applied is not worth a failure: its account may not even look at it.
        known = certain(by_key(context.status.inventory))
        forgotten = [each for each in pruned.refused if each.ref.key not in known and each.failure.kind is Kind.STALLED]
        pruned.refused = [each for each in pruned.refused if each not in forgotten]
        stay = [ref_of(each).key for each in (*pruned.deleted, *pruned.kept)] + [each.ref.key for each in forgotten]
        inventory = {key: entry for key, entry in by_key(context.status.inventory).items() if key not in stay}
        context.set_inventory(attrs.evolve(context.status, inventory=ordered(inventory)))

    # --- what is told

    def _record(
        self,
        files: tuple[FileStatus, ...],
        refused: Sequence[Refused],
        broken: Mapping[str, Failure],
        *,
        is_certain: bool,
    ) -> None:
        """
        Args:
            is_certain: whether what is deployed is what `files` and this generation of the spec describe.
        """
        context = self.context
        self._set_failed(refused, broken)
        context.status = attrs.evolve(
            context.status,
            files=files,
            observed_secrets=self.observed_secrets(),
            deployed_generation=context.generation if is_certain else None,
        )

    def observed_secrets(self) -> tuple[SecretVersion, ...]:
        """The Secrets that the spec names, as they were read."""
        return observed_secrets_of(self.spec, self.context.state.secrets.read)

    def _set_failed(self, refused: Sequence[Refused], broken: Mapping[str, Failure]) -> None:
        """Put all that failed into the status, as far as there is room, and how much more there is."""
        objects = tuple(
            ObjectFailure(
                each.ref.kind,
                each.ref.name,
                each.failure.reason,
                each.failure.text_within(_MAX_MESSAGE_CHARACTERS),
                each.ref.namespace or None,
                each.file,
            )
            for each in refused[:MAX_FAILED_OBJECTS]
        )
        files = tuple(
            FileFailure(path, failure.reason, failure.text_within(_MAX_MESSAGE_CHARACTERS))
            for path, failure in sorted(broken.items())[:MAX_FAILED_FILES]
        )
        self.context.status = attrs.evolve(
            self.context.status,
            failed_objects=objects,
            more_failed_objects=len(refused) - len(objects) or None,
            failed_files=files,
            more_failed_files=len(broken) - len(files) or None,
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

    def _tell_deleted(self, ref: ObjectRef) -> None:
        text = f"{ref.label} is deleted to be recreated by {self._by} (spec.force)"
        self.context.note("Warning", "Recreated", "Recreate", text, ref, transition=True, always=True)

    @property
    def _by(self) -> str:
        return f"revision {self.revision[:SHORT_REVISION]}"

    def _applier(self) -> Applier:
        context = self.context
        return Applier(
            objects=self._objects,
            spec=self.spec,
            namespace=context.decryptor.meta.namespace,
            owner=self._owner,
            applied=self._applied,
            deleted=self._tell_deleted,
            sharers=context.mailbox.sharers,
            merged=self.bounds.merged_managers,
            is_superseded=lambda: context.mailbox.is_behind(context.decryptor),
        )


def observed_secrets_of(spec: DecryptorSpec, versions: Mapping[str, str]) -> tuple[SecretVersion, ...]:
    """The Secrets that the spec names, in the versions that were read."""
    names = sorted(secret_names(spec) & set(versions))
    return tuple(SecretVersion(name, versions[name]) for name in names)


def _with_all_rights(failure: Failure) -> Failure:
    """A missing right to read an object that is to be applied: who grants it should not meet the next one missing."""
    remedy = failure.remedy.replace("Grant `get` on", "Grant `get`, `create` and `patch` on", 1)
    return attrs.evolve(failure, own_remedy=remedy)


def _files(files: Sequence[FileStatus]) -> str:
    """The files as the subject of a sentence that goes on with what they hold."""
    return f"{files[0].path} holds" if len(files) == 1 else f"the {len(files)} files hold"


def _counted(number: int, what: str) -> str:
    """With the verb: "1 object is", "3 objects are"."""
    return f"{number} {what} is" if number == 1 else f"{number} {what}s are"
