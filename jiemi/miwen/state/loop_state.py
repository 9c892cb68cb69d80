"""What the loop of one Decryptor remembers from tick to tick, beside the status.

It is several memories, each of which names the modules of `jiemi.miwen.reconcile` that write it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import attrs

from jiemi.core.api.decryptor_status import DecryptorStatus, FileStatus
from jiemi.core.errors import Failure
from jiemi.core.objects.drift import Drift
from jiemi.core.objects.identity import ObjectKey
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.state.correction_backoff import CorrectionBackoff

_FAILURE_BYTES = 300
"""What a file's failure takes beside its message, with its place in the memory."""

_FILE_BYTES = 300
"""What a file takes beside its path: two hashes, and what holds them."""


def files_bytes(files: Iterable[FileStatus]) -> int:
    """About how much memory files take that are remembered. A path may have 4 KiB, and a Decryptor 1,000 of them."""
    return sum(_FILE_BYTES + sys.getsizeof(file.path) for file in files)


@attrs.define
class FileMemory:
    """Written by `file_changes`, and by `deployment` and `reconciler` as files are decrypted.

    Attributes:
        listed: revision, generation and files, as they were listed last.
        left_out: paths of files that globs take, but that are a tool's by their names; of the listing before.
        failed: files that can't be rendered, until something that they depend on changes.
        planned: generation and files that status.plan is about; None where that is not certain.
        is_large: whether the files take so much memory that no two such Decryptors are decrypted at once.
    """

    listed: tuple[str, int, tuple[FileStatus, ...]] | None = None
    left_out: tuple[str, ...] = ()
    failed: dict[FileStatus, Failure] = attrs.field(factory=dict)
    planned: tuple[int, tuple[FileStatus, ...]] | None = None
    is_large: bool = False

    def held_bytes(self, status: DecryptorStatus) -> int:
        """About how much memory is held of files, beside that of the status."""
        size = sum(_FAILURE_BYTES + sys.getsizeof(failure.message) for failure in self.failed.values())
        size += sum(map(sys.getsizeof, self.left_out))
        if self.listed is not None and self.listed[2] == status.files:
            self.listed = (*self.listed[:2], status.files)
        elif self.listed is not None:
            size += files_bytes(self.listed[2])
        return size + (files_bytes(self.planned[1]) if self.planned is not None else 0)

    def forget(self) -> None:
        """Forget what can be asked for again."""
        self.listed = self.planned = None
        self.failed.clear()


@attrs.define
class SecretVersions:
    """Written by `credentials`.

    Attributes:
        read: resourceVersions of the Secrets that the spec names, as they were read.
        watched: names of the Secrets that the watch has shown.
    """

    read: dict[str, str] = attrs.field(factory=dict)
    watched: set[str] = attrs.field(factory=set)


@attrs.define
class DriftMemory:
    """Written by `drift_correction`.

    Attributes:
        drifted: objects that are known to differ, and are not corrected (yet).
        uncorrected: of those, the ones that could not be applied again at the last try, and why.
        unread: why an object that may differ could not be looked at, or None.
        backoff: how often which object was corrected.
    """

    drifted: dict[ObjectKey, Drift] = attrs.field(factory=dict)
    uncorrected: dict[ObjectKey, Failure] = attrs.field(factory=dict)
    unread: Failure | None = None
    backoff: CorrectionBackoff = attrs.field(factory=CorrectionBackoff)


@attrs.define
class WaitMemory:
    """Written by `waiting`; `reconciler` clears it with each deployment. Times are trio's clock, in seconds.

    Attributes:
        ready_at: when the applied objects were found ready last, or None.
        waiting_since: when the applied objects began to be waited for, or None.
    """

    ready_at: float | None = None
    waiting_since: float | None = None


@attrs.define
class LoopState:
    """All of it.

    Attributes:
        head_revision: the one that the last tick found, or None where it found none.
        watching: the kinds of the objects, as they are watched.
        is_compared: whether the objects were compared with what the watches show, since the start.
    """

    files: FileMemory = attrs.field(factory=FileMemory)
    secrets: SecretVersions = attrs.field(factory=SecretVersions)
    drift: DriftMemory = attrs.field(factory=DriftMemory)
    wait: WaitMemory = attrs.field(factory=WaitMemory)
    head_revision: str | None = None
    watching: set[Resource] = attrs.field(factory=set)
    is_compared: bool = False
