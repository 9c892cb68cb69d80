"""What a tick learns on its way: each transition changes its own fields of the status, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from jiemi.core.api.decryptor_status import (
    Condition,
    DecryptorStatus,
    EncryptionStatus,
    FileFailure,
    FileStatus,
    InventoryEntry,
    ObjectFailure,
    PlanStatus,
    SecretVersion,
)
from jiemi.core.decisions.status import blank
from jiemi.core.decisions.status_facts import (
    Facts,
    joined_encryption,
    to_resync,
    with_facts,
    with_files,
    with_handled_request,
    with_inventory,
    with_observed_secrets,
    with_plan,
    with_unsure_files,
    without_failures,
    without_other_namespaces,
)
from jiemi.core.objects.inventory import by_key


def entry(name: str, namespace: str = "default") -> InventoryEntry:
    return InventoryEntry("v1", "Secret", name, namespace, "a.yaml", 1)


A, B = FileStatus("a.yaml", "1" * 40, "3" * 40), FileStatus("b.yaml", "2" * 40)
X, Y, ELSEWHERE, CLUSTER = entry("x"), entry("y"), entry("x", "other"), entry("x", "")
PLAN = PlanStatus("r2", created=1, changed=2, pruned=0, unchanged=7)
OBSERVED = (SecretVersion("token", "12"),)

BEFORE = attrs.evolve(
    blank("a.yaml"),
    conditions=(Condition("Ready", "True", "Synced", "message", "t0", 3),),
    observed_generation=3,
    inventory=(X, ELSEWHERE, CLUSTER),
    files=(A, B),
    deployed_generation=3,
    observed_secrets=(SecretVersion("token", "11"),),
    last_handled_reconcile_at="yesterday",
    encryption=EncryptionStatus(("age a",)),
    vault_address="https://vault.example",
    failed_objects=(ObjectFailure("Secret", "z", "ApplyRejected", "message", "default", "a.yaml"),),
    more_failed_objects=1,
    failed_files=(FileFailure("c.yaml", "MacMismatch", "message"),),
    more_failed_files=2,
)


@pytest.mark.parametrize(
    ("transition", "changed"),
    [
        (lambda status: with_inventory(status, by_key([Y, X])), {"inventory": (X, Y)}),
        (lambda status: with_inventory(status, {}), {"inventory": ()}),
        (lambda status: without_other_namespaces(status, "default"), {"inventory": (X,)}),
        (lambda status: without_other_namespaces(status, "third"), {"inventory": ()}),
        (lambda status: with_files(status, (B,), generation=4), {"files": (B,), "deployed_generation": 4}),
        (lambda status: with_files(status, (A, B), generation=None), {"deployed_generation": None}),
        (lambda status: with_unsure_files(status, {"a.yaml"}), {"files": (FileStatus("a.yaml", "", "3" * 40), B)}),
        (lambda status: with_unsure_files(status, {"new.yaml"}), {}),
        (to_resync, {"deployed_generation": None}),
        (lambda status: with_observed_secrets(status, OBSERVED), {"observed_secrets": OBSERVED}),
        (lambda status: with_handled_request(status, "today"), {"last_handled_reconcile_at": "today"}),
        (lambda status: with_handled_request(status, None), {}),
        (lambda status: with_plan(status, PLAN), {"plan": PLAN}),
        (lambda status: with_facts(status, None), {}),
        (
            lambda status: with_facts(status, Facts(EncryptionStatus(("age b",)))),
            {"encryption": EncryptionStatus(("age b",)), "vault_address": None},
        ),
        (
            without_failures,
            {"failed_objects": (), "more_failed_objects": None, "failed_files": (), "more_failed_files": None},
        ),
    ],
)
def test_a_transition_changes_its_own_fields_and_no_others(
    transition: Callable[[DecryptorStatus], DecryptorStatus], changed: dict[str, Any]
) -> None:
    after = transition(BEFORE)
    assert after == attrs.evolve(BEFORE, **changed)
    assert transition(after) == after


OLD = EncryptionStatus(("age a", "pgp A"), "2026-01-01T00:00:00Z", "3.9.0", ("age a",), "2027-01-01T00:00:00Z")
NEW = EncryptionStatus(("age b", "age a"), "2026-02-01T00:00:00Z", "3.13.3", (), "2026-12-01T00:00:00Z")
BARE = EncryptionStatus(("age c",))


@pytest.mark.parametrize(
    ("known", "joined"),
    [
        ((), EncryptionStatus()),
        ((OLD,), OLD),
        (
            (OLD, NEW),
            EncryptionStatus(
                ("age a", "pgp A", "age b"), "2026-02-01T00:00:00Z", "3.13.3", ("age a",), "2026-12-01T00:00:00Z"
            ),
        ),
        (
            (NEW, BARE),
            EncryptionStatus(("age b", "age a", "age c"), "2026-02-01T00:00:00Z", None, (), "2026-12-01T00:00:00Z"),
        ),
        (
            (EncryptionStatus(tuple(f"age {number}" for number in range(60))), EncryptionStatus(tuple("abcdefgh"))),
            EncryptionStatus((*(f"age {number}" for number in range(60)), *"abcd")),
        ),
    ],
)
def test_several_files_have_the_recipients_of_all_the_newest_change_and_the_first_end_of_a_key(
    known: tuple[EncryptionStatus, ...], joined: EncryptionStatus
) -> None:
    assert joined_encryption(known) == joined
