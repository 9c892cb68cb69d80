"""What the files no longer describe: it is deleted or let go, and reported."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import structlog

from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.deployment import first_of_failures
from jiemi.core.objects.identity import Owner
from jiemi.core.objects.inventory import by_key, certain, ref_of
from jiemi.core.reasons import Kind
from jiemi.core.text import first_of
from jiemi.miwen.apply.prune import Pruned, prune
from jiemi.miwen.kubernetes.port import Objects
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.tracing.current import span

_log = structlog.get_logger("jiemi.miwen.reconcile")


@attrs.frozen
class Pruning:
    """Prunes at the end of a deployment in which all is in order.

    Attributes:
        context: the tick.
        spec: the spec of its Decryptor.
        objects: where objects are deleted.
        owner: the Decryptor, as the labels of its objects name it.
        by: the revision, as messages show it.
    """

    context: ReconcileContext
    spec: DecryptorSpec
    objects: Objects
    owner: Owner
    by: str

    async def run(self, gone: Sequence[InventoryEntry]) -> None:
        pruned = Pruned()
        try:
            if gone and self.spec.prune:
                with span("prune", objects=len(gone)):
                    await prune(gone, self.objects, self.owner, pruned)
                _log.debug("pruned", deleted=len(pruned.deleted), kept=len(pruned.kept), refused=len(pruned.refused))
            else:
                pruned.kept = list(gone)
                pruned.stay = list(gone)
        finally:
            # Also what was done until the time was up.
            self._forget(pruned)
        self._report_pruned(pruned)
        if pruned.refused:
            self.context.draft.failed(pruned.refused, {})
            raise first_of_failures([each.failure for each in pruned.refused], len(gone), "not deleted")

    def _report_pruned(self, pruned: Pruned) -> None:
        context = self.context
        if pruned.deleted:
            names = first_of([ref_of(each).label for each in pruned.deleted])
            text = f"deleted, because they left the repository ({self.by}): {names}"
            context.note("Pruned", "Prune", text, transition=True, always=True)
        # Nobody is interested in what was never known to be applied.
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
            f"left the repository ({self.by}) and stay in the cluster, because {why}: {names}. Jiemi follows them no "
            "longer: delete them yourself if nothing needs them"
        )
        context.note("NotPruned", "Prune", text, transition=True, always=True)

    def _forget(self, pruned: Pruned) -> None:
        """Take the objects that are dealt with out of the inventory."""
        context = self.context
        # An object that is not known to have been applied is not worth a failure: its account may not even read it.
        known = certain(by_key(context.status.inventory))
        forgotten = [each for each in pruned.refused if each.ref.key not in known and each.failure.kind is Kind.STALLED]
        pruned.refused = [each for each in pruned.refused if each not in forgotten]
        stay = [ref_of(each).key for each in (*pruned.deleted, *pruned.kept)] + [each.ref.key for each in forgotten]
        inventory = {key: entry for key, entry in by_key(context.status.inventory).items() if key not in stay}
        context.draft.has_objects(inventory)
