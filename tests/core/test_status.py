"""What status says after each outcome."""

from __future__ import annotations

import datetime

import attrs

from jiemi.core.decryptor_status import HISTORY_LIMIT, DecryptorStatus, EncryptionStatus
from jiemi.core.errors import Failure
from jiemi.core.status import Facts, after_failure, after_sync, is_current, with_warnings

A, B = "a" * 40, "b" * 40
DENIED = Failure("RepositoryAccessDenied", "git.example refuses the token")


def _at(minute: int) -> datetime.datetime:
    return datetime.datetime(2026, 11, 24, 3, minute, 0, 999, tzinfo=datetime.UTC)


def _synced(before: DecryptorStatus | None, revision: str, minute: int = 0, generation: int = 1) -> DecryptorStatus:
    return after_sync(before, generation=generation, revision=revision, file="f.yaml", now=_at(minute))


def _failed(before: DecryptorStatus | None, failure: Failure = DENIED, minute: int = 0) -> DecryptorStatus:
    return after_failure(before, generation=1, file="f.yaml", failure=failure, attempted_revision=None, now=_at(minute))


def test_the_first_deployment_has_id_1_and_no_history() -> None:
    status = _synced(None, A)
    assert (status.current.id, status.current.revision, status.current.status) == (1, A, "Sync")
    assert status.current.deployed_at == "2026-11-24T03:00:00Z"
    assert status.history == ()
    [ready] = status.conditions
    assert (ready.type, ready.status, ready.reason, ready.observed_generation) == ("Ready", "True", "Synced", 1)


def test_a_new_revision_counts_and_sends_the_old_one_to_the_history() -> None:
    status = _synced(_synced(None, A), B, 1)
    assert (status.current.id, status.current.revision) == (2, B)
    assert [(record.id, record.revision, record.status) for record in status.history] == [(1, A, "Sync")]


def test_the_history_keeps_the_newest_ten() -> None:
    status = _synced(None, A)
    for number in range(15):
        status = _synced(status, (B, A)[number % 2], number + 1)
    assert status.current.id == 16
    assert [record.id for record in status.history] == list(range(16 - HISTORY_LIMIT, 16))


def test_going_back_to_an_older_revision_is_a_deployment_too() -> None:
    status = _synced(_synced(_synced(None, A), B), A)
    assert (status.current.id, status.current.revision) == (3, A)


def test_a_failure_keeps_the_deployment_and_says_why() -> None:
    status = _failed(_synced(None, A), minute=5)
    assert (status.current.id, status.current.revision, status.current.status) == (1, A, "NotSync")
    assert status.current.deployed_at == "2026-11-24T03:00:00Z"
    assert status.current.error_message == "RepositoryAccessDenied: git.example refuses the token"
    [ready] = status.conditions
    assert (ready.status, ready.reason, ready.last_transition_time) == (
        "False",
        "RepositoryAccessDenied",
        "2026-11-24T03:05:00Z",
    )


def test_a_failure_before_the_first_deployment_has_id_0() -> None:
    current = _failed(None).current
    assert (current.id, current.revision, current.deployed_at, current.status) == (0, "", None, "NotSync")
    assert _synced(_failed(None), A).current.id == 1
    assert _synced(_failed(None), A).history == ()


def test_the_same_failure_again_changes_nothing() -> None:
    once = _failed(_synced(None, A), minute=1)
    assert _failed(once, minute=2) == once


def test_another_failure_keeps_the_time_since_when_it_is_not_ready() -> None:
    status = _failed(_failed(None, minute=1), Failure("HostUnreachable", "no route"), minute=2)
    [ready] = status.conditions
    assert (ready.reason, ready.last_transition_time) == ("HostUnreachable", "2026-11-24T03:01:00Z")


def test_recovery_at_the_same_revision_is_no_new_deployment() -> None:
    deployed = _synced(None, A)
    recovered = _synced(_failed(deployed, minute=1), A, 2)
    assert recovered.current == deployed.current
    assert recovered.history == ()


def test_a_failed_deployment_in_between_leaves_the_history_good() -> None:
    status = _synced(_failed(_synced(None, A)), B, 3)
    assert [(record.id, record.status, record.error_message) for record in status.history] == [(1, "Sync", None)]


def test_the_attempted_revision_is_kept_until_another_is_tried() -> None:
    tried = after_failure(_synced(None, A), generation=1, file="f", failure=DENIED, attempted_revision=B, now=_at(1))
    assert tried.last_attempted_revision == B
    assert _failed(tried).last_attempted_revision == B


def test_current_means_that_revision_under_that_spec_and_well() -> None:
    status = _synced(None, A, generation=2)
    assert is_current(status, generation=2, revision=A)
    assert not is_current(status, generation=3, revision=A)
    assert not is_current(status, generation=2, revision=B)
    assert not is_current(None, generation=2, revision=A)
    assert not is_current(_failed(attrs.evolve(status, observed_generation=1)), generation=1, revision=A)


def test_a_key_that_has_expired_is_told_as_such_and_one_that_was_extended_no_more() -> None:
    now = datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC)

    def warned(expires: str | None, before: DecryptorStatus | None = None) -> DecryptorStatus:
        facts = Facts(EncryptionStatus(("pgp A",), key_expires_at=expires))
        return after_sync(before, generation=1, revision="a" * 40, file="f", now=now, facts=facts)

    def reasons(status: DecryptorStatus) -> dict[str, str]:
        return {each.type: each.reason for each in status.conditions}

    assert reasons(warned("2026-11-25T00:00:00Z"))["KeyExpiring"] == "Expired"
    soon = warned("2026-12-25T00:00:00Z")
    assert reasons(soon)["KeyExpiring"] == "Expiring"
    assert with_warnings(soon, generation=1, now=now) == soon
    assert "KeyExpiring" not in reasons(warned("2026-12-26T00:00:00Z", soon))
    assert "KeyExpiring" not in reasons(warned(None, soon))
