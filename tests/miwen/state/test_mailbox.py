"""A mailbox holds the latest of everything, and wakes its loop for what is news and for nothing else."""

from __future__ import annotations

import datetime
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from fakes.krapao import RIGHT_KEY, FakeKrapao
from fakes.kubernetes import FakeCluster, FakeKubernetes

from jiemi.core.api.decryptor import API_VERSION, KIND, Decryptor, read_decryptor
from jiemi.core.api.decryptor_status import DecryptorStatus, InventoryEntry
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.status import blank
from jiemi.core.errors import JiemiError
from jiemi.core.objects.drift import Observation
from jiemi.core.objects.identity import ObjectKey
from jiemi.core.objects.inventory import by_key, ref_of
from jiemi.core.objects.managed_fields import FieldOwnership
from jiemi.miwen.reconcile.drift_correction import find_drift
from jiemi.miwen.reconcile.status_draft import StatusDraft
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.state.followed_source import Member
from jiemi.miwen.state.followed_sources import FollowedSources
from jiemi.miwen.state.loop_state import LoopState
from jiemi.miwen.state.mailbox import Mailbox, Wake
from jiemi.miwen.state.open_repository import OpenRepository

ENTRY = InventoryEntry("v1", "Secret", "app", "default", "f.yaml", fields=5)
KEY = ref_of(ENTRY).key
GONE = Observation("20", None)


def decryptor(generation: int = 1, version: str = "1", *, uid: str = "u", **metadata: Any) -> Decryptor:
    return read_decryptor(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": "app",
                "namespace": "default",
                "uid": uid,
                "generation": generation,
                "resourceVersion": version,
                **metadata,
            },
            "spec": {
                "provider": {"age": {"privateKey": {"literal": RIGHT_KEY.private_key.reveal()}}},
                "source": {"repository": {"url": "https://git.example/app.git"}, "fileToDecrypt": "f.yaml"},
            },
        }
    )


def asked(value: str) -> dict[str, Any]:
    return {"annotations": {"jiemi.cr/reconcile-at": value}}


def as_applied(version: str = "20") -> Observation:
    return Observation(version, FieldOwnership(5, {}, None))


def changed(version: str = "20", fields: int = 4) -> Observation:
    return Observation(version, FieldOwnership(fields, {}, "kubectl-edit"))


def is_woken(mailbox: Mailbox) -> bool:
    return mailbox.woken


def resting(*entries: InventoryEntry) -> Mailbox:
    """A mailbox between two ticks."""
    mailbox = Mailbox(decryptor())
    mailbox.begin_tick()
    mailbox.set_inventory(by_key(entries))
    mailbox.end_tick()
    assert not is_woken(mailbox)
    return mailbox


# --- the Decryptor


@pytest.mark.parametrize(
    "newer",
    [
        decryptor(2, "2"),
        decryptor(1, "2", **asked("now")),
        decryptor(1, "2", deletionTimestamp="2026-11-24T03:00:00Z", finalizers=["jiemi.cr/cleanup"]),
    ],
)
def test_another_spec_a_question_and_a_deletion_wake_the_loop(newer: Decryptor) -> None:
    mailbox = resting()
    mailbox.put(newer)
    assert is_woken(mailbox)
    assert mailbox.latest is newer
    assert mailbox.begin_tick() is newer
    assert not is_woken(mailbox)


@pytest.mark.parametrize(
    "newer",
    [
        decryptor(1, "2"),
        attrs.evolve(decryptor(1, "2"), status=blank("f.yaml")),
        decryptor(1, "2", labels={"a": "b"}, annotations={"other": "x"}, finalizers=["jiemi.cr/cleanup"]),
    ],
)
def test_what_miwen_itself_writes_and_what_is_not_about_it_is_taken_and_wakes_nobody(newer: Decryptor) -> None:
    mailbox = resting()
    mailbox.put(newer)
    assert not is_woken(mailbox)
    assert mailbox.latest is newer


def test_a_question_that_is_taken_back_is_another_one() -> None:
    mailbox = Mailbox(decryptor(1, "1", **asked("now")))
    mailbox.put(decryptor(1, "2", **asked("now")))
    assert not is_woken(mailbox)
    mailbox.put(decryptor(1, "3"))
    assert is_woken(mailbox)


def test_an_older_spec_that_is_shown_again_is_not_taken() -> None:
    newest = decryptor(3, "3")
    mailbox = Mailbox(newest)
    mailbox.put(decryptor(2, "2", **asked("now")))
    assert mailbox.latest is newest
    assert not is_woken(mailbox)


def test_ten_changes_during_a_tick_are_one_more_tick_with_the_last_of_them() -> None:
    mailbox = resting()
    began = mailbox.begin_tick()
    for generation in range(2, 12):
        mailbox.put(decryptor(generation, str(generation)))
        assert mailbox.is_behind(began)
    mailbox.end_tick()
    assert is_woken(mailbox)
    assert mailbox.begin_tick().meta.generation == 11
    mailbox.end_tick()
    assert not is_woken(mailbox)


def test_a_tick_is_behind_another_spec_and_a_deletion_only() -> None:
    mailbox = Mailbox(decryptor())
    began = mailbox.begin_tick()
    assert not mailbox.is_behind(began)
    mailbox.put(decryptor(1, "2", **asked("now")))
    assert not mailbox.is_behind(began)
    mailbox.put(decryptor(1, "3", deletionTimestamp="2026-11-24T03:00:00Z"))
    assert mailbox.is_behind(began)
    assert not mailbox.is_behind(mailbox.begin_tick())


async def test_waiting_ends_with_the_time_or_with_a_wake_up(autojump_clock: trio.testing.MockClock) -> None:
    mailbox = resting()
    began = trio.current_time()
    await mailbox.wait(180)
    assert trio.current_time() - began == 180

    async def wake() -> None:
        await trio.sleep(30)
        mailbox.wake(Wake.DRIFT)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wake)
        await mailbox.wait(180)
    assert trio.current_time() - began == 210
    await mailbox.wait(180)  # what was said is not taken back before a tick begins
    assert trio.current_time() - began == 210


# --- the objects


def test_drift_wakes_the_loop_and_is_taken_once() -> None:
    mailbox = resting(ENTRY)
    mailbox.see(KEY, changed())
    assert is_woken(mailbox)
    mailbox.begin_tick()
    assert mailbox.take_seen() == {KEY: changed()}
    assert mailbox.take_seen() == {}
    mailbox.end_tick()
    assert not is_woken(mailbox)


def test_what_is_no_drift_wakes_nobody() -> None:
    mailbox = resting(ENTRY)
    mailbox.see(KEY, as_applied())
    mailbox.see(ObjectKey("", "Secret", "default", "of-another"), GONE)
    assert not is_woken(mailbox)
    assert mailbox.take_seen() == {}


@pytest.mark.parametrize("seen", [GONE, changed(), Observation("20", FieldOwnership(5, {"new": "helm"}, "helm"))])
def test_a_deletion_a_change_and_a_new_key_are_drift(seen: Observation) -> None:
    mailbox = resting(ENTRY)
    mailbox.see(KEY, seen)
    assert is_woken(mailbox)
    assert mailbox.take_seen() == {KEY: seen}


def test_nothing_is_kept_of_what_is_as_it_was_applied_and_little_of_what_is_not() -> None:
    """Thousands of objects may each have a mebibyte of keys and managers of others."""
    keys = {f"key-{number}" * 20: "vault-injector" for number in range(10_000)}
    kept = attrs.evolve(ENTRY, kept_keys=tuple(keys))
    mailbox = resting(kept)
    mailbox.see(KEY, Observation("20", FieldOwnership(5, keys, "vault-injector"), sharers=frozenset(keys)))
    assert (mailbox._seen, mailbox.sharers(KEY), is_woken(mailbox)) == ({}, None, False)
    mailbox.see(KEY, Observation("21", FieldOwnership(5, {**keys, "more": "x"}, "x")))
    assert (mailbox.take_seen(), is_woken(mailbox)) == ({KEY: Observation("21", None)}, True)
    mailbox.begin_tick()
    mailbox.see(KEY, Observation("22", FieldOwnership(5, keys, "vault-injector")))
    mailbox.end_tick()
    assert mailbox.take_seen() == {KEY: Observation("22", None)}, "it is looked at again, not believed to be gone"


def test_of_many_events_the_newest_counts() -> None:
    mailbox = resting(ENTRY)
    for version in range(20, 30):
        mailbox.see(KEY, changed(str(version)))
    assert mailbox.take_seen() == {KEY: changed("29")}
    mailbox.see(KEY, GONE)
    mailbox.see(KEY, as_applied("31"))
    assert mailbox.take_seen() == {}


def test_an_object_that_is_not_known_to_be_applied_can_not_drift() -> None:
    mailbox = resting(attrs.evolve(ENTRY, fields=None))
    mailbox.see(KEY, GONE)
    assert not is_woken(mailbox)


def test_what_a_tick_itself_writes_is_no_drift() -> None:
    mailbox = resting()
    mailbox.begin_tick()
    mailbox.see(KEY, as_applied("21"))  # the watch may be faster than the answer to the apply
    mailbox.applied(KEY, "21")
    mailbox.set_inventory(by_key([ENTRY]))
    mailbox.end_tick()
    assert not is_woken(mailbox)
    mailbox.see(KEY, as_applied("21"))
    mailbox.see(KEY, changed("20"))  # of before: the other's write that this apply put right
    assert not is_woken(mailbox)
    assert mailbox.take_seen() == {}


@pytest.mark.parametrize("seen", [GONE, changed("20")])
def test_what_was_seen_before_an_apply_is_put_right_by_it(seen: Observation) -> None:
    mailbox = resting(ENTRY)
    mailbox.begin_tick()
    mailbox.see(KEY, seen)
    mailbox.applied(KEY, "21")
    mailbox.end_tick()
    assert not is_woken(mailbox)
    mailbox.begin_tick()
    assert mailbox.take_seen() == {}


@pytest.mark.parametrize("seen", [Observation("22", None), changed("22"), Observation("21", None)])
def test_drift_during_a_tick_wakes_when_it_ends(seen: Observation) -> None:
    mailbox = resting(ENTRY)
    mailbox.begin_tick()
    mailbox.applied(KEY, "21")
    mailbox.see(KEY, seen)
    assert not is_woken(mailbox)
    mailbox.end_tick()
    assert is_woken(mailbox)
    mailbox.begin_tick()
    assert mailbox.take_seen() == {KEY: seen}


@pytest.mark.parametrize("seen", [Observation("22", None), changed("22")])
def test_drift_that_is_seen_before_the_answer_to_the_apply_arrives_is_not_lost(seen: Observation) -> None:
    mailbox = resting(ENTRY)
    mailbox.begin_tick()
    mailbox.see(KEY, seen)  # another wrote right after us, and the watch is faster than the answer
    mailbox.applied(KEY, "21")
    mailbox.end_tick()
    assert is_woken(mailbox)
    mailbox.begin_tick()
    assert mailbox.take_seen() == {KEY: seen}


def test_what_was_seen_during_a_tick_is_judged_by_what_the_tick_left() -> None:
    mailbox = resting(ENTRY)
    mailbox.begin_tick()
    mailbox.see(KEY, Observation("22", FieldOwnership(3, {}, None)))
    mailbox.set_inventory(by_key([attrs.evolve(ENTRY, fields=3)]))
    mailbox.end_tick()
    assert not is_woken(mailbox)
    mailbox.begin_tick()
    mailbox.see(KEY, GONE)
    mailbox.set_inventory({})  # it was pruned
    mailbox.end_tick()
    assert not is_woken(mailbox)
    assert mailbox.inventory == {}


def test_an_object_that_left_and_comes_back_begins_again() -> None:
    mailbox = resting(ENTRY)
    mailbox.applied(KEY, "100")
    mailbox.set_inventory({})
    mailbox.set_inventory(by_key([ENTRY]))
    mailbox.see(KEY, changed("20"))
    assert is_woken(mailbox)


def test_what_a_tick_did_not_take_waits_for_the_next_one_and_is_no_news() -> None:
    mailbox = resting(ENTRY)
    mailbox.see(KEY, changed())
    mailbox.begin_tick()
    mailbox.end_tick()
    assert not is_woken(mailbox)
    mailbox.begin_tick()
    assert mailbox.take_seen() == {KEY: changed()}


def test_what_is_put_back_is_no_news_and_gives_way_to_what_is_newer() -> None:
    mailbox = resting(ENTRY)
    mailbox.see(KEY, GONE)
    mailbox.begin_tick()
    [(key, seen)] = mailbox.take_seen().items()
    mailbox.defer(key, seen)
    mailbox.end_tick()
    assert not is_woken(mailbox)
    mailbox.begin_tick()
    assert mailbox.take_seen() == {KEY: GONE}
    mailbox.see(KEY, as_applied("22"))  # it is back
    mailbox.defer(KEY, GONE)
    assert mailbox.take_seen() == {}


def test_what_was_news_once_is_none_when_it_is_put_back() -> None:
    mailbox = resting(ENTRY)
    mailbox.begin_tick()
    mailbox.see(KEY, GONE)
    mailbox.end_tick()
    assert is_woken(mailbox)
    for _ in range(3):
        mailbox.begin_tick()
        [(key, seen)] = mailbox.take_seen().items()
        mailbox.defer(key, seen)
        mailbox.end_tick()
        assert not is_woken(mailbox)


def test_what_is_seen_names_the_managers_that_had_written_when_the_object_was_right() -> None:
    mailbox = resting(ENTRY)
    right = Observation("20", FieldOwnership(5, {}, "helm", others={"helm": "1"}))
    wrong = Observation("21", FieldOwnership(4, {}, "kubectl", others={"helm": "1", "kubectl": "2"}))
    mailbox.see(KEY, right)
    mailbox.see(KEY, wrong)
    mailbox.see(KEY, attrs.evolve(wrong, resource_version="22"))
    [found] = mailbox.take_seen().values()
    assert (found.resource_version, found.before) == ("22", {"helm": "1"})
    other = ObjectKey("", "Secret", "default", "other")
    assert mailbox.with_before(other, wrong).before is None
    mailbox.set_inventory({})
    assert mailbox.with_before(KEY, wrong).before is None


def test_the_version_of_an_apply_is_known_while_the_object_is() -> None:
    mailbox = resting(ENTRY)
    assert mailbox.version(KEY) == ""
    mailbox.applied(KEY, "21")
    assert mailbox.version(KEY) == "21"
    mailbox.set_inventory({})
    assert mailbox.version(KEY) == ""


def test_that_an_object_no_longer_differs_is_news_too() -> None:
    mailbox = resting(ENTRY)
    mailbox.set_differing([KEY])
    mailbox.see(KEY, as_applied("22"))
    assert is_woken(mailbox)
    mailbox.begin_tick()
    assert mailbox.take_seen() == {KEY: as_applied("22")}
    mailbox.applied(KEY, "23")
    mailbox.end_tick()
    mailbox.see(KEY, as_applied("24"))
    assert not is_woken(mailbox)
    assert mailbox.take_seen() == {}


# --- with what judges it


async def test_what_could_not_be_looked_at_again_is_kept_and_makes_no_tick_follow_on_a_tick() -> None:
    mailbox = resting(ENTRY)
    mailbox.see(KEY, GONE)
    kubernetes = FakeKubernetes(FakeCluster())
    kubernetes.fail_next("get_metadata", JiemiError("ReadForbidden", "may not read Secrets"))

    async def write(_: DecryptorStatus) -> None:
        raise AssertionError("nothing is written")

    def now() -> datetime.datetime:
        raise AssertionError("nothing gets a timestamp")

    async with trio.open_nursery() as nursery:
        began = mailbox.begin_tick()
        assert isinstance(began.spec, DecryptorSpec)
        member = Member(("default", "app"), on_moved=lambda _: None, on_push=lambda: None)
        repositories = OpenRepository(FakeKrapao(), "tenant", nursery, member, FollowedSources(), random=lambda: 0.5)
        draft = StatusDraft(blank("f.yaml"), began.meta.generation, now, mailbox.set_inventory)
        context = ReconcileContext(began, draft, repositories, LoopState(), mailbox, write, mailbox.end_tick)
        assert await find_drift(context, began.spec, kubernetes.objects(None)) == {}
        mailbox.end_tick()
    assert not is_woken(mailbox)  # a right that is missing would have it tick without a pause for ever
    mailbox.begin_tick()
    assert mailbox.take_seen() == {KEY: GONE}
