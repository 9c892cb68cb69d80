"""Which revisions are signed as their Decryptors want it. Each revision is verified once for each policy.

A policy is all that was said about the signatures, the public keys included; so one that changes is another, of which
nothing is known. What is known lasts until the first key or signature of it expires.

A commit that is pinned is named by no tag. Where a signed tag is wanted, it counts if it was verified before, by the
tag that named it then, and by the same policy: so what is deployed can be corrected while the tag names another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Protocol, TypeVar

import attrs
import structlog
import trio

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.single_flight import Flight, SingleFlight
from jiemi.core.errors import JiemiError
from jiemi.krapao.git.port import TAGS, Advertised, FileHistory, Ref, SignedObjects
from jiemi.krapao.signatures.counting import Count, SignerCounts, require_enough
from jiemi.krapao.signatures.verifier import Verifier
from jiemi.rpc.contract import Files, FilesRequest
from jiemi.rpc.verification import Verification, Verified
from jiemi.tracing.current import span

_MAX_KNOWN = 1_000
_MAX_COUNTED = 10_000
_MAX_MATCHED = 100

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_log = structlog.get_logger("jiemi.krapao")


class Revisions(Protocol):
    """Where the signed objects of a repository are. The methods are those of `Worker`."""

    async def signed(
        self, ref: Ref, revision: str, askers: Askers, *, with_tag: bool
    ) -> tuple[Advertised, SignedObjects]: ...

    async def histories(
        self, wanted: Advertised, paths: Sequence[str], askers: Askers, *, max_commits: int, deepen: bool
    ) -> Mapping[str, FileHistory]: ...

    async def files(self, ref: Ref, request: FilesRequest, askers: Askers) -> Files: ...


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
    """What was verified, of all repositories. A bounded number of verdicts is remembered.

    Args:
        nursery: for what several wait for.
    """

    def __init__(self, verifier: Verifier, nursery: trio.Nursery) -> None:
        self._single_flight = SingleFlight(nursery)
        self._verifier = verifier
        self._counts = SignerCounts(verifier)
        self._known: OrderedDict[tuple[str, str, str, str], Verified] = OrderedDict()
        self._counted: OrderedDict[tuple[str, str, str], Count] = OrderedDict()
        self._matched: OrderedDict[tuple[str, FilesRequest], tuple[str, ...]] = OrderedDict()

    async def require(
        self, policy: Policy, revisions: Revisions, revision: str, paths: Sequence[str], askers: Askers
    ) -> Verified:
        """Refuse a revision that is not signed as the policy wants it.

        Args:
            paths: of files that must have as many signers as the policy wants.

        Raises:
            JiemiError: as `Repository.verify`.
        """
        try:
            found = await self._require_revision(policy, revisions, revision, askers)
            if policy.verification.minimum_signers == 1 or not paths:
                return found
            counts = await self._require_signers(policy, revisions, revision, paths, askers)
        except JiemiError as error:
            failure = error.failure
            _log.warning("not_verified", revision=revision[:64], reason=failure.reason, message=failure.text)
            raise
        ends = [each for each in (found.valid_until, *(each.valid_until for each in counts)) if each is not None]
        return attrs.evolve(found, valid_until=min(ends, default=None))

    async def matching(
        self, policy: Policy, revisions: Revisions, request: FilesRequest, askers: Askers
    ) -> tuple[str, ...]:
        """The paths of the files that match, of a revision that is verified. What a path does not lead to is left out:
        whoever reads the files hears of it."""
        key = (policy.url, request)
        if key not in self._matched:
            found: set[str] = set()
            for pattern in request.patterns:
                try:
                    files = await revisions.files(policy.ref, attrs.evolve(request, patterns=(pattern,)), askers)
                except JiemiError as error:
                    if error.failure.reason not in ("FileNotFound", "NotAFile"):
                        raise
                else:
                    found.update(each.path for each in files.entries)
            _remember(self._matched, key, tuple(sorted(found)), _MAX_MATCHED)
        return self._matched[key]

    async def _require_revision(self, policy: Policy, revisions: Revisions, revision: str, askers: Askers) -> Verified:
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

        async def verify(flight: Flight) -> Verified:
            with span("verify"):
                found = await self._verifier.verify(verification, objects, wanted, flight.askers)
            _log.info("verified", revision=revision, mode=verification.mode.value)
            _remember(self._known, key, found, _MAX_KNOWN)
            return found

        return await self._single_flight.do(key, verify, askers)

    async def _require_signers(
        self, policy: Policy, revisions: Revisions, revision: str, paths: Sequence[str], askers: Askers
    ) -> list[Count]:
        """Refuse files with too few signers. The history is fetched where it is needed."""
        verification, digest = policy.verification, policy.digest
        now = self._verifier.now()

        def known(path: str) -> Count | None:
            found = self._counted.get((digest, revision, path))
            return found if found is not None and (found.valid_until or now + 1) > now else None

        found = {path: count for path in paths if (count := known(path)) is not None}
        unknown = [path for path in paths if path not in found]
        if unknown:
            wanted, _ = await revisions.signed(policy.ref, revision, askers, with_tag=False)
            for deepen in (False, True):
                most = verification.history_commits
                histories = await revisions.histories(wanted, unknown, askers, max_commits=most, deepen=deepen)
                with span("count_signers", files=len(unknown)):
                    counts = await self._counts.count(verification, digest, histories, askers)
                if all(_is_enough(each, verification) or each.is_whole for each in counts.values()):
                    break
            for path, count in counts.items():
                require_enough(path, count, verification)
                _remember(self._counted, (digest, revision, path), count, _MAX_COUNTED)
            found |= counts
        return list(found.values())

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


def _is_enough(count: Count, verification: Verification) -> bool:
    return len(count.names) >= verification.minimum_signers


def _remember(known: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > most:
        known.popitem(last=False)
