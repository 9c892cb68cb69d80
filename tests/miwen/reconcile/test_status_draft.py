"""The status while a tick works on it: who hears of what, and what stays as it is."""

from __future__ import annotations

import datetime

import attrs
import pytest

from jiemi.core.api.conditions import RECONCILING
from jiemi.core.api.decryptor_status import DecryptorStatus, FileStatus, PlanStatus, SecretVersion
from jiemi.core.decisions.conditions import condition, is_ready
from jiemi.core.decisions.status import after_sync, blank, while_reconciling, while_waiting
from jiemi.core.errors import Failure
from jiemi.core.objects.identity import ObjectRef
from jiemi.core.objects.inventory import entry_of
from jiemi.miwen.reconcile.status_draft import Inventory, StatusDraft

NOW = datetime.datetime(2026, 11, 29, 3, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(minutes=3)
REVISION = "a" * 40
A = ObjectRef("v1", "Secret", "default", "a")
B = ObjectRef("v1", "Secret", "default", "b")
FILE = FileStatus("f.yaml", "1" * 40)
SYNCED = attrs.evolve(
    after_sync(blank("f.yaml"), generation=2, revision=REVISION, file="f.yaml", now=NOW),
    files=(FILE,),
    deployed_generation=2,
)


class Heard:
    """Which inventories were passed on."""

    def __init__(self) -> None:
        self.keys: list[set[str]] = []

    def __call__(self, inventory: Inventory) -> None:
        self.keys.append({key.name for key in inventory})


def draft(status: DecryptorStatus, heard: Heard | None = None) -> StatusDraft:
    return StatusDraft(status, 2, lambda: LATER, heard or Heard())


def test_what_is_written_ahead_is_no_inventory_yet_for_who_compares_what_is_seen() -> None:
    heard = Heard()
    tick = draft(SYNCED, heard)
    tick.before_apply({A.key: entry_of(A, "f.yaml")}, {"f.yaml"}, "an object is being applied")
    assert [entry.name for entry in tick.status.inventory] == ["a"]
    assert tick.status.files == (attrs.evolve(FILE, blob=""),)
    assert heard.keys == []
    tick.has_objects({A.key: entry_of(A, "f.yaml"), B.key: entry_of(B, "f.yaml")})
    tick.synced(REVISION, "f.yaml")
    assert heard.keys == [{"a", "b"}, {"a", "b"}]


def test_what_is_as_it_was_written_ahead_already_is_not_written_again_with_a_new_time() -> None:
    ahead = {A.key: entry_of(A, "f.yaml")}
    tick = draft(SYNCED)
    tick.before_apply(ahead, {"f.yaml"}, "an object is being applied")
    first = tick.status
    assert condition(first, RECONCILING) is not None
    tick.before_apply(ahead, {"f.yaml"}, "another sentence")
    assert tick.status is first


@pytest.mark.parametrize("is_certain", [True, False])
def test_what_is_deployed_is_of_a_generation_only_where_it_is_certain(is_certain: bool) -> None:
    tick = draft(SYNCED)
    tick.deployed_files((FILE,), is_certain=is_certain)
    assert tick.status.deployed_generation == (2 if is_certain else None)


def test_all_that_is_deployed_already_says_so_again_after_a_failure() -> None:
    tick = draft(SYNCED)
    tick.ended(Failure("HostUnreachable", "no route"), "b" * 40)
    assert not is_ready(tick.status, 2)
    observed = (SecretVersion("git", "7"),)
    tick.refresh(observed, awaits=("ObjectsNotReady",))
    assert (is_ready(tick.status, 2), tick.status.observed_secrets) == (True, observed)


def test_what_waits_for_its_objects_stays_waiting() -> None:
    waiting = while_waiting(SYNCED, "Deployment default/a is not ready", generation=2, now=NOW)
    ready = condition(waiting, "Ready")
    assert ready is not None
    tick = draft(waiting)
    tick.refresh((), awaits=(ready.reason,))
    assert condition(tick.status, "Ready") == ready
    tick.refresh((), awaits=())
    assert is_ready(tick.status, 2)


def test_a_dry_run_is_the_answer_to_its_spec_and_leaves_what_is_deployed_uncertain() -> None:
    tick = draft(SYNCED)
    tick.planned(PlanStatus(REVISION, created=1, changed=0, pruned=0, unchanged=0))
    tick.planned_all()
    assert is_ready(tick.status, 2)
    assert tick.status.deployed_generation is None


def test_without_a_plan_nothing_is_said_to_be_planned() -> None:
    under_way = while_reconciling(blank("f.yaml"), "planning", generation=2, now=NOW)
    tick = draft(under_way)
    tick.planned_all()
    assert tick.status == under_way


def test_a_request_is_taken_up_once_there_is_one() -> None:
    tick = draft(SYNCED)
    tick.took_up_request(None)
    assert tick.status is SYNCED
    tick.took_up_request("now")
    assert tick.status.last_handled_reconcile_at == "now"
