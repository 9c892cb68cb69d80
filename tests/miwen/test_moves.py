"""A move of a repository, counted: it is compared once, and wakes those whose files it changed. None is left behind."""

from __future__ import annotations

import random
from typing import Any, cast

import attrs
import pytest
import trio
from fakes.krapao import _FakeRepository
from miwen.test_counted_work import Work
from support.miwen.world import INTERVAL, URL, World, miwen, secret, settle
from support.webhooks.taken import deliver, webhooks
from trio.testing import MockClock

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.memory import MEBIBYTE
from jiemi.miwen.state.followed_source import CHANGES_PATIENCE_SECONDS, PUSH_PATIENCE_SECONDS
from jiemi.miwen.webhooks.receiver import Outcome

HOOK = ("jiemi", "hook")
LONG = 24 * 3_600.0
"""An interval that no test waits for."""


def _files(count: int, greeting: str = "one") -> dict[str, Any]:
    return {f"s{number}.yaml": [secret(f"s{number}", greeting=greeting)] for number in range(count)}


def _follow(world: World, count: int) -> None:
    world.origin.commit(_files(count))
    for number in range(count):
        world.add(f"d{number}", source={"repository": {"url": URL}, "fileToDecrypt": f"s{number}.yaml"})


def _add_new(world: World, path: str) -> None:
    """Another Decryptor, which asks the host and so sees a move."""
    world.add("new", source={"repository": {"url": URL}, "fileToDecrypt": path}, target={"name": "n", "key": "k"})


async def _push(hooks: Any) -> None:
    await trio.sleep(1)  # no burst
    assert await deliver(hooks, key=HOOK) is Outcome.PUSH
    await settle()


@pytest.mark.parametrize("count", [20, 200])
async def test_a_push_costs_what_it_changes_however_many_follow(
    world: World, autojump_clock: MockClock, count: int
) -> None:
    _follow(world, count)
    hooks, work = webhooks(HOOK), Work(world)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        work.calls(), work.requests()
        for number in range(5):
            world.origin.commit({f"s{number}.yaml": [secret(f"s{number}", greeting="two")]})
            asked = world.origin.asked
            await _push(hooks)
            assert world.data(f"s{number}") == {"greeting": "two"}
            # One question for all: the Decryptor that was woken knows the answer.
            assert work.calls() == {"head": 1, "changes": 1, "files": 1, "render": 1}
            assert world.origin.asked == asked + 1
            assert work.requests() == {
                ("apply", "secrets"): 1,
                ("patch", "decryptors/status"): 2,
                ("create", "events"): 1,
            }
        world.origin.commit({"README.md": [{}]})
        await _push(hooks)
        assert work.calls() == {"head": 1, "changes": 1}
        await _push(hooks)  # nothing moved
        assert work.calls() == {"head": 1}
        assert work.requests() == {}
        # Whom no push concerned learns of it when its time comes. The first of them asks for all, and for nothing else.
        await trio.sleep(1.2 * LONG)
        assert work.calls() == {"head": 1}
        assert ("patch", "decryptors/status") not in work.requests()
        assert world.condition("Ready", f"d{count - 1}")["status"] == "True"


async def test_without_a_webhook_the_first_who_sees_the_move_tells_all_whom_it_concerns(
    world: World, autojump_clock: MockClock
) -> None:
    _follow(world, 10)
    async with miwen(world):
        await trio.sleep(INTERVAL / 2)
        world.origin.commit({"s7.yaml": [secret("s7", greeting="two")], "s0.yaml": [secret("s0", greeting="two")]})
        work = Work(world)
        work.calls()
        world.add(
            "later", source={"repository": {"url": URL}, "fileToDecrypt": "s1.yaml"}, target={"name": "m", "key": "k"}
        )
        await settle()
        assert (world.data("s7"), world.data("s0")) == ({"greeting": "two"}, {"greeting": "two"})
        calls = work.calls()
        assert calls["changes"] == 1
        assert calls["files"] == calls["render"] == 3  # the new one, and the two that it woke


async def test_one_that_failed_is_woken_by_every_move_because_it_may_mend_it(
    world: World, autojump_clock: MockClock
) -> None:
    _follow(world, 3)
    world.add("bad", source={"repository": {"url": URL}, "fileToDecrypt": "bad.yaml"})
    hooks = webhooks(HOOK)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        assert world.reason("bad") == "FileNotFound"
        world.origin.commit({"bad.yaml": Failure("KeyMissing", "none")})
        await _push(hooks)
        assert world.reason("bad") == "KeyMissing"
        world.origin.commit({"bad.yaml": [secret("bad", greeting="one")]})
        await _push(hooks)
        assert (world.reason("bad"), world.data("bad")) == ("Synced", {"greeting": "one"})
        world.origin.commit({}, remove=["bad.yaml"])
        await _push(hooks)
        assert world.reason("bad") == "FileNotFound"
        assert world.condition("Ready", "bad")["status"] == "False"


async def test_a_forced_push_back_a_removed_file_and_another_sops_yaml_are_seen(
    world: World, autojump_clock: MockClock
) -> None:
    _follow(world, 3)
    first = world.origin.refs["HEAD"]
    world.add("glob", source={"repository": {"url": URL}, "files": ["team/*.yaml"]}, allowEmpty=True, prune=True)
    hooks = webhooks(HOOK)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        world.origin.commit({"team/a.yaml": [secret("a", greeting="one")]} | _files(1, "two"))
        await _push(hooks)
        assert (world.data("a"), world.data("s0")) == ({"greeting": "one"}, {"greeting": "two"})
        world.origin.move_to(first)
        await _push(hooks)
        assert (world.data("a"), world.data("s0")) == (None, {"greeting": "one"})
        work = Work(world)
        work.calls()
        world.origin.config = "c" * 40
        world.origin.commit({})
        await _push(hooks)
        assert work.calls()["files"] == 4


async def test_what_a_link_leads_to_is_looked_at_again_at_each_move(world: World, autojump_clock: MockClock) -> None:
    world.origin.direct = False
    _follow(world, 3)
    hooks, work = webhooks(HOOK), Work(world)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        work.calls()
        world.origin.commit({"s0.yaml": [secret("s0", greeting="two")]})
        await _push(hooks)
        assert world.data("s0") == {"greeting": "two"}
        calls = work.calls()
        assert (calls["changes"], calls["files"], calls["render"]) == (0, 3, 1)


async def test_an_older_krapao_has_everybody_look(world: World, autojump_clock: MockClock) -> None:
    _follow(world, 5)
    hooks, work = webhooks(HOOK), Work(world)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        world.krapao.knows_changes = False  # one that was rolled back
        work.calls()
        world.origin.commit({"s3.yaml": [secret("s3", greeting="two")]})
        await _push(hooks)
        assert world.data("s3") == {"greeting": "two"}
        calls = work.calls()
        assert (calls["changes"], calls["files"], calls["render"]) == (1, 5, 1)


async def test_a_krapao_that_forgot_the_earlier_revision_has_everybody_look(
    world: World, autojump_clock: MockClock
) -> None:
    _follow(world, 5)
    hooks, work = webhooks(HOOK), Work(world)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        world.krapao.forget()
        work.calls()
        world.origin.commit({"s3.yaml": [secret("s3", greeting="two")]})
        await _push(hooks)
        assert world.data("s3") == {"greeting": "two"}
        assert work.calls()["files"] == 5
        world.origin.commit({"s3.yaml": [secret("s3", greeting="three")]})
        await _push(hooks)
        assert world.data("s3") == {"greeting": "three"}
        assert work.calls()["files"] == 1


async def test_moves_that_come_while_one_is_compared_are_not_lost(world: World, autojump_clock: MockClock) -> None:
    _follow(world, 5)
    hooks = webhooks(HOOK)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        world.origin.commit({"s1.yaml": [secret("s1", greeting="two")]})
        world.krapao.held = {"changes"}
        await _push(hooks)
        for number in (2, 3):
            world.origin.commit({f"s{number}.yaml": [secret(f"s{number}", greeting="two")]})
            await _push(hooks)
        assert world.data("s1") == {"greeting": "one"}
        world.krapao.let_go()
        await settle()
        for number in (1, 2, 3):
            assert world.data(f"s{number}") == {"greeting": "two"}


async def test_a_comparison_that_takes_too_long_is_not_waited_for(world: World, autojump_clock: MockClock) -> None:
    _follow(world, 5)
    hooks = webhooks(HOOK)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        world.origin.commit({"s1.yaml": [secret("s1", greeting="two")]})
        world.krapao.held = {"changes"}
        await _push(hooks)
        await trio.sleep(CHANGES_PATIENCE_SECONDS + 1)
        assert world.data("s1") == {"greeting": "two"}
        world.krapao.let_go()


async def test_one_who_leads_and_leaves_loses_neither_a_push_nor_a_move(
    world: World, autojump_clock: MockClock
) -> None:
    _follow(world, 5)
    hooks = webhooks(HOOK)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        for first, (held, number) in enumerate((("head", 3), ("changes", 4))):
            world.origin.commit({f"s{number}.yaml": [secret(f"s{number}", greeting="two")]})
            world.krapao.held = {held}
            await _push(hooks)
            world.delete(f"d{first}")  # the first who came leads
            await settle()
            world.krapao.let_go()
            await settle()
            assert world.data(f"s{number}") == {"greeting": "two"}


async def test_a_question_for_all_that_hangs_is_asked_by_each_instead(world: World, autojump_clock: MockClock) -> None:
    _follow(world, 5)
    hooks, work = webhooks(HOOK), Work(world)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        world.origin.commit({"s1.yaml": [secret("s1", greeting="two")]})
        world.krapao.held = {"head"}
        await _push(hooks)
        work.calls()
        await trio.sleep(PUSH_PATIENCE_SECONDS + 0.1)
        assert work.calls()["head"] == 5
        world.krapao.let_go()
        await settle()
        assert world.data("s1") == {"greeting": "two"}


async def test_a_dry_run_is_not_left_out(world: World, autojump_clock: MockClock) -> None:
    _follow(world, 2)
    world.add("plan", source={"repository": {"url": URL}, "fileToDecrypt": "s0.yaml"}, mode="DryRun")
    hooks = webhooks(HOOK)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        revision = world.origin.commit(_files(1, "two"))
        await _push(hooks)
        assert world.status("plan")["plan"]["revision"] == revision


# --- whatever happens

_SECRETS = ("a", "b", "c", "d")


@attrs.frozen
class _Chance:
    """What a seed makes of a repository and those who follow it."""

    dice: random.Random

    def files(self) -> dict[str, Any]:
        return {
            f"{folder}/{name}.yaml": [secret(f"{folder}-{name}", greeting=str(self.dice.randrange(3)))]
            for folder in ("x", "y")
            for name in _SECRETS
            if self.dice.random() < 0.3
        }


@pytest.mark.parametrize("seed", range(30))
async def test_after_any_pushes_the_cluster_is_what_git_says_without_waiting_for_an_interval(
    world: World, autojump_clock: MockClock, seed: int
) -> None:
    chance = _Chance(random.Random(seed))
    dice = chance.dice
    world.origin.direct = dice.random() < 0.8
    revisions = [
        world.origin.commit({f"{f}/{n}.yaml": [secret(f"{f}-{n}", greeting="0")] for f in "xy" for n in _SECRETS})
    ]
    for name in _SECRETS[:3]:
        world.add(f"x-{name}", source={"repository": {"url": URL}, "fileToDecrypt": f"x/{name}.yaml"})
    world.add(
        "rest", source={"repository": {"url": URL}, "files": ["x/d*.yaml", "y/**"], "exclude": ["c.yaml"]}, prune=True
    )
    hooks = webhooks(HOOK)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        for _ in range(12):
            what = dice.random()
            if what < 0.5:
                there = [path for path in world.origin.files[world.origin.refs["HEAD"]] if path[0] in "xy"]
                gone = [path for path in there if path.startswith("y") and dice.random() < 0.2]
                revisions.append(world.origin.commit(chance.files(), remove=gone))
            elif what < 0.65:
                world.origin.move_to(dice.choice(revisions))
            elif what < 0.75:
                world.krapao.forget()
            elif what < 0.85:
                world.krapao.held = {dice.choice(["changes", "head", "files"])}
            if dice.random() < 0.6:
                await deliver(hooks, key=HOOK)
            await trio.sleep(dice.choice([0, 0, 0.1, 0.6]))
            if dice.random() < 0.3:
                world.krapao.let_go()
        world.krapao.let_go()
        await _push(hooks)
        await trio.sleep(1)
        wanted = {
            document["metadata"]["name"]: document["stringData"]
            for path, documents in world.origin.files[world.origin.refs["HEAD"]].items()
            for document in cast("list[Any]", documents)
            if path[0] in "xy" and path != "y/c.yaml"
        }
        names = [f"{f}-{n}" for f in "xy" for n in _SECRETS]
        assert {name: data for name in names if (data := world.data(name)) is not None} == wanted
        for name in ("x-a", "x-b", "x-c", "rest"):
            assert world.reason(name) == "Synced", (name, world.status(name))


async def test_other_credentials_are_another_source_and_share_no_question(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit(_files(2))
    for number, token in ((0, "one"), (1, "another")):
        repository = {"url": URL, "credentials": {"token": {"literal": token}}}
        world.add(f"d{number}", source={"repository": repository, "fileToDecrypt": f"s{number}.yaml"})
    hooks, work = webhooks(HOOK), Work(world)
    async with miwen(world, webhooks=hooks, interval=LONG):
        await trio.sleep(1)
        work.calls()
        world.origin.commit({"README.md": [{}]})
        await _push(hooks)
        assert work.calls() == {"head": 2, "changes": 2}


async def test_one_whose_watch_is_refused_lets_another_lead(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 0
    watch = _FakeRepository.watch

    async def refuse_two(repository: _FakeRepository, on_moved: Any) -> None:
        nonlocal refused
        if refused < 2:
            refused += 1
            raise JiemiError("LimitExceeded", "Krapao keeps no more watches")
        await watch(repository, on_moved)

    monkeypatch.setattr(_FakeRepository, "watch", refuse_two)
    _follow(world, 3)
    async with miwen(world, interval=LONG):
        await trio.sleep(0.1)
        assert (refused, world.krapao.watching) == (2, 1)
        world.origin.commit({"s2.yaml": [secret("s2", greeting="two")]})
        _add_new(world, "s0.yaml")
        await settle()
        assert world.data("s2") == {"greeting": "two"}


@pytest.mark.parametrize(("memory", "looks"), [(64 * MEBIBYTE, 0), (1_400_000, 1)])
async def test_patterns_for_which_a_namespace_has_no_memory_are_not_indexed_and_their_decryptor_looks_each_time(
    world: World, autojump_clock: MockClock, memory: int, looks: int
) -> None:
    world.origin.commit(_files(1))
    patterns = ["s0.yaml", *(f"{'long-name' * 5}{number}/*.yaml" for number in range(999))]
    world.add("big", source={"repository": {"url": URL}, "files": patterns})
    hooks, work = webhooks(HOOK), Work(world)
    async with miwen(world, webhooks=hooks, interval=LONG, decryptor_memory_bytes=memory):
        await trio.sleep(1)
        assert world.reason("big") == "Synced"
        work.calls()
        world.origin.commit({"README.md": [{}]})
        await _push(hooks)
        assert work.calls()["files"] == looks
        world.origin.commit({"s0.yaml": [secret("s0", greeting="two")]})
        await _push(hooks)
        assert world.data("s0") == {"greeting": "two"}
