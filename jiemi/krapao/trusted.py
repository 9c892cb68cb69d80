"""Which revisions are signed as their Decryptors want it. Each revision is verified once for each policy.

A policy is all that was said about the signatures, the public keys included; so one that changes is another, of which
nothing is known. What is known lasts until the first key or signature of it expires.

A commit that is pinned is named by no tag. Where a signed tag is wanted, it counts if it was verified before, by the
tag that named it then, and by the same policy: so what is deployed can be corrected while the tag names another.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import attrs
import structlog

from jiemi.concurrency.askers import Askers
from jiemi.core.errors import JiemiError
from jiemi.krapao.git.port import TAGS, Advertised, Ref, SignedObjects
from jiemi.krapao.signatures.verifier import Verifier
from jiemi.rpc.verification import Verification, Verified
from jiemi.tracing.current import span

_MAX_KNOWN = 1_000

_log = structlog.get_logger("jiemi.krapao")


class Revisions(Protocol):
    """Where the signed objects of a repository are."""

    async def signed(
        self, ref: Ref, revision: str, askers: Askers, *, with_tag: bool
    ) -> tuple[Advertised, SignedObjects]:
        """As `Worker.signed`."""
        ...


@attrs.frozen
class Policy:
    """What one repository that is open wants, and what stands for all of it.

    Attributes:
        url: of the repository.
        ref: that it follows.
    """

    url: str
    ref: Ref
    verification: Verification
    digest: str

    @classmethod
    def of(cls, url: str, ref: Ref, verification: Verification) -> Policy:
        return cls(url, ref, verification, verification.digest())


class TrustedRevisions:
    """What was verified, of all repositories. At most a thousand verdicts are remembered."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._known: OrderedDict[tuple[str, str, str, str], Verified] = OrderedDict()

    async def require(self, policy: Policy, revisions: Revisions, revision: str, askers: Askers) -> Verified:
        """Refuse a revision that is not signed as the policy wants it.

        Raises:
            JiemiError: as `Repository.verify`.
        """
        verification, with_tag = policy.verification, policy.verification.mode.wants_tag
        if with_tag and policy.ref.commit is not None:
            # What the host lets these credentials see is asked first, as for any revision.
            await revisions.signed(policy.ref, revision, askers, with_tag=False)
            return self._pinned(policy, revision)
        wanted, objects = await revisions.signed(policy.ref, revision, askers, with_tag=with_tag)
        if with_tag and not (wanted.ref or "").startswith(TAGS.decode()):
            raise JiemiError(
                "TagRequired", f"what is followed is no tag, but the {policy.ref}, and verify.mode wants a signed one"
            )
        # A tag may be made again for the same commit.
        key = (policy.digest, policy.url, revision, wanted.target if with_tag else "")
        found = self._valid(key)
        if found is not None:
            return found
        try:
            with span("verify"):
                found = await self._verifier.verify(verification, objects, wanted, askers)
        except JiemiError as error:
            failure = error.failure
            _log.warning("not_verified", revision=revision, reason=failure.reason, message=failure.text)
            raise
        _log.info("verified", revision=revision, mode=verification.mode.value)
        self._known[key] = found
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return found

    def _pinned(self, policy: Policy, revision: str) -> Verified:
        for key in list(self._known):
            if key[:3] == (policy.digest, policy.url, revision) and (found := self._valid(key)) is not None:
                return found
        raise JiemiError(
            "TagRequired",
            f"commit {revision[:12]} is no longer named by the tag that it was deployed from",
            "Push that tag again, or a commit of the file that is signed.",
        )

    def _valid(self, key: tuple[str, str, str, str]) -> Verified | None:
        found = self._known.get(key)
        if found is not None and found.valid_until is not None and found.valid_until <= self._verifier.now():
            del self._known[key]
            return None
        return found
