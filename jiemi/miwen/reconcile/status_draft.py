"""The status of a Decryptor while a tick works on it.

What a tick does and learns is put into the status at once, so that a tick that fails or is broken off leaves what was
true by then. Each change has a method here, and a pure function of `jiemi.core.decisions` behind it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet

from jiemi.core.api.decryptor_status import (
    DecryptorStatus,
    FileStatus,
    FileWarning,
    InventoryEntry,
    PlanStatus,
    SecretVersion,
    VerificationStatus,
)
from jiemi.core.decisions import status as decisions
from jiemi.core.decisions.conditions import condition, is_ready, rfc3339
from jiemi.core.decisions.deployment import with_failed
from jiemi.core.decisions.status_facts import (
    Facts,
    to_resync,
    with_facts,
    with_files,
    with_handled_request,
    with_inventory,
    with_observed_secrets,
    with_plan,
    with_ref,
    with_unsure_files,
)
from jiemi.core.decisions.status_verification import with_unverified, with_verified, without_verification
from jiemi.core.decisions.status_warnings import with_file_warnings, with_warnings
from jiemi.core.errors import Failure
from jiemi.core.objects.identity import ObjectKey
from jiemi.core.objects.inventory import Refused, by_key
from jiemi.rpc.verification import Verified

_MAX_SIGNER = 253
"""Characters of a signer's name: the principals of an ssh key may be a long list."""

Inventory = Mapping[ObjectKey, InventoryEntry]


class StatusDraft:
    """The status that a tick will leave, as far as it has come.

    Args:
        status: the one that the tick before left.
        generation: of the spec that the tick follows.
        now: the wall clock, for timestamps.
        on_inventory: called with each other inventory.
    """

    def __init__(
        self,
        status: DecryptorStatus,
        generation: int,
        now: Callable[[], datetime.datetime],
        on_inventory: Callable[[Inventory], None],
    ) -> None:
        self._status = status
        self._generation = generation
        self._now = now
        self._on_inventory = on_inventory

    @property
    def status(self) -> DecryptorStatus:
        """The status as it is by now."""
        return self._status

    # --- what is learnt

    def learnt(
        self,
        facts: Facts | None,
        warnings: Sequence[FileWarning],
        *,
        read: Collection[str],
        files: Collection[str],
    ) -> None:
        """Files were read.

        Args:
            facts: what was learnt of them; None where nothing was.
            warnings: what there is to warn of in them.
            read: their paths.
            files: the paths of all that the Decryptor has.
        """
        known = with_facts(self._status, facts)
        self._status = with_file_warnings(known, warnings, read=read, files=files)

    def read_secrets(self, observed: tuple[SecretVersion, ...]) -> None:
        """The Secrets that the spec names were read, in these versions."""
        self._status = with_observed_secrets(self._status, observed)

    def drifted(self, found: tuple[str, str, str] | None) -> None:
        """What differs in the cluster: the status, reason and message of the condition Drifted; None for nothing."""
        self._status = decisions.with_drift(self._status, found, generation=self._generation, now=self._now())

    def failed(self, refused: Sequence[Refused], broken: Mapping[str, Failure]) -> None:
        """Objects were refused, and files are broken: these and no others."""
        self._status = with_failed(self._status, refused, broken)

    def planned(self, plan: PlanStatus) -> None:
        """This is what an apply would do."""
        self._status = with_plan(self._status, plan)

    def found_ref(self, name: str | None) -> None:
        """The ref whose commit is followed, by its full name; None where the spec names the commit itself."""
        self._status = with_ref(self._status, name)

    def verified(self, found: Verified, mode: str) -> None:
        """The newest revision is signed as the spec wants it."""
        self._status = with_verified(
            self._status,
            VerificationStatus(
                found.revision,
                mode,
                found.commit.name[:_MAX_SIGNER] if found.commit is not None else None,
                found.commit.key if found.commit is not None else None,
                found.ref,
                found.tag.name[:_MAX_SIGNER] if found.tag is not None else None,
                found.tag.key if found.tag is not None else None,
                rfc3339(datetime.datetime.fromtimestamp(found.valid_until, datetime.UTC))
                if found.valid_until is not None
                else None,
            ),
            generation=self._generation,
            now=self._now(),
        )

    def not_verified(self, failure: Failure) -> None:
        """The newest revision is not signed as the spec wants it."""
        self._status = with_unverified(self._status, failure, generation=self._generation, now=self._now())

    def needs_no_signature(self) -> None:
        """The spec wants nothing signed."""
        self._status = without_verification(self._status)

    # --- what is done

    def took_up_request(self, reconcile_at: str | None) -> None:
        """The request of that annotation is being acted upon; None where there is none."""
        self._status = with_handled_request(self._status, reconcile_at)

    def resync(self) -> None:
        """Everything is to be applied again, whatever is known to be deployed."""
        self._status = to_resync(self._status)

    def before_apply(self, ahead: Inventory, changing: AbstractSet[str], message: str) -> None:
        """Objects are about to be applied.

        Args:
            ahead: the inventory with all that may be there afterwards.
            changing: the paths of the files of which what is deployed is no longer certain.
            message: what is done, for a human.
        """
        unsure = with_unsure_files(with_inventory(self._status, ahead), changing)
        if unsure != self._status:
            self._status = decisions.while_reconciling(unsure, message, generation=self._generation, now=self._now())

    def has_objects(self, inventory: Inventory) -> None:
        """These objects are there, and no others."""
        self._status = with_inventory(self._status, inventory)
        self._on_inventory(by_key(self._status.inventory))

    def deployed_files(self, files: tuple[FileStatus, ...], *, is_certain: bool) -> None:
        """The files are deployed like this.

        Args:
            is_certain: whether what is deployed is what `files` and this generation of the spec describe.
        """
        self._status = with_files(self._status, files, generation=self._generation if is_certain else None)

    # --- how it ends

    def synced(self, revision: str, file: str) -> None:
        """All of that revision is deployed.

        Args:
            file: what describes the Decryptor's files.
        """
        self._status = decisions.after_sync(
            self._status, generation=self._generation, revision=revision, file=file, now=self._now()
        )
        self._on_inventory(by_key(self._status.inventory))

    def still_synced(self) -> None:
        """All is deployed as before, though the status said something else meanwhile."""
        self._status = decisions.still_synced(self._status, generation=self._generation, now=self._now())

    def refresh(self, observed: tuple[SecretVersion, ...], *, awaits: Collection[str]) -> None:
        """All is deployed as before: the status says so again, and warns of what there is to warn of now.

        Args:
            observed: the Secrets that the spec names, as they were read.
            awaits: reasons of a Ready that stays as it is: what is waited for decides about it.
        """
        self.read_secrets(observed)
        ready = condition(self._status, "Ready")
        if not is_ready(self._status, self._generation) and (ready is None or ready.reason not in awaits):
            self.still_synced()
        self._status = with_warnings(self._status, generation=self._generation, now=self._now())

    def planned_all(self) -> None:
        """The dry run is done: its plan is the answer to this spec."""
        self.resync()
        if self._status.plan is not None:
            self._status = decisions.after_plan(
                self._status, self._status.plan, generation=self._generation, now=self._now()
            )

    def waiting(self, message: str) -> None:
        """All is deployed, and the objects themselves are waited for."""
        self._status = decisions.while_waiting(self._status, message, generation=self._generation, now=self._now())

    def suspended(self) -> None:
        """spec.suspend is set: nothing is done."""
        self._status = decisions.while_suspended(self._status, generation=self._generation, now=self._now())

    def ended(self, failure: Failure, attempted_revision: str | None) -> None:
        """The tick failed.

        Args:
            attempted_revision: the newest commit that was seen; None where none was.
        """
        self._status = decisions.after_failure(
            self._status,
            generation=self._generation,
            failure=failure,
            attempted_revision=attempted_revision,
            now=self._now(),
        )
