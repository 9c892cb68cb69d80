"""What is said of signatures: status.verification, and the condition SourceVerified.

They are about the newest revision that was looked at, which is the one that is deployed once it is. A revision that is
not verified leaves status.verification as it is: it says who signed the last one that was.
"""

from __future__ import annotations

import datetime

import attrs

from jiemi.core.api.conditions import SOURCE_VERIFIED
from jiemi.core.api.decryptor_status import Condition, DecryptorStatus, VerificationStatus
from jiemi.core.decisions.conditions import condition, rfc3339, with_condition, without_condition
from jiemi.core.errors import Failure

_SHORT = 12


def with_verified(
    before: DecryptorStatus, found: VerificationStatus, *, generation: int, now: datetime.datetime
) -> DecryptorStatus:
    """The status once a revision is verified."""
    parts = []
    if found.signer is not None:
        parts.append(f"commit {found.revision[:_SHORT]} is signed by {found.signer} ({found.key})")
    if found.tag_signer is not None:
        parts.append(f"tag {found.tag} is signed by {found.tag_signer} ({found.tag_key})")
    message = "; ".join(parts)
    good = Condition(SOURCE_VERIFIED, "True", "Verified", message, rfc3339(now), generation)
    return attrs.evolve(before, verification=found, conditions=with_condition(before, good))


def with_unverified(
    before: DecryptorStatus, failure: Failure, *, generation: int, now: datetime.datetime
) -> DecryptorStatus:
    """The status once a revision is found not to be signed as the spec wants it."""
    bad = Condition(SOURCE_VERIFIED, "False", failure.reason, failure.text, rfc3339(now), generation)
    return attrs.evolve(before, conditions=with_condition(before, bad))


def without_verification(before: DecryptorStatus) -> DecryptorStatus:
    """The status of a Decryptor that wants nothing signed; the same where it says nothing of signatures."""
    if before.verification is None and condition(before, SOURCE_VERIFIED) is None:
        return before
    return attrs.evolve(before, verification=None, conditions=without_condition(before, SOURCE_VERIFIED))
