"""A deployment within its tick: what the operator allows it, what it waits for, and what the status says after it.

The deployment itself, from the files to the objects, is `jiemi.miwen.reconcile.deployment`.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.decryptor_status import FileStatus
from jiemi.core.api.secret_refs import observed_secrets_of
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.policy import Policy, PolicyRule
from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectKey
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile import drift_correction
from jiemi.miwen.reconcile.admission import Bounds
from jiemi.miwen.reconcile.attempt import Attempt
from jiemi.miwen.reconcile.deployment import Deployment
from jiemi.miwen.reconcile.tenancy import Tenancy
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.reconcile.waiting import forget_waiting
from jiemi.miwen.reconcile.work_slots import WorkSlots
from jiemi.miwen.state.registry import Registry
from jiemi.miwen.watch.object_watches import NotSynced, ObjectWatches

_NOT_READY = frozenset({"ObjectsNotReady", "ObjectsFailed"})
"""Reasons of the Ready condition under which everything is applied all the same."""


@attrs.frozen
class Deployer:
    """Deploys attempts.

    Attributes:
        kubernetes: the cluster.
        registry: what is known of all Decryptors.
        watches: those of the objects.
        slots: where decrypting and applying is done.
        policy: the policy of the operator, or None where everything is allowed.
        tenancy: the other bounds of the operator.
    """

    kubernetes: Kubernetes
    registry: Registry
    watches: ObjectWatches
    slots: WorkSlots
    policy: Policy | None
    tenancy: Tenancy

    def deployment(self, attempt: Attempt) -> Deployment:
        """What carries an attempt out.

        Raises:
            JiemiError: as `Policy.rule_for`.
        """
        decryptor, spec = attempt.context.decryptor, attempt.spec
        return Deployment(
            kubernetes=self.kubernetes,
            registry=self.registry,
            account=self.tenancy.account(decryptor, spec),
            bounds=Bounds(
                rules=self._rules(decryptor, spec, attempt.work.files),
                own_namespace_only=self.tenancy.own_namespace_only,
                namespaces=self.tenancy.namespaces,
                protection=self.tenancy.protection,
                full_mac=self.tenancy.require_full_mac,
                merged_managers=self.tenancy.merged_managers,
            ),
            attempt=attempt,
            seen_version=self._seen_version,
        )

    async def deploy(self, attempt: Attempt) -> None:
        """Deploy, and say so in the status.

        Raises:
            JiemiError: DependencyNotReady, DependencyCycle; as `Deployment.run`.
            trio.TooSlowError, Superseded, ObjectGone.
        """
        context, is_new = attempt.context, attempt.is_new
        blocked = self.registry.blocked(context.decryptor) if is_new else None
        if blocked is not None:
            raise JiemiError.of(blocked)
        try:
            await self.slots.run(context, self.deployment(attempt).run)
        finally:
            drift_correction.report_corrected(context, attempt.drifted)
        if not is_new:
            self.refresh(context, attempt.spec)
            return
        forget_waiting(context)
        context.draft.synced(attempt.revision, attempt.spec.source.described)

    def refresh(self, context: ReconcileContext, spec: DecryptorSpec) -> None:
        """All is deployed: the status says so again, if it said something else meanwhile."""
        observed = observed_secrets_of(spec, context.state.secrets.read)
        context.draft.refresh(observed, awaits=_NOT_READY if spec.wait else ())

    def _rules(
        self, decryptor: Decryptor, spec: DecryptorSpec, files: Iterable[FileStatus]
    ) -> dict[str, PolicyRule] | None:
        """What the policy allows each file; None without a policy."""
        if self.policy is None:
            return None
        namespace, url = decryptor.meta.namespace, spec.source.repository.url
        verified = spec.source.repository.verify is not None
        return {
            file.path: self.policy.rule_for(namespace=namespace, url=url, path=file.path, is_verified=verified)
            for file in files
        }

    def _seen_version(self, key: ObjectKey) -> str | None:
        try:
            return self.watches.version_of(key.group, key.kind, key.namespace, key.name)
        except NotSynced:
            return None
