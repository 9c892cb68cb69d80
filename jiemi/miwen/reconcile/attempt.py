"""What one deployment is made of: a value that is made once, and that each of its steps reads."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.objects.drift import Drift
from jiemi.core.objects.identity import ObjectKey
from jiemi.core.objects.inventory import has_obsolete
from jiemi.miwen.reconcile.file_changes import Todo
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.rpc.contract import Repository


@attrs.frozen
class Attempt:
    """What one deployment is made of.

    Attributes:
        context: the tick that it is a part of.
        spec: the spec of the Decryptor.
        repository: where the files are.
        revision: full commit hash.
        work: what of the files there is to do.
        resync: whether all files are applied, whatever is known to be deployed.
        drifted: objects that are known to differ, and that the deployment may correct.
    """

    context: ReconcileContext
    spec: DecryptorSpec
    repository: Repository
    revision: str
    work: Todo
    resync: bool = False
    drifted: Mapping[ObjectKey, Drift] = attrs.field(factory=dict)

    @property
    def is_new(self) -> bool:
        """Whether it deploys anything that is not deployed. What could not be deleted is a part of the revision, which
        is not deployed until it is."""
        return self.resync or self.work.files != self.context.status.files or self.leaves_obsolete

    @property
    def leaves_obsolete(self) -> bool:
        """Whether there are objects that the files no longer describe."""
        return has_obsolete(self.context.status.inventory, self.context.status.files)
