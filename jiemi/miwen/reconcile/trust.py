"""Whether the newest revision is signed as spec.source.repository.verify wants it; what is said of the deployed one.

It is asked in each tick, though nothing is new: keys expire, and the Secret with the public keys changes. Krapao, which
remembers what it verified, answers at once. It also refuses by itself to look into a revision that is not verified, so
nothing of one is decrypted, whoever asks: neither the newest, nor the deployed one in order to correct an object.

What is deployed stays though it is no longer trusted: that a signer left is no reason to take away what runs. It is
reported, and not corrected.
"""

from __future__ import annotations

import attrs
import structlog

from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.status import SHORT_REVISION
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.reasons import UNVERIFIED
from jiemi.miwen.reconcile.file_changes import named_patterns
from jiemi.miwen.reconcile.phases import Phase
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.reconcile.verification import FIELD
from jiemi.rpc.contract import FilesRequest, Repository, is_revision
from jiemi.rpc.verification import Verified, VerifyMode

_log = structlog.get_logger("jiemi.miwen.reconcile")


async def require_verified(
    context: ReconcileContext, spec: DecryptorSpec, repository: Repository, revision: str
) -> None:
    """Refuse a revision that is not signed as the spec wants it, and put into the status what was found.

    Raises:
        JiemiError: those of `Repository.verify`.
    """
    verify = spec.source.repository.verify
    if verify is None:
        context.draft.needs_no_signature()
        return
    try:
        with context.phases.measured(Phase.VERIFY):
            found = await repository.verify(_request(spec, revision))
    except JiemiError as error:
        failure = error.failure
        if failure.reason == "VerificationKeysInvalid":
            namespace = context.decryptor.meta.namespace
            named = f"Secret {namespace}/{verify.secret_name}, which {FIELD}.secretName names"
            raise JiemiError.of(failure.at(named)) from error
        if failure.reason not in UNVERIFIED:
            raise
        raise JiemiError.of(await _with_deployed(context, spec, failure, revision)) from error
    _require_answered(found, revision, VerifyMode(verify.mode))
    context.draft.verified(found, verify.mode)


def _require_answered(found: Verified, revision: str, mode: VerifyMode) -> None:
    """The answer must confirm what was asked."""
    signed = (found.commit is not None or not mode.wants_commit) and (found.tag is not None or not mode.wants_tag)
    if found.revision != revision or not signed:
        raise JiemiError("InternalError", "Krapao's answer does not say who signed the revision")


def _request(spec: DecryptorSpec, revision: str) -> FilesRequest:
    """The files that must have as many signers as the spec wants."""
    return FilesRequest(revision, named_patterns(spec.source), spec.source.exclude)


async def require_deployable(spec: DecryptorSpec, repository: Repository, revision: str) -> None:
    """Refuse to look into a revision that is not signed as the spec wants it, before anything of it is decrypted.

    Raises:
        JiemiError: those of `Repository.verify`.
    """
    if spec.source.repository.verify is not None:
        await repository.verify(_request(spec, revision))


async def _with_deployed(context: ReconcileContext, spec: DecryptorSpec, failure: Failure, revision: str) -> Failure:
    """The failure of the newest revision, with what it means for the one that is deployed."""
    deployed = context.status.current.revision
    if not is_revision(deployed):
        return failure
    if deployed == revision:
        said = "it is deployed and stays as it is, but is no longer trusted, so it is not corrected"
    else:
        short = deployed[:SHORT_REVISION]
        said = f"revision {short} stays deployed"
        try:
            async with context.repositories.at(deployed) as pinned:
                await require_deployable(spec, pinned, deployed)
        except JiemiError as error:
            if error.failure.reason not in UNVERIFIED:
                return failure  # nothing is known of it
            said += f", but is no longer trusted either ({error.failure.reason}), so it is not corrected"
    return attrs.evolve(failure, message=f"{failure.message}; {said}")
