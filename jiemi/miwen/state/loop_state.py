"""The memory that the loop of one Decryptor keeps from tick to tick, beside the status.

It is several memories. Anyone may read them; each has methods that write it, which one module of
`jiemi.miwen.reconcile` calls and no other (tests/miwen/state/test_loop_state.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

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
    """About how much memory the remembered files take. A path may have 4 KiB, and a Decryptor 1,000 of them."""
    return sum(_FILE_BYTES + sys.getsizeof(file.path) for file in files)


@attrs.define
class FileMemory:
    """The files, as they were listed and decrypted last. Written by `file_changes`."""

    _listed: tuple[str, int, tuple[FileStatus, ...]] | None = attrs.field(default=None, init=False)
    _left_out: tuple[str, ...] = attrs.field(default=(), init=False)
    _failed: Mapping[FileStatus, Failure] = attrs.field(factory=dict, init=False)
    _planned: tuple[int, tuple[FileStatus, ...]] | None = attrs.field(default=None, init=False)
    _is_large: bool = attrs.field(default=False, init=False)
    _direct: tuple[str, int] | None = attrs.field(default=None, init=False)

    @property
    def listed(self) -> tuple[str, int, tuple[FileStatus, ...]] | None:
        """The revision, the generation and the files, as they were listed last."""
        return self._listed

    @property
    def left_out(self) -> tuple[str, ...]:
        """The paths that globs matched in the last listing, and that are files of a tool by their names."""
        return self._left_out

    @property
    def failed(self) -> Mapping[FileStatus, Failure]:
        """The files that can't be rendered until something that they depend on changes."""
        return self._failed

    @property
    def planned(self) -> tuple[int, tuple[FileStatus, ...]] | None:
        """The generation and the files that status.plan is about; None where that is not certain."""
        return self._planned

    @property
    def is_large(self) -> bool:
        """Whether the files take so much memory that no two such Decryptors are decrypted at once."""
        return self._is_large

    def is_direct(self, revision: str, generation: int) -> bool:
        """Whether it is known of that revision, and of what that generation of the spec names, that no symbolic link
        leads to any of it."""
        return self._direct == (revision, generation)

    def keep_listed(self, revision: str, generation: int, files: tuple[FileStatus, ...], *, direct: bool) -> None:
        """Remember the files of a revision, as that generation of the spec names them; and whether it is known that no
        symbolic link leads to any of them."""
        self._listed = revision, generation, files
        self._direct = (revision, generation) if direct else None

    def carry_on(self, revision: str, generation: int) -> None:
        """What is remembered of an earlier revision, in which all of it was found directly, is so in this one too."""
        self._direct = revision, generation

    def keep_left_out(self, paths: tuple[str, ...]) -> None:
        """Remember which paths were left out of the listing."""
        self._left_out = paths

    def keep_planned(self, generation: int, files: tuple[FileStatus, ...]) -> None:
        """Remember what status.plan is about."""
        self._planned = generation, files

    def add_failed(self, failed: Mapping[FileStatus, Failure]) -> None:
        """Remember files that can't be rendered."""
        self._failed = {**self._failed, **failed}

    def keep_failed_of(self, files: Iterable[FileStatus]) -> None:
        """Forget the failures of all other files."""
        wanted = frozenset(files)
        self._failed = {file: failure for file, failure in self._failed.items() if file in wanted}

    def try_failed_again(self) -> None:
        """Forget all failures, because something that files depend on has changed."""
        self._failed = {}

    def set_large(self, is_large: bool) -> None:
        """Remember whether the files take much memory."""
        self._is_large = is_large

    def count_bytes(self, status: DecryptorStatus) -> int:
        """About how much memory is held of files, beside that of the status."""
        size = sum(_FAILURE_BYTES + sys.getsizeof(failure.message) for failure in self._failed.values())
        size += sum(map(sys.getsizeof, self._left_out))
        if self._listed is not None and self._listed[2] == status.files:
            self._listed = (*self._listed[:2], status.files)  # one and the same is in memory once
        elif self._listed is not None:
            size += files_bytes(self._listed[2])
        return size + (files_bytes(self._planned[1]) if self._planned is not None else 0)

    def forget_files(self) -> None:
        """Forget what can be asked for again."""
        self._listed = self._planned = None
        self._failed = {}


@attrs.define
class SecretVersions:
    """The resourceVersions of the Secrets that the spec names. Written by `credentials`."""

    _read: dict[str, str] = attrs.field(factory=dict)
    _watched: set[str] = attrs.field(factory=set, init=False)

    @property
    def read(self) -> Mapping[str, str]:
        """The resourceVersions as which the Secrets were read, by their names."""
        return self._read

    @property
    def watched(self) -> AbstractSet[str]:
        """The names of the Secrets that the watch has shown."""
        return self._watched

    def was_read(self, name: str, resource_version: str) -> None:
        """A Secret was read."""
        self._read[name] = resource_version

    def was_watched(self, name: str) -> None:
        """The watch has shown a Secret."""
        self._watched.add(name)


@attrs.define
class DriftMemory:
    """The objects that others changed. Written by `drift_correction`.

    Attributes:
        backoff: how often which object was corrected.
    """

    backoff: CorrectionBackoff = attrs.field(factory=CorrectionBackoff)
    _drifted: Mapping[ObjectKey, Drift] = attrs.field(factory=dict, init=False)
    _uncorrected: dict[ObjectKey, Failure] = attrs.field(factory=dict, init=False)
    _unread: Failure | None = attrs.field(default=None, init=False)

    @property
    def drifted(self) -> Mapping[ObjectKey, Drift]:
        """The objects that are known to differ, and are not corrected (yet)."""
        return self._drifted

    @property
    def uncorrected(self) -> Mapping[ObjectKey, Failure]:
        """The objects among them that could not be applied again at the last try, and why."""
        return self._uncorrected

    @property
    def unread(self) -> Failure | None:
        """Why an object that may differ could not be looked at, or None."""
        return self._unread

    def set_drifted(self, drifted: Mapping[ObjectKey, Drift]) -> None:
        """These objects differ, and no others."""
        self._drifted = drifted

    def forget_drifted(self, key: ObjectKey) -> None:
        """An object differs no longer."""
        self._drifted = {each: drift for each, drift in self._drifted.items() if each != key}

    def set_uncorrected(self, key: ObjectKey, failure: Failure | None) -> None:
        """An object could not be applied again, or could: None."""
        if failure is None:
            self._uncorrected.pop(key, None)
        else:
            self._uncorrected[key] = failure

    def set_unread(self, failure: Failure | None) -> None:
        """An object could not be looked at, or all could: None."""
        self._unread = failure


@attrs.define
class WaitMemory:
    """The times of spec.wait, by trio's clock in seconds. Written by `waiting`."""

    _ready_at: float | None = attrs.field(default=None, init=False)
    _waiting_since: float | None = attrs.field(default=None, init=False)

    @property
    def ready_at(self) -> float | None:
        """When the applied objects were found ready last, or None."""
        return self._ready_at

    @property
    def waiting_since(self) -> float | None:
        """When the wait for the applied objects began, or None."""
        return self._waiting_since

    def begin_waiting(self, now: float) -> float:
        """The wait begins; one that goes on already keeps its beginning, which is returned."""
        if self._waiting_since is None:
            self._waiting_since = now
        return self._waiting_since

    def found_ready(self, now: float) -> None:
        """All objects are ready."""
        self._waiting_since, self._ready_at = None, now

    def forget_waiting(self) -> None:
        """Other objects are applied, of which nothing is known yet."""
        self._waiting_since = self._ready_at = None


@attrs.define
class LoopState:
    """All memories of one loop.

    Attributes:
        head_revision: the newest revision that the last tick found, or None where it found none.
        watching: the kinds of the objects that are watched.
        is_pushed: whether a webhook said that the repository moved, and the host was not asked since.
        is_compared: whether the objects were compared with what the watches show, since the start.
    """

    files: FileMemory = attrs.field(factory=FileMemory)
    secrets: SecretVersions = attrs.field(factory=SecretVersions)
    drift: DriftMemory = attrs.field(factory=DriftMemory)
    wait: WaitMemory = attrs.field(factory=WaitMemory)
    head_revision: str | None = None
    watching: AbstractSet[Resource] = frozenset()
    is_pushed: bool = False
    is_compared: bool = False
