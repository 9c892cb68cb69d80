"""How many different signers files have: of the commits that brought them into their present form.

A commit that is not signed, or by nobody who counts, counts for nothing; it is no error by itself. Whoever signed
several of them counts once: an ssh signer with two keys under the same principals (or in one entry NAME.pub) is one. A
pgp key is one, however many subkeys it has, and two keys are two, though they are in one entry of the Secret.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping

import attrs
import trio
import trio.lowlevel

from jiemi.concurrency.askers import Askers
from jiemi.core.errors import JiemiError
from jiemi.core.near import some_of
from jiemi.core.reasons import UNVERIFIED
from jiemi.krapao.git.port import FileHistory
from jiemi.krapao.signatures.objects import read_commit
from jiemi.krapao.signatures.verifier import Found, Keys, Verifier
from jiemi.rpc.verification import SignatureKind, Verification

_MAX_KNOWN = 10_000
_MAX_COMMITS = 500
"""How many commits are verified for the files of one revision. One takes some 15 ms with pgp."""


@attrs.frozen
class Count:
    """The signers of a file.

    Attributes:
        names: of those who signed, of pgp keys their fingerprints.
        valid_until: when there are too few of them, in seconds since the epoch; None where no key expires.
        is_whole: whether all commits were seen that can count.
    """

    names: frozenset[str]
    valid_until: int | None
    is_whole: bool


class SignerCounts:
    """Counts signers, and remembers who signed which commit by which policy."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._known: OrderedDict[tuple[str, str], Found] = OrderedDict()

    async def count(
        self, verification: Verification, digest: str, histories: Mapping[str, FileHistory], askers: Askers
    ) -> dict[str, Count]:
        """The signers of each file.

        Args:
            digest: of the policy.

        Raises:
            JiemiError: VerificationKeysInvalid, LimitExceeded; GpgMissing, StorageFailed, Timeout, InternalError.
        """
        commits = {sha: data for each in histories.values() for sha, data in each.commits.items()}
        if len(commits) > _MAX_COMMITS:
            raise JiemiError(
                "LimitExceeded",
                f"{len(commits)} commits brought the files into their present form, of {_MAX_COMMITS} at most that are "
                "verified",
                "Name fewer files, or use several Decryptors.",
            )
        now = self._verifier.now()
        signers = {
            sha: found
            for sha in commits
            if (found := self._known.get((digest, sha))) is not None and (found[1] is None or found[1] > now)
        }
        unknown = {sha: data for sha, data in commits.items() if sha not in signers}
        if unknown:
            async with self._verifier.opened(verification, askers) as keys:
                for sha, data in unknown.items():
                    await trio.lowlevel.checkpoint()  # an ssh signature is verified without a wait
                    found = await self._signer(verification, sha, data, keys)
                    if found is not None:
                        signers[sha] = self._known[digest, sha] = found
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return {path: _count(each, signers, verification) for path, each in histories.items()}

    async def _signer(self, verification: Verification, sha: str, data: bytes, keys: Keys) -> Found | None:
        try:
            return await self._verifier.commit(verification, read_commit(data, sha), keys)
        except JiemiError as error:
            if error.failure.reason not in UNVERIFIED:
                raise
            return None


def _count(history: FileHistory, signers: Mapping[str, Found], verification: Verification) -> Count:
    until: dict[str, float] = {}
    for sha in history.commits:
        if sha in signers:
            signer, end = signers[sha]
            name = signer.name if verification.kind is SignatureKind.SSH else signer.key
            until[name] = max(until.get(name, 0), math.inf if end is None else end)
    ends = sorted(until.values(), reverse=True)
    last = ends[verification.minimum_signers - 1] if len(ends) >= verification.minimum_signers else math.inf
    return Count(frozenset(until), None if last == math.inf else int(last), history.is_whole)


def require_enough(path: str, count: Count, verification: Verification) -> None:
    """Refuse a file with too few signers.

    Raises:
        JiemiError: TooFewSigners, HistoryMissing.
    """
    minimum = verification.minimum_signers
    if len(count.names) >= minimum:
        return
    by = f"by {some_of('', sorted(count.names))}" if count.names else "by nobody whose key is in the Secret"
    said = f"{path}: its present form is signed {by}, and {minimum} different signers are wanted"
    if not count.is_whole:
        raise JiemiError(
            "HistoryMissing", f"{said}; more are not found in the {verification.history_commits} commits before"
        )
    raise JiemiError("TooFewSigners", said)
