"""The line of a Decryptor that `kubectl get` shows: a part of each status that is written."""

from __future__ import annotations

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.decryptor_status import DecryptorStatus
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.status import with_summary


def summarized(status: DecryptorStatus, decryptor: Decryptor) -> DecryptorStatus:
    """The status as it is written for a Decryptor."""
    spec = decryptor.spec if isinstance(decryptor.spec, DecryptorSpec) else None
    ref = spec.source.repository.ref if spec is not None else None
    return with_summary(
        status,
        deleting=decryptor.meta.deleting,
        dry_run=spec is not None and spec.mode == "DryRun",
        pinned=ref is not None and ref.commit is not None,
    )
