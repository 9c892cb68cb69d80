"""Objects that drifted -> applied again as they are deployed, whatever is new in the repository.

    drifted -> where each is deployed from (revision, path) -> rendered there -> resolve -> admit -> apply

What is deployed of an object may be older than the newest version of its file: that one can't be decrypted, is refused,
or waits. The inventory says by which revision it was applied, and Miwen keeps no plaintext, so it is read again from
there. Krapao may not know that revision (it was restarted), so it is then asked for as a pinned commit is: the host
must let the credentials in. While it refuses them, nothing is decrypted and nothing corrected; nor is it from a
revision that is no longer verified (spec.source.repository.verify).
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from jiemi.concurrency.fair_limiter import Slot
from jiemi.core.api.decryptor_status import FileStatus, InventoryEntry
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.conditions import condition, is_ready
from jiemi.core.decisions.status import SHORT_REVISION
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.drift import Drift
from jiemi.core.objects.identity import ObjectKey
from jiemi.miwen.reconcile.attempt import Attempt
from jiemi.miwen.reconcile.deployer import Deployer
from jiemi.miwen.reconcile.drift_correction import report_corrected, report_uncorrected
from jiemi.miwen.reconcile.file_changes import Todo, wanted_files
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.reconcile.trust import require_deployable
from jiemi.rpc.contract import Repository, is_revision

HOST_REFUSES = frozenset({"RepositoryAccessDenied", "RepositoryNotFound"})
"""After these, the host is asked first: what it no longer shows to the credentials is not decrypted for them."""

_GONE = frozenset({"RefNotFound", "RevisionNotFound"})


@attrs.frozen
class _Place:
    revision: str
    path: str


@attrs.frozen
class Correction:
    """Corrects the objects of one Decryptor for one tick.

    Attributes:
        deployer: what makes deployments.
        context: the tick.
        spec: the spec of its Decryptor.
        repository: where the files are.
    """

    deployer: Deployer
    context: ReconcileContext
    spec: DecryptorSpec
    repository: Repository

    async def run(self, drifted: Mapping[ObjectKey, Drift], *, refused: Failure | None = None) -> JiemiError | None:
        """Apply objects that drifted again, as they are deployed, whatever is new, and report it.

        Args:
            drifted: what was found to differ; what was applied since is left alone.
            refused: the failure of the newest revision, or of the host.

        Returns:
            Why the first of them could not be applied, if one could not.
        """
        drifted = {key: drift for key, drift in drifted.items() if key in self.context.mailbox.differing}
        if not drifted:
            return None
        if refused is not None and refused.reason in HOST_REFUSES:
            report_uncorrected(self.context, drifted, dict.fromkeys(drifted, refused))
            return JiemiError.of(refused)
        try:
            failures = await self._correct(drifted)
        finally:
            report_corrected(self.context, drifted)
        report_uncorrected(self.context, drifted, failures)
        return next((JiemiError.of(failure) for failure in failures.values()), None)

    async def _correct(self, drifted: Mapping[ObjectKey, Drift]) -> dict[ObjectKey, Failure]:
        """Apply the objects again. Returns those that were not applied, and why."""
        failures: dict[ObjectKey, Failure] = {}
        groups: dict[str, dict[ObjectKey, str]] = {}
        try:
            await self._require_let_in()
        except JiemiError as error:
            return dict.fromkeys(drifted, error.failure)
        verified: dict[FileStatus, str] = {}
        for key in drifted:
            entry = self.context.mailbox.inventory.get(key)
            if entry is None:
                continue
            try:
                place = await self._place(entry, verified)
            except JiemiError as error:
                failures[key] = error.failure
            else:
                groups.setdefault(place.revision, {})[key] = place.path
        for revision, paths in groups.items():
            try:
                failures |= await self._correct_at(revision, paths)
            except JiemiError as error:
                failures |= dict.fromkeys(paths, error.failure)
        return failures

    async def _require_let_in(self) -> None:
        ready = condition(self.context.status, "Ready")
        if ready is not None and ready.reason in HOST_REFUSES:
            await self.repository.head(max_age_seconds=0)

    async def _place(self, entry: InventoryEntry, verified: dict[FileStatus, str]) -> _Place:
        """Where an object is deployed from.

        Raises:
            JiemiError: DeployedVersionGone, or why the revision could not be looked at.
        """
        known, path = self.context.status, entry.file or entry.left_file or ""
        file = next((each for each in known.files if each.path == entry.file and each.blob), None)
        listed = self.context.state.files.listed
        is_here = file is not None and listed is not None and listed[1] == self.context.generation and file in listed[2]
        # A file that is deployed whole is the same in every revision that has its hash.
        if is_here and listed is not None and self.spec.target is None:
            return _Place(listed[0], path)
        revision = entry.revision or known.current.revision
        is_uncertain = self.spec.target is None and not is_ready(known, self.context.generation)
        if file is not None and entry.revision is None and is_uncertain:
            # A release that did not keep by which revision an object was applied may have left this.
            if file not in verified:
                verified[file] = await self._revision_of(file)
            revision = verified[file]
        if not is_revision(revision):
            raise JiemiError(
                "DeployedVersionGone",
                f"it is not known by which revision {path} was deployed",
                "Commit a version of that file that can be applied.",
            )
        return _Place(revision, path)

    async def _revision_of(self, file: FileStatus) -> str:
        known = self.context.status
        failure: JiemiError | None = None
        for revision in dict.fromkeys((known.last_attempted_revision or "", known.current.revision)):
            try:
                if is_revision(revision) and file in await wanted_files(self.repository, revision, self.spec.source):
                    return revision
            except JiemiError as error:
                failure = error
        if failure is not None and failure.failure.reason not in _GONE:
            raise failure
        return known.current.revision

    async def _correct_at(self, revision: str, paths: Mapping[ObjectKey, str]) -> dict[ObjectKey, Failure]:
        try:
            return await self._correct_in(self.repository, revision, paths)
        except JiemiError as error:
            if error.failure.reason != "RevisionNotFound":
                raise
        async with self.context.repositories.at(revision) as pinned:
            try:
                return await self._correct_in(pinned, revision, paths)
            except JiemiError as error:
                if error.failure.reason not in _GONE:
                    raise
                raise JiemiError(
                    "DeployedVersionGone",
                    f"it is deployed as of revision {revision[:SHORT_REVISION]}, which the host does not give any more",
                    "Commit a version of its file that can be applied, or push that commit again under a tag.",
                ) from error

    async def _correct_in(
        self, repository: Repository, revision: str, paths: Mapping[ObjectKey, str]
    ) -> dict[ObjectKey, Failure]:
        # Krapao would refuse to decrypt it. The signer of what is deployed may no longer be trusted.
        await require_deployable(self.spec, repository, revision)
        # The keys of a target come from several files.
        if self.spec.target is None:
            files = tuple(FileStatus(path, "") for path in sorted(set(paths.values())))
        elif is_ready(self.context.status, self.context.generation):
            files = self.context.status.files
        else:
            files = await wanted_files(repository, revision, self.spec.source)
        todo = Todo(files, files, frozenset(), {}, render_all=False)
        deployment = self.deployer.deployment(Attempt(self.context, self.spec, repository, revision, todo))
        found: dict[ObjectKey, Failure] = {}

        async def work(slot: Slot) -> None:
            found.update(await deployment.correct(paths, slot))

        await self.deployer.slots.run(self.context, work)
        return found
