"""spec.source.repository.verify: what revisions must be signed by before a file of theirs is opened."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from jiemi.core.api.fields import FieldError, Rule, api

MODES = ("Commit", "Tag", "TagAndCommit")
PROVIDERS = ("pgp", "ssh")
_MAX_SIGNERS = 10
_MAX_HISTORY = 1_000

HISTORY_RULE = Rule(
    "!has(self.historyCommits) || (has(self.minimumSigners) && self.minimumSigners > 1)",
    "historyCommits is for minimumSigners: give that too",
)


def _patterns(description: str) -> Any:
    return api(
        f"{description} * matches any characters. The default is all.",
        default=None,
        minItems=1,
        maxItems=100,
        items={"minLength": 1, "maxLength": 253},
    )


@attrs.frozen
class RepositoryVerification:
    """What revisions must be signed by."""

    RULES: ClassVar[tuple[Rule, ...]] = (HISTORY_RULE,)

    provider: str = api("Kind of the signatures and keys: pgp or ssh.", enum=list(PROVIDERS))
    secret_name: str = api(
        "Name of a Secret in the Decryptor's namespace with the public keys of those whose signatures count. For pgp "
        "each entry is a public key or several (gpg --export), for ssh an allowed_signers file (ssh-keygen(1)), or one "
        "public key if its name ends with .pub.",
        minLength=1,
        maxLength=253,
    )
    mode: str = api(
        "What must be signed: the Commit that is deployed, the Tag that ref names, or TagAndCommit. The default is "
        "Commit.",
        default="Commit",
        enum=list(MODES),
    )
    signers: tuple[str, ...] | None = _patterns(
        "Signers that count, of those whose keys are in the Secret: a fingerprint, an ssh principal, or the name of "
        "the key's entry in the Secret."
    )
    authors: tuple[str, ...] | None = _patterns("Email addresses that the author of the commit may have.")
    committers: tuple[str, ...] | None = _patterns("Email addresses that the committer of the commit may have.")
    minimum_signers: int = api(
        "Number of different signers that each file's present form must have: of the commits that brought the file "
        "into that form, merges included. The default is 1, for which only the newest commit counts.",
        default=1,
        minimum=1,
        maximum=_MAX_SIGNERS,
    )
    history_commits: int | None = api(
        "Number of commits that are looked through for the signers of a file. The default is 100.",
        default=None,
        minimum=1,
        maximum=_MAX_HISTORY,
    )

    def __attrs_post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise FieldError("must be pgp or ssh @ provider")
        if self.mode not in MODES:
            raise FieldError("must be Commit, Tag or TagAndCommit @ mode")
        for name in ("signers", "authors", "committers"):
            if getattr(self, name) == ():
                raise FieldError(f"must not be empty @ {name}", "List those that are allowed, or leave the field out.")
        if not 1 <= self.minimum_signers <= _MAX_SIGNERS:
            raise FieldError(f"must be 1 to {_MAX_SIGNERS} @ minimumSigners")
        if self.history_commits is not None:
            if not 1 <= self.history_commits <= _MAX_HISTORY:
                raise FieldError(f"must be 1 to {_MAX_HISTORY} @ historyCommits")
            if self.minimum_signers == 1:
                raise FieldError(HISTORY_RULE.message)

    @property
    def wants_tag(self) -> bool:
        """Whether a tag must be signed."""
        return self.mode != "Commit"
