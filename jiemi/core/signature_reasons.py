"""The rows of the table of reasons that are about signatures (spec.source.repository.verify)."""

from __future__ import annotations

from collections.abc import Mapping

from jiemi.core.reason_kinds import ReasonInfo
from jiemi.core.reason_kinds import stalled as _stalled

UNVERIFIED = frozenset(
    {
        *("SignatureMissing", "SignatureInvalid", "SignerUnknown", "SignerExpired", "SignerRevoked"),
        *("SignerNotAllowed", "TagRequired", "TagMismatch", "TooFewSigners", "HistoryMissing"),
    }
)
"""Reasons for which a revision is not trusted (spec.source.repository.verify)."""

SIGNATURE_REASONS: Mapping[str, ReasonInfo] = {
    "VerificationKeysInvalid": _stalled(
        "The Secret that `verify` names has no public keys, something that can't be read as one, or a private key.",
        "Put the signers' public keys into the Secret, and nothing else. The message names the entry.",
    ),
    "SignatureMissing": _stalled(
        "The newest commit or tag is not signed, and `verify` requires a signature. What is deployed stays.",
        "Sign it (`git commit -S`, `git tag -s`) with a key in the Secret, and push it.",
    ),
    "SignatureInvalid": _stalled(
        "The signature of the newest commit or tag does not match it, or is of a kind that is not accepted: for "
        "another namespace than git, several at once, over a weak hash, of another provider. What is deployed stays.",
        "Sign it again as the message says. If nobody on your team made this change, find out who did.",
    ),
    "SignerUnknown": _stalled(
        "The newest commit or tag is signed by a key that is not in the Secret that `verify` names. What is deployed "
        "stays.",
        "Have it signed by a key that is there. Add the key to the Secret only if you trust its owner.",
    ),
    "SignerExpired": _stalled(
        "The key that signed the newest commit or tag, or the signature, is not valid now. What is deployed stays.",
        "Sign with a key that is valid, or put the prolonged public key into the Secret.",
    ),
    "SignerRevoked": _stalled(
        "The key that signed the newest commit or tag is revoked. What is deployed stays.",
        "Find out whether the key was stolen. Then sign with another key that is in the Secret.",
    ),
    "SignerNotAllowed": _stalled(
        "`verify` does not allow the signer, author or committer of the newest commit. What is deployed stays.",
        "Have somebody commit and sign it whom `signers`, `authors` and `committers` allow.",
    ),
    "TagRequired": _stalled(
        "`verify.mode` requires a signed tag, and what is followed is a lightweight tag or no tag. What is deployed "
        "stays.",
        "Make the tag with `git tag -s`, or set `verify.mode` to Commit.",
    ),
    "TagMismatch": _stalled(
        "The tag is another one than the followed ref names, or leads to another commit. What is deployed stays.",
        "Make the tag again with `git tag -s NAME`. If nobody on your team moved it, find out who did.",
    ),
    "TooFewSigners": _stalled(
        "Fewer different signers than `verify.minimumSigners` have signed a file in its present form. What is deployed "
        "stays.",
        "Have another signer merge the commit with `git merge --no-ff -S`.",
    ),
    "HistoryMissing": _stalled(
        "The signers of a file can't be counted, because its last change is further back than `verify.historyCommits`, "
        "or the host does not give the commits before. What is deployed stays.",
        "Raise `verify.historyCommits`, or have the file's present form signed again.",
    ),
}
