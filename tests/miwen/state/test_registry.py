"""Whose an object is, who waits for whom, who names which Secret; and the same again after a restart."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.api.decryptor import API_VERSION, KIND, Decryptor, read_decryptor
from jiemi.core.api.decryptor_status import DecryptorStatus, InventoryEntry
from jiemi.core.decisions.status import after_failure, after_sync, blank
from jiemi.core.errors import Failure
from jiemi.core.objects.identity import ObjectKey, Owner
from jiemi.core.objects.inventory import ref_of
from jiemi.miwen.state.mailbox import Mailbox
from jiemi.miwen.state.registry import Registry, depends_on

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
A, B, C = ("default", "a"), ("default", "b"), ("default", "c")


def entry(name: str, fields: int | None = 5) -> InventoryEntry:
    return InventoryEntry("v1", "Secret", name, "default", "f.yaml", fields)


def obj(name: str) -> ObjectKey:
    return ref_of(entry(name)).key


X, Y, Z = obj("x"), obj("y"), obj("z")


def decryptor(
    key: tuple[str, str],
    *,
    needs: Sequence[str | Mapping[str, str]] = (),
    secrets: Sequence[str] = (),
    status: DecryptorStatus | None = None,
    generation: int = 1,
    uid: str = "u",
    broken: bool = False,
) -> Decryptor:
    provider: dict[str, Any] = {"pgp": {"privateKey": {"literal": "…"}}}
    if secrets:
        provider["pgp"]["privateKey"] = {"secretName": secrets[0], "key": "k"}
    credentials = {"token": {"secretName": secrets[1], "key": "k"}} if len(secrets) > 1 else {}
    read = read_decryptor(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "namespace": key[0],
                "name": key[1],
                "uid": uid,
                "generation": generation,
                "resourceVersion": "1",
            },
            "spec": {
                "provider": {} if broken else provider,
                "source": {
                    "repository": {"url": "https://git.example/app.git", "credentials": credentials},
                    "fileToDecrypt": "f.yaml",
                },
                "dependsOn": [{"name": each} if isinstance(each, str) else dict(each) for each in needs],
            },
        }
    )
    assert isinstance(read.spec, Failure) is broken
    return attrs.evolve(read, status=status)


def synced(*objects: str, generation: int = 1) -> DecryptorStatus:
    before = attrs.evolve(blank("f.yaml"), inventory=tuple(entry(name) for name in objects))
    return after_sync(before, generation=generation, revision="a" * 40, file="f.yaml", now=NOW)


def failed(*objects: str, generation: int = 1, reason: str = "KeyMissing") -> DecryptorStatus:
    return after_failure(
        synced(*objects),
        generation=generation,
        failure=Failure(reason, "…"),
        attempted_revision=None,
        now=NOW,
    )


class Watched:
    """Slots of Decryptors, and which of them were woken since it was last asked."""

    def __init__(self, registry: Registry, stack: contextlib.ExitStack) -> None:
        self._registry = registry
        self._stack = stack
        self.mailboxes: dict[tuple[str, str], Mailbox] = {}

    def follow(self, *decryptors: Decryptor) -> None:
        for each in decryptors:
            mailbox = self.mailboxes[each.meta.key] = Mailbox(each)
            self._stack.enter_context(self._registry.following(mailbox))
            mailbox.begin_tick()
            mailbox.end_tick()

    def woken(self) -> set[tuple[str, str]]:
        found = {key for key, mailbox in self.mailboxes.items() if mailbox.woken}
        for mailbox in self.mailboxes.values():
            mailbox.begin_tick()
            mailbox.end_tick()
        return found


@contextlib.contextmanager
def following(registry: Registry, *decryptors: Decryptor) -> Iterator[Watched]:
    """A registry's Decryptors with a loop each."""
    with contextlib.ExitStack() as stack:
        watched = Watched(registry, stack)
        for each in decryptors:
            registry.put(each)
        watched.follow(*decryptors)
        watched.woken()
        yield watched


def filled(*decryptors: Decryptor) -> Registry:
    registry = Registry()
    for each in decryptors:
        registry.put(each)
    return registry


# --- whose an object is


def test_an_object_is_whose_claim_comes_first() -> None:
    registry = filled(decryptor(A), decryptor(B))
    assert registry.holder(X) is None
    assert registry.claim(A, X) is None
    assert registry.claim(A, X) is None  # again and again
    assert registry.claim(B, X) == A
    assert registry.holder(X) == A


def test_a_claim_lasts_until_the_object_is_no_longer_held() -> None:
    registry = filled(decryptor(A), decryptor(B))
    for each in (X, Y):
        registry.claim(A, each)
    registry.hold(A, [Y])
    assert (registry.holder(X), registry.holder(Y)) == (None, A)
    assert registry.claim(B, X) is None
    registry.hold(A, [])
    assert (registry.holder(X), registry.holder(Y)) == (B, None)


def test_what_another_has_can_not_be_held_and_is_not_given_away_with_the_rest() -> None:
    registry = filled(decryptor(A), decryptor(B))
    registry.claim(A, X)
    registry.hold(B, [X, Y])
    assert (registry.holder(X), registry.holder(Y)) == (A, B)
    registry.hold(B, [])
    assert (registry.holder(X), registry.holder(Y)) == (A, None)
    registry.remove(B)
    assert registry.holder(X) == A


def test_who_did_not_get_an_object_is_woken_once_it_is_free() -> None:
    registry = Registry()
    with following(registry, decryptor(A), decryptor(B)) as watched:
        assert registry.claim(A, X) is None
        assert registry.claim(B, X) == A
        registry.hold(A, [X, Y])
        assert watched.woken() == set()
        registry.hold(A, [Y])
        assert watched.woken() == {B}
        assert registry.claim(B, X) is None


def test_who_asks_for_thousands_of_objects_of_others_waits_for_the_last_hundred_only() -> None:
    registry = Registry()
    objects = [obj(f"o{number}") for number in range(1_000)]
    with following(registry, decryptor(A), decryptor(B), decryptor(C)) as watched:
        registry.hold(A, objects)
        for _ in range(3):  # ticks
            for key in (B, C):
                assert [registry.claim(key, each) for each in objects] == [A] * 1_000
        assert sum(map(len, registry._waiting.values())) == 200
        registry.hold(A, objects[1:])
        assert watched.woken() == set()
        registry.remove(C)
        registry.hold(A, objects[1:-1])
        assert watched.woken() == {B}
        assert registry.claim(B, objects[0]) is None
        registry.remove(B)
        assert not registry._waiting
        assert not registry._awaited


def test_a_loop_that_still_ends_takes_nothing_for_one_that_is_gone() -> None:
    registry = Registry()
    registry.put(decryptor(A))
    registry.remove(A)
    registry.hold(A, [X])
    assert registry.claim(A, Y) is None
    assert (registry.holder(X), registry.holder(Y)) == (None, None)


def test_the_objects_of_one_that_is_gone_are_free() -> None:
    registry = filled(decryptor(A, status=synced("x")), decryptor(B))
    registry.claim(A, Y)
    registry.remove(A)
    assert (registry.holder(X), registry.holder(Y)) == (None, None)
    assert registry.claim(B, X) is None
    assert A not in registry.decryptors
    registry.remove(A)  # told twice
    assert registry.holder(X) == B


def test_another_of_the_same_name_has_what_its_own_status_says() -> None:
    registry = filled(decryptor(A, status=synced("x", "y")))
    registry.put(decryptor(A, uid="another", status=synced("y", "z")))
    assert [registry.holder(each) for each in (X, Y, Z)] == [None, A, A]
    registry.put(decryptor(A, uid="a-third"))
    assert [registry.holder(each) for each in (X, Y, Z)] == [None, None, None]


def test_a_running_loop_knows_better_than_its_status() -> None:
    registry = filled(decryptor(A, status=synced("x")), decryptor(B))
    registry.hold(A, [Y])
    registry.claim(A, Z)
    registry.put(decryptor(A, status=synced("x"), generation=2))  # of before
    assert [registry.holder(each) for each in (X, Y, Z)] == [None, A, A]


def test_a_restart_builds_the_same_from_the_statuses() -> None:
    decryptors = [
        decryptor(A, status=synced("x")),
        decryptor(B, needs=["a"], status=failed("y")),
        decryptor(C, broken=True, status=synced("z")),
    ]
    first, second = filled(*decryptors), filled(*reversed(decryptors))
    for registry in (first, second):
        assert [registry.holder(each) for each in (X, Y, Z)] == [A, B, C]
        assert registry.claim(A, Y) == B
        assert registry.blocked(decryptors[1]) is None
    assert dict(first.decryptors) == dict(second.decryptors)


def test_an_object_that_was_only_about_to_be_applied_keeps_nobody_from_it() -> None:
    status = attrs.evolve(blank("f.yaml"), inventory=(entry("x", None), entry("y")))
    registry = filled(decryptor(A, status=status), decryptor(B))
    assert [registry.holder(each) for each in (X, Y)] == [None, A]
    assert registry.claim(B, X) is None


def test_what_a_watch_shows_reaches_the_loop_of_its_holder() -> None:
    mine, other = decryptor(A, status=synced("x")), decryptor(B, status=synced("y"))
    registry = Registry()
    with following(registry, mine, other) as watched:
        for each in (mine, other):
            assert each.status is not None
            watched.mailboxes[each.meta.key].set_inventory({ref_of(one).key: one for one in each.status.inventory})
        registry.see(X, {"resourceVersion": "9"}, deleted=True)
        assert watched.woken() == {A}
        registry.see(Y, {"resourceVersion": "9", "managedFields": []}, deleted=False)
        assert watched.woken() == {B}
        registry.see(Z, {"resourceVersion": "9"}, deleted=True)  # nobody's
        assert watched.woken() == set()
    registry.see(X, {"resourceVersion": "9"}, deleted=True)  # nobody listens
    assert registry.holder(X) == A


def labels_of(key: tuple[str, str]) -> dict[str, str]:
    return Owner.of(*key).labels


def test_what_only_a_status_claims_goes_to_the_decryptor_that_the_labels_name() -> None:
    forger, rightful = decryptor(A, status=synced("x")), decryptor(B, status=synced("x"))
    for order in ((forger, rightful), (rightful, forger)):
        registry = filled(*order)
        assert registry.is_unproven(X)
        registry.prove(X, Owner.of(*B))
        assert registry.holder(X) == B
        assert registry.claim(A, X) == B
        assert not registry.is_unproven(X)


def test_a_claim_that_the_labels_do_not_bear_out_keeps_nobody_from_the_object() -> None:
    for owner in (None, Owner.of(*C), Owner("elsewhere", "a")):
        registry = filled(decryptor(A, status=synced("x")), decryptor(B))
        with following(registry, decryptor(B)) as watched:
            assert registry.claim(B, X) == A
            registry.prove(X, owner)
            assert watched.woken() == {B}, "who waits for it looks again"
        assert registry.holder(X) is None
        assert registry.claim(B, X) is None
        assert registry.claim(A, X) == B


def test_a_watch_proves_which_decryptor_has_an_object_and_notifies_it() -> None:
    forger, rightful = decryptor(A, status=synced("x")), decryptor(B, status=synced("x"))
    registry = Registry()
    with following(registry, forger, rightful) as watched:
        for each in (forger, rightful):
            assert each.status is not None
            watched.mailboxes[each.meta.key].set_inventory({ref_of(one).key: one for one in each.status.inventory})
        registry.see(X, {"resourceVersion": "9", "labels": labels_of(B), "managedFields": []}, deleted=False)
        assert watched.woken() == {B}
    assert registry.holder(X) == B


def test_what_a_status_claims_again_does_not_take_what_was_proven() -> None:
    registry = filled(decryptor(A, status=synced("x")))
    registry.prove(X, Owner.of(*A))
    registry.put(decryptor(B, status=synced("x")))
    assert registry.holder(X) == A
    assert not registry.is_unproven(X)


def test_what_was_disproven_does_not_come_back_with_the_inventory() -> None:
    registry = filled(decryptor(A, status=synced("x", "y")), decryptor(B))
    registry.prove(X, Owner.of(*C))
    registry.keep(A, [X, Y])
    assert [registry.holder(each) for each in (X, Y)] == [None, A]


def test_another_that_claims_an_object_has_it_when_the_first_is_gone() -> None:
    registry = filled(decryptor(A, status=synced("x")), decryptor(B, status=synced("x")))
    registry.remove(A)
    assert registry.holder(X) == B
    registry.remove(B)
    assert registry.holder(X) is None
    assert not registry.is_unproven(X)


def test_where_a_decryptor_may_have_its_own_namespace_only_its_status_claims_no_other() -> None:
    registry = Registry(own_namespace_only=True)
    registry.put(decryptor(("other", "a"), status=synced("x")))
    registry.put(decryptor(A, status=synced("y")))
    assert [registry.holder(each) for each in (X, Y)] == [None, A]


_ACTS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "hold", "remove", "put"]), st.sampled_from([A, B, C]), st.sets(st.sampled_from("xyz"))
    ),
    max_size=20,
)


@given(_ACTS)
def test_no_object_ever_has_two_holders_and_none_is_forgotten(
    acts: Iterable[tuple[str, tuple[str, str], set[str]]],
) -> None:
    registry = Registry()
    held: dict[ObjectKey, tuple[str, str]] = {}
    there: set[tuple[str, str]] = set()
    for act, key, names in acts:
        objects = [obj(name) for name in sorted(names)]
        if act == "put":
            registry.put(decryptor(key))
            there.add(key)
        elif key not in there:
            continue
        elif act == "claim":
            for each in objects:
                found = registry.claim(key, each)
                assert found == (None if held.get(each, key) == key else held[each])
                held.setdefault(each, key)
        else:
            held = {each: holder for each, holder in held.items() if holder != key}
            if act == "hold":
                registry.hold(key, objects)
                held = dict.fromkeys(objects, key) | held
            else:
                registry.remove(key)
                there.discard(key)
        for each in (X, Y, Z):
            assert registry.holder(each) == held.get(each)


# --- who depends on whom


def test_one_that_depends_on_nobody_is_not_blocked() -> None:
    first = decryptor(A)
    assert filled(first).blocked(first) is None
    assert depends_on(None) == []
    assert depends_on(decryptor(A, needs=["b"], broken=True)) == []


def test_a_dependency_is_in_the_same_namespace_unless_it_names_another() -> None:
    found = depends_on(decryptor(A, needs=["b", {"name": "c", "namespace": "other"}]))
    assert found == [B, ("other", "c")]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (None, "spec.dependsOn: Decryptor default/b does not exist"),
        (decryptor(B), "spec.dependsOn: Decryptor default/b is not ready"),
        (decryptor(B, status=failed()), "spec.dependsOn: Decryptor default/b is not ready (KeyMissing)"),
        (decryptor(B, status=synced(), generation=2), "spec.dependsOn: Decryptor default/b is not ready (Synced)"),
        (decryptor(B, status=synced()), None),
        (decryptor(B, status=synced(generation=2), generation=2), None),
    ],
)
def test_a_dependency_must_be_ready_as_its_spec_is_now(other: Decryptor | None, message: str | None) -> None:
    waiting = decryptor(A, needs=["b"])
    registry = filled(waiting, *([other] if other is not None else []))
    failure = registry.blocked(waiting)
    assert (
        (failure.reason, failure.message) == ("DependencyNotReady", message) if failure is not None else message is None
    )
    if other is None:
        assert failure is not None
        assert failure.remedy == "Create Decryptor default/b, or take it out of spec.dependsOn."


def test_further_ones_that_are_not_ready_are_counted() -> None:
    waiting = decryptor(A, needs=["ready", "b", "c", "d"])
    registry = filled(waiting, decryptor(("default", "ready"), status=synced()))
    failure = registry.blocked(waiting)
    assert failure is not None
    assert failure.message == "spec.dependsOn: Decryptor default/b does not exist; nor are 2 more"


def test_members_of_a_cycle_report_it_and_those_that_wait_for_one_wait_on() -> None:
    a, b, c = decryptor(A, needs=["b"]), decryptor(B, needs=["c"]), decryptor(C, needs=["b"])
    registry = filled(a, b, c)
    for each, cycle in ((b, "default/b -> default/c -> default/b"), (c, "default/c -> default/b -> default/c")):
        assert registry.blocked(each) == Failure("DependencyCycle", f"spec.dependsOn makes a cycle: {cycle}")
    assert registry.blocked(a) == Failure("DependencyNotReady", "spec.dependsOn: Decryptor default/b is not ready")


def test_one_that_depends_on_itself_is_a_cycle_even_while_it_is_ready() -> None:
    alone = decryptor(A, needs=["a"], status=synced())
    failure = filled(alone).blocked(alone)
    assert failure is not None
    assert failure.reason == "DependencyCycle"


def test_a_cycle_ends_when_one_of_its_members_is_changed_or_gone() -> None:
    a, b = decryptor(A, needs=["b"]), decryptor(B, needs=["a"])
    registry = filled(a, b)
    registry.put(decryptor(B, status=synced()))
    assert registry.blocked(a) is None
    registry.put(b)
    assert registry.blocked(a) is not None
    registry.remove(B)
    failure = registry.blocked(a)
    assert failure is not None
    assert failure.message == "spec.dependsOn: Decryptor default/b does not exist"


def test_who_depends_on_one_is_woken_when_that_one_becomes_ready_or_stops_being_so() -> None:
    a, b, c = decryptor(A, needs=["b"]), decryptor(B), decryptor(C)
    registry = Registry()
    with following(registry, a, b, c) as watched:
        registry.put(attrs.evolve(b, status=synced()))
        assert watched.woken() == {A}
        registry.put(attrs.evolve(b, status=synced("x")))  # ready as before
        assert watched.woken() == set()
        registry.put(attrs.evolve(b, status=failed()))
        assert watched.woken() == {A}
        registry.put(attrs.evolve(b, status=failed(reason="Timeout")))
        assert watched.woken() == set()
        registry.remove(B)
        assert watched.woken() == {A}
        registry.put(b)
        assert watched.woken() == {A}


def test_who_depends_on_one_is_woken_when_its_spec_is_another() -> None:
    a, b = decryptor(A, needs=["b"]), decryptor(B, needs=["a"])
    registry = Registry()
    with following(registry, a, b) as watched:
        registry.put(decryptor(B, generation=2))  # the cycle is gone
        assert watched.woken() == {A}


def test_who_no_longer_depends_on_one_is_left_alone() -> None:
    a, b = decryptor(A, needs=["b", "b", "c"]), decryptor(B)
    registry = Registry()
    with following(registry, a, b) as watched:
        registry.put(decryptor(A, needs=["c"], generation=2))
        watched.woken()
        registry.put(attrs.evolve(b, status=synced()))
        assert watched.woken() == set()
        registry.put(decryptor(C))
        assert watched.woken() == {A}
        registry.remove(A)
        registry.remove(C)
        assert watched.woken() == set()


def test_a_dependency_in_another_namespace_wakes_too() -> None:
    other = ("other", "b")
    a, b = decryptor(A, needs=[{"name": "b", "namespace": "other"}]), decryptor(other)
    registry = Registry()
    with following(registry, a, b) as watched:
        registry.put(decryptor(B, status=synced()))  # of the same name only
        assert watched.woken() == set()
        registry.put(attrs.evolve(b, status=synced()))
        assert watched.woken() == {A}


# --- who names which Secret


def test_who_names_a_secret_is_woken_when_it_changes() -> None:
    a, b = decryptor(A, secrets=["key", "git"]), decryptor(B, secrets=["key"])
    stranger = decryptor(("other", "a"), secrets=["key"])
    registry = Registry()
    with following(registry, a, b, stranger) as watched:
        registry.secret_changed("default", "key")
        assert watched.woken() == {A, B}
        registry.secret_changed("default", "git")
        assert watched.woken() == {A}
        registry.secret_changed("other", "key")
        assert watched.woken() == {("other", "a")}
        registry.secret_changed("default", "unknown")
        assert watched.woken() == set()


def test_who_names_another_secret_by_now_is_woken_for_that_one() -> None:
    a, b = decryptor(A, secrets=["key", "key"]), decryptor(B, secrets=["key"])
    registry = Registry()
    with following(registry, a, b) as watched:
        registry.put(decryptor(A, secrets=["new"], generation=2))
        registry.put(decryptor(B, broken=True, generation=2))
        watched.woken()
        registry.secret_changed("default", "key")
        assert watched.woken() == set()
        registry.secret_changed("default", "new")
        assert watched.woken() == {A}
        registry.remove(A)
        registry.secret_changed("default", "new")
        assert watched.woken() == set()


# --- the loops


def test_a_slot_that_another_took_the_place_of_takes_nothing_with_it() -> None:
    first = decryptor(A, secrets=["key"])
    registry = filled(first)
    old, new = Mailbox(first), Mailbox(first)
    with contextlib.ExitStack() as stack:
        with registry.following(old):
            stack.enter_context(registry.following(new))
        registry.secret_changed("default", "key")
        assert new.woken
        assert not old.woken
    new.begin_tick()
    registry.secret_changed("default", "key")
    assert not new.woken


def test_a_registry_is_complete_only_when_it_is_said_so() -> None:
    assert not filled(decryptor(A)).complete.is_set()
