"""The kinds of a Decryptor's objects, watched, and what its status says of the objects that differ."""

from __future__ import annotations

import contextlib

import attrs

from jiemi.core.api.secret_refs import secret_names
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.names import NamespacedName
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile import drift_correction
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.state.registry import Registry
from jiemi.miwen.watch.kind_watch import SECRETS
from jiemi.miwen.watch.object_watches import ObjectWatches


@attrs.frozen
class WatchedKinds:
    """Has the kinds of objects watched.

    Attributes:
        kubernetes: where kinds are looked up.
        registry: which Decryptor wants which kinds.
        watches: those of the objects and the Secrets.
    """

    kubernetes: Kubernetes
    registry: Registry
    watches: ObjectWatches

    async def watch_after_start(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        """Watch before anything else, also where the repository can't be looked at."""
        if not context.state.watching:
            with contextlib.suppress(JiemiError):
                await self._watch(context, spec)

    async def look_after(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        """Watch the kinds that the Decryptor has objects of now, and show in the status what differs.

        Raises:
            JiemiError: as `Objects.resource`.
        """
        await self._watch(context, spec)
        self._show_drift(context, spec)

    def show_drift_after_failure(self, context: ReconcileContext) -> None:
        """Show in the status what differs: the failure may be why it is not corrected."""
        spec = context.decryptor.spec
        if isinstance(spec, DecryptorSpec) and spec.mode == "Apply" and not context.decryptor.meta.deleting:
            self._show_drift(context, spec)

    def want(self, key: NamespacedName, kinds: frozenset[Resource]) -> None:
        """A Decryptor wants these kinds watched. Kinds that nobody wants any longer are watched no longer."""
        if self.registry.set_kinds(key, kinds):
            self.watches.keep_only(self.registry.kinds)

    async def _watch(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        kinds: set[Resource] = set()
        for api_version, kind in {(entry.api_version, entry.kind) for entry in context.status.inventory}:
            resource = await self.kubernetes.objects(None).resource(api_version, kind)
            if resource is not None:
                self.watches.want(resource)
                kinds.add(resource)
        context.state.watching = kinds
        self.want(context.decryptor.meta.key, frozenset(kinds | ({SECRETS} if secret_names(spec) else set())))

    def _show_drift(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        drift_correction.show_in_status(context, spec, watch_failure=self._watch_failure(context))

    def _watch_failure(self, context: ReconcileContext) -> Failure | None:
        """Why changes of some objects are not seen, where that lasts."""
        namespaces = {entry.namespace or "" for entry in context.status.inventory}
        failures = [self.watches.failure(resource, namespaces) for resource in sorted(context.state.watching, key=str)]
        return next((each for each in failures if each is not None and each.reason == "WatchForbidden"), None)
