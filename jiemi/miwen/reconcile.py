"""One tick: compare the repository's revision with the one in status, and make the cluster follow.

    spec -> repository -> head -> (unchanged: end) -> keys -> render -> manifests -> apply each -> new status

It writes nothing to the API server but the objects; the caller writes the status that comes back, if it is another.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence

import attrs
import structlog
import trio

from jiemi.blocking.places import Places
from jiemi.core.decryptor import Decryptor, DecryptorSpec
from jiemi.core.decryptor_status import DecryptorStatus, EncryptionStatus
from jiemi.core.errors import Failure, JiemiError, Kind
from jiemi.core.manifests import Manifest, read_manifests
from jiemi.core.policy import Policy, PolicyRule, require_namespaces
from jiemi.core.schedule import head_max_age_seconds
from jiemi.core.status import Facts, after_failure, after_sync, is_current, with_warnings
from jiemi.core.target import require_form, target_manifest, wants_whole_file
from jiemi.miwen.credentials import decryption_keys, git_credentials
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.open_repository import OpenRepository
from jiemi.rpc.contract import RenderRequest, Repository, Source

_log = structlog.get_logger("jiemi.miwen")

_REOPEN = frozenset(
    {"RepositoryAccessDenied", "RepositoryNotFound", "HostKeyUnknown", "InvalidUrl", "SchemeNotAllowed"}
)
"""After these, the Secrets are read again: the credentials that the repository was opened with may be old."""


@attrs.define
class Progress:
    """What a loop remembers from tick to tick.

    Attributes:
        looked: the revision that the last tick found, or None where it found none.
        deployed: generation and revision that are applied whole; None while that is not certain. A tick that could not
            even ask leaves it alone, so that a host's blip does not cause everything to be decrypted and applied again.
        learnt: what this loop learnt from the file that it decrypted last; None where it has decrypted none yet.
    """

    looked: str | None = None
    deployed: tuple[int, str] | None = None
    learnt: Facts | None = None


@attrs.frozen
class Tick:
    """What a tick came to.

    Attributes:
        status: what status should be now.
        failure: what went wrong, or None.
    """

    status: DecryptorStatus | None
    failure: Failure | None


@attrs.frozen
class Reconciler:
    """Carries out ticks.

    Attributes:
        kubernetes: where objects are applied and Secrets are read.
        now: the wall clock, for timestamps in status.
        interval_seconds: of the loops that tick.
        deploy_timeout_seconds: the longest that reading keys, decrypting and applying may take together, once begun.
        work: bounds how many Decryptors are decrypted and applied at once, and so the memory that takes.
        policy: the operator's, or None where everything is allowed.
    """

    kubernetes: Kubernetes
    now: Callable[[], datetime.datetime]
    interval_seconds: float
    deploy_timeout_seconds: float
    work: Places
    policy: Policy | None = None

    async def tick(
        self,
        decryptor: Decryptor,
        before: DecryptorStatus | None,
        repositories: OpenRepository,
        progress: Progress,
    ) -> Tick:
        """One tick of one Decryptor; a failure is a value here, and the last good objects stay."""
        progress.looked = None
        try:
            status = await self._follow(decryptor, before, repositories, progress)
        except trio.TooSlowError:
            limit = f"{self.deploy_timeout_seconds:g} s"
            failure = Failure("Timeout", f"decrypting and applying was not done within {limit}")
        except JiemiError as error:
            failure = error.failure
        except Exception:  # noqa: BLE001 - the boundary of this Decryptor: its fault must not take the others down
            _log.exception("tick-crashed", namespace=decryptor.meta.namespace, name=decryptor.meta.name)
            failure = Failure("InternalError", "Miwen's log tells more at this time")
        else:
            return Tick(status, None)
        if failure.reason in _REOPEN:
            await repositories.close()
        spec = decryptor.spec
        after = after_failure(
            before,
            generation=decryptor.meta.generation,
            file=spec.source.file_to_decrypt if isinstance(spec, DecryptorSpec) else "",
            failure=failure,
            attempted_revision=progress.looked,
            now=self.now(),
            vault_address=progress.learnt.vault_address if progress.learnt is not None else None,
        )
        return Tick(after, failure)

    async def _follow(
        self,
        decryptor: Decryptor,
        before: DecryptorStatus | None,
        repositories: OpenRepository,
        progress: Progress,
    ) -> DecryptorStatus | None:
        spec = decryptor.spec
        if isinstance(spec, Failure):
            raise JiemiError.of(spec)
        rule = self._rule(decryptor, spec)
        generation = decryptor.meta.generation
        repository = repositories.get(generation)
        if repository is None:
            credentials = await git_credentials(decryptor, spec, self.kubernetes)
            repository = await repositories.open(source_of(spec), credentials, generation=generation)
        # Who changed the spec may have pushed just before. Those who ask at the same moment share Krapao's question.
        asks_now = before is None or before.observed_generation != generation or _is_stale(before)
        max_age = 0.0 if asks_now else head_max_age_seconds(self.interval_seconds)
        head = await repository.head(max_age_seconds=max_age)
        progress.looked = head.revision
        wanted = (generation, head.revision)
        if is_current(before, generation=generation, revision=head.revision):
            progress.deployed = wanted
            return with_warnings(before, generation=generation, now=self.now()) if before is not None else None
        if progress.deployed != wanted:
            progress.deployed = None
            async with self.work.place(decryptor.meta.namespace):
                with trio.fail_after(self.deploy_timeout_seconds):
                    await self._deploy(decryptor, before, spec, repository, head.revision, progress, rule)
            progress.deployed = wanted
        return after_sync(
            before,
            generation=generation,
            revision=head.revision,
            file=spec.source.file_to_decrypt,
            now=self.now(),
            facts=progress.learnt,
        )

    def _rule(self, decryptor: Decryptor, spec: DecryptorSpec) -> PolicyRule | None:
        """What the operator's policy allows; None where there is none. Raises JiemiError as `Policy.rule_for`."""
        if self.policy is None:
            return None
        return self.policy.rule_for(
            namespace=decryptor.meta.namespace,
            url=spec.source.repository.url,
            path=spec.source.file_to_decrypt,
        )

    async def _deploy(
        self,
        decryptor: Decryptor,
        before: DecryptorStatus | None,
        spec: DecryptorSpec,
        repository: Repository,
        revision: str,
        progress: Progress,
        rule: PolicyRule | None,
    ) -> None:
        pinned = before.vault_address if before is not None else None
        keys = await decryption_keys(decryptor, spec, self.kubernetes, vault_address=pinned)
        path, target = spec.source.file_to_decrypt, spec.target
        whole = wants_whole_file(target, path)
        recipients = rule.recipients if rule is not None else ()
        request = RenderRequest(
            revision, path, spec.source.sops_path, keys, whole_file=whole, allowed_recipients=recipients
        )
        rendered = await repository.render(request)
        vault = spec.provider.vault
        names_none = vault is not None and vault.address is None
        said = rendered.encryption
        progress.learnt = Facts(
            EncryptionStatus(
                said.recipients, said.last_modified, said.sops_version, said.stale_recipients, said.key_expires_at
            ),
            rendered.vault_address or (pinned if names_none else None),
        )
        require_form(target, path)
        if target is not None:
            manifests: Sequence[Manifest] = (
                target_manifest(target, path=path, documents=rendered.documents, content=rendered.content),
            )
        else:
            manifests = read_manifests(rendered.documents, path=path)
        if rule is not None:
            require_namespaces(rule, manifests, namespace=decryptor.meta.namespace)
        await self._apply(manifests, decryptor.meta.namespace)

    async def _apply(self, manifests: Sequence[Manifest], namespace: str) -> None:
        """Apply each object; one that fails does not keep the others from it."""
        failures: list[Failure] = []
        for manifest in manifests:
            try:
                await self.kubernetes.apply(manifest.body, default_namespace=namespace)
            except JiemiError as error:
                failures.append(error.failure)
                if error.failure.reason == "ClusterUnavailable":
                    break  # the others would wait as long, one after the other
        if failures:
            # What can be tried again soon decides when it is tried again.
            first = min(failures, key=lambda failure: failure.kind is Kind.STALLED)
            counted = (
                f"{len(failures)} of {len(manifests)} objects were not applied, the first: "
                if len(manifests) > 1
                else ""
            )
            raise JiemiError(first.reason, counted + first.message)


def _is_stale(status: DecryptorStatus) -> bool:
    """Whether the last answer about the head is known to be of no use."""
    return any(condition.reason == "RevisionNotFound" for condition in status.conditions)


def source_of(spec: DecryptorSpec) -> Source:
    """The repository and ref that a spec follows."""
    repository = spec.source.repository
    ref = repository.ref
    return Source(repository.url, ref.branch if ref else None, ref.tag if ref else None)
