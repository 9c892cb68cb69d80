"""Objects that are described -> objects in the cluster.

    manifests -> resolved (their kinds and namespaces are known) -> admitted (`admit`) -> applied in stages

What others need is applied first (`STAGES`): namespaces and definitions of kinds, which are waited for until they are
served; then ServiceAccounts and roles; then Secrets and ConfigMaps; then the rest. One object that fails keeps none of
the others from being applied, except with applyPolicy: Atomic, where the API server is asked about all of them first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
import structlog
import trio

from jiemi.concurrency.for_each import for_each
from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.errors import JiemiError
from jiemi.core.objects.drift import strange_keys
from jiemi.core.objects.identity import ObjectKey, ObjectRef, Owner
from jiemi.core.objects.inventory import Refused, applied_entry
from jiemi.core.objects.managed_fields import field_ownership
from jiemi.core.objects.manifests import (
    STAGES,
    MadeKind,
    Manifest,
    adjusted,
    described_keys,
    made_kind,
    with_encoded_data,
    without_nulls,
)
from jiemi.core.objects.pod_account import with_both_account_names
from jiemi.core.objects.readiness import readiness
from jiemi.core.objects.readiness_facts import State
from jiemi.core.objects.take_over import sharers
from jiemi.core.reasons import NO_ANSWER
from jiemi.miwen.apply.recreate import Recreator, may_be_in_the_way, recreate_failed
from jiemi.miwen.apply.take_over import TakeOver
from jiemi.miwen.apply.wait_budget import POLL_SECONDS, WaitBudget
from jiemi.miwen.kubernetes import errors
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import JsonObject, Objects
from jiemi.tracing.current import span

_log = structlog.get_logger("jiemi.miwen.apply")

SERVED_SECONDS = 60.0
"""How long the CustomResourceDefinitions of one apply may take together until their kinds are served. A tick's own
deadline may be sooner."""

GONE_SECONDS = 30.0
"""How long the objects of one apply that are recreated may take together to be gone first."""

_TRIES = 3
"""How often an object is tried that is refused only because of the moment."""

_MAX_AWAY = 3
"""How many APIs may not answer before the API server itself is taken to be away: each may cost a whole timeout."""

_AT_ONCE = 4
"""How many objects of one stage are applied at once, where their order can't matter."""


class Superseded(Exception):
    """What is being applied is no longer wanted: the spec changed, or the Decryptor is being deleted."""


@attrs.frozen
class Resolved:
    """An object to apply.

    Attributes:
        manifest: with its namespace, labels and annotations as they are to be.
        ref: the object's identity.
        resource: its kind, or None where the cluster does not serve it yet.
    """

    manifest: Manifest
    ref: ObjectRef
    resource: Resource | None

    @property
    def key(self) -> ObjectKey:
        return self.ref.key


@attrs.frozen
class WouldBe:
    """What would become of an object if it were applied.

    Attributes:
        body: the object; None where the API server can't say before others are applied, or before the live one is out
            of the way.
        is_recreated: whether the live one would be deleted first (spec.force).
    """

    body: JsonObject | None
    is_recreated: bool = False


@attrs.define
class Applied:
    """What became of the objects.

    Attributes:
        entries: the inventory's entries of those that were applied.
        refused: the others.
    """

    entries: dict[ObjectKey, InventoryEntry] = attrs.field(factory=dict)
    refused: list[Refused] = attrs.field(factory=list)


@attrs.frozen
class Applier:
    """Applies the objects of one Decryptor.

    Attributes:
        objects: access to the cluster's objects, as Miwen or as an account.
        spec: the Decryptor's.
        namespace: the Decryptor's.
        owner: the Decryptor, as the objects' labels name it.
        applied: called with each object, its resourceVersion and the managers that share fields with us, as soon as it
            is applied.
        deleted: called with each object that was deleted to be recreated, as soon as it is.
        sharers: gives the managers that held fields of an object together with us when it was seen last; None where
            that is not known.
        merged: managers whose fields become ours alone where we apply them too.
        is_superseded: asked between two objects, and while something is waited for.
    """

    objects: Objects
    spec: DecryptorSpec
    namespace: str
    owner: Owner
    applied: Callable[[ObjectKey, str, frozenset[str]], None]
    deleted: Callable[[ObjectRef], None]
    sharers: Callable[[ObjectKey], frozenset[str] | None]
    merged: frozenset[str]
    is_superseded: Callable[[], bool]

    async def resolve(self, manifests: Sequence[Manifest]) -> tuple[list[Resolved], list[Refused]]:
        """Find out which objects the manifests are.

        Raises:
            JiemiError: ClusterUnavailable.
        """
        made = [each for manifest in manifests if (each := made_kind(manifest)) is not None]
        scopes = {(each.group, each.kind): each.namespaced for each in made}
        resolved: list[Resolved] = []
        refused: list[Refused] = []
        away: dict[str, JiemiError] = {}
        for manifest in manifests:
            try:
                if manifest.api_version in away:
                    raise away[manifest.api_version]
                resource = await self.objects.resource(manifest.api_version, manifest.kind)
                namespaced = resource.namespaced if resource is not None else scopes.get(manifest.group_kind)
                if namespaced is None:
                    similar = await self.objects.similar_kinds(manifest.kind)
                    raise errors.kind_unknown(manifest.api_version, manifest.kind, similar)
                whole = self._adjusted(manifest, namespaced=namespaced)
            except JiemiError as error:
                if error.failure.reason in NO_ANSWER:
                    # An API that another server answers for may be away while all else is there.
                    away[manifest.api_version] = error
                    if len(away) > _MAX_AWAY:
                        raise
                namespace = str(manifest.body["metadata"].get("namespace") or "")
                refused.append(Refused(_ref(manifest, namespace), manifest.file, error.failure))
                continue
            namespace = str(whole.body["metadata"].get("namespace") or self.namespace) if namespaced else ""
            resolved.append(Resolved(whole, _ref(whole, namespace), resource))
        return resolved, refused

    def _adjusted(self, manifest: Manifest, *, namespaced: bool) -> Manifest:
        common = self.spec.common_metadata
        return adjusted(
            with_both_account_names(with_encoded_data(without_nulls(manifest))),
            namespace=self.spec.target_namespace if namespaced else None,
            labels={**(common.labels if common is not None else {}), **self.owner.labels},
            annotations=common.annotations if common is not None else {},
        )

    async def rehearse(self, wanted: Sequence[Resolved], before: Mapping[ObjectKey, InventoryEntry]) -> list[Refused]:
        """Ask the API server about all objects, changing nothing; returns those that it would refuse.

        What is only refused because another of them is not there yet (a namespace, a kind) is not.

        Args:
            before: the inventory until now.

        Raises:
            JiemiError: ClusterUnavailable.
        """
        refused: list[Refused] = []

        async def one(each: Resolved) -> None:
            try:
                await self.would_be(each, wanted, before)
            except JiemiError as error:
                if error.failure.reason in NO_ANSWER:
                    raise
                refused.append(Refused(each.ref, each.manifest.file, error.failure))

        await for_each(wanted, one, at_once=_AT_ONCE)
        return refused

    async def would_be(
        self, each: Resolved, others: Iterable[Resolved], before: Mapping[ObjectKey, InventoryEntry]
    ) -> WouldBe:
        """The object as it would be if it were applied.

        Args:
            before: the inventory until now.

        Raises:
            JiemiError: why it would be refused.
        """
        try:
            found = await self.objects.dry_run(
                each.manifest.body, default_namespace=self.namespace, take_over=self._takes_over
            )
            return WouldBe(found)
        except JiemiError as error:
            if comes_with(error.failure.reason, each.ref, others):
                return WouldBe(None)
            if await self._take_over.could_unblock(each.ref, each.manifest.body, error):
                return WouldBe(None)
            if not may_be_in_the_way(error):
                raise
            live = await self._recreator().judge(each.manifest, each.ref, before.get(each.key), error)
            return WouldBe(None, is_recreated=live is not None)

    @property
    def _take_over(self) -> TakeOver:
        return TakeOver(self.objects, self.merged if self._takes_over else frozenset())

    @property
    def _takes_over(self) -> bool:
        return self.spec.conflict_policy == "TakeOver"

    async def apply(self, wanted: Sequence[Resolved], before: Mapping[ObjectKey, InventoryEntry]) -> Applied:
        """Apply objects, stage by stage.

        Args:
            wanted: no object twice.
            before: the inventory until now.

        Raises:
            JiemiError: ClusterUnavailable does not go up: the objects that were not reached are refused with it.
            Superseded: between two objects or while one is waited for; what was applied until then is known to
                `applied` only.
        """
        done = Applied()
        recreator = self._recreator()
        for stage in range(len(STAGES) + 1):
            of_stage = [each for each in wanted if each.manifest.stage == stage]
            in_any_order = stage == _IN_ANY_ORDER

            async def one(each: Resolved) -> None:
                await self._apply_one(each, before.get(each.key), done, recreator)

            await for_each(of_stage, one, at_once=_AT_ONCE if in_any_order else 1)
            await self._until_served([each for each in of_stage if each.key in done.entries])
        return done

    def _recreator(self) -> Recreator:
        gone = WaitBudget(GONE_SECONDS, self._require_wanted)
        return Recreator(self.objects, self.namespace, self.owner, self.spec.force, gone, self.deleted)

    def _require_wanted(self) -> None:
        if self.is_superseded():
            raise Superseded

    async def _apply_one(
        self, each: Resolved, before: InventoryEntry | None, done: Applied, recreator: Recreator
    ) -> None:
        self._require_wanted()
        lost = next((refused.failure for refused in done.refused if refused.failure.reason in NO_ANSWER), None)
        if lost is not None:
            # Each would wait as long as the first did.
            done.refused.append(Refused(each.ref, each.manifest.file, lost))
            return
        try:
            with span("apply.object", object=each.ref.label):
                done.entries[each.key] = await self._write(each, before, recreator)
            _log.debug("object_applied", object=each.ref.label, file=each.manifest.file)
        except JiemiError as error:
            _log.debug("object_refused", object=each.ref.label, reason=error.failure.reason)
            done.refused.append(Refused(each.ref, each.manifest.file, error.failure))

    async def _write(self, each: Resolved, before: InventoryEntry | None, recreator: Recreator) -> InventoryEntry:
        take_over = self._take_over
        if before is not None and before.fields is not None:
            await take_over.before(each.ref, self.sharers(each.key))
        try:
            metadata = await take_over.unblocked(each.ref, each.manifest.body, lambda: self._apply_again(each))
            metadata = await take_over.after(each.ref, metadata)
        except JiemiError as error:
            if not may_be_in_the_way(error):
                raise
            was_there = await recreator.clear(each.manifest, each.ref, before, error)
            try:
                metadata = await self._apply_again(each)
            except JiemiError as failed:
                if not was_there:
                    raise
                raise recreate_failed(each.ref, failed) from failed
        described = described_keys(each.manifest)
        entry = applied_entry(each.ref, each.manifest.file, field_ownership(metadata), before, described=described)
        # Whatever managedFields say, what the manifest gives is never taken out.
        strange = strange_keys(entry, field_ownership(metadata)).keys() - described
        if strange and self.spec.drift_policy == "Correct":
            paths = [("data", key) for key in sorted(strange)]
            metadata = await self.objects.remove_fields(
                each.ref, paths, resource_version=str(metadata.get("resourceVersion"))
            )
        self.applied(each.key, str(metadata.get("resourceVersion", "")), sharers(metadata))
        return entry

    async def _apply_again(self, each: Resolved) -> JsonObject:
        """Apply, and again where another wrote at the same moment, or the kind is so new that it is not served yet."""
        if each.resource is None:
            # Whatever is served by now must be what was taken for granted when the object was admitted.
            found = await self.objects.resource(each.ref.api_version, each.ref.kind)
            if found is None or found.namespaced != bool(each.ref.namespace):
                raise errors.kind_unknown(each.ref.api_version, each.ref.kind)
        for tries_left in reversed(range(_TRIES)):
            try:
                return await self.objects.apply(
                    each.manifest.body, default_namespace=self.namespace, take_over=self._takes_over
                )
            except JiemiError as error:
                is_new = error.failure.reason == "KindUnknown" and each.resource is None
                if not tries_left or (error.failure.reason != "ApplyConflict" and not is_new):
                    raise
                if is_new:
                    # It is listed a moment before it is served.
                    await trio.sleep(POLL_SECONDS)
                    await self.objects.resource(each.ref.api_version, each.ref.kind, fresh=True)
        raise AssertionError  # the last try returns or raises

    async def _until_served(self, applied: Iterable[Resolved]) -> None:
        """Wait for the kinds of CustomResourceDefinitions. If it takes too long, their objects say what is missing."""
        awaited = {each.ref: made for each in applied if (made := made_kind(each.manifest)) is not None}

        async def are_served() -> bool:
            for ref, made in tuple(awaited.items()):
                try:
                    is_served = await self._is_served(ref, made)
                except JiemiError:
                    is_served = True  # not known; its objects fail if it is not
                if is_served:
                    del awaited[ref]
                self._require_wanted()
            return not awaited

        await WaitBudget(SERVED_SECONDS, self._require_wanted).poll_until(are_served)

    async def _is_served(self, ref: ObjectRef, made: MadeKind) -> bool:
        definition = await self.objects.get(ref)
        if definition is not None and readiness(definition).state is not State.READY:
            return False
        versions = [f"{made.group}/{version}" for version in made.versions]
        return None not in [await self.objects.resource(version, made.kind, fresh=True) for version in versions]


_IN_ANY_ORDER = next(index for index, kinds in enumerate(STAGES) if "Secret" in kinds)


def comes_with(reason: str, ref: ObjectRef, others: Iterable[Resolved]) -> bool:
    """Whether an object is refused only because another that is applied before it is not there yet."""
    if reason == "NamespaceNotFound":
        return any(other.key == ObjectKey("", "Namespace", "", ref.namespace) for other in others)
    if reason == "KindUnknown":
        made = (made_kind(other.manifest) for other in others)
        return any(each is not None and (each.group, each.kind) == (ref.key.group, ref.kind) for each in made)
    return False


def _ref(manifest: Manifest, namespace: str) -> ObjectRef:
    return ObjectRef(manifest.api_version, manifest.kind, namespace, str(manifest.body["metadata"]["name"]))
