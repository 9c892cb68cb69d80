"""What status says after each outcome, and that nothing in it moves without a reason."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.api.decryptor_status import (
    HISTORY_LIMIT,
    Condition,
    DecryptorStatus,
    EncryptionStatus,
    FileStatus,
    InventoryEntry,
    ObjectFailure,
    PlanStatus,
)
from jiemi.core.api.fields import structure, unstructure
from jiemi.core.decisions.conditions import condition, is_ready
from jiemi.core.decisions.status import (
    after_failure,
    after_plan,
    after_sync,
    blank,
    while_reconciling,
    while_suspended,
    while_waiting,
    with_drift,
    with_summary,
)
from jiemi.core.decisions.status_facts import Facts, with_facts
from jiemi.core.decisions.status_warnings import with_warnings
from jiemi.core.errors import Failure
from jiemi.core.reasons import REASONS, Kind

A, B = "a" * 40, "b" * 40
BLANK = blank("f.yaml")
DENIED = Failure("RepositoryAccessDenied", "git.example refuses the token")
UNREACHABLE = Failure("HostUnreachable", "no route")
NOT_READY = Failure("DependencyNotReady", "Decryptor a/b is not ready")
PLAN = PlanStatus(B, created=1, changed=2, pruned=0, unchanged=7)
DRIFT = ("True", "Reported", "Secret default/app was changed by field manager kubectl-edit")


def _at(minute: int) -> datetime.datetime:
    return datetime.datetime(2026, 11, 24, 3, minute, 0, 999, tzinfo=datetime.UTC)


def _time(minute: int) -> str:
    return f"2026-11-24T03:{minute:02}:00Z"


def _synced(
    before: DecryptorStatus, revision: str, minute: int = 0, generation: int = 1, file: str = "f.yaml"
) -> DecryptorStatus:
    return after_sync(before, generation=generation, revision=revision, file=file, now=_at(minute))


def _failed(
    before: DecryptorStatus,
    failure: Failure = DENIED,
    minute: int = 0,
    generation: int = 1,
    attempted: str | None = None,
) -> DecryptorStatus:
    return after_failure(before, generation=generation, failure=failure, attempted_revision=attempted, now=_at(minute))


def _planned(before: DecryptorStatus, minute: int = 0, generation: int = 1, plan: PlanStatus = PLAN) -> DecryptorStatus:
    return after_plan(before, plan, generation=generation, now=_at(minute))


def _reconciling(before: DecryptorStatus, minute: int = 0, generation: int = 1) -> DecryptorStatus:
    return while_reconciling(before, "3 objects are being applied", generation=generation, now=_at(minute))


def _waiting(before: DecryptorStatus, minute: int = 0, generation: int = 1) -> DecryptorStatus:
    return while_waiting(before, "Deployment default/x: 0 of 1", generation=generation, now=_at(minute))


def _suspended(before: DecryptorStatus, minute: int = 0, generation: int = 1) -> DecryptorStatus:
    return while_suspended(before, generation=generation, now=_at(minute))


def _drifted(before: DecryptorStatus, found: tuple[str, str, str] | None = DRIFT, minute: int = 0) -> DecryptorStatus:
    return with_drift(before, found, generation=1, now=_at(minute))


def _types(status: DecryptorStatus) -> dict[str, str]:
    """The conditions as "True Synced"."""
    assert len({each.type for each in status.conditions}) == len(status.conditions)
    return {each.type: f"{each.status} {each.reason}" for each in status.conditions}


def _since(status: DecryptorStatus, kind: str) -> str:
    found = condition(status, kind)
    assert found is not None
    return found.last_transition_time


# --- deployments


def test_nothing_is_known_of_a_new_decryptor() -> None:
    assert (BLANK.current.id, BLANK.current.revision, BLANK.current.deployed_at) == (0, "", None)
    assert (BLANK.current.status, BLANK.current.file_to_decrypt, BLANK.conditions) == ("NotSync", "f.yaml", ())
    assert BLANK.observed_generation is None


def test_the_first_deployment_has_id_1_and_no_history() -> None:
    status = _synced(BLANK, A)
    assert (status.current.id, status.current.revision, status.current.status) == (1, A, "Sync")
    assert status.current.deployed_at == "2026-11-24T03:00:00Z"
    assert status.history == ()
    [ready] = status.conditions
    assert (ready.type, ready.status, ready.reason, ready.observed_generation) == ("Ready", "True", "Synced", 1)
    assert (status.observed_generation, status.last_attempted_revision) == (1, A)


def test_a_new_revision_counts_and_sends_the_old_one_to_the_history() -> None:
    status = _synced(_synced(BLANK, A), B, 1)
    assert (status.current.id, status.current.revision) == (2, B)
    assert [(record.id, record.revision, record.status) for record in status.history] == [(1, A, "Sync")]


def test_other_files_of_the_same_revision_are_another_deployment() -> None:
    status = _synced(_synced(BLANK, A), A, 1, file="other.yaml")
    assert (status.current.id, status.current.file_to_decrypt) == (2, "other.yaml")
    assert [record.file_to_decrypt for record in status.history] == ["f.yaml"]


def test_the_history_keeps_the_newest_ten() -> None:
    status = _synced(BLANK, A)
    for number in range(15):
        status = _synced(status, (B, A)[number % 2], number + 1)
    assert status.current.id == 16
    assert [record.id for record in status.history] == list(range(16 - HISTORY_LIMIT, 16))


def test_going_back_to_an_older_revision_is_a_deployment_too() -> None:
    status = _synced(_synced(_synced(BLANK, A), B), A)
    assert (status.current.id, status.current.revision) == (3, A)


def test_recovery_at_the_same_revision_is_no_new_deployment() -> None:
    deployed = _synced(BLANK, A)
    recovered = _synced(_failed(deployed, minute=1), A, 2)
    assert recovered.current == deployed.current
    assert recovered.history == ()


def test_a_failed_deployment_in_between_leaves_the_history_good() -> None:
    status = _synced(_failed(_synced(BLANK, A)), B, 3)
    assert [(record.id, record.status, record.error_message) for record in status.history] == [(1, "Sync", None)]


def test_the_same_deployment_again_changes_nothing() -> None:
    once = _synced(BLANK, A, 1)
    assert _synced(once, A, 2) == once


def test_a_deployment_forgets_what_was_refused_and_planned_and_keeps_what_was_learnt() -> None:
    learnt = attrs.evolve(
        BLANK,
        files=(FileStatus("f.yaml", "1"),),
        inventory=(InventoryEntry("v1", "Secret", "x"),),
        failed_objects=(ObjectFailure("Secret", "x", "ApplyRejected", "…"),),
        plan=PLAN,
        vault_address="https://vault.example",
        last_handled_reconcile_at="now",
    )
    status = _synced(learnt, A)
    assert (status.failed_objects, status.plan) == ((), None)
    for name in ("files", "inventory", "vault_address", "last_handled_reconcile_at"):
        assert getattr(status, name) == getattr(learnt, name)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (0, "apps/** of revision aaaaaaaaaaaa is applied"),
        (1, "0 (3 objects) of revision aaaaaaaaaaaa is applied"),
        (2, "2 files (3 objects) of revision aaaaaaaaaaaa are applied"),
    ],
)
def test_the_message_counts_where_there_are_several_files(files: int, text: str) -> None:
    before = attrs.evolve(
        BLANK,
        files=tuple(FileStatus(f"{number}", "1") for number in range(files)),
        inventory=tuple(InventoryEntry("v1", "Secret", f"{number}") for number in range(3)),
    )
    ready = condition(_synced(before, A, file="apps/**"), "Ready")
    assert ready is not None
    assert ready.message == text


# --- failures


def test_a_failure_keeps_the_deployment_and_says_why() -> None:
    status = _failed(_synced(BLANK, A), minute=5)
    assert (status.current.id, status.current.revision, status.current.status) == (1, A, "NotSync")
    assert status.current.deployed_at == "2026-11-24T03:00:00Z"
    assert status.current.error_message == f"RepositoryAccessDenied: {DENIED.text}"
    ready = condition(status, "Ready")
    assert ready == Condition("Ready", "False", DENIED.reason, DENIED.text, _time(5), 1)
    assert DENIED.remedy in DENIED.text


def test_a_failure_before_the_first_deployment_has_id_0() -> None:
    current = _failed(BLANK).current
    assert (current.id, current.revision, current.deployed_at, current.status) == (0, "", None, "NotSync")
    assert _synced(_failed(BLANK), A).current.id == 1
    assert _synced(_failed(BLANK), A).history == ()


@pytest.mark.parametrize("reason", REASONS)
def test_by_kstatus_a_failure_is_stalled_where_the_user_must_act_and_in_progress_where_it_may_pass(reason: str) -> None:
    failure = Failure(reason, "why")
    other = UNREACHABLE if failure.kind is Kind.STALLED else DENIED
    for before in (BLANK, _synced(BLANK, A), _failed(BLANK, other), _reconciling(BLANK), _suspended(BLANK)):
        found = _types(_failed(before, failure))
        if failure.kind is Kind.STALLED:
            assert found == {"Ready": f"False {reason}", "Stalled": f"True {reason}"}
        else:
            assert found == {"Ready": f"False {reason}", "Reconciling": "True ProgressingWithRetry"}


def test_what_helps_to_wait_for_a_failure_is_told_with_its_message() -> None:
    for failure, kind in ((DENIED, "Stalled"), (UNREACHABLE, "Reconciling"), (NOT_READY, "Reconciling")):
        found = condition(_failed(BLANK, failure, 5, generation=3), kind)
        assert found is not None
        assert (found.message, found.observed_generation) == (failure.text, 3)


@pytest.mark.parametrize("failure", [DENIED, UNREACHABLE, NOT_READY])
def test_the_same_failure_again_changes_nothing(failure: Failure) -> None:
    once = _failed(_synced(BLANK, A), failure, minute=1, attempted=B)
    assert _failed(once, failure, minute=2, attempted=B) == once
    assert _failed(once, failure, minute=2) == once


def test_another_failure_keeps_the_time_since_when_it_is_not_ready() -> None:
    status = _failed(_failed(BLANK, minute=1), UNREACHABLE, minute=2)
    assert _since(status, "Ready") == _time(1)
    assert _since(status, "Reconciling") == _time(2)
    again = _failed(status, Failure("Timeout", "30 s"), minute=3)
    assert (_since(again, "Ready"), _since(again, "Reconciling")) == (_time(1), _time(2))
    assert _since(_synced(again, A, 4), "Ready") == _time(4)


def test_the_attempted_revision_is_kept_until_another_is_tried() -> None:
    tried = _failed(_synced(BLANK, A), attempted=B)
    assert tried.last_attempted_revision == B
    assert _failed(tried).last_attempted_revision == B
    assert _failed(tried, attempted=A).last_attempted_revision == A


def test_a_failure_is_about_the_spec_that_failed() -> None:
    status = _failed(_synced(BLANK, A), generation=2)
    assert status.observed_generation == 2
    assert {each.observed_generation for each in status.conditions} == {2}


# --- plans


def test_a_plan_leaves_the_deployment_as_it_was() -> None:
    deployed = attrs.evolve(_synced(BLANK, A), inventory=(InventoryEntry("v1", "Secret", "x"),))
    status = _planned(deployed, 5, generation=2)
    assert (status.current, status.history, status.inventory) == (deployed.current, (), deployed.inventory)
    assert (status.plan, status.last_attempted_revision, status.observed_generation) == (PLAN, B, 2)
    ready = condition(status, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("True", "Planned")
    assert ready.message == (
        "dry run of revision bbbbbbbbbbbb: 1 to create, 2 to change, 0 to delete, 7 unchanged; "
        "nothing is applied (spec.mode)"
    )
    assert _planned(status, 6, generation=2) == status


def test_a_plan_says_nothing_of_failures_before_it() -> None:
    for failure in (DENIED, UNREACHABLE):
        failed = attrs.evolve(
            _drifted(_failed(_synced(BLANK, A), failure)),
            failed_objects=(ObjectFailure("Secret", "x", "ApplyRejected", "…"),),
        )
        status = _planned(failed)
        assert _types(status) == {"Ready": "True Planned"}
        assert status.failed_objects == ()
        assert status.current.error_message is None
        assert status.current.status == "NotSync"  # nobody applied anything since


def test_a_failure_keeps_the_plan_that_was_made() -> None:
    assert _failed(_planned(BLANK)).plan == PLAN


# --- while something is under way


def test_a_first_deployment_under_way_is_not_ready_yet() -> None:
    assert _types(_reconciling(BLANK)) == {"Ready": "Unknown Reconciling", "Reconciling": "True Deploying"}


def test_a_deployment_under_way_leaves_standing_what_was_said() -> None:
    deployed = _synced(BLANK, A)
    status = _reconciling(deployed, 5, generation=2)
    assert condition(status, "Ready") == condition(deployed, "Ready")
    assert status.observed_generation == 1  # kstatus: in progress until it is the spec's
    assert (status.current, status.last_attempted_revision) == (deployed.current, A)
    found = condition(status, "Reconciling")
    assert found == Condition("Reconciling", "True", "Deploying", "3 objects are being applied", _time(5), 2)
    assert _types(_reconciling(_failed(deployed))) == {
        "Ready": "False RepositoryAccessDenied",
        "Reconciling": "True Deploying",
    }
    assert _types(_reconciling(_suspended(deployed))) == {"Ready": "True Synced", "Reconciling": "True Deploying"}


def test_objects_that_are_waited_for_are_not_ready() -> None:
    deployed = _synced(BLANK, A)
    status = _waiting(deployed, 5)
    assert _types(status) == {"Ready": "Unknown ObjectsNotReady", "Reconciling": "True WaitingForObjects"}
    assert (status.current, status.observed_generation) == (deployed.current, 1)
    assert _since(status, "Ready") == _time(5)
    assert _waiting(status, 6) == status
    assert _types(_waiting(_suspended(_failed(BLANK)))) == _types(status)


def test_what_has_ended_is_under_way_no_more() -> None:
    for under_way in (_reconciling(BLANK), _waiting(_synced(BLANK, A)), _suspended(BLANK), _failed(BLANK)):
        assert _types(_synced(under_way, A)) == {"Ready": "True Synced"}
        assert _types(_planned(under_way)) == {"Ready": "True Planned"}


def test_one_who_is_suspended_says_so_and_what_was_said() -> None:
    for before in (_synced(BLANK, A), _failed(_synced(BLANK, A)), _failed(BLANK, UNREACHABLE), _planned(BLANK)):
        status = _suspended(before, 5, generation=2)
        assert condition(status, "Ready") == condition(before, "Ready")
        assert set(_types(status)) == {"Ready", "Suspended"}
        # That spec was not acted upon.
        assert (status.current, status.observed_generation) == (before.current, before.observed_generation)
        assert _suspended(status, 6, generation=2) == status
    assert _types(_suspended(BLANK)) == {"Ready": "Unknown Suspended", "Suspended": "True SpecSuspend"}
    assert _types(_failed(_suspended(BLANK))) == _types(_failed(BLANK))


# --- drift


def test_drift_is_a_condition_of_its_own() -> None:
    deployed = _synced(BLANK, A)
    status = _drifted(deployed, minute=5)
    assert _types(status) == {"Ready": "True Synced", "Drifted": "True Reported"}
    assert attrs.evolve(status, conditions=deployed.conditions) == deployed
    assert _drifted(status, minute=6) == status
    assert _drifted(status, None) == deployed
    assert _drifted(deployed, None) == deployed


def test_drift_that_may_be_there_is_unknown_since_then() -> None:
    status = _drifted(_drifted(BLANK, minute=5), ("True", "DriftConflict", "again"), minute=6)
    assert (_types(status)["Drifted"], _since(status, "Drifted")) == ("True DriftConflict", _time(5))
    status = _drifted(status, ("Unknown", "WatchForbidden", "may not watch"), minute=7)
    assert (_types(status)["Drifted"], _since(status, "Drifted")) == ("Unknown WatchForbidden", _time(7))


def test_a_long_tale_of_drift_is_cut() -> None:
    found = condition(_drifted(BLANK, ("True", "Reported", "x" * 5_000)), "Drifted")
    assert found is not None
    assert found.message == "x" * 1_000


def test_drift_stays_told_whatever_comes_of_a_tick() -> None:
    drifted = _drifted(_synced(BLANK, A))
    for after in (_synced(drifted, B), _failed(drifted), _reconciling(drifted), _waiting(drifted), _suspended(drifted)):
        assert _types(after)["Drifted"] == "True Reported"
    assert "Drifted" not in _types(_planned(drifted))  # it is in the plan


# --- what is read from a status


def test_ready_means_of_this_spec() -> None:
    status = _synced(BLANK, A, generation=2)
    assert is_ready(status, 2)
    assert not is_ready(status, 1)
    assert not is_ready(status, 3)
    assert not is_ready(None, 2)
    assert not is_ready(BLANK, 0)
    assert not is_ready(_failed(status, generation=2), 2)
    assert not is_ready(_waiting(status, generation=2), 2)
    assert not is_ready(_reconciling(status, generation=3), 3)
    assert is_ready(_planned(status, generation=2), 2)
    assert is_ready(_drifted(status), 2)


def test_a_condition_is_found_by_its_type() -> None:
    assert condition(None, "Ready") is None
    assert condition(BLANK, "Ready") is None
    assert condition(_failed(BLANK), "Suspended") is None


# --- warnings and facts


def _warned(expires: str | None, before: DecryptorStatus = BLANK, minute: int = 0) -> DecryptorStatus:
    facts = Facts(EncryptionStatus(("pgp A",), key_expires_at=expires))
    return _synced(with_facts(before, facts), A, minute)


def test_a_key_that_has_expired_is_told_as_such_and_one_that_was_extended_no_more() -> None:
    assert _types(_warned("2026-11-24T03:00:00Z"))["KeyExpiring"] == "True Expired"
    assert _types(_warned("2026-11-24T03:00:01Z"))["KeyExpiring"] == "True Expiring"
    soon = _warned("2026-12-24T03:00:00Z")
    assert _types(soon)["KeyExpiring"] == "True Expiring"
    assert with_warnings(soon, generation=1, now=_at(0)) == soon
    assert "KeyExpiring" not in _types(_warned("2026-12-24T03:00:01Z", soon))
    assert "KeyExpiring" not in _types(_warned(None, soon))


def test_a_warning_is_told_as_of_when_it_was_first_given() -> None:
    soon = _warned("2026-11-24T03:30:00Z", minute=1)
    assert _since(_warned("2026-11-24T03:30:00Z", soon, 45), "KeyExpiring") == _time(1)


def test_recipients_that_the_config_does_not_name_are_told_the_first_ones() -> None:
    names = tuple(f"age age1{number}" for number in range(7))
    facts = Facts(EncryptionStatus(names, stale_recipients=names))
    found = condition(_synced(with_facts(BLANK, facts), A), "StaleRecipients")
    assert found is not None
    assert "age age14 and 2 more," in found.message
    assert "age age15" not in found.message


def test_a_vault_that_nothing_names_is_told() -> None:
    learnt = with_facts(BLANK, Facts(EncryptionStatus(), "https://vault.example"))
    assert learnt.vault_address == "https://vault.example"
    assert _types(_synced(learnt, A))["VaultAddressTrusted"] == "True FirstUse"
    assert _types(_failed(learnt))["VaultAddressTrusted"] == "True FirstUse"
    named = with_facts(_synced(learnt, A), Facts(EncryptionStatus()))
    assert _types(_synced(named, A)) == {"Ready": "True Synced"}
    assert with_facts(learnt, None) is learnt


def test_warnings_that_stay_the_same_move_nothing_around_them() -> None:
    soon = _warned("2026-11-24T04:00:00Z")
    for status in (_drifted(soon), _suspended(soon), _reconciling(soon)):
        assert with_warnings(status, generation=1, now=_at(5)) == status


# --- for all of them


Step = Callable[[DecryptorStatus, int], DecryptorStatus]
_STEPS: dict[str, Step] = {
    "sync a": lambda status, minute: _synced(status, A, minute),
    "sync b": lambda status, minute: _synced(status, B, minute),
    "denied": lambda status, minute: _failed(status, DENIED, minute),
    "unreachable": lambda status, minute: _failed(status, UNREACHABLE, minute, attempted=B),
    "plan": _planned,
    "reconciling": _reconciling,
    "waiting": _waiting,
    "suspended": _suspended,
    "drifted": lambda status, minute: _drifted(status, DRIFT, minute),
    "blind": lambda status, minute: _drifted(status, ("Unknown", "WatchForbidden", "…"), minute),
    "undrifted": lambda status, minute: _drifted(status, None, minute),
    "stale": lambda status, _: with_facts(status, Facts(EncryptionStatus(("age a",), stale_recipients=("age a",)))),
}


@given(st.lists(st.sampled_from(sorted(_STEPS)), max_size=12))
def test_whatever_happens_a_time_moves_only_with_its_status_and_what_happens_twice_changes_nothing(
    names: list[str],
) -> None:
    status = BLANK
    for minute, name in enumerate(names, start=1):
        after = _STEPS[name](status, minute)
        types = _types(after)
        for new in after.conditions:
            old = condition(status, new.type)
            if old is not None and old.status == new.status:
                assert new.last_transition_time == old.last_transition_time
            else:
                assert new.last_transition_time == _time(minute)
        # kstatus: at most one of them is told
        assert len({"Reconciling", "Stalled", "Suspended"} & set(types)) <= 1
        assert all(types[kind].startswith("True") for kind in ("Reconciling", "Stalled", "Suspended") if kind in types)
        assert not (types.get("Ready", "").startswith("True") and "Stalled" in types)
        assert (after.current.error_message is not None) <= (after.current.status == "NotSync")
        assert [record.id for record in after.history] == list(
            range(max(1, after.current.id - HISTORY_LIMIT), after.current.id)
        )
        assert all(record.status == "Sync" for record in after.history)
        assert _STEPS[name](after, minute + 1) == after
        assert structure(unstructure(after), DecryptorStatus, "status") == after
        status = after


# --- kubectl get


@pytest.mark.parametrize(
    ("status", "more", "flags"),
    [
        (_synced(blank("f.yaml"), "a" * 40), {}, None),
        (_synced(blank("f.yaml"), "a" * 40), {"deleting": True}, "Deleting"),
        (_synced(blank("f.yaml"), "a" * 40), {"pinned": True}, "Pinned"),
        (_planned(_synced(blank("f.yaml"), "a" * 40)), {"dry_run": True, "pinned": True}, "DryRun,Pinned"),
        (_suspended(_synced(blank("f.yaml"), "a" * 40)), {}, "Suspended"),
        (_waiting(_synced(blank("f.yaml"), "a" * 40)), {}, "Waiting"),
        (_failed(_synced(blank("f.yaml"), "a" * 40), Failure("DependencyNotReady", "x")), {}, "Waiting"),
        (_failed(_synced(blank("f.yaml"), "a" * 40)), {}, None),
        (
            with_drift(_synced(blank("f.yaml"), "a" * 40), ("True", "Reported", "x"), generation=1, now=_at(0)),
            {},
            "Drifted",
        ),
        (
            with_drift(
                _synced(blank("f.yaml"), "a" * 40), ("Unknown", "WatchForbidden", "x"), generation=1, now=_at(0)
            ),
            {},
            None,
        ),
    ],
)
def test_the_flags_tell_what_is_special_now(status: DecryptorStatus, more: dict[str, bool], flags: str | None) -> None:
    given = {"deleting": False, "dry_run": False, "pinned": False, **more}
    found = with_summary(status, **given)
    assert (found.short_revision, found.flags) == ("a" * 12, flags)
    assert with_summary(found, **given) == found


def test_what_was_never_deployed_has_no_revision_to_show() -> None:
    found = with_summary(blank("f.yaml"), deleting=False, dry_run=False, pinned=False)
    assert (found.short_revision, found.flags) == (None, None)
