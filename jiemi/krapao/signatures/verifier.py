"""Who signed a revision, and whether that is enough. Nothing of the revision but its commit and tags is read for it.

the tag that the ref names   its own name must be the ref's (or a signed tag could be put in another's place), and it
                             must lead to the very commit
the commit                   by the bytes that were signed
the people in it             the addresses of author and committer, where the policy bounds them
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

import attrs
import trio

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.fair_limiter import FairLimiter
from jiemi.core.errors import JiemiError
from jiemi.core.near import some_of
from jiemi.core.patterns import matches
from jiemi.core.reasons import UNVERIFIED
from jiemi.krapao.confinement.processes import Limits
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.decryption.sops import find_program
from jiemi.krapao.fair_threads import FairThreads
from jiemi.krapao.git.port import TAGS, Advertised, SignedObjects
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.signatures.allowed_signers import AllowedSigners, read_allowed_signers
from jiemi.krapao.signatures.objects import Commit, Person, Tag, read_commit, read_tag
from jiemi.krapao.signatures.pgp_ring import NOT_THERE, PgpRing, open_ring
from jiemi.krapao.signatures.ssh_keys import CERTIFICATE, SshFormatError, fingerprint, type_of
from jiemi.krapao.signatures.sshsig import read_signature, require_good
from jiemi.rpc.verification import SignatureKind, Signer, Verification, Verified

_CHECKS = 2
"""How many checks run at once. One with gpg takes some 50 ms."""

_SECONDS = 10
_CPU_SECONDS = 10
_TOGETHER_SECONDS = 30
"""For one check as a whole. Two at once that take so long must not hold everybody up for longer."""

_OUTPUT_BYTES = 4 * 1024 * 1024
_SHORT = 12
_MAX_SHOWN = 100
_MOST_NAMES = 200
"""Among so many a misspelt name is looked for. Each that is like it takes some 50 µs."""

_SIGNERS = "spec.source.repository.verify.signers"

T = TypeVar("T")

Found = tuple[Signer, int | None]
"""Who signed, and until when that counts, in seconds since the epoch."""

_BEGIN = {SignatureKind.PGP: b"-----BEGIN PGP ", SignatureKind.SSH: b"-----BEGIN SSH SIGNATURE-----"}
_X509 = b"-----BEGIN SIGNED MESSAGE-----"


class Keys(Protocol):
    """The public keys of one check."""

    async def verify(self, payload: bytes, signature: bytes, at: int | None) -> Found:
        """Refuse a signature that none of the keys made for these bytes.

        Args:
            at: the time that the object gives itself, in seconds since the epoch.

        Raises:
            JiemiError: SignatureInvalid, SignerUnknown, SignerExpired, SignerRevoked.
        """
        ...

    def names(self) -> tuple[str, ...]:
        """What their signers may be called: names and fingerprints. None where there are too many to go through."""
        ...

    def primary_of(self, subkey: str) -> str | None:
        """The fingerprint of the key that a subkey belongs to, by the subkey's; None for anything else."""
        ...


class Verifier:
    """Verifies for all workers.

    Args:
        measures: gives what confines a program here.
        now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        settings: KrapaoSettings,
        measures: Callable[[], Awaitable[Measures]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._measures = measures
        self.now = now
        self._checks = FairLimiter(_CHECKS)
        self._threads = FairLimiter(_CHECKS)

    async def verify(
        self, verification: Verification, objects: SignedObjects, wanted: Advertised, askers: Askers
    ) -> Verified:
        """Who signed a revision.

        Args:
            objects: its commit, and the tags that lead to it where the policy wants one.
            wanted: the revision, with the ref that names it.

        Raises:
            JiemiError: those of `Repository.verify`.
        """
        async with self.opened(verification, askers) as keys:
            tag: Found | None = None
            commit: Found | None = None
            if verification.mode.wants_tag:
                tag = await _about(f"tag {wanted.ref}", self._tag(verification, objects, wanted, keys))
            revision = wanted.revision
            if verification.mode.wants_commit or verification.authors or verification.committers:
                read = await _read_commit(objects.commit, revision)
                if verification.mode.wants_commit:
                    signed = self.commit(verification, read, keys, is_explained=True)
                    commit = await _about(f"commit {revision[:_SHORT]}", signed)
                _require_people(verification, read, revision)
        ends = [each[1] for each in (commit, tag) if each is not None and each[1] is not None]
        return Verified(
            revision,
            commit[0] if commit is not None else None,
            tag[0] if tag is not None else None,
            wanted.ref if tag is not None else None,
            min(ends, default=None),
        )

    @contextlib.asynccontextmanager
    async def opened(self, verification: Verification, askers: Askers) -> AsyncIterator[Keys]:
        """The keys of a policy, for as long as the context lasts, which is bounded. It waits for a slot first.

        Raises:
            JiemiError: VerificationKeysInvalid; GpgMissing; StorageFailed; Timeout.
        """
        async with self._checks.slot(askers):
            with trio.move_on_after(_TOGETHER_SECONDS) as deadline:
                async with self._keys(verification, askers) as keys:
                    yield keys
            if deadline.cancelled_caught:
                raise JiemiError(
                    "Timeout",
                    f"verifying signatures took longer than Krapao's limit of {_TOGETHER_SECONDS} s",
                    "Have fewer and smaller public keys in the Secret that spec.source.repository.verify names.",
                )

    @contextlib.asynccontextmanager
    async def _keys(self, verification: Verification, askers: Askers) -> AsyncIterator[Keys]:
        if verification.kind is SignatureKind.SSH:
            threads = FairThreads(self._threads, askers)
            yield _SshKeys(await threads.run(read_allowed_signers, verification.keys), self.now)
            return
        settings = self._settings
        gpg = find_program(settings.gpg, "gpg", settings.programs_path)
        if gpg is None:
            raise JiemiError("GpgMissing", "Krapao finds no gpg program, which pgp signatures need")
        limits = Limits(
            seconds=_SECONDS,
            cpu_seconds=_CPU_SECONDS,
            memory_bytes=settings.decrypt_memory_bytes,
            output_bytes=_OUTPUT_BYTES,
        )
        measures, folder = await self._measures(), settings.runtime_dir
        async with open_ring(verification.keys, gpg=gpg, runtime_dir=folder, limits=limits, measures=measures) as ring:
            yield _PgpKeys(ring)

    async def commit(
        self, verification: Verification, commit: Commit, keys: Keys, *, is_explained: bool = False
    ) -> Found:
        """Who signed a commit.

        Args:
            is_explained: whether somebody reads why one is refused, which takes time to say.

        Raises:
            JiemiError: as `verify`.
        """
        signature = _require_signature(commit.signature, verification.kind, "git commit -S")
        found = await keys.verify(commit.payload, signature, commit.committer.time)
        _require_signer(verification, found[0], keys if is_explained else None)
        return found

    async def _tag(self, verification: Verification, objects: SignedObjects, wanted: Advertised, keys: Keys) -> Found:
        if not objects.tags:
            raise JiemiError(
                "TagRequired",
                "it is a lightweight tag, which can't be signed",
                f"Make an annotated one with `git tag -s {_short_name(wanted)}`, and push it.",
            )
        first = read_tag(objects.tags[0])
        if TAGS + first.name.encode() != (wanted.ref or "").encode():
            raise JiemiError(
                "TagMismatch",
                "the tag that is there says that it has another name: it was moved there from that one",
                f"Push a tag that was made as {_short_name(wanted)}, with `git tag -s {_short_name(wanted)}`.",
            )
        _require_chain(first, objects.tags[1:], wanted)
        signature = _require_signature(first.signature, verification.kind, f"git tag -s {first.name}")
        found = await keys.verify(first.payload, signature, first.tagger.time if first.tagger is not None else None)
        _require_signer(verification, found[0], keys)
        return found


async def _read_commit(data: bytes, revision: str) -> Commit:
    async def read() -> Commit:
        return read_commit(data, revision)

    return await _about(f"commit {revision[:_SHORT]}", read())


async def _about(what: str, work: Awaitable[T]) -> T:
    """What it gives; a failure with what it is about in front."""
    try:
        return await work
    except JiemiError as error:
        if error.failure.reason not in UNVERIFIED:
            raise
        raise JiemiError.of(error.failure.at(what)) from error


def _require_chain(first: Tag, others: Iterable[bytes], wanted: Advertised) -> None:
    """A tag may name a tag, and so on. The store has read each by the hash that the one before gives."""
    last = first
    for data in others:
        last = read_tag(data)
    if (last.type, last.object) != ("commit", wanted.revision):
        raise JiemiError(
            "TagMismatch",
            f"it does not lead to commit {wanted.revision[:_SHORT]}, which the host names with it",
            "Push the tag again. If it stays, the host answers with things that do not belong together.",
        )


def _require_signature(signature: bytes | None, kind: SignatureKind, how: str) -> bytes:
    if signature is None:
        raise JiemiError("SignatureMissing", "it is not signed", f"Sign it with `{how}`, by a key in the Secret.")
    text = signature.lstrip()
    if text.startswith(_BEGIN[kind]):
        return signature
    if text.startswith(_X509):
        raise JiemiError(
            "SignatureInvalid",
            "its signature is an X.509 one (S/MIME), which is not verified here",
            "Sign it with a pgp or ssh key (`git config gpg.format openpgp` or `ssh`).",
        )
    other = next((each for each in SignatureKind if text.startswith(_BEGIN[each])), None)
    if other is None:
        raise JiemiError("SignatureInvalid", "its signature has no form that git makes", f"Sign it with `{how}`.")
    raise JiemiError(
        "SignatureInvalid",
        f"its signature is of {other.value}, and spec.source.repository.verify.provider is {kind.value}",
        f"Set the provider to {other.value} with such keys in the Secret, or sign with a {kind.value} key.",
    )


def _require_signer(verification: Verification, signer: Signer, keys: Keys | None) -> None:
    """Refuse a signer whose key is there, where the policy names others.

    Args:
        keys: those among which a name of the policy that nobody has is looked for; None where nobody reads the message.
    """
    patterns = verification.signers
    names = (signer.name, signer.key, *signer.name.split(","))
    if not patterns or any(matches(name, pattern) for name in names for pattern in patterns):
        return
    what = f"it is signed by {signer.name} ({signer.key}), which is not in {_SIGNERS}"
    there = keys.names() if keys is not None else ()
    nobody = next((each for each in patterns if there and "*" not in each and each not in there), None)
    if keys is None or nobody is None:
        raise JiemiError("SignerNotAllowed", what, "Have one of those sign it, or add the signer there.")
    primary = keys.primary_of(nobody)
    if primary is not None:
        raise JiemiError(
            "SignerNotAllowed",
            f"{what}; {nobody} there is the fingerprint of a subkey",
            f"Write that of the primary key in its place: {primary}.",
        )
    raise JiemiError(
        "SignerNotAllowed",
        f"{what}; signers has {nobody[:_MAX_SHOWN]!r}, and no key of the Secret is called that",
        f"Correct the name: the Secret has {some_of(nobody, there)}. Or have one of the signers sign it.",
    )


def _require_people(verification: Verification, commit: Commit, revision: str) -> None:
    people: tuple[tuple[str, Person, tuple[str, ...]], ...] = (
        ("author", commit.author, verification.authors),
        ("committer", commit.committer, verification.committers),
    )
    for what, person, patterns in people:
        email = person.email.lower()
        if patterns and not any(matches(email, pattern.lower()) for pattern in patterns):
            raise JiemiError(
                "SignerNotAllowed",
                f"commit {revision[:_SHORT]}: its {what} {person.email[:100]} is not in "
                f"spec.source.repository.verify.{what}s",
                f"Add the address there, or commit with another {what}.",
            )


def _short_name(wanted: Advertised) -> str:
    return (wanted.ref or "").removeprefix(TAGS.decode())


@attrs.frozen
class _PgpKeys:
    ring: PgpRing

    async def verify(self, payload: bytes, signature: bytes, at: int | None) -> Found:
        found = await self.ring.verify(payload, signature)
        return found.signer, found.valid_until

    def names(self) -> tuple[str, ...]:
        names = self.ring.names()
        return names if len(names) <= _MOST_NAMES else ()

    def primary_of(self, subkey: str) -> str | None:
        return self.ring.primary_of(subkey)


@attrs.frozen
class _SshKeys:
    allowed: AllowedSigners
    now: Callable[[], float]

    def __attrs_post_init__(self) -> None:
        if not self.allowed.signers:
            left_out = " that is taken here: certificates (cert-authority) and DSA keys are not"
            raise JiemiError(
                "VerificationKeysInvalid",
                f"there is no public key{left_out if self.allowed.left_out else ''}",
                "Put the signers' public keys there, as NAME.pub or in an allowed_signers file.",
            )

    async def verify(self, payload: bytes, signature: bytes, at: int | None) -> Found:
        read = read_signature(signature)
        key = fingerprint(read.public_key)
        same = [each for each in self.allowed.signers if each.key == read.public_key]
        if not same:
            raise _unknown(read.public_key, key)
        require_good(read, payload)
        now = int(self.now())
        refusals = []
        for each in same:
            refusal = each.refusal((now,) if at is None else (now, at))
            if refusal is None:
                return Signer(each.name, key), each.valid_before
            refusals.append(refusal)
        raise refusals[0]

    def names(self) -> tuple[str, ...]:
        if len(self.allowed.signers) > _MOST_NAMES:
            return ()
        called = [name for each in self.allowed.signers for name in (each.name, *each.name.split(","))]
        return (*dict.fromkeys(called), *(fingerprint(each.key) for each in self.allowed.signers))

    def primary_of(self, subkey: str) -> str | None:
        return None


def _unknown(blob: bytes, key: str) -> JiemiError:
    with contextlib.suppress(SshFormatError):
        if type_of(blob).endswith(CERTIFICATE):
            return JiemiError(
                "SignerUnknown",
                "it is signed with an ssh certificate, which is not verified here",
                "Sign it with a plain key that is in the Secret.",
            )
    return JiemiError("SignerUnknown", f"it is signed by the ssh key {key}, {NOT_THERE}")
