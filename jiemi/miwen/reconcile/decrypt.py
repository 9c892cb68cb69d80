"""The files of a deployment, decrypted: keys are read, files are rendered, and what can't be is remembered."""

from __future__ import annotations

import attrs

from jiemi.concurrency.fair_limiter import PATIENCE_SECONDS, Slot
from jiemi.core.decisions.status_facts import Facts
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile.admission import Bounds
from jiemi.miwen.reconcile.attempt import Attempt
from jiemi.miwen.reconcile.credentials import decryption_keys
from jiemi.miwen.reconcile.file_changes import note_rendered
from jiemi.miwen.reconcile.key_services import bounded
from jiemi.miwen.reconcile.phases import Phase
from jiemi.miwen.reconcile.render import NeedsMore, Renderer, Rendering

_OF_CONTENT = frozenset(
    {
        *("MacMismatch", "MacOnlyEncrypted", "NotEncrypted", "UnknownFormat", "KeyMissing", "NotAKubernetesObject"),
        *("CiphertextLeft", "KindNotForSecrets"),
    }
)
"""Why a file can't be rendered until it, its .sops.yaml, the spec or a key changes. All else may pass by itself: the
operator of a key service, for example, may let the credentials in."""


@attrs.frozen
class FileDecryption:
    """Decrypts the files of one attempt.

    Attributes:
        kubernetes: where keys are read.
        bounds: what is allowed.
        attempt: the deployment that needs the files.
    """

    kubernetes: Kubernetes
    bounds: Bounds
    attempt: Attempt

    async def run(self, slot: Slot) -> Rendering:
        """Render the files that have to be decrypted.

        Args:
            slot: may be taken back meanwhile.

        Raises:
            JiemiError: as `decryption_keys` and `Renderer.render`.
            NeedsMore: as `Renderer.render`.
        """
        slot.is_slow = lambda: slot.idle_seconds > PATIENCE_SECONDS
        context, work = self.attempt.context, self.attempt.work
        if not work.render:
            return Rendering((), {}, None)
        try:
            with context.phases.measured(Phase.DECRYPT):
                renderer = await self._renderer()
                rendering = await renderer.render(
                    work.render, whole=len(work.render) == len(work.files), on_file=slot.got_on
                )
        except NeedsMore:
            note_rendered(context, {}, is_large=True)
            raise
        # What there is in a broken file is looked after like all else.
        partly = {manifest.file for manifest in rendering.manifests}
        failed = {
            file: failure
            for file in work.render
            if (failure := rendering.failures.get(file.path)) is not None
            and failure.reason in _OF_CONTENT
            and file.path not in partly
        }
        note_rendered(context, failed, is_large=not rendering.is_small)
        return rendering

    async def _renderer(self) -> Renderer:
        attempt, context, known = self.attempt, self.attempt.context, self.attempt.context.status
        keys = await decryption_keys(
            context.decryptor, attempt.spec, self.kubernetes, context.state.secrets, vault_address=known.vault_address
        )
        rules = self.bounds.rules or {}
        return Renderer(
            repository=attempt.repository,
            spec=attempt.spec,
            revision=attempt.revision,
            keys=keys,
            recipients={path: rule.recipients for path, rule in rules.items()},
            bounded_keys={
                file.path: bounded(keys, rules[file.path]) for file in attempt.work.render if file.path in rules
            },
            facts=Facts(known.encryption, known.vault_address) if known.encryption is not None else None,
            full_mac=self._wants_full_mac,
            alone=context.state.files.is_large,
        )

    def _wants_full_mac(self, path: str) -> bool:
        rule = self.bounds.rules.get(path) if self.bounds.rules is not None else None
        return self.bounds.full_mac or (rule is not None and rule.require_full_mac)
