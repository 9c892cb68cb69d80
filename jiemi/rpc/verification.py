"""What a repository's revisions must be signed by, and what was found of one. See `jiemi.rpc.contract`."""

from __future__ import annotations

import enum
import hashlib

import attrs

MAX_VERIFICATION_BYTES = 512 * 1024
"""The most bytes of all public keys of one repository together. A pgp key with many signatures has 100 KiB."""

MAX_VERIFICATION_KEYS = 200
"""The most entries of the Secret with the public keys. Each pgp one is imported by a run of gpg."""

MAX_HISTORY_COMMITS = 1_000
"""The most commits that are looked through for the signers of a file."""


class VerifyMode(enum.Enum):
    """What must be signed."""

    COMMIT = "Commit"
    TAG = "Tag"
    TAG_AND_COMMIT = "TagAndCommit"

    @property
    def wants_commit(self) -> bool:
        return self is not VerifyMode.TAG

    @property
    def wants_tag(self) -> bool:
        return self is not VerifyMode.COMMIT


class SignatureKind(enum.Enum):
    """How it must be signed."""

    PGP = "pgp"
    SSH = "ssh"


@attrs.frozen
class PublicKeys:
    """One entry of the Secret with the public keys.

    Attributes:
        name: its key in the Secret: `author1.asc`, `allowed_signers`, `alice.pub`.
        data: what is there. It should be public, but it is not shown: somebody may have put a private key there.
    """

    name: str
    data: bytes = attrs.field(repr=False)


@attrs.frozen
class Verification:
    """What a revision must be signed by before any of its files is opened.

    Attributes:
        mode: what must be signed.
        kind: how.
        keys: the public keys of which one must have signed, at least one entry.
        signers: patterns of the signers that count, by name or fingerprint; empty for all whose keys are there.
        authors, committers: patterns of the email addresses that the commit may have; empty for all.
        minimum_signers: how many different signers each file's present form must have.
        history_commits: how many commits are looked through for them.
    """

    mode: VerifyMode
    kind: SignatureKind
    keys: tuple[PublicKeys, ...]
    signers: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    committers: tuple[str, ...] = ()
    minimum_signers: int = 1
    history_commits: int = 100

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        patterns = (*self.signers, *self.authors, *self.committers)
        return sum(len(each.data) + len(each.name) for each in self.keys) + sum(map(len, patterns))

    def digest(self) -> str:
        """What stands for all of it: equal only where everything is."""
        found = hashlib.sha256(repr(attrs.evolve(self, keys=())).encode("utf-8", "surrogateescape"))
        for each in self.keys:
            name = each.name.encode("utf-8", "surrogateescape")
            found.update(b"%d %d\0" % (len(name), len(each.data)) + name + each.data)
        return found.hexdigest()


@attrs.frozen
class Signer:
    """Who signed, by the public keys that were given.

    Attributes:
        name: for pgp the key in the Secret, for ssh the principals of the line, or the key in the Secret without .pub.
        key: fingerprint, of a pgp key that of its primary key.
    """

    name: str
    key: str


@attrs.frozen
class Verified:
    """A revision whose signatures are good.

    Attributes:
        revision: the commit.
        commit: who signed the commit; None where that was not asked.
        tag: who signed the tag; None where that was not asked.
        ref: full name of the tag that was verified.
        valid_until: when the first of the keys and signatures expires, in seconds since the epoch; None for never.
    """

    revision: str
    commit: Signer | None = None
    tag: Signer | None = None
    ref: str | None = None
    valid_until: int | None = None
