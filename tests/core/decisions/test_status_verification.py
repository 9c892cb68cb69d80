"""What is said of signatures, and when."""

from __future__ import annotations

import datetime

import attrs

from jiemi.core.api.decryptor_status import VerificationStatus
from jiemi.core.decisions.conditions import condition
from jiemi.core.decisions.status import blank
from jiemi.core.decisions.status_verification import with_unverified, with_verified, without_verification
from jiemi.core.errors import Failure

NOW = datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(hours=1)
BY_ANN = VerificationStatus("a" * 40, "TagAndCommit", "ann", "SHA256:x", "refs/tags/v1", "bob", "SHA256:y")


def test_who_signed_is_said_in_one_sentence_and_stays_as_it_is_while_nothing_changes() -> None:
    first = with_verified(blank("f"), BY_ANN, generation=1, now=NOW)
    said = condition(first, "SourceVerified")
    assert said is not None
    assert (said.status, said.reason) == ("True", "Verified")
    assert said.message == (
        f"commit {'a' * 12} is signed by ann (SHA256:x); tag refs/tags/v1 is signed by bob (SHA256:y)"
    )
    assert with_verified(first, BY_ANN, generation=1, now=LATER) == first


def test_a_revision_that_is_not_verified_leaves_who_signed_the_last_one_that_was() -> None:
    first = with_verified(blank("f"), BY_ANN, generation=1, now=NOW)
    failure = Failure("SignerUnknown", "commit bbb: it is signed by the key z")
    after = with_unverified(first, failure, generation=1, now=LATER)
    said = condition(after, "SourceVerified")
    assert said is not None
    assert (said.status, said.reason, said.message) == ("False", "SignerUnknown", failure.text)
    assert said.last_transition_time == "2026-11-29T13:00:00Z"
    assert after.verification == BY_ANN


def test_nothing_is_said_where_nothing_must_be_signed() -> None:
    before = blank("f")
    assert without_verification(before) is before
    assert without_verification(with_verified(before, BY_ANN, generation=1, now=NOW)) == before
    only = attrs.evolve(before, verification=BY_ANN)
    assert without_verification(only) == before
